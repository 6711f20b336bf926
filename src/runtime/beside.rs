//! What is done beside the loop, where nobody waits, and how the loop hears of it.

use tokio::sync::mpsc;

use super::snapshots::BodyDone;
use crate::pool::{Garbage, Verification};

/// Most results that wait for the loop. Few things are done at a time, and who has one to tell waits.
pub(super) const DONE_MAX: usize = 16;
/// Most pieces of garbage that wait to be dropped. What comes on top is dropped by whoever brings it.
const GARBAGE_MAX: usize = 1_024;

/// Something was done beside the loop.
#[derive(Debug)]
pub(super) enum Done {
    /// The state was looked at.
    Verified(Verification),
    /// For a snapshot.
    Body(BodyDone),
}

/// Drops what takes long to drop, a batch at a time.
#[derive(Debug)]
pub(super) struct Bin {
    garbage: mpsc::Sender<Garbage>,
}

impl Bin {
    /// An empty one. Its task ends when it is dropped.
    pub fn start() -> Self {
        let (garbage, thrown) = mpsc::channel(GARBAGE_MAX);
        tokio::spawn(empty(thrown));
        Self { garbage }
    }

    /// Throws something away; never waits.
    pub fn put(&self, garbage: Garbage) {
        // In a full bin it would not be dropped for long: it is dropped here.
        let _ = self.garbage.try_send(garbage);
    }
}

async fn empty(mut thrown: mpsc::Receiver<Garbage>) {
    let mut batch = Vec::new();
    while thrown.recv_many(&mut batch, GARBAGE_MAX).await > 0 {
        let full = std::mem::take(&mut batch);
        if tokio::task::spawn_blocking(move || drop(full)).await.is_err() {
            // Dropping panicked; what is left is dropped with the channel.
            return;
        }
    }
}
