//! Logs match: if two logs have an entry of the same index and term, it is the same entry, and so are all before it.
//!
//! Each entry that a store ever wrote is known by its index and term; the first that wrote it fixes its bytes and the term of
//! the one before it. That all later ones have the same two is enough, by induction. Unlike the ledger this sees what was
//! never committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use tombola::{
    durable::{Entry, Recovered, RecoveredState, SnapshotWrite, WriteSet},
    types::{Index, ReplicaId, Term},
};

use super::Violation;

const NAME: &str = "raft";
const INVARIANT: &str = "log matching";

/// Terms of a log, from the last that was compacted away.
type Terms = BTreeMap<Index, Term>;

/// Entries that were ever written.
#[derive(Debug, Default)]
pub struct MatchingCheck {
    /// What each holds, and the term of the one before it.
    seen: BTreeMap<(Index, Term), (Bytes, Term)>,
    logs: BTreeMap<ReplicaId, Terms>,
}

impl MatchingCheck {
    /// A node begins a life with what its store has.
    pub fn recovered(&mut self, node: ReplicaId, recovered: &Recovered) -> Result<(), Violation> {
        let RecoveredState::Founded(log) = &recovered.state else {
            self.logs.remove(&node);
            return Ok(());
        };
        self.logs.insert(node, Terms::from([log.truncated]));
        self.append(node, &log.entries)
    }

    /// A node's store has written.
    pub fn wrote(&mut self, node: ReplicaId, write: &WriteSet) -> Result<(), Violation> {
        let appended = self.append(node, &write.entries);
        let terms = self.logs.entry(node).or_default();
        match &write.snapshot {
            None => {}
            Some(SnapshotWrite::Taken { truncated, .. }) => *terms = terms.split_off(&truncated.0),
            Some(SnapshotWrite::Installed { meta }) => *terms = Terms::from([(meta.index, meta.term)]),
        }
        appended
    }

    fn append(&mut self, node: ReplicaId, entries: &[Entry]) -> Result<(), Violation> {
        let terms = self.logs.entry(node).or_default();
        if let Some(first) = entries.first() {
            terms.split_off(&first.index);
        }
        for entry in entries {
            let name = (entry.index, entry.term);
            // A log that was founded here begins after the founding snapshot, whose term nobody told us.
            let before = terms.last_key_value().map(|(_, term)| *term);
            terms.insert(entry.index, entry.term);
            let Some(before) = before else { continue };
            let (data, term) = self.seen.entry(name).or_insert_with(|| (entry.data.clone(), before));
            if *data != entry.data || *term != before {
                let (index, own) = name;
                let what = if *term == before { "other bytes".to_owned() } else { format!("term {before} before it") };
                let detail = format!("node {node} has the entry {index} of term {own} with {what}");
                return Err(Violation::new(NAME, INVARIANT, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tombola::{
        durable::{EntryKind, Founders, SnapshotMeta},
        pool::Limits,
        types::ClusterId,
    };

    use super::*;
    use crate::check::made_up::refused;

    /// Entries from `first` on, of these terms; each says that number.
    fn entries(first: u64, entries: &[(u64, u8)]) -> WriteSet {
        let entry = |(index, (term, says)): (u64, &(u64, u8))| Entry {
            index: Index(index),
            term: Term(*term),
            kind: EntryKind::Normal,
            data: vec![*says].into(),
        };
        WriteSet { entries: (first..).zip(entries).map(entry).collect(), ..WriteSet::default() }
    }

    fn meta(index: u64, term: u64) -> SnapshotMeta {
        let founders = Founders { cluster: ClusterId([0; 16]), limits: Limits::default(), disks: BTreeMap::new() };
        let (index, term) = (Index(index), Term(term));
        SnapshotMeta { index, term, voters: vec![], founders, body_bytes: 0, body_sha256: [0; 32] }
    }

    /// Node 1 has entries 2 to 5 of the terms 1, 2, 2 and 3.
    fn check() -> MatchingCheck {
        let mut check = MatchingCheck::default();
        check.wrote(ReplicaId(1), &entries(2, &[(1, 1), (2, 2), (2, 3), (3, 4)])).unwrap();
        check
    }

    #[test]
    fn the_same_entries_match_and_a_suffix_may_be_replaced() {
        let mut check = check();
        check.wrote(ReplicaId(2), &entries(2, &[(1, 1), (2, 2)])).unwrap();
        check.wrote(ReplicaId(2), &entries(4, &[(4, 5), (4, 6)])).unwrap();
        check.wrote(ReplicaId(1), &entries(4, &[(5, 7)])).unwrap();
        check.wrote(ReplicaId(2), &entries(4, &[(5, 7)])).unwrap();
    }

    #[test]
    fn other_bytes_under_the_same_index_and_term_are_found() {
        let mut check = check();
        check.wrote(ReplicaId(2), &entries(2, &[(1, 1), (2, 2)])).unwrap();
        refused(check.wrote(ReplicaId(2), &entries(4, &[(2, 9)])), "raft", "entry 4 of term 2 with other bytes");
    }

    #[test]
    fn the_same_entry_after_another_one_is_found() {
        let mut check = check();
        check.wrote(ReplicaId(2), &entries(2, &[(1, 1), (2, 2)])).unwrap();
        let gap = check.wrote(ReplicaId(2), &entries(4, &[(1, 8), (3, 4)]));
        refused(gap, "raft", "entry 5 of term 3 with term 1 before it");
    }

    #[test]
    fn a_log_goes_on_after_a_snapshot_as_the_others_do() {
        for (term, matches) in [(2, true), (1, false)] {
            let mut check = check();
            let installed = SnapshotWrite::Installed { meta: meta(4, term) };
            check.wrote(ReplicaId(2), &WriteSet { snapshot: Some(installed), ..WriteSet::default() }).unwrap();
            assert_eq!(check.wrote(ReplicaId(2), &entries(5, &[(3, 4)])).is_ok(), matches);
        }
        let mut check = check();
        let taken = SnapshotWrite::Taken { meta: meta(5, 3), truncated: (Index(4), Term(2)) };
        check.wrote(ReplicaId(1), &WriteSet { snapshot: Some(taken), ..WriteSet::default() }).unwrap();
        check.wrote(ReplicaId(1), &entries(5, &[(3, 4)])).unwrap();
    }
}
