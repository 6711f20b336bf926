//! HTTP/1.1 as far as it takes to ask for a page: every byte that is sent is the test's.
#![allow(dead_code, reason = "whoever includes this uses a part of it")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::user::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Some(Self { status, headers: headers.collect(), body: body.to_owned() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a whole request, which must ask for the connection to be closed.
#[track_caller]
pub fn ask(address: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let told = read_to_end(&mut stream);
    Answer::parse(&told).unwrap_or_else(|| panic!("no answer to {request:?}: {told:?}"))
}

#[track_caller]
pub fn get(address: &str, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// What comes until the other side closes the connection, which it must.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE.min(Duration::from_secs(30)))).unwrap();
    let (mut told, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => told.extend_from_slice(&piece[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection stays open"),
            // Closed with something of ours unread.
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&told).into_owned()
}
