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
    let Started { writer, reports, .. } = Writer::start(store, Arc::default());
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
