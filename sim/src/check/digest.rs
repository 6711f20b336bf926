//! Deterministic: at an index, every replica has the same digests and the same snapshot, and its history digest is the
//! model's; whether it came there by the log or by a snapshot.

use std::collections::BTreeMap;

use tombola::types::{HistoryDigest, Index, StateDigest};

use super::{Incarnation, Violation};

const NAME: &str = "digest";
const INVARIANT: &str = "deterministic";

/// What was seen at each index, by whoever was first.
#[derive(Debug, Default)]
pub struct DigestCheck {
    histories: BTreeMap<Index, (Incarnation, HistoryDigest)>,
    states: BTreeMap<Index, (Incarnation, StateDigest)>,
    snapshots: BTreeMap<Index, (Incarnation, [u8; 32])>,
}

impl DigestCheck {
    /// A replica has this history at an index.
    pub fn history(&mut self, who: Incarnation, index: Index, history: HistoryDigest) -> Result<(), Violation> {
        same(&mut self.histories, "histories", who, index, history)
    }

    /// A replica has this state at an index.
    pub fn state(&mut self, who: Incarnation, index: Index, state: StateDigest) -> Result<(), Violation> {
        same(&mut self.states, "states", who, index, state)
    }

    /// A replica has taken, or been sent, a snapshot with a body of that SHA-256.
    pub fn snapshot(&mut self, who: Incarnation, index: Index, sha256: [u8; 32]) -> Result<(), Violation> {
        same(&mut self.snapshots, "snapshots", who, index, sha256)
    }

    /// The model's history at an index.
    pub fn judge(&self, index: Index, history: HistoryDigest) -> Result<(), Violation> {
        match self.histories.get(&index) {
            Some((who, seen)) if *seen != history => {
                let detail = format!("at {index}, {who} has history {seen}, the model {history}");
                Err(Violation::new(NAME, INVARIANT, detail))
            }
            _ => Ok(()),
        }
    }
}

/// What was seen first at an index is seen there ever after.
fn same<T: PartialEq>(
    first: &mut BTreeMap<Index, (Incarnation, T)>,
    what: &str,
    who: Incarnation,
    index: Index,
    seen: T,
) -> Result<(), Violation> {
    match first.get(&index) {
        Some((_, first)) if *first == seen => Ok(()),
        Some((other, _)) => {
            let detail = format!("the {what} of {who} and {other} differ at {index}");
            Err(Violation::new(NAME, INVARIANT, detail))
        }
        None => {
            first.insert(index, (who, seen));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::{life, refused};

    const FIVE: Index = Index(5);
    const HISTORY: HistoryDigest = HistoryDigest([1; 32]);
    const OTHER: HistoryDigest = HistoryDigest([2; 32]);

    fn check() -> DigestCheck {
        let mut check = DigestCheck::default();
        check.history(life(1, 1), FIVE, HISTORY).unwrap();
        check.state(life(1, 1), FIVE, StateDigest(1)).unwrap();
        check.snapshot(life(1, 1), FIVE, [1; 32]).unwrap();
        check
    }

    #[test]
    fn equal_digests_are_well() {
        let mut check = check();
        check.history(life(2, 1), FIVE, HISTORY).unwrap();
        check.state(life(2, 1), FIVE, StateDigest(1)).unwrap();
        check.snapshot(life(2, 1), FIVE, [1; 32]).unwrap();
        check.history(life(2, 1), FIVE.next(), OTHER).unwrap();
        check.judge(FIVE, HISTORY).unwrap();
        // An index at which nobody was looked at.
        check.judge(Index(4), OTHER).unwrap();
    }

    #[test]
    fn a_replica_that_differs_is_found() {
        let who = "of replica 2 in its life 1 and replica 1 in its life 1 differ at 5";
        refused(check().history(life(2, 1), FIVE, OTHER), "digest", &format!("the histories {who}"));
        refused(check().state(life(2, 1), FIVE, StateDigest(2)), "digest", &format!("the states {who}"));
        refused(check().snapshot(life(2, 1), FIVE, [2; 32]), "digest", &format!("the snapshots {who}"));
    }

    #[test]
    fn a_replica_that_differs_from_itself_after_a_restart_is_found() {
        refused(check().history(life(1, 2), FIVE, OTHER), "digest", "replica 1 in its life 2");
    }

    #[test]
    fn replicas_that_are_wrong_together_are_found() {
        refused(check().judge(FIVE, OTHER), "digest", "the model 0202");
    }
}
