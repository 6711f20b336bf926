//! What raft promises, as far as its status shows it: one leader a term, ever; a leader that has all that was applied; term,
//! commit and applied index that do not fall while a replica lives; `truncated <= snapshot <= applied <= commit <= last`.

use std::collections::BTreeMap;

use tombola::{
    replica::{Role, Status},
    types::{Index, ReplicaId, Term},
};

use super::{Incarnation, Violation};

const NAME: &str = "raft";

/// Leaders and progress.
#[derive(Debug, Default)]
pub struct RaftCheck {
    leaders: BTreeMap<Term, ReplicaId>,
    /// The greatest index that anybody had applied while in that term.
    applied: BTreeMap<Term, Index>,
    /// Term, commit and applied index of each life when last seen.
    seen: BTreeMap<Incarnation, (Term, Index, Index)>,
}

impl RaftCheck {
    /// A replica shows its status.
    pub fn observe(&mut self, who: Incarnation, status: &Status) -> Result<(), Violation> {
        let (term, commit, applied, last) = (status.term, status.commit, status.digests.index, status.last_index);
        if !(applied <= commit && commit <= last) {
            let detail = format!("{who} has applied {applied}, committed {commit}, and {last} last");
            return Err(Violation::new(NAME, "order of indexes", detail));
        }
        let (first, snapshot) = (status.first_index, status.snapshot_index);
        // The entry before the first one was compacted away, and lies in the snapshot.
        if !(first <= snapshot.next() && snapshot <= applied) {
            let detail =
                format!("the log of {who} begins at {first}, its snapshot is at {snapshot}, applied is {applied}");
            return Err(Violation::new(NAME, "order of indexes", detail));
        }
        let before = self.seen.insert(who, (term, commit, applied)).unwrap_or_default();
        if term < before.0 || commit < before.1 || applied < before.2 {
            let detail = format!("{who} falls from {before:?} to {:?}", (term, commit, applied));
            return Err(Violation::new(NAME, "monotonic", detail));
        }
        let most = self.applied.entry(term).or_default();
        *most = applied.max(*most);
        if status.role == Role::Leader { self.check_leader(status) } else { Ok(()) }
    }

    fn check_leader(&mut self, status: &Status) -> Result<(), Violation> {
        let (term, replica) = (status.term, status.replica);
        let first = *self.leaders.entry(term).or_insert(replica);
        if first != replica {
            let detail = format!("replicas {first} and {replica} both led in term {term}");
            return Err(Violation::new(NAME, "election safety", detail));
        }
        // What was applied by somebody in a term was committed in that one or before.
        let applied = self.applied.range(..=term).map(|(_, &index)| index).max().unwrap_or_default();
        if applied > status.last_index {
            let last = status.last_index;
            let detail = format!("replica {replica} leads in term {term} with {last} last, but {applied} was applied");
            return Err(Violation::new(NAME, "leader completeness", detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::{digests, life, refused};

    fn status(replica: u64, role: Role, term: u64, [applied, commit, last]: [u64; 3]) -> Status {
        Status {
            replica: ReplicaId(replica),
            role,
            term: Term(term),
            leader: None,
            commit: Index(commit),
            digests: digests(applied, 0, 0),
            snapshot_index: Index(1),
            first_index: Index(2),
            last_index: Index(last),
            matched: Vec::new(),
            transferring: false,
        }
    }

    /// Replica 1 leads in term 3 and has applied 5.
    fn check() -> RaftCheck {
        let mut check = RaftCheck::default();
        check.observe(life(1, 1), &status(1, Role::Leader, 3, [5, 5, 7])).unwrap();
        check
    }

    #[test]
    fn a_quiet_change_of_leader_is_well() {
        let mut check = check();
        check.observe(life(2, 1), &status(2, Role::Leader, 4, [3, 4, 6])).unwrap();
        // The old one has not heard of it yet.
        check.observe(life(1, 1), &status(1, Role::Leader, 3, [6, 7, 7])).unwrap();
        check.observe(life(1, 1), &status(1, Role::Follower, 4, [6, 7, 7])).unwrap();
        // It starts anew from its snapshot.
        check.observe(life(1, 2), &status(1, Role::Follower, 4, [1, 1, 7])).unwrap();
    }

    /// A leader cut off from the others need not have what was applied in later terms.
    #[test]
    fn a_stale_leader_is_well() {
        let mut check = check();
        check.observe(life(2, 1), &status(2, Role::Leader, 4, [9, 9, 9])).unwrap();
        check.observe(life(1, 1), &status(1, Role::Leader, 3, [5, 5, 7])).unwrap();
    }

    #[test]
    fn a_term_has_one_leader_ever() {
        refused(check().observe(life(2, 1), &status(2, Role::Leader, 3, [5, 5, 7])), "raft", "both led in term 3");
    }

    #[test]
    fn a_leader_has_all_that_was_applied() {
        refused(check().observe(life(2, 1), &status(2, Role::Leader, 4, [3, 3, 4])), "raft", "but 5 was applied");
    }

    #[test]
    fn nothing_falls_within_a_life() {
        for (term, indexes) in [(2, [5, 5, 7]), (3, [4, 5, 7]), (3, [4, 4, 7])] {
            let fallen = check().observe(life(1, 1), &status(1, Role::Follower, term, indexes));
            refused(fallen, "raft", "replica 1 in its life 1 falls");
        }
    }

    #[test]
    fn nothing_that_no_snapshot_holds_is_compacted_and_none_is_ahead_of_what_is_applied() {
        let shows = |first, snapshot| Status {
            first_index: Index(first),
            snapshot_index: Index(snapshot),
            ..status(2, Role::Follower, 3, [5, 5, 7])
        };
        check().observe(life(2, 1), &shows(6, 5)).unwrap();
        refused(check().observe(life(2, 1), &shows(7, 5)), "raft", "begins at 7, its snapshot is at 5");
        refused(check().observe(life(2, 1), &shows(2, 6)), "raft", "its snapshot is at 6, applied is 5");
    }

    #[test]
    fn indexes_are_in_order() {
        for indexes in [[6, 5, 7], [5, 8, 7]] {
            refused(check().observe(life(2, 1), &status(2, Role::Follower, 3, indexes)), "raft", "has applied");
        }
    }
}
