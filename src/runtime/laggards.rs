//! Voters that live and do not keep up: while there is one, the leader takes half as much. Sans-I/O.
//!
//! A voter that is far behind needs a snapshot next, or its whole log again, and counts for no quorum until then: better to
//! let it catch up. A dead one is not waited for. What the leader proposed is marked at every tick, so that how far a voter
//! is behind is known in bytes and in time without a look into the log.

use std::{collections::VecDeque, time::Duration};

use crate::types::{Index, Term};

/// A live voter that lacks more than this many bytes, or has lacked something for longer than that, is far behind.
const BEHIND_BYTES_MAX: u64 = 64 << 20;
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// Marks are kept so long: what lies before them is far behind anyhow.
const MARKS_KEPT: Duration = Duration::from_secs(10);

/// How far the log had come.
#[derive(Clone, Copy, Debug)]
struct Mark {
    last: Index,
    /// Bytes proposed in this term up to there.
    bytes: u64,
    /// By this node's clock.
    at: Duration,
}

/// What the leader proposed lately, and whether a live voter lacks too much of it.
#[derive(Debug, Default)]
pub(super) struct Laggards {
    term: Term,
    marks: VecDeque<Mark>,
    bytes: u64,
    is_far: bool,
}

impl Laggards {
    /// This node proposed an entry of so many bytes.
    pub fn handle_proposed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// A tick passed, at `at` by this node's clock, with the log at `last` in `term`. `live` are the indexes up to which
    /// the voters have the log that were heard of lately; none on a node that does not lead.
    pub fn handle_tick(&mut self, term: Term, last: Index, at: Duration, live: impl Iterator<Item = Index>) {
        if term != self.term {
            *self = Self { term, ..Self::default() };
        }
        if self.marks.back().is_none_or(|mark| mark.last < last) {
            self.marks.push_back(Mark { last, bytes: self.bytes, at });
        }
        while self.marks.front().is_some_and(|mark| at.saturating_sub(mark.at) > MARKS_KEPT) {
            self.marks.pop_front();
        }
        // Once it is far behind, it shall come close: not to the very bound.
        let share = if self.is_far { 2 } else { 1 };
        self.is_far = live.map(|matched| self.behind(matched, last, at)).any(|(bytes, time)| {
            bytes > BEHIND_BYTES_MAX / share || time > BEHIND_MAX / u32::try_from(share).expect("it is 1 or 2")
        });
    }

    /// Is a live voter far behind?
    pub fn is_far(&self) -> bool {
        self.is_far
    }

    /// What a voter lacks that has the log up to `matched`: bytes, and for how long.
    fn behind(&self, matched: Index, last: Index, at: Duration) -> (u64, Duration) {
        if matched >= last {
            return (0, Duration::ZERO);
        }
        let known = self.marks.partition_point(|mark| mark.last <= matched);
        let had = known.checked_sub(1).map_or(0, |newest| self.marks[newest].bytes);
        let since = self.marks.get(known).map_or(Duration::MAX, |oldest| at.saturating_sub(oldest.at));
        (self.bytes - had, since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A leader that proposes an entry of `bytes` at every tick of 50 ms, until `until`; its voters have `matched(last)`.
    fn run(laggards: &mut Laggards, from: f64, until: f64, bytes: usize, matched: impl Fn(u64) -> Vec<u64>) -> u64 {
        let ticks = ((from * 20.0) as u64..(until * 20.0) as u64).map(|tick| (tick, 100 + tick));
        ticks.fold(0, |_, (tick, last)| {
            laggards.handle_proposed(bytes);
            let at = seconds(tick as f64 / 20.0);
            laggards.handle_tick(Term(1), Index(last), at, matched(last).into_iter().map(Index));
            last
        })
    }

    #[test]
    fn who_keeps_up_within_64_mib_and_5_s_is_not_far_behind() {
        let mut laggards = Laggards::default();
        run(&mut laggards, 0.0, 60.0, MIB, |last| vec![last, last - 60]);
        assert!(!laggards.is_far());
    }

    #[test]
    fn who_lacks_64_mib_is_far_behind_until_it_lacks_half_of_that() {
        let mut laggards = Laggards::default();
        let last = run(&mut laggards, 0.0, 4.0, MIB, |last| vec![last, 100]);
        assert!(laggards.is_far());
        run(&mut laggards, 4.0, 4.05, 0, |_| vec![last - 48]);
        assert!(laggards.is_far(), "it catches up");
        run(&mut laggards, 4.05, 4.1, 0, |_| vec![last - 16]);
        assert!(!laggards.is_far());
    }

    #[test]
    fn who_lacks_something_for_5_s_is_far_behind_however_little_it_is() {
        let mut laggards = Laggards::default();
        run(&mut laggards, 0.0, 4.9, 100, |last| vec![last, 100]);
        assert!(!laggards.is_far());
        run(&mut laggards, 4.9, 5.3, 100, |last| vec![last, 100]);
        assert!(laggards.is_far());
        run(&mut laggards, 5.3, 60.0, 100, |last| vec![last, 100]);
        assert!(laggards.is_far(), "beyond the marks that are kept");
        run(&mut laggards, 60.0, 60.5, 100, |last| vec![last]);
        assert!(!laggards.is_far(), "it died, and is not waited for");
    }

    #[test]
    fn an_idle_cluster_has_no_laggards() {
        let mut laggards = Laggards::default();
        let last = run(&mut laggards, 0.0, 1.0, MIB, |last| vec![last]);
        for tick in 20..10_000 {
            laggards.handle_tick(Term(1), Index(last), seconds(tick as f64 / 20.0), [Index(last)].into_iter());
            assert!(!laggards.is_far());
        }
    }

    #[test]
    fn a_new_term_begins_anew() {
        let mut laggards = Laggards::default();
        run(&mut laggards, 0.0, 10.0, MIB, |_| vec![100]);
        assert!(laggards.is_far());
        laggards.handle_tick(Term(2), Index(999), seconds(10.0), [Index(100)].into_iter());
        assert!(!laggards.is_far(), "for all this leader knows");
    }
}
