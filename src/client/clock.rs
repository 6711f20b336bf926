//! The cluster's time as a client knows it: what the last reply said, and how long ago that was.

use std::time::Instant;

use crate::types::Millis;

/// Cluster time, learnt from replies and carried on by the monotonic clock. The machine's wall clock is never asked: it
/// may be wrong, and the cluster refuses keys by its own time.
///
/// An idle cluster's time stands still while the last reply is carried on; and the reply of an idle cluster may itself be
/// old. Both are harmless: a key lives for hours, and the cluster's time only jumps forward.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterClock {
    /// What the last reply said, and when it came.
    heard: Option<(Millis, Instant)>,
}

impl ClusterClock {
    /// A reply told the time: how far the cluster had come for all its node knew, so only a later one counts. 0 is none:
    /// the cluster has decided nothing yet.
    pub(super) fn learn(&mut self, now: Millis, at: Instant) {
        if now > self.read(at).unwrap_or_default() {
            self.correct(now, at);
        }
    }

    /// A refusal of a key for its time told it: that is what counts, whatever was heard before.
    pub(super) fn correct(&mut self, now: Millis, at: Instant) {
        self.heard = Some((now, at));
    }

    /// Did any reply tell the time yet?
    pub(super) fn is_set(&self) -> bool {
        self.heard.is_some()
    }

    /// Cluster time; `None` before the first reply.
    pub(super) fn read(&self, at: Instant) -> Option<Millis> {
        let (now, then) = self.heard?;
        let since_ms = at.saturating_duration_since(then).as_millis();
        Some(Millis(now.0.saturating_add(u64::try_from(since_ms).unwrap_or(u64::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_goes_on_from_the_last_reply() {
        let start = Instant::now();
        let mut clock = ClusterClock::default();
        assert_eq!(clock.read(start), None);
        clock.learn(Millis(1_000), start);
        assert_eq!(clock.read(start + Duration::from_millis(250)), Some(Millis(1_250)));
        clock.learn(Millis(900), start);
        clock.learn(Millis(0), start);
        assert_eq!(clock.read(start), Some(Millis(1_000)), "a quiet node tells what it knew long ago");
        clock.correct(Millis(900), start);
        assert_eq!(clock.read(start), Some(Millis(900)), "who refuses a key is right");
    }
}
