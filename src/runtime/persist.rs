//! What goes to the store, off the loop: the log's WriteSets, and beside them the bodies of snapshots.
//!
//! The writer is a task of its own with two lanes. **The log comes first.** While the store commits, further WriteSets
//! gather, and the next commit takes all of them: the slower the disk, the fewer its commits. It reports the greatest number
//! that is durable. **Between two commits there is room for one piece of side work**, and for no more: a chunk of a body, to
//! be staged or read ([`Bodies`]), or else a bounded bit of cleaning, as long as the store says that there is more of it. So
//! a snapshot of any size never holds a WriteSet up by more than one piece, and a busy log never keeps a snapshot waiting.
//!
//! An error is final, whoever's work it was: the store is never asked again, since after a failed sync nobody knows what is
//! on the disk.

mod bodies;

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use self::bodies::Piece;
pub(super) use self::bodies::{Bodies, Over, Ticket, Tickets};
use super::metrics::Metrics;
use crate::{
    durable::{Staging, WriteSet},
    types::Index,
};

/// Most WriteSets that share a commit.
const COMMIT_WRITES_MAX: usize = 64;
/// Length of entries after which no further WriteSet joins a commit.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Most WriteSets that wait for the store. A replica takes no entries in behind far fewer: so many mean that it is broken.
const QUEUED_WRITES_MAX: usize = 4_096;

/// The store as the runtime sees it: asynchronous, so that production can sync on a thread of its own and the
/// simulator can take its time.
pub trait Persist: Send + 'static {
    /// Makes the WriteSets durable, in order, all or none. An error is final: it is never retried.
    fn commit(&mut self, writes: Vec<WriteSet>) -> impl Future<Output = Result<(), PersistError>> + Send;

    /// Begins to stage a body, or goes on with it: tells how many chunks of exactly this one are staged already, and durable.
    /// Whatever else was staged is forgotten.
    fn begin(&mut self, staging: Staging) -> impl Future<Output = Result<u32, PersistError>> + Send;

    /// Stages the next chunk, which has this number; durable once it returns.
    fn stage(&mut self, number: u32, chunk: Bytes) -> impl Future<Output = Result<(), PersistError>> + Send;

    /// Reads a chunk of the staged body, or of the newest snapshot's. `None` if there is no such chunk (any more).
    fn chunk(
        &mut self,
        snapshot: Index,
        number: u32,
    ) -> impl Future<Output = Result<Option<Bytes>, PersistError>> + Send;

    /// Removes a bounded number of entries and chunks that are not needed any more. `true` if there are more.
    fn clean(&mut self) -> impl Future<Output = Result<bool, PersistError>> + Send;

    /// Closes the store. Nothing of it is open any more once it returns.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async move { drop(self) }
    }
}

/// The store failed; the node must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct PersistError(pub String);

/// What the writer says: everything up to this number is durable.
pub(super) type Report = Result<u64, PersistError>;

/// The loop's end of the writer.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<WriteSet>,
}

/// A writer that was just started.
pub(super) struct Started {
    /// The log's way in.
    pub writer: Writer,
    /// The bodies' way in.
    pub bodies: Bodies,
    /// What is durable; and, last, the store's error.
    pub reports: mpsc::Receiver<Report>,
    /// Ends when the store is closed.
    pub task: JoinHandle<()>,
}

impl Writer {
    /// Starts the writer. Its task ends, and closes the store, when the [`Writer`] is dropped or the store fails.
    pub fn start<P: Persist>(store: P, metrics: Arc<Metrics>) -> Started {
        let (queue, writes) = mpsc::channel(QUEUED_WRITES_MAX);
        let (report, reports) = mpsc::channel(COMMIT_WRITES_MAX);
        let (bodies, pieces) = Bodies::new();
        let lanes = Lanes { store, writes, pieces, report, staging: Ticket::default(), is_unclean: true, metrics };
        let task = tokio::spawn(lanes.run());
        Started { writer: Self { queue }, bodies, reports, task }
    }

    /// Queues a WriteSet; never waits.
    pub fn write(&self, write: WriteSet) -> Result<(), PersistError> {
        self.queue.try_send(write).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                PersistError(format!("it is {QUEUED_WRITES_MAX} writes behind: the disk does not answer"))
            }
            mpsc::error::TrySendError::Closed(_) => writer_ended(),
        })
    }
}

/// The error when the writer is gone without a report of why.
pub(super) fn writer_ended() -> PersistError {
    PersistError("its writer ended".to_owned())
}

/// Why the writer ends.
enum End {
    /// Nobody is left to write for.
    Unwanted,
    /// The store failed.
    Failed(PersistError),
}

impl From<PersistError> for End {
    fn from(error: PersistError) -> Self {
        Self::Failed(error)
    }
}

/// The writer's task.
struct Lanes<P> {
    store: P,
    writes: mpsc::Receiver<WriteSet>,
    pieces: mpsc::Receiver<Piece>,
    report: mpsc::Sender<Report>,
    /// The staging that began last.
    staging: Ticket,
    /// The store may have something to clean up.
    is_unclean: bool,
    metrics: Arc<Metrics>,
}

impl<P: Persist> Lanes<P> {
    async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        if let End::Failed(error) = end {
            let _ = self.report.send(Err(error)).await;
        }
        self.store.close().await;
    }

    /// One commit, if there is anything to commit; then one piece of side work, if there is any. Waits if there is neither.
    async fn turn(&mut self) -> Result<(), End> {
        match self.writes.try_recv() {
            Ok(first) => _ = self.commit(first).await?,
            Err(mpsc::error::TryRecvError::Empty) => {}
            Err(mpsc::error::TryRecvError::Disconnected) => return Err(End::Unwanted),
        }
        if let Ok(piece) = self.pieces.try_recv() {
            return self.serve(piece).await;
        }
        if self.is_unclean {
            self.is_unclean = self.store.clean().await?;
            return Ok(());
        }
        tokio::select! {
            biased;
            first = self.writes.recv() => {
                self.commit(first.ok_or(End::Unwanted)?).await?;
            }
            Some(piece) = self.pieces.recv() => self.serve(piece).await?,
        }
        Ok(())
    }

    /// Commits a WriteSet together with those that wait behind it. Returns how many there were.
    async fn commit(&mut self, first: WriteSet) -> Result<usize, End> {
        let writes = with_what_waits(first, &mut self.writes);
        let len = writes.len();
        let number = writes.iter().map(|write| write.number).max().unwrap_or_default();
        self.is_unclean |= writes.iter().any(|write| write.snapshot.is_some());
        let begun = Instant::now();
        self.store.commit(writes).await?;
        self.metrics.store_commit.observe_duration(begun.elapsed());
        self.report.send(Ok(number)).await.map_err(|_| End::Unwanted)?;
        Ok(len)
    }

    /// Does a piece of side work. One of a staging that another has put an end to is not done, and its answer dropped.
    async fn serve(&mut self, piece: Piece) -> Result<(), End> {
        match piece {
            Piece::Begin { ticket, staging, reply } if ticket > self.staging => {
                self.commit_what_waits().await?;
                self.staging = ticket;
                self.is_unclean = true;
                let _ = reply.send(self.store.begin(staging).await?);
            }
            Piece::Stage { ticket, number, chunk, reply } if ticket == self.staging => {
                self.store.stage(number, chunk).await?;
                let _ = reply.send(());
            }
            Piece::Read { snapshot, number, reply } => {
                let _ = reply.send(self.store.chunk(snapshot, number).await?);
            }
            Piece::Begin { .. } | Piece::Stage { .. } => {}
        }
        Ok(())
    }

    /// Among what was written before a staging begins may be the WriteSet that makes the one before it the newest snapshot:
    /// that must find it in its place.
    async fn commit_what_waits(&mut self) -> Result<(), End> {
        let mut left = self.writes.len();
        while left > 0 {
            let Ok(first) = self.writes.try_recv() else { break };
            left = left.saturating_sub(self.commit(first).await?);
        }
        Ok(())
    }
}

fn with_what_waits(first: WriteSet, queue: &mut mpsc::Receiver<WriteSet>) -> Vec<WriteSet> {
    let mut bytes = entry_bytes(&first);
    let mut writes = vec![first];
    while writes.len() < COMMIT_WRITES_MAX && bytes < COMMIT_BYTES_MAX {
        let Ok(next) = queue.try_recv() else { break };
        bytes += entry_bytes(&next);
        writes.push(next);
    }
    writes
}

fn entry_bytes(write: &WriteSet) -> usize {
    write.entries.iter().map(|entry| entry.data.len()).sum()
}

#[cfg(test)]
mod tests;
