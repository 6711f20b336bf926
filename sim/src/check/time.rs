//! Cluster time is nobody's alone: as long as a minority of the clocks is wrong, it is never ahead of all that are right.
//!
//! The time that a leader stamps is the lower median of a quorum's clocks, so some clock shows at least as much: it is never
//! later than the second latest of all. What is checked is each entry, against what the clocks show when it is first applied.
//! A clock that jumps may have shown anything, and counts as the latest. Behind, cluster time may be as far as it likes: of
//! two clocks the slower one counts.

use tombola::types::{Index, Millis};

use super::Violation;

const NAME: &str = "time";

/// The rate of a clock that is right. What a leader has heard of a slower one goes on at this rate until it hears more.
const TRUE_PPM: u32 = 1_000_000;

/// How a voter's clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOf {
    /// What it showed at the start.
    pub start: Millis,
    /// How fast it goes, in millionths.
    pub rate_ppm: u32,
    /// It never jumps.
    pub is_steady: bool,
}

/// What the clocks allow.
#[derive(Clone, Debug)]
pub struct TimeCheck {
    clocks: Vec<ClockOf>,
    /// The newest index that was looked at.
    seen: Index,
}

impl TimeCheck {
    /// Of voters with these clocks.
    pub fn new(clocks: Vec<ClockOf>) -> Self {
        Self { clocks, seen: Index(0) }
    }

    /// The entry at `index`, with this time, was applied so many milliseconds after the start.
    pub fn applied(&mut self, index: Index, time: Millis, elapsed_ms: u64) -> Result<(), Violation> {
        if index <= self.seen {
            return Ok(());
        }
        self.seen = index;
        match self.latest(elapsed_ms) {
            Some(latest) if time > latest => {
                let detail = format!("entry {index} has time {time:?}, and all clocks but one show {latest:?} or less");
                Err(Violation::new(NAME, "one clock does not make the time", detail))
            }
            _ => Ok(()),
        }
    }

    /// The latest that cluster time may be; nobody knows if it may be a clock that jumps.
    fn latest(&self, elapsed_ms: u64) -> Option<Millis> {
        let shows = |clock: &ClockOf| match clock.is_steady {
            // What is left of the millisecond goes at that rate, too.
            true => clock.start.0 + (elapsed_ms + 1) * u64::from(clock.rate_ppm.max(TRUE_PPM)) / u64::from(TRUE_PPM),
            false => u64::MAX,
        };
        let mut shown: Vec<_> = self.clocks.iter().map(shows).collect();
        shown.sort_unstable_by_key(|time| std::cmp::Reverse(*time));
        // Alone, a voter is its own median.
        shown.get(usize::from(shown.len() > 1)).copied().filter(|time| *time < u64::MAX).map(Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::refused;

    fn clock(start: u64, is_steady: bool) -> ClockOf {
        ClockOf { start: Millis(start), rate_ppm: 1_000_000, is_steady }
    }

    #[test]
    fn a_time_that_one_clock_alone_shows_is_refused() {
        let mut check = TimeCheck::new(vec![clock(1_000, true), clock(90_000, true), clock(1_010, true)]);
        check.applied(Index(1), Millis(1_510), 500).unwrap();
        refused(check.applied(Index(2), Millis(1_600), 500), "time", "all clocks but one show");
        check.applied(Index(2), Millis(90_000), 500).unwrap();
    }

    /// 3.999 ms at 1.3 times the true rate.
    #[test]
    fn a_fast_clock_is_fast_within_a_millisecond_too() {
        let mut check = TimeCheck::new(vec![ClockOf { rate_ppm: 1_300_000, ..clock(0, true) }]);
        check.applied(Index(1), Millis(5), 3).unwrap();
        refused(check.applied(Index(2), Millis(6), 3), "time", "all clocks but one show");
    }

    #[test]
    fn a_clock_that_jumps_is_the_one_that_may_be_wrong() {
        let mut check = TimeCheck::new(vec![clock(1_000, true), clock(1_000, false), clock(1_000, true)]);
        check.applied(Index(1), Millis(1_500), 500).unwrap();
        refused(check.applied(Index(2), Millis(2_000), 500), "time", "all clocks but one show");
        let mut alone = TimeCheck::new(vec![clock(1_000, false)]);
        alone.applied(Index(1), Millis(90_000), 500).unwrap();
    }
}
