//! The leader's word on the time: the median of the wall clocks of a quorum of voters.
//!
//! Every frame between peers carries its sender's wall time; a sample ages by this node's monotonic clock. One wrong clock,
//! the leader's own included, then cannot drag cluster time, which never goes back. Samples are of one term: a new leader
//! has heard a quorum in it by being elected.

use std::{collections::BTreeMap, time::Duration};

use crate::types::{Millis, ReplicaId, Term};

/// What the peers' clocks said.
#[derive(Debug, Default)]
pub(super) struct QuorumTime {
    /// The term that the samples are of.
    term: Term,
    /// The newest of each peer, and when it came by this node's clock.
    samples: BTreeMap<ReplicaId, (Millis, Duration)>,
}

impl QuorumTime {
    /// Forgets the samples of an earlier term.
    pub fn handle_term(&mut self, term: Term) {
        if term != self.term {
            self.term = term;
            self.samples.clear();
        }
    }

    /// A peer's wall clock stood at `wall` when a frame of it came, at `at` of this node's clock.
    pub fn sample(&mut self, peer: ReplicaId, wall: Millis, at: Duration) {
        self.samples.insert(peer, (wall, at));
    }

    /// The median at `at`, with this node's own wall clock; the lower one of two. `None` while fewer than a quorum of the
    /// voters, this one included, are known.
    pub fn median<'a>(&self, own: Millis, at: Duration, peers: impl Iterator<Item = &'a ReplicaId>) -> Option<Millis> {
        let mut voters = 1;
        let mut times = vec![own];
        for peer in peers {
            voters += 1;
            if let Some((wall, came)) = self.samples.get(peer) {
                times.push(Millis(wall.0.saturating_add(at.saturating_sub(*came).as_millis() as u64)));
            }
        }
        times.sort_unstable();
        (times.len() > voters / 2).then(|| times[(times.len() - 1) / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: [ReplicaId; 2] = [ReplicaId(2), ReplicaId(3)];
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_clock_a_year_ahead_or_at_zero_moves_nothing() {
        for wrong in [Millis(0), Millis(40_000_000_000)] {
            let mut time = QuorumTime::default();
            time.sample(PEERS[0], Millis(5_000), SECOND);
            time.sample(PEERS[1], wrong, SECOND);
            assert!((4_000..=6_000).contains(&time.median(Millis(6_000), SECOND, PEERS.iter()).unwrap().0));
        }
        let mut time = QuorumTime::default();
        time.sample(PEERS[0], Millis(5_000), SECOND);
        assert_eq!(
            time.median(Millis(40_000_000_000), SECOND, PEERS.iter()),
            Some(Millis(5_000)),
            "nor the leader's own"
        );
    }

    #[test]
    fn samples_age() {
        let mut time = QuorumTime::default();
        time.sample(PEERS[0], Millis(5_000), SECOND);
        assert_eq!(time.median(Millis(9_000), 3 * SECOND, PEERS.iter()), Some(Millis(7_000)));
    }

    #[test]
    fn without_a_quorum_in_this_term_there_is_no_time() {
        let mut time = QuorumTime::default();
        assert_eq!(time.median(Millis(1), SECOND, PEERS.iter()), None);
        time.sample(PEERS[0], Millis(5), SECOND);
        assert!(time.median(Millis(1), SECOND, PEERS.iter()).is_some());
        time.handle_term(Term(2));
        assert_eq!(time.median(Millis(1), SECOND, PEERS.iter()), None);
        assert_eq!(time.median(Millis(1), SECOND, [].iter()), Some(Millis(1)), "a sole voter is a quorum");
    }
}
