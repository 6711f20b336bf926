//! The log in memory: what raft-rs reads through its `Storage`.
//!
//! It mirrors what was handed to the store, durable or not yet, so the core does no I/O and no read can fail. The disk is
//! read at start only.

use std::collections::VecDeque;

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry as RaftEntry, HardState as RaftHardState, Snapshot},
};

use super::message::raft_entry;
use crate::{
    durable::{HardState, RecoveredLog},
    types::{Index, Term},
};

/// Entries after the newest snapshot, contiguous, and what raft-rs asks for at its start.
#[derive(Debug)]
pub(super) struct Log {
    /// The state that raft-rs starts with: the newest hard state, and the membership *at the snapshot*.
    initial: RaftState,
    /// The newest snapshot's position.
    snapshot_index: Index,
    /// The term there.
    snapshot_term: Term,
    /// The entries after it.
    entries: VecDeque<RaftEntry>,
}

impl Log {
    /// The log that a store held.
    pub fn new(recovered: &RecoveredLog) -> Self {
        let HardState { term, vote, commit } = recovered.hard_state;
        let mut hard_state = RaftHardState::default();
        (hard_state.term, hard_state.vote, hard_state.commit) = (term.0, vote.0, commit.0);
        let mut voters = ConfState::default();
        voters.set_voters(recovered.snapshot.meta.voters.iter().map(|voter| voter.0).collect());
        Self {
            initial: RaftState::new(hard_state, voters),
            snapshot_index: recovered.snapshot.meta.index,
            snapshot_term: recovered.snapshot.meta.term,
            entries: recovered.entries.iter().map(raft_entry).collect(),
        }
    }

    /// Appends entries, dropping everything at and above the first one's index.
    pub fn append(&mut self, entries: &[RaftEntry]) {
        let Some(first) = entries.first() else { return };
        let first = Index(first.index);
        assert!(first > self.snapshot_index, "entry {first} lies below the snapshot at {}", self.snapshot_index);
        assert!(first <= self.last().next(), "entry {first} leaves a gap after {}", self.last());
        self.entries.truncate((first.0 - self.snapshot_index.0 - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// The newest snapshot's index.
    pub fn snapshot_index(&self) -> Index {
        self.snapshot_index
    }

    /// The first entry's index, or where it would be.
    pub fn first(&self) -> Index {
        self.snapshot_index.next()
    }

    /// The last entry's index, or the snapshot's.
    pub fn last(&self) -> Index {
        Index(self.snapshot_index.0 + self.entries.len() as u64)
    }

    /// The term at an index, if it is in the log or the snapshot's own.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot_index {
            return Some(self.snapshot_term);
        }
        let position = index.0.checked_sub(self.snapshot_index.0 + 1)?;
        Some(Term(self.entries.get(usize::try_from(position).ok()?)?.term))
    }
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
        if low <= self.snapshot_index.0 {
            return Err(StorageError::Compacted.into());
        }
        let (from, to) = ((low - self.snapshot_index.0 - 1) as usize, (high - self.snapshot_index.0 - 1) as usize);
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
            None if index < self.snapshot_index.0 => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.snapshot_index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// No replica ever needs one yet: the log is kept from the founding on.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

/// What an entry costs in a message besides its data: generous, since it only bounds a message's size.
const ENTRY_OVERHEAD_BYTES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{Entry, EntryKind};

    fn entry(index: u64, term: u64) -> RaftEntry {
        raft_entry(&Entry { index: Index(index), term: Term(term), kind: EntryKind::Normal, data: vec![0; 100].into() })
    }

    fn log(last: u64) -> Log {
        let mut log = Log {
            initial: RaftState::default(),
            snapshot_index: Index(1),
            snapshot_term: Term(1),
            entries: VecDeque::new(),
        };
        (2..=last).for_each(|index| log.append(&[entry(index, 2)]));
        log
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
    fn line_18_a_snapshot_is_only_ever_temporarily_unavailable() {
        assert_eq!(log(3).snapshot(0, 2).unwrap_err(), StorageError::SnapshotTemporarilyUnavailable.into());
    }
}
