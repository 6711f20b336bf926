//! What waits for the disk (raft-rs.md, lines 4 to 10, 19 and 20).
//!
//! A vote or an acknowledgement may leave a node only when what it promises is durable: the writes of its own Ready and of
//! every one before it, even if its own wrote nothing. Snapshots stand in the same queue, so that all happens in the order
//! in which it was written.
//!
//! WriteSets have serial numbers of their own, since not every Ready writes and not every write comes from a Ready.

use std::collections::VecDeque;

use super::{RaftBody, RaftMessage};
use crate::{
    durable::SnapshotMeta,
    hooks,
    pool::StateMachine,
    types::{Index, Term},
};

/// From so many WriteSets on, or entries of such a length, a disk is behind: some seconds of a busy log, a fraction of what
/// the runtime's queue takes.
const WRITES_MAX: usize = 256;
const BYTES_MAX: usize = 32 << 20;

/// What follows once something is durable.
#[derive(Debug)]
pub(super) enum Durable {
    /// A Ready of raft's.
    Ready {
        /// Its number.
        number: u64,
        /// What was held back for it.
        messages: Vec<RaftMessage>,
    },
    /// A Ready of raft's with a peer's snapshot in it. Until then raft is told nothing (line 9).
    Installed {
        /// Its number.
        number: u64,
        /// What was held back for it.
        messages: Vec<RaftMessage>,
        /// What the snapshot holds.
        machine: Box<StateMachine>,
    },
    /// A snapshot of this replica's own, and the log without the entries up to `truncated`.
    Taken {
        /// What it is of.
        meta: SnapshotMeta,
        /// The last entry that leaves the log, and its term.
        truncated: (Index, Term),
    },
}

/// One thing on its way to the disk.
#[derive(Debug)]
struct Pending {
    /// The number of its WriteSet, which is at the store and not yet told durable.
    write: Option<u64>,
    /// Length of the entries in it.
    bytes: usize,
    /// That WriteSet changes term or vote.
    promise: bool,
    /// What follows.
    then: Durable,
}

/// What is not durable, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unpersisted {
    queue: VecDeque<Pending>,
    /// How many WriteSets there were.
    writes: u64,
    /// Ticks since the store last said anything, while it had something to say.
    silent_ticks: usize,
}

impl Unpersisted {
    /// The number of the next WriteSet.
    pub fn number_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// Of the messages of a Ready that is about to be held, takes those that promise nothing that is not durable: they may
    /// leave at once. `promise` if it changes term or vote.
    pub fn take_free(&self, promise: bool, messages: &mut Vec<RaftMessage>) -> Vec<RaftMessage> {
        if promise || self.queue.iter().any(|pending| pending.promise) {
            return Vec::new();
        }
        messages.extract_if(.., |message| is_free(&message.body)).collect()
    }

    /// Adds what follows once the WriteSet of this number is durable, if there is one, and everything before it.
    /// `bytes` is the length of its entries.
    pub fn hold(&mut self, write: Option<u64>, bytes: usize, promise: bool, then: Durable) {
        self.queue.push_back(Pending { write, bytes, promise, then });
    }

    /// Does so much wait that no more entries may be taken in?
    pub fn is_full(&self) -> bool {
        let writes = self.queue.iter().filter(|pending| pending.write.is_some());
        let (count, bytes) = writes.fold((0, 0), |(count, bytes), write| (count + 1, bytes + write.bytes));
        count >= WRITES_MAX || bytes >= BYTES_MAX
    }

    /// A tick passed.
    pub fn tick(&mut self) {
        self.silent_ticks = if self.is_writing() { self.silent_ticks + 1 } else { 0 };
    }

    /// For how many ticks the store has said nothing of what it has to write.
    pub fn silent_ticks(&self) -> usize {
        self.silent_ticks
    }

    /// The WriteSets up to `number` are durable.
    pub fn mark_durable(&mut self, number: u64) {
        self.silent_ticks = 0;
        for pending in self.queue.iter_mut().take_while(|pending| pending.write.is_none_or(|write| write <= number)) {
            pending.write = None;
        }
    }

    /// Takes the oldest, if it is durable.
    pub fn take_durable(&mut self) -> Option<Durable> {
        let is_durable = self.queue.front().is_some_and(|pending| pending.write.is_none());
        if is_durable { self.queue.pop_front().map(|pending| pending.then) } else { None }
    }

    /// Is a WriteSet at the store?
    pub fn is_writing(&self) -> bool {
        self.queue.iter().any(|pending| pending.write.is_some())
    }

    /// Is a WriteSet at the store that raft waits for?
    pub fn is_raft_writing(&self) -> bool {
        let of_raft = |pending: &Pending| !matches!(pending.then, Durable::Taken { .. });
        self.queue.iter().any(|pending| pending.write.is_some() && of_raft(pending))
    }

    /// Is a peer's snapshot at the store?
    pub fn is_installing(&self) -> bool {
        self.queue.iter().any(|pending| matches!(pending.then, Durable::Installed { .. }))
    }
}

/// Promises nothing beyond the term: an answer to a heartbeat, or a question.
fn is_free(body: &RaftBody) -> bool {
    matches!(body, RaftBody::HeartbeatResponse { .. } | RaftBody::ReadIndex { .. })
        || matches!(body, RaftBody::AppendResponse { .. }) && hooks::is_planted("m01")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        durable::Founders,
        pool::Limits,
        types::{ClusterId, ReplicaId},
    };

    fn message(body: RaftBody) -> RaftMessage {
        RaftMessage { to: ReplicaId(1), from: ReplicaId(2), term: Term(3), body }
    }

    fn acknowledgement(index: u64) -> RaftMessage {
        let (index, log_term, commit) = (Index(index), Term(0), Index(0));
        message(RaftBody::AppendResponse { index, log_term, commit, reject: false, reject_hint: Index(0) })
    }

    fn heartbeat_response() -> RaftMessage {
        message(RaftBody::HeartbeatResponse { commit: Index(0), context: Default::default() })
    }

    /// Holds a Ready as the replica does, and says what may leave at once.
    fn hold(unpersisted: &mut Unpersisted, number: u64, write: bool, promise: bool, say: RaftMessage) -> usize {
        let mut messages = vec![say];
        let free = unpersisted.take_free(promise, &mut messages).len();
        let write = write.then(|| unpersisted.number_write());
        unpersisted.hold(write, 1_000, promise, Durable::Ready { number, messages });
        free
    }

    /// The numbers of the Readys that are durable, and how many messages go out with each.
    fn durable(unpersisted: &mut Unpersisted) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| unpersisted.take_durable())
            .map(|durable| match durable {
                Durable::Ready { number, messages } => (number, messages.len()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn line_5_a_ready_that_writes_nothing_waits_for_those_before_it() {
        let mut unpersisted = Unpersisted::default();
        hold(&mut unpersisted, 4, true, false, acknowledgement(6));
        hold(&mut unpersisted, 5, false, false, acknowledgement(7));
        assert_eq!(durable(&mut unpersisted), []);
        unpersisted.mark_durable(1);
        assert_eq!(durable(&mut unpersisted), [(4, 1), (5, 1)]);
    }

    #[test]
    fn line_5_a_heartbeat_is_answered_early_unless_a_term_or_vote_is_in_flight() {
        let mut unpersisted = Unpersisted::default();
        assert_eq!(hold(&mut unpersisted, 1, true, false, heartbeat_response()), 1);
        assert_eq!(hold(&mut unpersisted, 2, true, true, heartbeat_response()), 0);
        assert_eq!(hold(&mut unpersisted, 3, false, false, heartbeat_response()), 0);
        unpersisted.mark_durable(2);
        assert_eq!(durable(&mut unpersisted), [(1, 0), (2, 1), (3, 1)]);
    }

    #[test]
    fn line_10_with_nothing_in_flight_a_ready_without_a_write_is_durable_at_once() {
        let mut unpersisted = Unpersisted::default();
        hold(&mut unpersisted, 1, false, false, acknowledgement(3));
        assert_eq!(durable(&mut unpersisted), [(1, 1)]);
        assert_eq!(durable(&mut unpersisted), []);
    }

    #[test]
    fn it_is_full_of_writes_or_of_bytes_and_not_of_what_writes_nothing() {
        let mut unpersisted = Unpersisted::default();
        hold(&mut unpersisted, 1, true, false, acknowledgement(1));
        (2..1_000).for_each(|number| _ = hold(&mut unpersisted, number, false, false, acknowledgement(1)));
        assert!(!unpersisted.is_full());
        (2..WRITES_MAX as u64).for_each(|number| _ = hold(&mut unpersisted, number, true, false, acknowledgement(1)));
        assert!(!unpersisted.is_full());
        hold(&mut unpersisted, 2_000, true, false, acknowledgement(1));
        assert!(unpersisted.is_full());
        unpersisted.mark_durable(1);
        assert!(!unpersisted.is_full());
        let write = unpersisted.number_write();
        unpersisted.hold(Some(write), BYTES_MAX, false, Durable::Ready { number: 2_001, messages: Vec::new() });
        assert!(unpersisted.is_full());
    }

    #[test]
    fn the_store_is_silent_while_it_has_something_to_say_and_says_nothing() {
        let mut unpersisted = Unpersisted::default();
        let silence = |unpersisted: &mut Unpersisted| {
            unpersisted.tick();
            unpersisted.silent_ticks()
        };
        assert_eq!(silence(&mut unpersisted), 0);
        (1..=3).for_each(|number| _ = hold(&mut unpersisted, number, true, false, acknowledgement(1)));
        assert_eq!([silence(&mut unpersisted), silence(&mut unpersisted)], [1, 2]);
        unpersisted.mark_durable(2);
        assert_eq!([silence(&mut unpersisted), silence(&mut unpersisted)], [1, 2], "slow is not silent");
        unpersisted.mark_durable(3);
        assert_eq!(silence(&mut unpersisted), 0);
    }

    #[test]
    fn line_20_a_snapshot_has_its_place_in_the_queue_and_raft_does_not_wait_for_it() {
        let mut unpersisted = Unpersisted::default();
        hold(&mut unpersisted, 1, true, false, acknowledgement(3));
        let write = unpersisted.number_write();
        let founders = Founders { cluster: ClusterId([0; 16]), limits: Limits::default(), disks: Default::default() };
        let (index, term) = (Index(3), Term(3));
        let meta = SnapshotMeta { index, term, voters: vec![], founders, body_bytes: 0, body_sha256: [0; 32] };
        unpersisted.hold(Some(write), 0, false, Durable::Taken { meta, truncated: (Index(2), Term(3)) });
        hold(&mut unpersisted, 2, true, false, acknowledgement(4));
        unpersisted.mark_durable(1);
        assert!(matches!(unpersisted.take_durable(), Some(Durable::Ready { number: 1, .. })));
        assert!(unpersisted.take_durable().is_none());
        unpersisted.mark_durable(2);
        assert!(matches!(unpersisted.take_durable(), Some(Durable::Taken { .. })));
        assert!(unpersisted.take_durable().is_none() && unpersisted.is_raft_writing());
    }
}
