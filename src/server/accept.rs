//! TCP connections, admitted while there is room: so many in all, so many from one address.
//!
//! A connection over a bound is closed at once, before a byte of it is read: its client sees that it is refused, and
//! the ones that are served stay served.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections that wait to be served at most.
const WAITING_MAX: usize = 16;
/// How long to leave the listener alone after it failed: mostly, the process is out of file descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total_max: usize,
    /// From one address.
    pub per_address_max: usize,
}

impl Default for ConnectionLimits {
    /// 1 024 in all. 256 from one address: the predecessor's load script alone comes with 100 from loopback.
    fn default() -> Self {
        Self { total_max: 1_024, per_address_max: 256 }
    }
}

/// Accepts until nobody takes the connections any more; then closes the listener.
pub async fn accept(listener: TcpListener, limits: ConnectionLimits, conns: mpsc::Sender<io::Result<Conn>>) {
    let places = Places::new(limits);
    loop {
        let accepted = tokio::select! {
            biased;
            () = conns.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.take(peer.ip()) else {
                    tracing::debug!(%peer, "gRPC connection refused: too many are open");
                    continue;
                };
                // Answers are small and awaited: never held back to be sent with later ones.
                if stream.set_nodelay(true).is_err() || conns.send(Ok(Conn { stream, _place: place })).await.is_err() {
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

/// Who holds connections.
#[derive(Debug)]
struct Places {
    limits: ConnectionLimits,
    /// Open connections by address; no address has none.
    open: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Places {
    fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// A place for a connection from this address, if there is room.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = open.values().sum();
        let here = open.get(&address).copied().unwrap_or(0);
        if total >= self.limits.total_max || here >= self.limits.per_address_max {
            return None;
        }
        open.insert(address, here + 1);
        Some(Place { address, places: self.clone() })
    }
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(open.remove(&self.address)),
        }
    }
}

/// An admitted connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    _place: Place,
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_per_address_and_come_back() {
        let [a, b] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
        let places = Places::new(ConnectionLimits { total_max: 3, per_address_max: 2 });
        let first = places.take(a).expect("there is room");
        let _second = places.take(a).expect("there is room");
        assert!(places.take(a).is_none(), "two from one address are all");
        let _third = places.take(b).expect("there is room for another address");
        assert!(places.take(b).is_none(), "three are all");
        drop(first);
        assert!(places.take(b).is_some());
        assert_eq!(places.open.lock().unwrap().values().sum::<usize>(), 2, "what is dropped leaves no trace");
    }
}
