//! Durable: what a caller was told is in what is left after the last power cycle, with the same bytes.
//!
//! An answer names its index, and the ledger fixes what is there. So it is enough that whoever is left has applied that
//! index, and that its history digest, which chains every entry with its answers, is the model's.

use std::collections::BTreeMap;

use tombola::{
    pool::{Command, Digests, Outcome},
    types::{HistoryDigest, Index, ReplicaId},
};

use super::Violation;

const NAME: &str = "durable";
const INVARIANT: &str = "durable";

/// What was told, and what is left.
#[derive(Debug, Default)]
pub struct DurableCheck {
    /// The newest index that anybody was told of, and under which key.
    newest: Option<(Index, String)>,
    /// The model's history at each index.
    history: BTreeMap<Index, HistoryDigest>,
    survivors: BTreeMap<ReplicaId, Digests>,
}

impl DurableCheck {
    /// A caller was told an outcome.
    pub fn answer(&mut self, command: &Command, outcome: &Outcome) {
        if self.newest.as_ref().is_none_or(|(index, _)| *index < outcome.index) {
            self.newest = Some((outcome.index, format!("key {} of pool {}", command.key, command.pool)));
        }
    }

    /// The model's history at an index.
    pub fn judge(&mut self, index: Index, history: HistoryDigest) {
        self.history.insert(index, history);
    }

    /// What a replica has in the end.
    pub fn survive(&mut self, replica: ReplicaId, digests: Digests) {
        self.survivors.insert(replica, digests);
    }

    /// Whoever is left has it all.
    pub fn finish(self) -> Result<(), Violation> {
        for (replica, digests) in self.survivors {
            let left = digests.index;
            if let Some((index, what)) = self.newest.as_ref().filter(|(index, _)| *index > left) {
                let detail = format!("{what} was answered at {index}; replica {replica} ends at {left}");
                return Err(Violation::new(NAME, INVARIANT, detail));
            }
            if self.history.get(&left) != Some(&digests.history) {
                let detail = format!("replica {replica} ends at {left} with another history");
                return Err(Violation::new(NAME, INVARIANT, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::{digests, draw, drawn, refused};

    /// Key 1 was told that it was decided at 5; the ledger goes on to 6.
    fn check() -> DurableCheck {
        let mut check = DurableCheck::default();
        (2..=6).for_each(|index| check.judge(Index(index), HistoryDigest([index as u8; 32])));
        check.answer(&draw(1), &drawn(5, 1, "gold"));
        check.answer(&draw(2), &drawn(3, 1, "gold"));
        check
    }

    fn ends(index: u64, history: u8) -> Result<(), Violation> {
        let mut check = check();
        check.survive(ReplicaId(1), digests(6, 6, 0));
        check.survive(ReplicaId(2), digests(index, history, 0));
        check.finish()
    }

    #[test]
    fn what_goes_far_enough_is_well() {
        ends(6, 6).unwrap();
        ends(5, 5).unwrap();
    }

    #[test]
    fn a_lost_answer_is_found() {
        refused(ends(4, 4), "durable", "was answered at 5; replica 2 ends at 4");
    }

    #[test]
    fn another_history_is_found() {
        refused(ends(6, 7), "durable", "ends at 6 with another history");
        refused(ends(7, 7), "durable", "ends at 7 with another history");
    }
}
