//! The UDP socket under the endpoint.
//!
//! quinn has one of its own on tokio's, which costs a node that wakes up for a single datagram two more calls of the system:
//!
//! - tokio asks the kernel to be told of room for what is to be sent, too; and so it is, by another wake-up, whenever a
//!   datagram has left. UDP hardly ever lacks room, so here nobody asks until it has, once.
//! - quinn receives until nothing is there. Here, on Linux, a call that brought fewer datagrams than it could was the last:
//!   recvmmsg ends early when the queue is empty. What arrives after it, the kernel tells anew (epoll's edges; tokio takes a
//!   stream's short read for the same). It ends early at an error, too, which is as rare as it is harmless: what waits behind
//!   it comes with what arrives next, and QUIC sees to it that something does.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
};

/// Elsewhere quinn takes one datagram a call, or ends a call for other reasons.
const IS_SHORT_LAST: bool = cfg!(target_os = "linux");

/// The socket; see above. It belongs to the tokio runtime in which it is made, whoever sends.
#[derive(Debug)]
pub(super) struct Socket {
    runtime: Handle,
    /// Tells what arrives.
    arrivals: AsyncFd<UdpSocket>,
    /// Tells when there is room, from the first time on that there was none.
    room: OnceLock<AsyncFd<UdpSocket>>,
    /// What quinn knows of the socket: which datagrams can leave or come together.
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        // This makes it non-blocking.
        let state = UdpSocketState::new((&socket).into())?;
        let arrivals = watch(socket, Interest::READABLE)?;
        Ok(Self { runtime: Handle::current(), arrivals, room: OnceLock::new(), state })
    }

    /// Sends, and remembers if there was no room.
    fn send(&self, send: impl Fn(&UdpSocket) -> io::Result<()>) -> io::Result<()> {
        if let Some(room) = self.room.get() {
            return room.try_io(Interest::WRITABLE, |socket| send(socket));
        }
        match send(self.arrivals.get_ref()) {
            Err(full) if full.kind() == ErrorKind::WouldBlock => {
                match self.watch_room() {
                    Ok(room) => {
                        self.room.get_or_init(|| room);
                        Err(full)
                    }
                    // Nobody would say when to go on. It is lost, then, as on any network.
                    Err(error) => {
                        tracing::debug!(%error, "a datagram was dropped: there was no room for it");
                        Ok(())
                    }
                }
            }
            sent => sent,
        }
    }

    fn watch_room(&self) -> io::Result<AsyncFd<UdpSocket>> {
        let _context = self.runtime.enter();
        watch(self.arrivals.get_ref().try_clone()?, Interest::WRITABLE)
    }

    /// Receives into so many buffers, if something may be there. An error is not the end: what the kernel refused once it may
    /// give the next time.
    fn poll_receive(
        &self,
        context: &mut Context,
        buffers: usize,
        mut receive: impl FnMut(&UdpSocket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.arrivals.poll_read_ready(context))?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Ok(datagrams)) => {
                    if IS_SHORT_LAST && datagrams < buffers {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(datagrams));
                }
                Ok(Err(error)) => tracing::debug!(%error, "nothing was received"),
                Err(_would_block) => {}
            }
        }
    }
}

/// Has the kernel tell of this and of nothing else.
#[allow(
    deprecated,
    reason = "what took its place is unsafe, for the sake of types that may give their descriptor away"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.send(|socket| self.state.send(socket.into(), transmit))
    }

    fn poll_recv(
        &self,
        context: &mut Context,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = buffers.len().min(meta.len()).min(BATCH_SIZE);
        self.poll_receive(context, count, |socket| self.state.recv(socket.into(), buffers, meta))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.arrivals.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits, for one connection, until there is room.
struct Room {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        if socket.room.get().is_none() {
            return Poll::Ready(Ok(()));
        }
        let wait = waiting.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move {
                if let Some(room) = socket.room.get() {
                    room.writable().await?.retain_ready();
                }
                Ok(())
            })
        });
        let result = ready!(wait.as_mut().poll(context));
        *waiting = None;
        Poll::Ready(result)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

#[cfg(test)]
mod tests;
