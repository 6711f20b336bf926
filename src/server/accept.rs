//! TCP connections, admitted while there is room: so many in all, so many from one address.
//!
//! A connection over a bound is closed at once, before a byte of it is read: its client sees that it is refused, and
//! the ones that are served stay served.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::transport::seats::{ConnectionLimits, Seat, Seats};

/// Connections that wait to be served at most.
const WAITING_MAX: usize = 16;
/// How long to leave the listener alone after it failed: mostly, the process is out of file descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Accepts until nobody takes the connections any more; then closes the listener.
pub async fn accept(listener: TcpListener, limits: ConnectionLimits, conns: mpsc::Sender<io::Result<Conn>>) {
    let seats = Seats::new(limits);
    loop {
        let accepted = tokio::select! {
            biased;
            () = conns.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(seat) = seats.take(peer.ip()) else {
                    tracing::debug!(%peer, "gRPC connection refused: too many are open");
                    continue;
                };
                // Answers are small and awaited: never held back to be sent with later ones.
                if stream.set_nodelay(true).is_err() || conns.send(Ok(Conn { stream, _seat: seat })).await.is_err() {
                    tracing::debug!(%peer, "gRPC connection lost before it was served");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting gRPC connections fails");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// A channel for [`accept`].
pub fn channel() -> (mpsc::Sender<io::Result<Conn>>, mpsc::Receiver<io::Result<Conn>>) {
    mpsc::channel(WAITING_MAX)
}

/// An admitted connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    _seat: Seat,
}

impl Connected for Conn {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
