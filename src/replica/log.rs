//! The log in memory: what raft-rs reads through its `Storage`.
//!
//! It mirrors what was handed to the store, durable or not yet, so the core does no I/O and no read can fail. The disk is
//! read at start only. Compaction alone waits for the disk ([`Log::compact`]): until the store says that a snapshot and the
//! shorter log are durable together, the entries stay, and so does the snapshot that peers are sent.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry as RaftEntry, HardState as RaftHardState, Snapshot},
};

use super::message::{raft_entry, raft_snapshot};
use crate::{
    durable::{HardState, RecoveredLog, SnapshotMeta},
    types::{Index, ReplicaId, Term},
};

/// The entries after the last one that was compacted away, contiguous; and the newest snapshot, for peers that need one of
/// those that were.
#[derive(Debug)]
pub(super) struct Log {
    /// The state that raft-rs starts with: the newest hard state, and the membership *at the snapshot*.
    initial: RaftState,
    /// The newest snapshot that is durable.
    newest: SnapshotMeta,
    /// The last entry that was compacted away, at or below the snapshot, and its term.
    truncated: (Index, Term),
    /// The entries after it.
    entries: VecDeque<RaftEntry>,
    /// Length of their data.
    bytes: u64,
    /// Another snapshot is about to become the newest: the body of the present one goes away, so it is sent to nobody more.
    pub is_replaced_soon: bool,
    /// Whom raft-rs is having the newest snapshot sent to. It asks through a shared reference, hence the cell.
    sending_to: Cell<Option<ReplicaId>>,
    /// raft-rs asked for a snapshot that the newest one is not good enough for.
    is_newer_wanted: Cell<bool>,
}

impl Log {
    /// The log that a store held.
    pub fn new(recovered: &RecoveredLog) -> Self {
        let HardState { term, vote, commit } = recovered.hard_state;
        let mut hard_state = RaftHardState::default();
        (hard_state.term, hard_state.vote, hard_state.commit) = (term.0, vote.0, commit.0);
        let mut voters = ConfState::default();
        voters.set_voters(recovered.snapshot.meta.voters.iter().map(|voter| voter.0).collect());
        let entries: VecDeque<_> = recovered.entries.iter().map(raft_entry).collect();
        Self {
            initial: RaftState::new(hard_state, voters),
            newest: recovered.snapshot.meta.clone(),
            truncated: recovered.truncated,
            bytes: length_of(entries.iter()),
            entries,
            is_replaced_soon: false,
            sending_to: Cell::new(None),
            is_newer_wanted: Cell::new(false),
        }
    }

    /// Appends entries, dropping everything at and above the first one's index.
    pub fn append(&mut self, entries: &[RaftEntry]) {
        let Some(first) = entries.first() else { return };
        let first = Index(first.index);
        assert!(first > self.truncated.0, "entry {first} is compacted away, up to {}", self.truncated.0);
        assert!(first <= self.last().next(), "entry {first} leaves a gap after {}", self.last());
        let kept = self.position(first).expect("it lies above what is compacted");
        self.bytes -= length_of(self.entries.range(kept..));
        self.entries.truncate(kept);
        self.bytes += length_of(entries.iter());
        self.entries.extend(entries.iter().cloned());
    }

    /// A snapshot of this replica's own is durable, and so is the log without the entries up to `truncated`.
    pub fn compact(&mut self, newest: SnapshotMeta, truncated: (Index, Term)) {
        assert!(truncated.0 <= newest.index, "entries above the snapshot at {} are compacted", newest.index);
        assert_eq!(self.term_at(truncated.0), Some(truncated.1), "the log is cut at {} of another term", truncated.0);
        let gone = (truncated.0.0 - self.truncated.0.0) as usize;
        self.bytes -= length_of(self.entries.range(..gone));
        self.entries.drain(..gone);
        (self.newest, self.truncated) = (newest, truncated);
    }

    /// A peer's snapshot takes the place of the whole log.
    pub fn restore(&mut self, newest: SnapshotMeta) {
        self.truncated = (newest.index, newest.term);
        self.newest = newest;
        self.entries.clear();
        self.bytes = 0;
    }

    /// The last entry's index, or the last one that was compacted away.
    pub fn last(&self) -> Index {
        Index(self.truncated.0.0 + self.entries.len() as u64)
    }

    /// The last entry that was compacted away.
    pub fn truncated(&self) -> Index {
        self.truncated.0
    }

    /// Length of the data of all entries.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Length of the data of one entry; 0 if it is not there.
    pub fn bytes_at(&self, index: Index) -> u64 {
        self.get(index).map_or(0, |entry| entry.data.len() as u64)
    }

    /// The entry at an index, if it is there.
    pub fn get(&self, index: Index) -> Option<&RaftEntry> {
        self.entries.get(self.position(index)?)
    }

    /// The newest snapshot that is durable.
    pub fn newest(&self) -> &SnapshotMeta {
        &self.newest
    }

    /// The term at an index, if it is in the log or the last that was compacted away.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.truncated.0 {
            return Some(self.truncated.1);
        }
        Some(Term(self.get(index)?.term))
    }

    /// Whom a snapshot is being sent to.
    pub fn sending_to(&self) -> Option<ReplicaId> {
        self.sending_to.get()
    }

    /// The snapshot that was being sent is so no longer.
    pub fn end_sending(&mut self) {
        self.sending_to.set(None);
    }

    /// Did raft-rs ask for a newer snapshot than there is?
    pub fn is_newer_wanted(&self) -> bool {
        self.is_newer_wanted.get()
    }

    /// A newer one is being taken.
    pub fn forget_wanted(&mut self) {
        self.is_newer_wanted.set(false);
    }

    /// The position of an index among the entries, whether there is one or not; `None` if it is compacted away.
    fn position(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.truncated.0.0 + 1)?).ok()
    }
}

/// Length of the data of these entries.
fn length_of<'a>(entries: impl Iterator<Item = &'a RaftEntry>) -> u64 {
    entries.map(|entry| entry.data.len() as u64).sum()
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    /// At least one entry, whatever `max_size`, and then as many as fit.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        let (Some(from), Some(to)) = (self.position(Index(low)), self.position(Index(high))) else {
            return Err(StorageError::Compacted.into());
        };
        let limit_bytes = max_size.into().unwrap_or(u64::MAX);
        let mut taken_bytes = 0u64;
        let fits = |entry: &&RaftEntry| {
            let first = taken_bytes == 0;
            taken_bytes = taken_bytes.saturating_add(entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES);
            first || taken_bytes <= limit_bytes
        };
        Ok(self.entries.range(from..to).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_at(Index(index)) {
            Some(term) => Ok(term.0),
            None if index < self.truncated.0.0 => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0.next().0)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// The newest snapshot, for one peer at a time. Each that is given is sent: raft-rs makes a message of it at once.
    ///
    /// A peer that it does not list as a member would drop it without a word (raft-rs #472): for that one, and for whoever
    /// asks for a later index, a newer snapshot is wanted.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        if self.newest.index.0 < request_index || !self.newest.voters.contains(&ReplicaId(to)) {
            self.is_newer_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        if self.is_replaced_soon || self.sending_to.get().is_some() {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        self.sending_to.set(Some(ReplicaId(to)));
        Ok(raft_snapshot(&self.newest))
    }
}

/// What an entry costs in a message besides its data: generous, since it only bounds a message's size.
const ENTRY_OVERHEAD_BYTES: u64 = 32;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        durable::{Entry, EntryKind, Founders, Snapshot},
        pool::Limits,
        replica::message::our_entry,
        types::ClusterId,
    };

    fn entry(index: u64, term: u64) -> RaftEntry {
        raft_entry(&Entry { index: Index(index), term: Term(term), kind: EntryKind::Normal, data: vec![0; 100].into() })
    }

    fn meta(index: u64, voters: &[u64]) -> SnapshotMeta {
        let founders = Founders { cluster: ClusterId([0; 16]), limits: Limits::default(), disks: Default::default() };
        let voters = voters.iter().copied().map(ReplicaId).collect();
        let (index, term) = (Index(index), Term(if index == 1 { 1 } else { 2 }));
        SnapshotMeta { index, term, voters, founders, body_bytes: 0, body_sha256: [0; 32] }
    }

    fn recovered(snapshot: u64, truncated: u64, last: u64) -> RecoveredLog {
        let snapshot = Snapshot { meta: meta(snapshot, &[1, 2]), body: vec![] };
        let entries = (truncated + 1..=last).map(|index| our_entry(&entry(index, 2))).collect();
        let hard_state = HardState { term: Term(2), vote: ReplicaId(0), commit: snapshot.meta.index };
        let truncated = (Index(truncated), if truncated == 1 { Term(1) } else { Term(2) });
        RecoveredLog { genesis: snapshot.meta.genesis(), hard_state, snapshot, truncated, entries }
    }

    fn log(last: u64) -> Log {
        Log::new(&recovered(1, 1, last))
    }

    fn indexes(log: &Log, low: u64, high: u64, max_size: Option<u64>) -> Vec<u64> {
        let entries = log.entries(low, high, max_size, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn line_16_at_least_one_entry_whatever_the_size() {
        let log = log(9);
        assert_eq!(indexes(&log, 3, 10, Some(0)), [3]);
        assert_eq!(indexes(&log, 3, 10, Some(2 * 132)), [3, 4]);
        assert_eq!(indexes(&log, 3, 6, None), [3, 4, 5]);
    }

    #[test]
    fn line_16_below_the_first_index_is_compacted() {
        let error = log(3).entries(1, 2, None, GetEntriesContext::empty(false)).unwrap_err();
        assert_eq!(error, StorageError::Compacted.into());
    }

    #[test]
    fn line_17_the_term_below_the_first_index_is_known_and_appending_truncates() {
        let mut log = log(9);
        assert_eq!(log.term(log.first_index().unwrap() - 1), Ok(1));
        log.append(&[entry(5, 3)]);
        assert_eq!((log.last(), log.term_at(Index(5)), log.term_at(Index(6))), (Index(5), Some(Term(3)), None));
    }

    #[test]
    fn line_17_a_log_that_was_cut_below_its_snapshot_starts_after_the_cut() {
        let log = Log::new(&recovered(7, 4, 9));
        assert_eq!((log.first_index(), log.last_index(), log.term(4)), (Ok(5), Ok(9), Ok(2)));
        assert_eq!(log.term(3), Err(StorageError::Compacted.into()));
        assert_eq!(log.term(10), Err(StorageError::Unavailable.into()));
        assert_eq!((log.bytes(), log.bytes_at(Index(4)), log.bytes_at(Index(5))), (500, 0, 100));
        assert_eq!(indexes(&log, 5, 8, None), [5, 6, 7]);
    }

    #[test]
    fn line_18_a_snapshot_is_only_ever_temporarily_unavailable() {
        let unavailable = Err(StorageError::SnapshotTemporarilyUnavailable.into());
        let mut log = log(9);
        assert_eq!(log.snapshot(2, 2), unavailable, "it is not at index 2");
        assert!(log.is_newer_wanted());
        log.forget_wanted();
        assert_eq!(log.snapshot(0, 3), unavailable, "replica 3 is not among its voters");
        assert!(log.is_newer_wanted());
        log.compact(meta(5, &[1, 2, 3]), (Index(5), Term(2)));
        let given = log.snapshot(2, 3).unwrap();
        assert_eq!((given.get_metadata().index, given.get_metadata().term), (5, 2));
        assert_eq!(given.get_metadata().get_conf_state().get_voters(), [1, 2, 3]);
    }

    #[test]
    fn line_43_a_snapshot_goes_to_one_replica_at_a_time_and_to_none_while_it_is_replaced() {
        let unavailable = Err(StorageError::SnapshotTemporarilyUnavailable.into());
        let mut log = log(9);
        log.snapshot(0, 2).unwrap();
        assert_eq!(log.snapshot(0, 1), unavailable);
        assert_eq!(log.sending_to(), Some(ReplicaId(2)));
        log.is_replaced_soon = true;
        log.end_sending();
        assert_eq!(log.snapshot(0, 1), unavailable);
        log.is_replaced_soon = false;
        log.snapshot(0, 1).unwrap();
        assert!(!log.is_newer_wanted(), "it is good enough");
    }

    #[test]
    fn line_19_compaction_leaves_the_term_at_its_end_and_counts_bytes() {
        let mut log = log(9);
        log.compact(meta(7, &[1, 2]), (Index(4), Term(2)));
        assert_eq!((log.first_index(), log.last_index(), log.term(4)), (Ok(5), Ok(9), Ok(2)));
        assert_eq!(log.entries(4, 6, None, GetEntriesContext::empty(false)), Err(StorageError::Compacted.into()));
        assert_eq!((log.bytes(), indexes(&log, 5, 10, Some(0))), (500, vec![5]));
        log.append(&[entry(8, 3)]);
        assert_eq!((log.bytes(), log.last()), (400, Index(8)));
    }

    #[test]
    #[should_panic(expected = "another term")]
    fn line_21_the_log_is_never_cut_at_another_term_than_it_has() {
        log(9).compact(meta(7, &[1, 2]), (Index(4), Term(3)));
    }

    #[test]
    #[should_panic(expected = "is compacted away")]
    fn line_17_nothing_is_appended_below_what_was_compacted() {
        let mut log = log(9);
        log.compact(meta(7, &[1, 2]), (Index(4), Term(2)));
        log.append(&[entry(4, 3)]);
    }

    #[test]
    fn line_41_a_restored_snapshot_takes_the_place_of_the_whole_log() {
        let mut log = log(9);
        log.restore(meta(20, &[1, 2]));
        assert_eq!((log.first_index(), log.last_index(), log.term(20), log.bytes()), (Ok(21), Ok(20), Ok(2), 0));
        log.append(&[entry(21, 2)]);
        assert_eq!((log.last(), log.bytes()), (Index(21), 100));
    }

    #[test]
    fn line_23_raft_starts_with_the_members_at_the_snapshot() {
        let state = Log::new(&recovered(7, 4, 9)).initial_state().unwrap();
        assert_eq!(state.conf_state.get_voters(), [1, 2]);
        assert_eq!(state.hard_state.commit, 7);
    }
}
