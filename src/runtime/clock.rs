//! The node's own time: ticks since it started, by its monotonic clock.
//!
//! Deadlines, pauses and patience are counted in [`Tick`]s, so that what keeps them (`requests`, `reads`, `transfers`) is a
//! pure function of what it is told. A deadline is met to within one tick. Unlike the ticks that the replica is told, these
//! are not held back after a stall: whoever waits for an answer waited through the stall too.

use std::time::Duration;

use tokio::time::Instant;

/// A point in time: so many lengths of a tick after the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub u64);

impl Tick {
    /// So many ticks later.
    pub fn plus(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }
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
        Tick(whole(self.elapsed(), self.length))
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
