//! A UDP socket that lets the datagrams of one turn of the runtime leave together.
//!
//! quinn hands over each connection's packets by themselves, and each costs a system call and a way through the kernel of
//! its own, which is most of what a short request costs. So a short datagram waits here until the tasks that were ready
//! have run; then those of one length to one address leave in one call, whichever connections they belong to (Linux's
//! UDP_SEGMENT, since 4.18; where there is none, nothing waits). When a group is full, all that waits leaves at once, so
//! that the other side has something to do meanwhile. Nothing waits for time to pass.
//!
//! Datagrams of different lengths may change places within a turn. QUIC is made for that; should one be overtaken by three of
//! its connection, it is taken for lost (RFC 9002, 6.1.1), sent again, and the connection slows down for a moment.
//!
//! **To port 0** nothing can be sent, and Linux's error for it would make quinn give up sending together for good: whoever
//! claims to come from there gets no answer.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Notify,
    task::yield_now,
};

use super::settings::BURST_DATAGRAMS_MAX;

/// Longer ones leave at once: they gain little, and the kernel refuses a whole group of datagrams longer than the path's
/// limit, as a probe of that limit is. Every path carries this much (RFC 9000, 14).
const DATAGRAM_BYTES_MAX: usize = 1_200;
/// Datagrams in a group. Linux allows 64; of 8, 16 and 32 this served 100 clients best.
const GROUP_DATAGRAMS_MAX: usize = 16;
/// Groups that wait.
const GROUPS_MAX: usize = 64;

/// The socket; see above.
#[derive(Debug)]
pub(super) struct GatheringSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    waiting: Mutex<VecDeque<Group>>,
    /// Told when the first datagram waits, and when nobody needs the socket any more.
    waits: Arc<Notify>,
}

/// Datagrams of one length on one way.
#[derive(Debug)]
struct Group {
    way: Way,
    contents: Vec<u8>,
    /// How many of the bytes have been sent: none or all, unless they leave one by one.
    sent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    destination: SocketAddr,
    source: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    datagram_bytes: usize,
}

impl Way {
    /// The way of a single datagram.
    fn of(transmit: &Transmit) -> Self {
        let Transmit { destination, ecn, contents, src_ip, .. } = *transmit;
        Self { destination, source: src_ip, ecn, datagram_bytes: contents.len() }
    }
}

impl GatheringSocket {
    /// In front of `socket`. Its task ends when it is dropped.
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, runtime: &dyn Runtime) -> Arc<Self> {
        let waits = Arc::<Notify>::default();
        let gathering = Arc::new(Self { socket, waiting: Mutex::default(), waits: waits.clone() });
        runtime.spawn(Box::pin(keep_flushing(Arc::downgrade(&gathering), waits)));
        gathering
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Group>> {
        self.waiting.lock().expect("nothing panics under this lock")
    }

    /// Sends what waits, as far as the socket takes it.
    fn flush(&self, waiting: &mut VecDeque<Group>) -> io::Result<()> {
        while let Some(group) = waiting.front_mut() {
            let transmit = group.transmit(self.can_gather());
            let bytes = transmit.contents.len();
            self.socket.try_send(&transmit)?;
            group.sent += bytes;
            if group.sent == group.contents.len() {
                waiting.pop_front();
            }
        }
        Ok(())
    }

    /// Can datagrams leave together? quinn finds out that they cannot by trying.
    fn can_gather(&self) -> bool {
        self.socket.max_transmit_segments() >= GROUP_DATAGRAMS_MAX
    }

    fn can_wait(&self, transmit: &Transmit) -> bool {
        let bytes = transmit.contents.len();
        let is_single = transmit.segment_size.is_none_or(|segment| segment >= bytes);
        is_single && bytes <= DATAGRAM_BYTES_MAX && self.can_gather()
    }
}

/// Sends what waits, whenever something does, after the tasks that were ready before it.
async fn keep_flushing(gathering: Weak<GatheringSocket>, waits: Arc<Notify>) {
    // With several threads, a task that is woken comes next, before those that were ready: it has to let them pass.
    let comes_next = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    loop {
        waits.notified().await;
        if comes_next {
            yield_now().await;
        }
        let Some(gathering) = gathering.upgrade() else { return };
        // It fails only for want of room, and then there is somebody to say when to go on.
        while gathering.flush(&mut gathering.waiting()).is_err() {
            let mut poller = gathering.socket.clone().create_io_poller();
            if poll_fn(|context| poller.as_mut().poll_writable(context)).await.is_err() {
                break;
            }
        }
    }
}

impl Group {
    fn is_full(&self) -> bool {
        self.contents.len() >= self.way.datagram_bytes * GROUP_DATAGRAMS_MAX
    }

    /// What is left of it, or its next datagram.
    fn transmit(&self, is_whole: bool) -> Transmit<'_> {
        let Way { destination, source, ecn, datagram_bytes } = self.way;
        let left = &self.contents[self.sent..];
        let contents = if is_whole { left } else { &left[..datagram_bytes] };
        let segment_size = (contents.len() > datagram_bytes).then_some(datagram_bytes);
        Transmit { destination, ecn, contents, segment_size, src_ip: source }
    }
}

impl AsyncUdpSocket for GatheringSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        if transmit.destination.port() == 0 {
            return Ok(());
        }
        let can_wait = self.can_wait(transmit);
        let mut waiting = self.waiting();
        if !can_wait || waiting.len() >= GROUPS_MAX {
            // What waits was there first.
            self.flush(&mut waiting)?;
        }
        if !can_wait {
            return self.socket.try_send(transmit);
        }
        let way = Way::of(transmit);
        if let Some(group) = waiting.iter_mut().rev().find(|group| group.way == way && !group.is_full()) {
            group.contents.extend_from_slice(transmit.contents);
            if group.is_full() {
                // What finds no room waits for the task.
                let _ = self.flush(&mut waiting);
            }
            return Ok(());
        }
        if waiting.is_empty() {
            self.waits.notify_one();
        }
        waiting.push_back(Group { way, contents: transmit.contents.to_vec(), sent: 0 });
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments().min(BURST_DATAGRAMS_MAX)
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl Drop for GatheringSocket {
    fn drop(&mut self) {
        // Connections that are closed as the runtime ends still say so.
        let mut waiting = std::mem::take(&mut *self.waiting());
        let _ = self.flush(&mut waiting);
        self.waits.notify_one();
    }
}

#[cfg(test)]
mod tests;
