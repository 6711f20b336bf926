//! Bounded: what can be seen from outside of a node's memory and disk stays within what is published.
//!
//! Commands that wait, and their bytes, by what a node says of itself. The log, by what its store wrote: once it is as long
//! as it may be, which is at least as long as the newest snapshot's body, the next snapshot cuts it, whoever still needs it,
//! down to what the policy lets trail behind.
//!
//! The table of request keys needs no look here: the model has the same keys, or a verification would differ from it, and
//! the model's are held to their budget by its own tests.

use std::collections::BTreeMap;

use tombola::{
    api::Vitals,
    durable::{Entry, Recovered, RecoveredState, SnapshotWrite, WriteSet},
    replica::SnapshotPolicy,
    runtime::PENDING_BYTES_MAX,
    types::{Index, ReplicaId},
};

use super::Violation;

const NAME: &str = "bounds";

/// What a store has of a log.
#[derive(Clone, Debug, Default)]
struct Log {
    /// Bytes of each entry.
    entries: BTreeMap<Index, u64>,
    /// Bytes of the newest snapshot's body.
    body: u64,
}

/// What nodes show of their sizes.
#[derive(Debug)]
pub struct BoundsCheck {
    policy: SnapshotPolicy,
    pending_commands_max: usize,
    logs: BTreeMap<ReplicaId, Log>,
}

impl BoundsCheck {
    /// Of nodes that take snapshots by this policy, and let so many commands wait.
    pub fn new(policy: SnapshotPolicy, pending_commands_max: usize) -> Self {
        Self { policy, pending_commands_max, logs: BTreeMap::new() }
    }

    /// A node shows how it does.
    pub fn vitals(&self, node: ReplicaId, vitals: &Vitals) -> Result<(), Violation> {
        let Vitals { waiting_commands, waiting_bytes, .. } = vitals;
        if *waiting_commands <= self.pending_commands_max && *waiting_bytes <= PENDING_BYTES_MAX {
            return Ok(());
        }
        let detail = format!("in node {node} {waiting_commands} commands of {waiting_bytes} bytes wait");
        Err(Violation::new(NAME, "waiting commands", detail))
    }

    /// A node shows how it does, long after the last caller gave up.
    pub fn idle(&self, node: ReplicaId, vitals: &Vitals) -> Result<(), Violation> {
        let Vitals { waiting_commands, waiting_bytes, .. } = vitals;
        if (*waiting_commands, *waiting_bytes) == (0, 0) {
            return Ok(());
        }
        let detail =
            format!("nobody asks, and in node {node} {waiting_commands} commands of {waiting_bytes} bytes wait");
        Err(Violation::new(NAME, "nothing is left behind", detail))
    }

    /// A node begins a life with what its store has.
    pub fn recovered(&mut self, node: ReplicaId, recovered: &Recovered) {
        let log = match &recovered.state {
            RecoveredState::Founded(log) => {
                Log { entries: log.entries.iter().map(sized).collect(), body: log.snapshot.meta.body_bytes }
            }
            RecoveredState::Unfounded { .. } => Log::default(),
        };
        self.logs.insert(node, log);
    }

    /// A node's store has written.
    pub fn wrote(&mut self, node: ReplicaId, write: &WriteSet) -> Result<(), Violation> {
        let log = self.logs.entry(node).or_default();
        if let Some(first) = write.entries.first() {
            log.entries.split_off(&first.index);
            log.entries.extend(write.entries.iter().map(sized));
        }
        match &write.snapshot {
            None => Ok(()),
            Some(SnapshotWrite::Installed { meta }) => {
                *log = Log { body: meta.body_bytes, ..Log::default() };
                Ok(())
            }
            Some(SnapshotWrite::Taken { meta, truncated }) => {
                let before: u64 = log.entries.values().sum();
                let bytes_max = self.policy.log_bytes_max.max(log.body).max(meta.body_bytes);
                log.entries = log.entries.split_off(&truncated.0.next());
                log.body = meta.body_bytes;
                let trailing: Vec<_> = log.entries.range(..=meta.index).map(|(_, bytes)| *bytes).collect();
                match before < bytes_max {
                    true => Ok(()),
                    false => check_cut(&self.policy, node, before, &trailing),
                }
            }
        }
    }
}

fn sized(entry: &Entry) -> (Index, u64) {
    (entry.index, entry.data.len() as u64)
}

/// What a log of `before` bytes leaves at or below the snapshot that cuts it is what may trail behind.
fn check_cut(policy: &SnapshotPolicy, node: ReplicaId, before: u64, trailing: &[u64]) -> Result<(), Violation> {
    let (entries, bytes) = (trailing.len() as u64, trailing.iter().sum::<u64>());
    if entries <= policy.trailing_entries && bytes <= policy.trailing_bytes {
        return Ok(());
    }
    let detail = format!("node {node} cut a log of {before} bytes, and left {entries} entries of {bytes} bytes");
    Err(Violation::new(NAME, "length of the log", detail))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tombola::{
        durable::{EntryKind, Founders, SnapshotMeta},
        pool::Limits,
        types::{ClusterId, Term},
    };

    use super::*;
    use crate::check::made_up::refused;

    const NODE: ReplicaId = ReplicaId(2);

    /// Three entries or 250 bytes may trail, and 1,000 bytes are too long; seven commands may wait.
    fn check() -> BoundsCheck {
        let (log_bytes_min, trailing_entries, trailing_bytes, log_bytes_max) = (300, 3, 250, 1_000);
        BoundsCheck::new(SnapshotPolicy { log_bytes_min, trailing_entries, trailing_bytes, log_bytes_max }, 7)
    }

    /// Entries from `first` on, of these lengths.
    fn entries(first: u64, lengths: &[usize]) -> WriteSet {
        let entry = |(index, bytes): (u64, &usize)| {
            let data = Bytes::from(vec![0; *bytes]);
            Entry { index: Index(index), term: Term(2), kind: EntryKind::Normal, data }
        };
        WriteSet { entries: (first..).zip(lengths).map(entry).collect(), ..WriteSet::default() }
    }

    #[test]
    fn a_log_shorter_than_the_body_beside_it_is_not_long() {
        let mut check = check();
        let body = SnapshotMeta { body_bytes: 1_300, ..meta(1) };
        let installed = SnapshotWrite::Installed { meta: body };
        check.wrote(NODE, &WriteSet { snapshot: Some(installed), ..WriteSet::default() }).unwrap();
        check.wrote(NODE, &entries(2, &[100; 12])).unwrap();
        check.wrote(NODE, &cut(11, 3)).unwrap();
        check.wrote(NODE, &entries(14, &[100; 12])).unwrap();
        refused(check.wrote(NODE, &cut(25, 14)), "bounds", "left 11 entries");
    }

    fn meta(index: u64) -> SnapshotMeta {
        let founders = Founders { cluster: ClusterId([0; 16]), limits: Limits::default(), disks: BTreeMap::new() };
        let (index, term) = (Index(index), Term(2));
        SnapshotMeta { index, term, voters: vec![], founders, body_bytes: 0, body_sha256: [0; 32] }
    }

    fn cut(snapshot: u64, truncated: u64) -> WriteSet {
        let snapshot = SnapshotWrite::Taken { meta: meta(snapshot), truncated: (Index(truncated), Term(2)) };
        WriteSet { snapshot: Some(snapshot), ..WriteSet::default() }
    }

    #[test]
    fn a_short_log_may_keep_what_peers_need() {
        let mut check = check();
        check.wrote(NODE, &entries(2, &[100; 9])).unwrap();
        check.wrote(NODE, &cut(9, 2)).unwrap();
    }

    #[test]
    fn a_long_log_keeps_what_may_trail() {
        let mut check = check();
        check.wrote(NODE, &entries(2, &[100; 12])).unwrap();
        check.wrote(NODE, &cut(11, 9)).unwrap();
        check.wrote(NODE, &entries(14, &[50; 20])).unwrap();
        check.wrote(NODE, &cut(33, 30)).unwrap();
    }

    #[test]
    fn a_long_log_that_is_not_cut_far_enough_is_found() {
        for (lengths, snapshot, truncated, left) in [
            (vec![100; 12], 11, 8, "left 3 entries of 300 bytes"),
            (vec![10; 120], 110, 106, "left 4 entries of 40 bytes"),
        ] {
            let mut check = check();
            check.wrote(NODE, &entries(2, &lengths)).unwrap();
            refused(check.wrote(NODE, &cut(snapshot, truncated)), "bounds", left);
        }
    }

    #[test]
    fn what_was_overwritten_or_left_does_not_count() {
        let mut check = check();
        check.wrote(NODE, &entries(2, &[200; 6])).unwrap();
        check.wrote(NODE, &entries(3, &[10; 3])).unwrap();
        check.wrote(NODE, &cut(5, 2)).unwrap();
        check.wrote(NODE, &entries(6, &[400; 3])).unwrap();
        let installed = SnapshotWrite::Installed { meta: meta(20) };
        check.wrote(NODE, &WriteSet { snapshot: Some(installed), ..WriteSet::default() }).unwrap();
        check.wrote(NODE, &entries(21, &[10; 9])).unwrap();
        check.wrote(NODE, &cut(29, 21)).unwrap();
    }

    #[test]
    fn what_waits_is_bounded() {
        let waits = |waiting_commands, waiting_bytes| {
            check().vitals(NODE, &Vitals { waiting_commands, waiting_bytes, ..Vitals::default() })
        };
        waits(7, PENDING_BYTES_MAX).unwrap();
        refused(waits(8, 0), "bounds", "8 commands of 0 bytes");
        refused(waits(1, PENDING_BYTES_MAX + 1), "bounds", "1 commands of 16777217 bytes");
    }

    #[test]
    fn when_nobody_asks_nothing_waits() {
        check().idle(NODE, &Vitals::default()).unwrap();
        let left = Vitals { waiting_commands: 1, ..Vitals::default() };
        refused(check().idle(NODE, &left), "bounds", "in node 2 1 commands of 0 bytes wait");
    }
}
