//! How fast this node gets commands decided, and whether they wait too long before that. Sans-I/O.
//!
//! **The usual time** from sending a command to hearing what became of it is smoothed as TCP smooths round trips (RFC 6298,
//! section 2): one eighth of each new measurement counts. Commands that left together are one measurement.
//!
//! **A standing queue** is told from a burst as CoDel does (Nichols and Jacobson, "Controlling Queue Delay", 2012; RFC
//! 8289): what counts is not how long the queue is, nor how long somebody waited, but how long *everybody* waited, over
//! some time. While even the shortest wait of the last 100 ms is above 50 ms, more comes in than goes out, and the newest
//! first attempts are turned away, so that those that wait are still of use when they are served. The first that waited
//! less, or an empty queue, ends it. CoDel drops from the head, to tell senders early; here a sender is told at once, so the
//! newest go, and nobody's time was wasted.

use std::time::Duration;

use super::clock::Now;

/// A wait that is nothing to speak of.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// How long all waits must have been longer before that is more than a burst.
const STANDING_MIN: Duration = Duration::from_millis(100);
/// Whoever is turned away is told to come again no sooner and no later than this, in milliseconds.
const RETRY_AFTER_MS: std::ops::RangeInclusive<u32> = 10..=1_000;

/// What was measured.
#[derive(Debug)]
pub(super) struct Pace {
    /// Length of a tick.
    tick: Duration,
    /// The usual time of a command; nothing before the first was decided.
    usual: Duration,
    /// When the commands left that were measured last.
    measured: Option<Duration>,
    /// The last wait.
    waited: Duration,
    /// Since when nobody waited briefly.
    waits_since: Option<Duration>,
    is_standing: bool,
}

impl Pace {
    /// Nothing is measured yet.
    pub fn new(tick: Duration) -> Self {
        let (usual, waited) = (Duration::ZERO, Duration::ZERO);
        Self { tick, usual, measured: None, waited, waits_since: None, is_standing: false }
    }

    /// A command that was sent at `sent` is decided.
    pub fn handle_decided(&mut self, sent: Duration, now: Now) {
        if self.measured == Some(sent) {
            return;
        }
        let took = now.at.saturating_sub(sent);
        self.usual = if self.measured.is_some() { (self.usual * 7 + took) / 8 } else { took };
        self.measured = Some(sent);
    }

    /// A command that was queued at `queued` is taken from the queue.
    pub fn handle_taken(&mut self, queued: Duration, now: Now) {
        self.waited = now.at.saturating_sub(queued);
        if self.waited <= WAIT_MAX {
            self.handle_empty();
        } else {
            let since = *self.waits_since.get_or_insert(now.at);
            self.is_standing |= now.at.saturating_sub(since) >= STANDING_MIN;
        }
    }

    /// Nobody waits.
    pub fn handle_empty(&mut self) {
        self.waits_since = None;
        self.is_standing = false;
    }

    /// Does the queue only grow?
    pub fn is_standing(&self) -> bool {
        self.is_standing
    }

    /// The usual time from sending to deciding.
    pub fn usual(&self) -> Duration {
        self.usual
    }

    /// The same in whole ticks, rounded down.
    pub fn usual_ticks(&self) -> u64 {
        u64::try_from(self.usual.as_nanos() / self.tick.as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long the last one waited that was taken.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// When whoever is turned away may try again, in milliseconds: as long as one that came now would take.
    pub fn retry_after_ms(&self) -> u32 {
        let takes = self.usual + if self.waits_since.is_some() { self.waited } else { Duration::ZERO };
        let ms = u32::try_from(takes.as_millis()).unwrap_or(u32::MAX);
        ms.clamp(*RETRY_AFTER_MS.start(), *RETRY_AFTER_MS.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::Tick;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn now(at_ms: u64) -> Now {
        Now { tick: Tick(at_ms / 50), at: ms(at_ms) }
    }

    fn pace() -> Pace {
        Pace::new(ms(50))
    }

    #[test]
    fn the_usual_time_follows_what_is_measured_and_an_entry_counts_once() {
        let mut pace = pace();
        assert_eq!(pace.usual_ticks(), 0);
        pace.handle_decided(ms(1_000), now(1_080));
        assert_eq!(pace.usual(), ms(80), "the first counts in full");
        (0..1_000).for_each(|_| pace.handle_decided(ms(2_000), now(2_160)));
        assert_eq!(pace.usual(), ms(90));
        (3..100).for_each(|second| pace.handle_decided(ms(second * 1_000), now(second * 1_000 + 160)));
        assert_eq!((pace.usual().as_millis(), pace.usual_ticks()), (159, 3));
    }

    #[test]
    fn a_burst_is_not_a_standing_queue() {
        let mut pace = pace();
        // Every 200 ms a batch, the oldest of which waited for all of the one before, and the newest not at all.
        for batch in 1..20 {
            let at = batch * 200;
            for waited in [200, 150, 51, 20] {
                pace.handle_taken(ms(at - waited), now(at));
            }
            assert!(!pace.is_standing());
        }
        // Nor is one long wait for everybody, once.
        pace.handle_taken(ms(4_000), now(6_000));
        assert!(!pace.is_standing());
    }

    #[test]
    fn a_queue_that_only_grows_is_noticed_after_100_ms_and_its_end_at_once() {
        let ends: [fn(&mut Pace); 2] = [|pace| pace.handle_empty(), |pace| pace.handle_taken(ms(1_050), now(1_100))];
        for end in ends {
            let mut pace = pace();
            for at in [1_000, 1_050, 1_099] {
                pace.handle_taken(ms(at - 51), now(at));
                assert!(!pace.is_standing(), "at {at}");
            }
            pace.handle_taken(ms(1_049), now(1_100));
            assert!(pace.is_standing());
            end(&mut pace);
            assert!(!pace.is_standing());
            pace.handle_taken(ms(1_049), now(1_101));
            assert!(!pace.is_standing(), "it is judged from the beginning");
        }
    }

    #[test]
    fn the_hint_is_what_one_more_would_take_within_bounds() {
        let mut pace = pace();
        assert_eq!(pace.retry_after_ms(), 10, "nothing is known");
        pace.handle_decided(ms(0), now(40));
        assert_eq!(pace.retry_after_ms(), 40);
        pace.handle_taken(ms(1_000), now(1_200));
        assert_eq!(pace.retry_after_ms(), 240, "it would wait as long as the last one did");
        pace.handle_taken(ms(1_000), now(9_000));
        assert_eq!(pace.retry_after_ms(), 1_000);
        pace.handle_empty();
        assert_eq!(pace.retry_after_ms(), 40);
    }
}
