//! The two queues between a node and a peer. Both are bounded in frames and in bytes; they differ in what a full one does.
//!
//! Outgoing: the node's loop never waits, so a frame that does not fit is dropped and raft is told. Incoming: the reader
//! waits, the stream's flow-control window fills, and with it the *sender's* outgoing queue, which drops. So a slow node
//! costs its peers a bounded amount of memory, and itself a bounded amount as well.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::super::{
    Dropped, Event,
    frame::{Frame, HEADER_BYTES},
};
use crate::types::ReplicaId;

/// Frames that wait for one peer, at most.
pub const PEER_QUEUE_FRAMES_MAX: usize = 1024;
/// Bytes that wait for one peer, at most; and bytes received from one peer that wait for the node.
pub const PEER_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Events that wait for the node, from all peers together.
pub const EVENTS_MAX: usize = 1024;
/// A write takes no more than this from the queue, unless a single frame is longer.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// Frames on their way to one peer. Closed while the peer is not connected.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    open: bool,
    frames: VecDeque<Frame>,
    /// Length of `frames`, headers included.
    bytes: usize,
}

impl Outbox {
    /// Queues a frame, or drops it.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Dropped> {
        let mut queue = self.lock();
        let bytes = queue.bytes + wire_bytes(&frame);
        if !queue.open || queue.frames.len() >= PEER_QUEUE_FRAMES_MAX || bytes > PEER_QUEUE_BYTES_MAX {
            return Err(Dropped);
        }
        queue.bytes = bytes;
        queue.frames.push_back(frame);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// The peer is connected.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// The peer is not connected any more: what waits is dropped.
    pub(super) fn close(&self) {
        *self.lock() = Queue::default();
    }

    /// Waits for frames, and takes as many as one write should carry; never none.
    pub(super) async fn take(&self) -> Vec<Frame> {
        loop {
            let frames = self.lock().take();
            if !frames.is_empty() {
                return frames;
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn take(&mut self) -> Vec<Frame> {
        let mut bytes = 0;
        let mut frames = Vec::new();
        while let Some(frame) = self.frames.front()
            && (frames.is_empty() || bytes + wire_bytes(frame) <= WRITE_BYTES_MAX)
        {
            bytes += wire_bytes(frame);
            frames.extend(self.frames.pop_front());
        }
        self.bytes -= bytes;
        frames
    }
}

fn wire_bytes(frame: &Frame) -> usize {
    HEADER_BYTES + frame.payload_bytes()
}

/// An event on its way to the node, and the room that it takes up until the node has it.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) event: Event,
    _room: Option<Room>,
}

/// Room for one frame in an [`Inbox`].
pub(super) type Room = OwnedSemaphorePermit;

/// The node is not there any more: its transport was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeGone;

/// One peer's way into the node's queue of events.
#[derive(Debug)]
pub(super) struct Inbox {
    peer: ReplicaId,
    events: mpsc::Sender<Delivery>,
    room: Arc<Semaphore>,
}

impl Inbox {
    pub(super) fn new(peer: ReplicaId, events: mpsc::Sender<Delivery>) -> Self {
        Self { peer, events, room: Arc::new(Semaphore::new(PEER_QUEUE_BYTES_MAX)) }
    }

    /// The peer.
    pub(super) fn peer(&self) -> ReplicaId {
        self.peer
    }

    /// Waits for room for a payload; asked for before memory is.
    pub(super) async fn reserve(&self, payload_bytes: usize) -> Room {
        let permits = u32::try_from(payload_bytes).expect("a frame's length is capped far below 4 GiB");
        self.room.clone().acquire_many_owned(permits).await.expect("the semaphore is never closed")
    }

    /// Waits until the node's queue takes the frame.
    pub(super) async fn frame(&self, frame: Bytes, room: Room) -> Result<(), NodeGone> {
        self.deliver(Event::Frame { from: self.peer, frame }, Some(room)).await
    }

    /// Waits until the node's queue takes the news that the peer's connection was lost.
    pub(super) async fn unreachable(&self) -> Result<(), NodeGone> {
        self.deliver(Event::Unreachable { peer: self.peer }, None).await
    }

    /// Waits until the node is gone.
    pub(super) async fn gone(&self) -> NodeGone {
        self.events.closed().await;
        NodeGone
    }

    async fn deliver(&self, event: Event, room: Option<Room>) -> Result<(), NodeGone> {
        self.events.send(Delivery { event, _room: room }).await.map_err(|_| NodeGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame::new(Bytes::from(vec![0; bytes])).unwrap()
    }

    #[test]
    fn frames_for_a_peer_that_is_not_connected_are_dropped() {
        let outbox = Outbox::default();
        assert_eq!(outbox.push(frame(1)), Err(Dropped));
        outbox.open();
        assert_eq!(outbox.push(frame(1)), Ok(()));
        outbox.close();
        assert_eq!(outbox.push(frame(1)), Err(Dropped));
        outbox.open();
        assert!(outbox.lock().take().is_empty(), "what waited was not dropped");
    }

    #[test]
    fn frames_are_bounded() {
        let outbox = Outbox::default();
        outbox.open();
        let pushed = (0..2 * PEER_QUEUE_FRAMES_MAX).filter(|_| outbox.push(frame(0)).is_ok()).count();
        assert_eq!(pushed, PEER_QUEUE_FRAMES_MAX);
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let outbox = Outbox::default();
        outbox.open();
        let longest = (1 << 20) - HEADER_BYTES;
        assert_eq!((0..20).filter(|_| outbox.push(frame(longest)).is_ok()).count(), 16);
        assert_eq!(outbox.push(frame(0)), Err(Dropped));
        assert_eq!(outbox.lock().take().len(), 1, "a frame longer than a write goes alone");
        assert_eq!(outbox.push(frame(longest)), Ok(()));
        while !outbox.lock().take().is_empty() {}
        assert_eq!(outbox.lock().bytes, 0);
    }

    #[test]
    fn a_write_carries_many_frames_in_order() {
        let outbox = Outbox::default();
        outbox.open();
        for bytes in 0..100 {
            outbox.push(frame(bytes)).unwrap();
        }
        assert_eq!(outbox.lock().take(), (0..100).map(frame).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_the_node_has_not_taken_bounds_what_is_received() {
        let (events, mut node) = mpsc::channel(EVENTS_MAX);
        let inbox = Inbox::new(ReplicaId(2), events);
        let room = inbox.reserve(PEER_QUEUE_BYTES_MAX).await;
        inbox.frame(Bytes::from_static(b"x"), room).await.unwrap();
        let mut more = std::pin::pin!(inbox.reserve(1));
        assert!(futures_poll(more.as_mut()).is_pending());
        drop(node.recv().await);
        assert_eq!(more.await.num_permits(), 1);
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
