//! What raft promises, as far as its status shows it: one leader a term, ever; a leader that has all that was applied; term,
//! commit, applied and snapshot index that do not fall while a replica lives; and `truncated <= snapshot <= applied <= commit
//! <= last`, where truncated is what comes before the first entry of the log; but for the moment in which a peer's snapshot
//! has taken the place of the log and not yet of the state.

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
    /// Term of each life when last seen, and its commit, applied and snapshot index.
    seen: BTreeMap<Incarnation, (Term, [Index; 3])>,
}

impl RaftCheck {
    /// A replica shows its status.
    pub fn observe(&mut self, who: Incarnation, status: &Status) -> Result<(), Violation> {
        let (term, commit, applied) = (status.term, status.commit, status.digests.index);
        let (first, last, snapshot) = (status.first_index, status.last_index, status.snapshot_index);
        // Until a peer's snapshot is durable, it stands in the place of the log, and the state is still the one before.
        let is_installing = snapshot == commit && snapshot == last && first == last.next();
        let has_state = snapshot <= applied || is_installing;
        if !(first <= snapshot.next() && has_state && applied <= commit && commit <= last) {
            let detail = format!(
                "{who} has entries {first} to {last}, a snapshot of {snapshot}, committed {commit} and applied {applied}"
            );
            return Err(Violation::new(NAME, "order of indexes", detail));
        }
        let seen = (term, [commit, applied, snapshot]);
        let before = self.seen.insert(who, seen).unwrap_or_default();
        if term < before.0 || seen.1.iter().zip(before.1).any(|(now, before)| *now < before) {
            let detail = format!("{who} falls from {before:?} to {seen:?}");
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

    #[test]
    fn a_peer_s_snapshot_that_is_not_durable_yet_is_well() {
        let status = status(2, Role::Follower, 3, [5, 9, 9]);
        let installing = Status { first_index: Index(10), snapshot_index: Index(9), ..status };
        check().observe(life(2, 1), &installing).unwrap();
        for (snapshot_index, first_index) in [(Index(8), Index(10)), (Index(9), Index(9))] {
            let status = Status { snapshot_index, first_index, ..installing.clone() };
            refused(check().observe(life(2, 1), &status), "raft", "has entries");
        }
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
        let snapshot = |snapshot_index| Status { snapshot_index, ..status(1, Role::Follower, 3, [5, 5, 7]) };
        let mut ahead = check();
        ahead.observe(life(1, 1), &snapshot(Index(4))).unwrap();
        refused(ahead.observe(life(1, 1), &snapshot(Index(3))), "raft", "replica 1 in its life 1 falls");
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
        refused(check().observe(life(2, 1), &shows(7, 5)), "raft", "has entries 7 to 7, a snapshot of 5");
        refused(check().observe(life(2, 1), &shows(2, 6)), "raft", "a snapshot of 6, committed 5 and applied 5");
    }

    #[test]
    fn indexes_are_in_order() {
        for indexes in [[6, 5, 7], [5, 8, 7]] {
            refused(check().observe(life(2, 1), &status(2, Role::Follower, 3, indexes)), "raft", "has entries");
        }
    }
}
