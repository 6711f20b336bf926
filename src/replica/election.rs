//! The override of raft-rs's election timeout (raft-rs.md, line 56).
//!
//! raft-rs draws it from `thread_rng`, whose system call no simulator can intercept. So after every call that may have
//! drawn one, [`super::raft::Raft`] sets it to this pure function, always, without looking at the old value first: a
//! branch on that would be a branch on randomness.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Role;
use crate::types::{ReplicaId, Term};

/// The election timeout in ticks, in `election_ticks..2 * election_ticks`.
///
/// Two replicas may get the same in one term. Pre-votes are not exclusive, so both then reach a real election, the term
/// grows, and the timeouts part.
pub(super) fn timeout_ticks(seed: u64, replica: ReplicaId, term: Term, role: Role, election_ticks: usize) -> usize {
    let mut hasher = SipHasher13::new_with_keys(seed, replica.0);
    hasher.write_u64(term.0);
    hasher.write_u8(role as u8);
    election_ticks + (hasher.finish() % election_ticks as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_56_the_timeout_is_pure_within_range_and_parts_over_terms() {
        let timeout = |replica, term| timeout_ticks(7, ReplicaId(replica), Term(term), Role::Follower, 20);
        let mut ties = 0;
        for term in 1..1_000 {
            let (one, two) = (timeout(1, term), timeout(2, term));
            assert_eq!(one, timeout(1, term));
            assert!((20..40).contains(&one) && (20..40).contains(&two));
            ties += usize::from(one == two);
        }
        assert!((10..150).contains(&ties), "about one term in twenty is a tie, not {ties} in a thousand");
    }
}
