//! The node's own time: ticks since it started, by its monotonic clock.
//!
//! Deadlines, pauses and patience are counted in [`Tick`]s, so that what keeps them (`requests`, `reads`, `transfers`) is a
//! pure function of what it is told. A deadline is met to within one tick. Unlike the ticks that the replica is told, these
//! are not held back after a stall: whoever waits for an answer waited through the stall too.

use std::time::Duration;

use tokio::time::Instant;

use crate::types::Millis;

/// How far behind cluster time a sole voter's wall clock may be.
const BEHIND_MS_MAX: u64 = 60 * 60 * 1_000;
/// How far ahead of it: so long a cluster may have been off.
const AHEAD_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

/// A sole voter's wall clock is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock stands {} the newest time of the cluster ({} and {} ms since 1970), and as the only voter this \
     node would stamp it on everything: request keys would be refused, or forgotten too early",
    if .wall < .last { "more than 1 h behind" } else { "more than 30 d ahead of" }, .wall, .last
)]
pub struct ImplausibleClock {
    /// What the clock says.
    pub wall: Millis,
    /// The newest cluster time that the store holds.
    pub last: Millis,
}

/// Checks a sole voter's wall clock against the newest cluster time, 0 if there is none yet.
pub(super) fn check_wall(wall: Millis, last: Millis) -> Result<(), ImplausibleClock> {
    let plausible = last.0.saturating_sub(BEHIND_MS_MAX)..=last.0.saturating_add(AHEAD_MS_MAX);
    if last == Millis(0) || plausible.contains(&wall.0) { Ok(()) } else { Err(ImplausibleClock { wall, last }) }
}

/// A point in time: so many lengths of a tick after the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub u64);

impl Tick {
    /// So many ticks later.
    pub fn plus(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }
}

/// A moment, in both measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Now {
    /// The ticks that have passed since the node started.
    pub tick: Tick,
    /// The time since then.
    pub at: Duration,
}

/// Tells the time since the node started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    length: Duration,
}

impl Clock {
    /// A clock that starts now, with ticks of this length (at least a millisecond).
    pub fn start(length: Duration) -> Self {
        Self { start: Instant::now(), length: length.max(Duration::from_millis(1)) }
    }

    /// When the first tick ends.
    pub fn first(&self) -> Instant {
        self.start + self.length
    }

    /// Length of a tick.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The ticks that have passed.
    pub fn now(&self) -> Tick {
        self.read().tick
    }

    /// What time it is.
    pub fn read(&self) -> Now {
        let at = self.elapsed();
        Now { tick: Tick(whole(at, self.length)), at }
    }

    /// The first tick at which `at` has passed.
    pub fn tick_after(&self, at: Instant) -> Tick {
        Tick(whole(at.saturating_duration_since(self.start), self.length)).plus(1)
    }

    /// How many ticks last at least this long.
    pub fn ticks_in(&self, time: Duration) -> u64 {
        whole(time, self.length) + 1
    }
}

fn whole(time: Duration, length: Duration) -> u64 {
    u64::try_from(time.as_nanos() / length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sole_voter_s_clock_is_plausible_from_an_hour_behind_to_thirty_days_ahead() {
        let last = Millis(1_800_000_000_000);
        let (hour, month) = (3_600_000, 30 * 24 * 3_600_000);
        for wall in [last.0 - hour, last.0, last.0 + month] {
            assert_eq!(check_wall(Millis(wall), last), Ok(()));
        }
        let behind = check_wall(Millis(last.0 - hour - 1), last).unwrap_err();
        assert!(behind.to_string().contains("more than 1 h behind"), "{behind}");
        let ahead = check_wall(Millis(last.0 + month + 1), last).unwrap_err();
        assert!(ahead.to_string().contains("more than 30 d ahead"), "{ahead}");
        assert_eq!(check_wall(Millis(0), Millis(0)), Ok(()), "a cluster that was never used has no time");
    }
}
