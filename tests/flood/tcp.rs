//! Connections to the gRPC port: garbage, beginnings, headers without end, trickles, and silence.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::noise::Noise;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Longer than a server may take to notice.
const DEADLINE: Duration = Duration::from_secs(15);
const SILENT: usize = 10_000;
/// Silent connections open at a time: more than a node takes from one address, and within every limit on open files.
const WAVE: usize = 400;
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

/// Connections that say nothing, wave after wave; gives those of the last one, open still.
pub async fn silent_connections(address: &str) -> Vec<TcpStream> {
    let mut held = vec![];
    for _ in 0..SILENT / WAVE {
        held.clear();
        for _ in 0..WAVE {
            held.push(timeout(DEADLINE, TcpStream::connect(address)).await.expect("the port is open").unwrap());
        }
    }
    held
}
