//! TCP connections, admitted while there is room: so many in all, so many from one address.
//!
//! A connection over a bound is closed at once, before a byte of it is read: its client sees that it is refused, and
//! the ones that are served stay served. One that is admitted and says nothing gives its seat back: after 5 s, if it does
//! not even begin, and after 45 s later on, when the server's keep-alive makes whoever is alive answer within 30 s.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::transport::seats::{ConnectionLimits, Seat, Seats};

/// Connections that wait to be served at most.
const WAITING_MAX: usize = 16;
/// HTTP/2 and TLS begin with no fewer bytes: the client's preface, and a ClientHello, which is longer.
const BEGINNING_BYTES: usize = 24;
/// How long a client may keep its server waiting.
const PATIENCE: Patience = Patience { beginning: Duration::from_secs(5), silence: Duration::from_secs(45) };
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
                    tracing::debug!(%peer, "connection refused: too many are open");
                    continue;
                };
                // Answers are small and awaited: never held back to be sent with later ones.
                if stream.set_nodelay(true).is_err() || conns.send(Ok(Conn::new(stream, seat))).await.is_err() {
                    tracing::debug!(%peer, "connection lost before it was served");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting connections fails");
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
    silence: Silence,
    _seat: Seat,
}

impl Conn {
    fn new(stream: TcpStream, seat: Seat) -> Self {
        Self { stream, silence: Silence::new(PATIENCE), _seat: seat }
    }
}

impl Connected for Conn {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.silence.heard(buf.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending => self.silence.poll_too_long(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// How long a client may keep its server waiting.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the whole of its [beginning](BEGINNING_BYTES),
    beginning: Duration,
    /// and then, between any two reads.
    silence: Duration,
}

/// How long a client has said nothing.
#[derive(Debug)]
struct Silence {
    patience: Patience,
    /// Bytes of the beginning that are still to come.
    missing_bytes: usize,
    since: Instant,
    /// Ends when the silence may be too long: it is not set anew at each read, as that would cost more than the read.
    alarm: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(patience: Patience) -> Self {
        let since = Instant::now();
        let alarm = Box::pin(sleep_until(since + patience.beginning));
        Self { patience, missing_bytes: BEGINNING_BYTES, since, alarm }
    }

    fn heard(&mut self, bytes: usize) {
        self.missing_bytes = self.missing_bytes.saturating_sub(bytes);
        if self.missing_bytes == 0 {
            self.since = Instant::now();
        }
    }

    /// Ready when it is too long.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let max = if self.missing_bytes == 0 { self.patience.silence } else { self.patience.beginning };
            if self.since.elapsed() >= max {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.since + max);
        }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SHORT: Patience = Patience { beginning: Duration::from_millis(50), silence: Duration::from_millis(200) };

    async fn too_long(silence: &mut Silence) -> Duration {
        let from = Instant::now();
        poll_fn(|cx| silence.poll_too_long(cx)).await;
        from.elapsed()
    }

    #[tokio::test]
    async fn who_never_begins_has_less_time_than_who_pauses() {
        let (mut mute, mut trickle, mut begun) = (Silence::new(SHORT), Silence::new(SHORT), Silence::new(SHORT));
        trickle.heard(BEGINNING_BYTES - 1);
        begun.heard(BEGINNING_BYTES);
        let (mute, trickle, begun) = tokio::join!(too_long(&mut mute), too_long(&mut trickle), too_long(&mut begun));
        assert!(mute >= SHORT.beginning && mute < begun, "{mute:?}");
        assert!(trickle >= SHORT.beginning && trickle < begun, "a trickle is no beginning: {trickle:?}");
        assert!(begun >= SHORT.silence, "{begun:?}");
    }

    #[tokio::test]
    async fn each_word_begins_the_silence_anew() {
        let mut silence = Silence::new(SHORT);
        silence.heard(BEGINNING_BYTES);
        tokio::time::sleep(SHORT.silence / 2).await;
        silence.heard(1);
        assert!(too_long(&mut silence).await >= SHORT.silence * 9 / 10);
    }
}
