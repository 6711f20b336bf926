//! The cluster's time as a client knows it; the twin of the native client's, which reads the machine's clock.

use std::time::Duration;

use tombola::types::Millis;

/// Cluster time, learnt from replies and carried on. Moments are counted from any one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterClock {
    heard: Option<(Millis, Duration)>,
}

impl ClusterClock {
    /// A reply told the time: only a later one counts. 0 is none: the cluster has decided nothing yet.
    pub fn learn(&mut self, now: Millis, at: Duration) {
        if now > self.read(at).unwrap_or_default() {
            self.correct(now, at);
        }
    }

    /// A refusal of a key for its time told it, which counts whatever was heard before.
    pub fn correct(&mut self, now: Millis, at: Duration) {
        self.heard = Some((now, at));
    }

    /// Cluster time; `None` before the first reply.
    pub fn read(&self, at: Duration) -> Option<Millis> {
        let (now, then) = self.heard?;
        let since_ms = u64::try_from(at.saturating_sub(then).as_millis()).unwrap_or(u64::MAX);
        Some(Millis(now.0.saturating_add(since_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_what_was_heard() {
        let at = Duration::from_millis;
        let mut clock = ClusterClock::default();
        clock.learn(Millis(0), at(5));
        assert_eq!(clock.read(at(5)), None);
        clock.learn(Millis(1_000), at(10));
        clock.learn(Millis(1_004), at(20));
        assert_eq!(clock.read(at(60)), Some(Millis(1_050)), "an old reply changes nothing");
        clock.correct(Millis(900), at(60));
        assert_eq!(clock.read(at(61)), Some(Millis(901)), "who refuses a key is right");
    }
}
