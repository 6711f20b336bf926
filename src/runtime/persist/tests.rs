use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::*;
use crate::durable::SnapshotWrite;

/// Does one thing for every permit of its gate, and notes it; fails at what it is told to.
struct Slow {
    gate: Arc<Semaphore>,
    done: Done,
    fails_at: &'static str,
    /// How often it has more to clean up, each time that it has.
    unclean: u32,
}

type Done = Arc<Mutex<Vec<String>>>;

impl Slow {
    async fn note(&self, what: String) -> Result<(), PersistError> {
        self.gate.acquire().await.expect("never closed").forget();
        let fails = what == self.fails_at;
        self.done.lock().expect("no panic holds it").push(what);
        if fails { Err(PersistError("no space".to_owned())) } else { Ok(()) }
    }
}

impl Persist for Slow {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        let numbers: Vec<_> = writes.iter().map(|write| write.number).collect();
        self.unclean += 2 * writes.iter().filter(|write| write.snapshot.is_some()).count() as u32;
        self.note(match numbers[..] {
            [number] => number.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => panic!("nothing is committed for nothing"),
        })
        .await
    }

    async fn begin(&mut self, staging: Staging) -> Result<u32, PersistError> {
        self.note(format!("begin {}", staging.index())).await.map(|()| 7)
    }

    async fn stage(&mut self, number: u32, _chunk: Bytes) -> Result<(), PersistError> {
        self.note(format!("stage {number}")).await
    }

    async fn chunk(&mut self, _snapshot: Index, number: u32) -> Result<Option<Bytes>, PersistError> {
        self.note(format!("read {number}")).await.map(|()| None)
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        if self.unclean == 0 {
            return Ok(false);
        }
        self.unclean -= 1;
        self.note("clean".to_owned()).await.map(|()| self.unclean > 0)
    }
}

fn set(number: u64) -> WriteSet {
    WriteSet { number, ..WriteSet::default() }
}

fn slow(fails_at: &'static str, unclean: u32) -> (Arc<Semaphore>, Done, Started) {
    let (gate, done) = (Arc::new(Semaphore::new(0)), Done::default());
    let store = Slow { gate: gate.clone(), done: done.clone(), fails_at, unclean };
    (gate, done, Writer::start(store, Arc::default()))
}

fn own(index: u64) -> Staging {
    Staging::Own { index: Index(index) }
}

fn done(noted: &Done) -> Vec<String> {
    noted.lock().expect("no panic holds it").clone()
}

/// Lets everybody go on who can.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Lets the store do one thing.
async fn one(gate: &Semaphore) {
    gate.add_permits(1);
    settle().await;
}

#[tokio::test]
async fn what_gathers_during_a_commit_shares_the_next_one() {
    let (gate, noted, Started { writer, mut reports, .. }) = slow("", 0);
    writer.write(set(1)).unwrap();
    tokio::task::yield_now().await;
    (2..=4).for_each(|number| writer.write(set(number)).unwrap());
    gate.add_permits(2);
    assert_eq!(reports.recv().await, Some(Ok(1)));
    assert_eq!(reports.recv().await, Some(Ok(4)));
    assert_eq!(done(&noted), ["1", "2-4"]);
}

#[tokio::test]
async fn a_failure_is_reported_and_the_store_is_never_asked_again() {
    let (gate, noted, Started { writer, mut reports, .. }) = slow("1", 0);
    writer.write(set(1)).unwrap();
    tokio::task::yield_now().await;
    writer.write(set(2)).unwrap();
    gate.add_permits(9);
    assert_eq!(reports.recv().await, Some(Err(PersistError("no space".to_owned()))));
    assert_eq!(reports.recv().await, None);
    assert_eq!(done(&noted), ["1"]);
    assert_eq!(writer.write(set(3)), Err(writer_ended()));
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_an_error_not_a_leak() {
    let (_gate, _noted, Started { writer, reports: _reports, .. }) = slow("", 0);
    (0..QUEUED_WRITES_MAX as u64).for_each(|number| writer.write(set(number)).unwrap());
    assert!(writer.write(set(9)).is_err());
}

#[tokio::test]
async fn between_two_commits_there_is_one_piece_and_then_the_log_again() {
    let (gate, noted, Started { writer, bodies, reports: _reports, .. }) = slow("", 2);
    writer.write(set(1)).unwrap();
    settle().await;
    for number in 0..3 {
        let bodies = bodies.clone();
        tokio::spawn(async move { bodies.read(Index(9), number).await });
    }
    settle().await;
    for number in 2..=4 {
        writer.write(set(number)).unwrap();
        one(&gate).await;
    }
    for _ in 0..6 {
        one(&gate).await;
    }
    assert_eq!(done(&noted), ["1", "read 0", "2-3", "read 1", "4", "read 2", "clean", "clean"]);
}

#[tokio::test]
async fn a_busy_log_leaves_room_for_cleaning() {
    let (gate, noted, Started { writer, reports: _reports, .. }) = slow("", 2);
    for number in 1..=4 {
        writer.write(set(number)).unwrap();
        one(&gate).await;
    }
    assert_eq!(done(&noted), ["1", "clean", "2", "clean"]);
}

#[tokio::test]
async fn it_cleans_up_after_a_flip_until_there_is_no_more() {
    let (gate, noted, Started { writer, reports: _reports, .. }) = slow("", 1);
    gate.add_permits(99);
    settle().await;
    writer.write(set(1)).unwrap();
    settle().await;
    let flip = SnapshotWrite::Installed { meta: crate::runtime::snapshots::tests::meta(3) };
    writer.write(WriteSet { snapshot: Some(flip), ..set(2) }).unwrap();
    settle().await;
    writer.write(set(3)).unwrap();
    settle().await;
    assert_eq!(done(&noted), ["clean", "1", "2", "clean", "clean", "3"]);
}

#[tokio::test]
async fn a_staging_begins_after_everything_that_was_written_before_it() {
    let (gate, noted, Started { writer, bodies, reports: _reports, .. }) = slow("", 0);
    writer.write(set(1)).unwrap();
    settle().await;
    (2..=70).for_each(|number| writer.write(set(number)).unwrap());
    let begun = tokio::spawn(async move { bodies.begin(Tickets::default().draw(), own(9)).await });
    settle().await;
    gate.add_permits(99);
    assert_eq!(begun.await.unwrap(), Ok(7));
    assert_eq!(done(&noted), ["1", "2-65", "66-70", "begin 9"]);
}

#[tokio::test]
async fn a_later_ticket_puts_an_end_to_an_earlier_one_s_staging() {
    let (gate, noted, Started { bodies, writer: _log, reports: _reports, .. }) = slow("", 0);
    gate.add_permits(99);
    let tickets = Tickets::default();
    let (first, second, third) = (tickets.draw(), tickets.clone().draw(), tickets.draw());
    assert_eq!(bodies.begin(second, own(2)).await, Ok(7));
    assert_eq!(bodies.begin(first, own(1)).await, Err(Over), "it comes too late");
    assert_eq!(bodies.stage(first, 0, Bytes::new()).await, Err(Over));
    assert_eq!(bodies.stage(second, 0, Bytes::new()).await, Ok(()));
    assert_eq!(bodies.begin(third, own(3)).await, Ok(7));
    assert_eq!(bodies.stage(second, 1, Bytes::new()).await, Err(Over));
    assert_eq!(done(&noted), ["begin 2", "stage 0", "begin 3"]);
}

#[tokio::test]
async fn a_piece_that_fails_is_as_final_as_a_commit() {
    for (fails_at, unclean) in [("begin 9", 0), ("stage 0", 0), ("read 0", 0), ("clean", 1)] {
        let (gate, noted, Started { writer, bodies, mut reports, .. }) = slow(fails_at, unclean);
        gate.add_permits(99);
        let ticket = Tickets::default().draw();
        let begun = bodies.begin(ticket, own(9)).await;
        let staged = bodies.stage(ticket, 0, Bytes::new()).await;
        let read = bodies.read(Index(9), 0).await;
        assert!(unclean > 0 || begun.is_err() || staged.is_err() || read.is_err());
        assert_eq!(reports.recv().await, Some(Err(PersistError("no space".to_owned()))), "{fails_at}");
        assert_eq!(reports.recv().await, None);
        assert_eq!(done(&noted).last().unwrap(), fails_at, "it is never asked again");
        assert_eq!(writer.write(set(1)), Err(writer_ended()));
    }
}

#[tokio::test]
async fn it_ends_with_the_node_whatever_waits_beside_the_log() {
    let (gate, noted, Started { writer, bodies, task, reports: _reports }) = slow("", 0);
    writer.write(set(1)).unwrap();
    settle().await;
    let read = tokio::spawn(async move { bodies.read(Index(9), 0).await });
    settle().await;
    drop(writer);
    gate.add_permits(99);
    task.await.unwrap();
    assert!(read.await.unwrap().is_err() || done(&noted).len() == 2);
    assert_eq!(done(&noted)[0], "1");
}
