//! The leader's word on the time: the median of the wall clocks of a quorum of voters.
//!
//! Every frame between peers carries its sender's wall time; a sample ages by this node's monotonic clock. One wrong clock,
//! the leader's own included, then cannot drag cluster time, which never goes back. Samples are of one term: a new leader
//! has heard a quorum in it by being elected.
//!
//! **A quorum that cannot agree waits a little.** Of three voters two are a quorum, and if their clocks are an hour apart
//! nothing tells which is wrong. So while those that are not heard of yet could move the median by more than
//! [`DOUBT_MS_MAX`], there is no time, for one election timeout at most: the third usually speaks within a heartbeat. After
//! that the lower of the two counts: it can make a key wait, which may be sent again; the higher one could let a key expire, for ever.
//!
//! **Ticks.** A leader stamps an empty batch as soon as it can in its term, and again whenever cluster time lags the median
//! by [`IDLE_LAG_MS_MAX`]. So cluster time is never stale on an idle cluster: a key made from it is never old.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    hooks,
    types::{Millis, ReplicaId, Term},
};

/// How far voters that are silent may move the median before it counts as doubtful.
const DOUBT_MS_MAX: u64 = 10_000;
/// How far cluster time may lag the median before a leader proposes a tick.
pub(super) const IDLE_LAG_MS_MAX: u64 = 30_000;

/// What the voters' clocks said.
#[derive(Debug)]
pub(super) struct QuorumTime {
    /// How long a new term waits for the clocks that are missing, if those that are known do not agree.
    patience: Duration,
    /// The term that the samples are of,
    term: Term,
    /// and when it began, by this node's clock.
    since: Duration,
    /// The newest of each peer, and when it came by this node's clock.
    samples: BTreeMap<ReplicaId, (Millis, Duration)>,
    /// The newest time that this node stamped, and the term in which.
    stamped: Option<(Term, Millis)>,
}

impl QuorumTime {
    /// No samples. An election timeout is enough patience.
    pub fn new(patience: Duration) -> Self {
        let (samples, stamped) = Default::default();
        Self { patience, term: Term(0), since: Duration::ZERO, samples, stamped }
    }

    /// It is `at` by this node's clock. Forgets the samples of an earlier term.
    pub fn handle_term(&mut self, term: Term, at: Duration) {
        if term != self.term {
            (self.term, self.since) = (term, at);
            self.samples.clear();
        }
    }

    /// A peer's wall clock stood at `wall` when a frame of it came, at `at` of this node's clock.
    pub fn sample(&mut self, peer: ReplicaId, wall: Millis, at: Duration) {
        self.samples.insert(peer, (wall, at));
    }

    /// What to stamp at `at`, with this node's own wall clock: the median, the lower one of two. `None` while fewer than a
    /// quorum of the voters, this one included, are known, or do not agree and patience lasts.
    pub fn median<'a>(&self, own: Millis, at: Duration, peers: impl Iterator<Item = &'a ReplicaId>) -> Option<Millis> {
        if hooks::is_planted("m39") {
            return Some(own);
        }
        let (times, voters) = self.times(own, at, peers);
        let silent = voters - times.len();
        if times.len() <= voters / 2 {
            return None;
        }
        // With all clocks known, the median would be the one at this place. Those that are silent may turn out to be below
        // it and push down by as many places.
        let place = (voters - 1) / 2;
        let doubt_ms = times[place].0 - times[place - silent.min(place)].0;
        let is_sure = doubt_ms <= DOUBT_MS_MAX || at.saturating_sub(self.since) >= self.patience;
        is_sure.then(|| times[(times.len() - 1) / 2])
    }

    /// How far this node's own wall clock is ahead of the median, in milliseconds. Of two middle ones the one further off
    /// counts. `None` if no quorum is known.
    pub fn offset_ms<'a>(&self, own: Millis, at: Duration, peers: impl Iterator<Item = &'a ReplicaId>) -> Option<i64> {
        let (times, voters) = self.times(own, at, peers);
        let middle = [times[(times.len() - 1) / 2], times[times.len() / 2]];
        let offsets = middle.map(|time| i64::try_from(i128::from(own.0) - i128::from(time.0)).unwrap_or(i64::MAX));
        let furthest = offsets.into_iter().max_by_key(|offset| offset.unsigned_abs());
        furthest.filter(|_| times.len() > voters / 2)
    }

    /// The times that are known, in order, this node's own among them; and how many voters there are.
    fn times<'a>(&self, own: Millis, at: Duration, peers: impl Iterator<Item = &'a ReplicaId>) -> (Vec<Millis>, usize) {
        let mut voters = 1;
        let mut times = vec![own];
        for peer in peers {
            voters += 1;
            if let Some((wall, came)) = self.samples.get(peer) {
                times.push(Millis(wall.0.saturating_add(at.saturating_sub(*came).as_millis() as u64)));
            }
        }
        times.sort_unstable();
        (times, voters)
    }

    /// When a frame of this peer last came, by this node's clock.
    pub fn heard_of(&self, peer: ReplicaId) -> Option<Duration> {
        self.samples.get(&peer).map(|(_, came)| *came)
    }

    /// Must time be stamped although nobody asks for anything? `now` is cluster time as far as it is applied here, and
    /// `median` what would be stamped.
    pub fn is_tick_due(&self, now: Millis, median: Millis) -> bool {
        match self.stamped {
            Some((term, stamped)) if term == self.term => median.0.saturating_sub(now.max(stamped).0) > IDLE_LAG_MS_MAX,
            _ => true,
        }
    }

    /// This time was stamped on a batch.
    pub fn handle_stamped(&mut self, time: Millis) {
        self.stamped = Some((self.term, time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: [ReplicaId; 2] = [ReplicaId(2), ReplicaId(3)];
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: u64 = 3_600_000;
    const NOW: Millis = Millis(1_000 * HOUR);

    fn of_term_one() -> QuorumTime {
        let mut time = QuorumTime::new(SECOND);
        time.handle_term(Term(1), SECOND);
        time
    }

    fn median(time: &QuorumTime, own: Millis, at: Duration) -> Option<Millis> {
        time.median(own, at, PEERS.iter())
    }

    #[test]
    fn one_clock_an_hour_or_a_year_off_moves_nothing() {
        for wrong in [Millis(0), Millis(NOW.0 - HOUR), Millis(NOW.0 + HOUR), Millis(NOW.0 + 365 * 24 * HOUR)] {
            for order in [PEERS, [PEERS[1], PEERS[0]]] {
                let mut time = of_term_one();
                time.sample(order[0], wrong, SECOND);
                time.sample(order[1], NOW, SECOND);
                assert_eq!(median(&time, NOW, SECOND), Some(NOW), "a follower's is {wrong}");
                let mut time = of_term_one();
                PEERS.iter().for_each(|peer| time.sample(*peer, NOW, SECOND));
                assert_eq!(median(&time, wrong, SECOND), Some(NOW), "the leader's own is {wrong}");
            }
        }
    }

    #[test]
    fn two_of_three_that_do_not_agree_wait_for_the_third_and_not_for_ever() {
        for (own, peer) in [(NOW, Millis(NOW.0 - HOUR)), (NOW, Millis(NOW.0 + HOUR)), (Millis(NOW.0 - HOUR), NOW)] {
            let mut time = of_term_one();
            time.sample(PEERS[0], peer, SECOND);
            assert_eq!(median(&time, own, SECOND + SECOND / 2), None);
            let later = median(&time, own, 2 * SECOND).unwrap();
            assert!(later.0.abs_diff(own.min(peer).0) <= 1_000, "the lower one, as it is a second later");
            time.sample(PEERS[1], NOW, SECOND);
            assert_eq!(median(&time, own, SECOND), Some(NOW));
        }
    }

    #[test]
    fn two_of_three_that_agree_do_not_wait() {
        let mut time = of_term_one();
        time.sample(PEERS[0], Millis(NOW.0 - DOUBT_MS_MAX), SECOND);
        assert_eq!(median(&time, NOW, SECOND), Some(Millis(NOW.0 - DOUBT_MS_MAX)));
    }

    #[test]
    fn of_five_three_are_asked_whether_the_other_two_could_matter() {
        let peers = [2, 3, 4, 5].map(ReplicaId);
        let mut time = of_term_one();
        time.sample(peers[0], NOW, SECOND);
        assert_eq!(time.median(NOW, SECOND, peers.iter()), None, "no quorum");
        time.sample(peers[1], Millis(NOW.0 - HOUR), SECOND);
        assert_eq!(time.median(NOW, SECOND, peers.iter()), None, "two more an hour back would be a majority");
        time.sample(peers[2], NOW, SECOND);
        assert_eq!(time.median(NOW, SECOND, peers.iter()), Some(NOW));
    }

    #[test]
    fn samples_age() {
        let mut time = of_term_one();
        time.sample(PEERS[0], Millis(5_000), SECOND);
        assert_eq!(median(&time, Millis(9_000), 3 * SECOND), Some(Millis(7_000)));
    }

    #[test]
    fn without_a_quorum_in_this_term_there_is_no_time() {
        let mut time = of_term_one();
        assert_eq!(median(&time, Millis(1), SECOND), None);
        time.sample(PEERS[0], Millis(5), SECOND);
        assert!(median(&time, Millis(1), SECOND).is_some());
        time.handle_term(Term(2), SECOND);
        assert_eq!(median(&time, Millis(1), SECOND), None);
        assert_eq!(time.median(Millis(1), SECOND, [].iter()), Some(Millis(1)), "a sole voter is a quorum");
    }

    #[test]
    fn the_own_clock_s_offset_is_from_the_median_or_from_the_only_other_clock() {
        let mut time = of_term_one();
        assert_eq!(time.offset_ms(NOW, SECOND, PEERS.iter()), None);
        time.sample(PEERS[0], Millis(NOW.0 - 700), SECOND);
        assert_eq!(time.offset_ms(NOW, SECOND, PEERS.iter()), Some(700), "a follower hears the leader alone");
        time.sample(PEERS[0], Millis(NOW.0 + 700), SECOND);
        assert_eq!(time.offset_ms(NOW, SECOND, PEERS.iter()), Some(-700));
        time.sample(PEERS[1], Millis(NOW.0 - 9_000), SECOND);
        assert_eq!(time.offset_ms(NOW, SECOND, PEERS.iter()), Some(0), "in the middle");
        assert_eq!(time.offset_ms(Millis(0), SECOND, PEERS.iter()), Some(9_000 - NOW.0 as i64));
    }

    #[test]
    fn a_tick_is_due_once_in_a_term_and_whenever_time_lags() {
        let mut time = of_term_one();
        assert!(time.is_tick_due(NOW, NOW), "nothing was stamped in this term");
        time.handle_stamped(NOW);
        assert!(!time.is_tick_due(NOW, Millis(NOW.0 + IDLE_LAG_MS_MAX)));
        assert!(time.is_tick_due(NOW, Millis(NOW.0 + IDLE_LAG_MS_MAX + 1)));
        assert!(!time.is_tick_due(Millis(0), Millis(NOW.0 + 1)), "it is on its way");
        time.handle_term(Term(2), SECOND);
        assert!(time.is_tick_due(NOW, NOW));
    }
}
