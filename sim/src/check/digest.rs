//! Deterministic: at an index, every replica has the same digests and the same snapshot, and its history digest is the
//! model's; whether it came there by the log or by a snapshot.

use std::collections::BTreeMap;

use tombola::{
    pool::Digests,
    types::{HistoryDigest, Index},
};

use super::{Incarnation, Violation};

const NAME: &str = "digest";
const INVARIANT: &str = "deterministic";

/// The digests at each index, by whoever was first.
#[derive(Debug, Default)]
pub struct DigestCheck {
    seen: BTreeMap<Index, (Incarnation, Digests)>,
    snapshots: BTreeMap<Index, (Incarnation, [u8; 32])>,
}

impl DigestCheck {
    /// A replica has these digests.
    pub fn observe(&mut self, who: Incarnation, digests: Digests) -> Result<(), Violation> {
        let (first, seen) = self.seen.entry(digests.index).or_insert((who, digests));
        if *seen == digests {
            return Ok(());
        }
        let index = digests.index;
        let what = if seen.history == digests.history { "state" } else { "history" };
        Err(Violation::new(NAME, INVARIANT, format!("{who} and {first} differ in their {what} at {index}")))
    }

    /// A replica has taken, or been sent, a snapshot with a body of that SHA-256.
    pub fn snapshot(&mut self, who: Incarnation, index: Index, sha256: [u8; 32]) -> Result<(), Violation> {
        let (first, seen) = self.snapshots.entry(index).or_insert((who, sha256));
        if *seen == sha256 {
            return Ok(());
        }
        let detail = format!("the snapshots of {index} that {who} and {first} have differ");
        Err(Violation::new(NAME, INVARIANT, detail))
    }

    /// The model's history at an index.
    pub fn judge(&self, index: Index, history: HistoryDigest) -> Result<(), Violation> {
        match self.seen.get(&index) {
            Some((who, seen)) if seen.history != history => {
                let detail = format!("at {index}, {who} has history {}, the model {history}", seen.history);
                Err(Violation::new(NAME, INVARIANT, detail))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::{digests, life, refused};

    fn check() -> DigestCheck {
        let mut check = DigestCheck::default();
        check.observe(life(1, 1), digests(5, 1, 1)).unwrap();
        check.snapshot(life(1, 1), Index(5), [1; 32]).unwrap();
        check
    }

    #[test]
    fn equal_digests_are_well() {
        let mut check = check();
        check.observe(life(2, 1), digests(5, 1, 1)).unwrap();
        check.observe(life(2, 1), digests(6, 2, 2)).unwrap();
        check.snapshot(life(2, 1), Index(5), [1; 32]).unwrap();
        check.judge(Index(5), HistoryDigest([1; 32])).unwrap();
        // An index at which nobody was looked at.
        check.judge(Index(4), HistoryDigest([9; 32])).unwrap();
    }

    #[test]
    fn a_replica_that_differs_is_found() {
        refused(check().observe(life(2, 1), digests(5, 2, 1)), "digest", "differ in their history at 5");
        refused(check().observe(life(2, 1), digests(5, 1, 2)), "digest", "differ in their state at 5");
    }

    #[test]
    fn a_replica_that_differs_from_itself_after_a_restart_is_found() {
        refused(check().observe(life(1, 2), digests(5, 2, 1)), "digest", "replica 1 in its life 2");
    }

    #[test]
    fn replicas_that_are_wrong_together_are_found() {
        refused(check().judge(Index(5), HistoryDigest([2; 32])), "digest", "the model 0202");
    }

    #[test]
    fn snapshots_that_differ_are_found() {
        refused(check().snapshot(life(2, 1), Index(5), [2; 32]), "digest", "the snapshots of 5");
    }
}
