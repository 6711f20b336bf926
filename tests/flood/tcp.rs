//! Connections to the gRPC port: garbage, beginnings, headers without end, trickles, and silence.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::noise::Noise;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Longer than a server may take to notice.
const DEADLINE: Duration = Duration::from_secs(15);
/// Silent connections that are open at a time,
const SILENT: usize = 10_000;
/// and from how many addresses they come: fewer from each than a node takes from one.
const ADDRESSES: usize = 200;
/// Files that are open in this process beside them, at most.
const OTHER_FILES: usize = 1_000;
/// Longest header block that anybody tries to send, in bytes.
const HEADERS_BYTES: usize = 16 << 20;

/// Reads until the server ends the connection; it must.
async fn ends(stream: &mut TcpStream) {
    let mut rest = vec![];
    // A reset is an end as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the server ends the connection");
}

/// Bytes without sense, beginnings of HTTP/2 that go on without sense, and one that trickles in.
pub async fn garbage(address: &str, noise: &Noise) {
    let mut callers = JoinSet::new();
    for caller in 0..100 {
        let bytes = match caller % 4 {
            0 => noise.bytes(1 + noise.number(2_000)),
            1 => [PREFACE, &noise.bytes(200)].concat(),
            2 => [PREFACE, NO_SETTINGS, &noise.bytes(2_000)].concat(),
            _ => noise.mutated(&[PREFACE, NO_SETTINGS].concat()),
        };
        let address = address.to_owned();
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may end it while this is being written.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            ends(&mut stream).await;
        });
    }
    let address = address.to_owned();
    callers.spawn(async move {
        let (mut stream, started) = (TcpStream::connect(address).await.unwrap(), Instant::now());
        for byte in PREFACE {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(300)).await;
        }
        ends(&mut stream).await;
        assert!(started.elapsed() < DEADLINE, "a trickle keeps its seat");
    });
    callers.join_all().await;
}

/// A block of headers that never ends.
pub async fn endless_headers(address: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[PREFACE, NO_SETTINGS].concat()).await.unwrap();
    // HEADERS without END_HEADERS, then CONTINUATION for ever: literal fields of 16 KiB less a little.
    let field = [&[0, 1, b'x', 0x7f, 0x80, 0x7c][..], &[b'y'; 15_999]].concat();
    let frame = |kind: u8| {
        let length = (field.len() as u32).to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], &field].concat()
    };
    let mut sent = 0;
    let written = timeout(DEADLINE, async {
        stream.write_all(&frame(1)).await?;
        while sent < HEADERS_BYTES {
            stream.write_all(&frame(9)).await?;
            sent += field.len();
        }
        std::io::Result::Ok(())
    });
    assert!(written.await.expect("it is cut off").is_err(), "the server took {sent} bytes of headers");
}

/// Connections that say nothing, all open at once.
pub struct Silent(Vec<TcpStream>);

impl Silent {
    /// Opens them, and closes none.
    pub async fn connect(address: &str) -> Self {
        let address = address.parse().unwrap();
        let mut silent = vec![];
        for number in 0..silent_max() {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 1, 1 + (number % ADDRESSES) as u8], 0))).unwrap();
            silent.push(timeout(DEADLINE, socket.connect(address)).await.expect("the port is open").unwrap());
        }
        Self(silent)
    }

    /// Waits until the server has ended each of them.
    pub async fn end(self) {
        let mut ending = JoinSet::new();
        for mut stream in self.0 {
            ending.spawn(async move { ends(&mut stream).await });
        }
        ending.join_all().await;
    }
}

/// How many silent connections this process may open: fewer than there should be where the system allows no more files.
fn silent_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Without a limit there is none.
    let files = limit.maximum.map_or(usize::MAX, |files| files as usize);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let silent = SILENT.min(files.saturating_sub(OTHER_FILES));
    println!("{silent} silent connections of {SILENT}: this process may open {files} files");
    silent
}
