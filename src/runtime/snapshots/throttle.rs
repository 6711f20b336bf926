//! How fast, and how long: times in ticks, and the throttle.

use std::time::Duration;

use crate::runtime::clock::Tick;

/// Times and rates, in ticks of a node's own clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Length of a tick.
    pub tick: Duration,
}

impl Times {
    /// How many ticks last at least this long.
    pub fn ticks(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos().div_ceil(self.tick.as_nanos())).unwrap_or(u64::MAX).max(1)
    }
}

/// A throttle. What is sent is paid for afterwards: whoever has anything left may send one more thing, and waits until it is
/// paid. So no rate is too low for a chunk, and nothing is saved up over a pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    bytes_per_tick: i64,
    left: i64,
    at: Tick,
}

impl Throttle {
    /// So many bytes a second; at least one a tick.
    pub fn new(bytes_per_s: u64, times: Times) -> Self {
        let per_tick = u128::from(bytes_per_s) * times.tick.as_nanos() / Duration::from_secs(1).as_nanos();
        let bytes_per_tick = i64::try_from(per_tick).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4);
        Self { bytes_per_tick, left: bytes_per_tick, at: Tick(0) }
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Tick) {
        let ticks = i64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(i64::MAX);
        self.at = now;
        self.left = self.left.saturating_add(self.bytes_per_tick.saturating_mul(ticks)).min(self.bytes_per_tick);
    }

    /// May anything be sent now?
    pub fn allows(&self) -> bool {
        self.left > 0
    }

    /// So many bytes are sent.
    pub fn pay(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub_unsigned(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { tick: Duration::from_millis(50) };

    #[test]
    fn a_rate_is_kept_by_large_and_small_pieces() {
        for piece in [1_000, 65_536, 1 << 20] {
            let mut throttle = Throttle::new(1 << 20, TIMES);
            let mut sent = 0;
            for tick in 0..200 {
                throttle.handle_tick(Tick(tick));
                while throttle.allows() {
                    throttle.pay(piece);
                    sent += piece;
                }
            }
            let (due, slack) = (10 << 20, piece + (1 << 20) / 20);
            assert!((due - slack..=due + slack).contains(&sent), "{sent} in pieces of {piece}");
        }
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let mut throttle = Throttle::new(1 << 20, TIMES);
        throttle.handle_tick(Tick(1_000_000));
        throttle.pay((1 << 20) / 20);
        assert!(!throttle.allows());
    }

    #[test]
    fn no_rate_is_too_low_or_too_high() {
        for rate in [0, 1, u64::MAX] {
            let mut throttle = Throttle::new(rate, TIMES);
            assert!(throttle.allows());
            throttle.pay(1 << 20);
            throttle.handle_tick(Tick(u64::MAX));
            assert!(throttle.allows());
        }
        assert_eq!([0, 1, 50, 51, 1_000].map(|ms| TIMES.ticks(Duration::from_millis(ms))), [1, 1, 1, 2, 20]);
    }
}
