//! Frames on their way to one peer: a queue a lane, bounded in frames and in bytes.
//!
//! The node's loop never waits, so a frame that does not fit is dropped and raft is told.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::super::{
    Dropped, Lane,
    frame::{Frame, HEADER_BYTES},
};

/// Frames that wait for one peer on one lane, at most.
pub const OUTBOX_FRAMES_MAX: usize = 1024;
/// A write takes no more than this from a queue, unless a single frame is longer.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// Bytes that wait for one peer on one lane, at most.
pub const fn outbox_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Urgent => 256 << 10,
        Lane::Log => 16 << 20,
        Lane::Bulk => 2 << 20,
    }
}

/// Frames on their way to one peer. Closed while the peer is not connected.
#[derive(Debug)]
pub(super) struct Outbox {
    lanes: [LaneQueue; Lane::ALL.len()],
}

#[derive(Debug)]
struct LaneQueue {
    bytes_max: usize,
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

impl Default for Outbox {
    fn default() -> Self {
        let queue =
            |lane| LaneQueue { bytes_max: outbox_bytes_max(lane), queue: Mutex::default(), filled: Notify::default() };
        Self { lanes: Lane::ALL.map(queue) }
    }
}

impl Outbox {
    /// Queues a frame, or drops it.
    pub(super) fn push(&self, lane: Lane, frame: Frame) -> Result<(), Dropped> {
        self.lanes[lane as usize].push(frame)
    }

    /// The peer is connected.
    pub(super) fn open(&self) {
        for lane in &self.lanes {
            lane.lock().open = true;
        }
    }

    /// The peer is not connected any more: what waits is dropped.
    pub(super) fn close(&self) {
        for lane in &self.lanes {
            *lane.lock() = Queue::default();
        }
    }

    /// Waits for frames, and takes as many as one write should carry; never none.
    pub(super) async fn take(&self, lane: Lane) -> Vec<Frame> {
        self.lanes[lane as usize].take().await
    }
}

impl LaneQueue {
    fn push(&self, frame: Frame) -> Result<(), Dropped> {
        let mut queue = self.lock();
        let bytes = queue.bytes + wire_bytes(&frame);
        if !queue.open || queue.frames.len() >= OUTBOX_FRAMES_MAX || bytes > self.bytes_max {
            return Err(Dropped);
        }
        queue.bytes = bytes;
        queue.frames.push_back(frame);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    async fn take(&self) -> Vec<Frame> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame::new(Lane::Log, Bytes::from(vec![0; bytes])).unwrap()
    }

    fn open() -> Outbox {
        let outbox = Outbox::default();
        outbox.open();
        outbox
    }

    /// What waits, as writes would take it.
    fn taken(outbox: &Outbox, lane: Lane) -> Vec<Vec<Frame>> {
        let take = || outbox.lanes[lane as usize].lock().take();
        std::iter::from_fn(|| Some(take()).filter(|frames| !frames.is_empty())).collect()
    }

    #[test]
    fn frames_for_a_peer_that_is_not_connected_are_dropped() {
        let outbox = Outbox::default();
        for lane in Lane::ALL {
            assert_eq!(outbox.push(lane, frame(1)), Err(Dropped));
            outbox.open();
            assert_eq!(outbox.push(lane, frame(1)), Ok(()));
            outbox.close();
            assert_eq!(outbox.push(lane, frame(1)), Err(Dropped));
            outbox.open();
            assert!(taken(&outbox, lane).is_empty(), "what waited was not dropped");
            outbox.close();
        }
    }

    #[test]
    fn frames_are_bounded_on_each_lane_apart() {
        let outbox = open();
        for lane in Lane::ALL {
            let pushed = (0..2 * OUTBOX_FRAMES_MAX).filter(|_| outbox.push(lane, frame(0)).is_ok()).count();
            assert_eq!(pushed, OUTBOX_FRAMES_MAX);
        }
    }

    #[test]
    fn bytes_are_bounded_on_each_lane_apart_and_given_back() {
        let outbox = open();
        for lane in Lane::ALL {
            let eighth = outbox_bytes_max(lane) / 8 - HEADER_BYTES;
            assert_eq!((0..20).filter(|_| outbox.push(lane, frame(eighth)).is_ok()).count(), 8);
            assert_eq!(outbox.push(lane, frame(0)), Err(Dropped));
            let first = outbox.lanes[lane as usize].lock().take().len();
            for _ in 0..first {
                assert_eq!(outbox.push(lane, frame(eighth)), Ok(()));
            }
            taken(&outbox, lane);
            assert_eq!(outbox.lanes[lane as usize].lock().bytes, 0);
        }
    }

    #[test]
    fn a_frame_longer_than_a_write_goes_alone() {
        let outbox = open();
        for bytes in [1, WRITE_BYTES_MAX, 1] {
            outbox.push(Lane::Log, frame(bytes)).unwrap();
        }
        let lengths: Vec<_> = taken(&outbox, Lane::Log).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, 1]);
    }

    #[test]
    fn a_write_carries_many_frames_in_order() {
        let outbox = open();
        for bytes in 0..100 {
            outbox.push(Lane::Urgent, frame(bytes)).unwrap();
        }
        assert_eq!(taken(&outbox, Lane::Urgent), [(0..100).map(frame).collect::<Vec<_>>()]);
    }
}
