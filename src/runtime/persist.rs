//! WriteSets on their way to the store, in order, off the loop.
//!
//! The writer is a task of its own. While the store commits, further WriteSets gather, and the next commit takes all of
//! them: the slower the disk, the fewer its commits. It reports the greatest number that is durable. An error is final: the
//! store is never asked again, since after a failed sync nobody knows what is on the disk.

use std::{future::Future, sync::Arc};

use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use bytes::Bytes;

use super::metrics::Metrics;
use crate::{
    durable::{Staging, WriteSet},
    types::Index,
};

/// Most WriteSets that share a commit.
const COMMIT_WRITES_MAX: usize = 64;
/// Length of entries after which no further WriteSet joins a commit.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Most WriteSets that wait for the store. Raft lets far fewer be in flight; so many mean that the disk is gone.
const QUEUED_WRITES_MAX: usize = 4_096;

/// The store as the runtime sees it: asynchronous, so that production can sync on a thread of its own and the
/// simulator can take its time.
pub trait Persist: Send + 'static {
    /// Makes the WriteSets durable, in one transaction, in order. An error is final: it is never retried.
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

impl Writer {
    /// Starts the writer. Its task ends, and closes the store, when the [`Writer`] is dropped or the store fails.
    pub fn start<P: Persist>(store: P, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Report>, JoinHandle<()>) {
        let (queue, writes) = mpsc::channel(QUEUED_WRITES_MAX);
        let (report, reports) = mpsc::channel(COMMIT_WRITES_MAX);
        let task = tokio::spawn(write(store, writes, report, metrics));
        (Self { queue }, reports, task)
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

async fn write<P: Persist>(
    mut store: P,
    mut queue: mpsc::Receiver<WriteSet>,
    report: mpsc::Sender<Report>,
    metrics: Arc<Metrics>,
) {
    while let Some(first) = queue.recv().await {
        let writes = with_what_waits(first, &mut queue);
        let number = writes.iter().map(|write| write.number).max().unwrap_or_default();
        let begun = Instant::now();
        let result = store.commit(writes).await.map(|()| number);
        metrics.store_commit.observe_duration(begun.elapsed());
        let is_over = result.is_err();
        if report.send(result).await.is_err() || is_over {
            return;
        }
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
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Semaphore;

    use super::*;

    /// Commits when it is let, notes what it committed, and fails at a number.
    struct Slow {
        gate: Arc<Semaphore>,
        commits: Arc<Mutex<Vec<Vec<u64>>>>,
        fails_at: u64,
    }

    impl Persist for Slow {
        async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
            self.gate.acquire().await.expect("never closed").forget();
            let numbers: Vec<_> = writes.iter().map(|write| write.number).collect();
            let fails = numbers.contains(&self.fails_at);
            self.commits.lock().expect("no panic holds it").push(numbers);
            if fails { Err(PersistError("no space".to_owned())) } else { Ok(()) }
        }

        async fn begin(&mut self, _staging: Staging) -> Result<u32, PersistError> {
            Ok(0)
        }

        async fn stage(&mut self, _number: u32, _chunk: Bytes) -> Result<(), PersistError> {
            Ok(())
        }

        async fn chunk(&mut self, _snapshot: Index, _number: u32) -> Result<Option<Bytes>, PersistError> {
            Ok(None)
        }

        async fn clean(&mut self) -> Result<bool, PersistError> {
            Ok(false)
        }
    }

    fn set(number: u64) -> WriteSet {
        WriteSet { number, ..WriteSet::default() }
    }

    type Commits = Arc<Mutex<Vec<Vec<u64>>>>;

    fn slow(fails_at: u64) -> (Arc<Semaphore>, Commits, Writer, mpsc::Receiver<Report>) {
        let (gate, commits) = (Arc::new(Semaphore::new(0)), Arc::default());
        let store = Slow { gate: gate.clone(), commits: Arc::clone(&commits), fails_at };
        let (writer, reports, _) = Writer::start(store, Arc::default());
        (gate, commits, writer, reports)
    }

    #[tokio::test]
    async fn what_gathers_during_a_commit_shares_the_next_one() {
        let (gate, commits, writer, mut reports) = slow(0);
        writer.write(set(1)).unwrap();
        tokio::task::yield_now().await;
        (2..=4).for_each(|number| writer.write(set(number)).unwrap());
        gate.add_permits(2);
        assert_eq!(reports.recv().await, Some(Ok(1)));
        assert_eq!(reports.recv().await, Some(Ok(4)));
        assert_eq!(*commits.lock().unwrap(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn a_failure_is_reported_and_the_store_is_never_asked_again() {
        let (gate, commits, writer, mut reports) = slow(1);
        writer.write(set(1)).unwrap();
        tokio::task::yield_now().await;
        writer.write(set(2)).unwrap();
        gate.add_permits(9);
        assert_eq!(reports.recv().await, Some(Err(PersistError("no space".to_owned()))));
        assert_eq!(reports.recv().await, None);
        assert_eq!(*commits.lock().unwrap(), [vec![1]]);
        assert_eq!(writer.write(set(3)), Err(writer_ended()));
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_an_error_not_a_leak() {
        let (_gate, _commits, writer, _reports) = slow(0);
        (0..QUEUED_WRITES_MAX as u64).for_each(|number| writer.write(set(number)).unwrap());
        assert!(writer.write(set(9)).is_err());
    }
}
