//! The operating system as a node's environment: its entropy and its wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::{TryRng, rngs::SysRng};

use crate::{
    runtime::{Environment, NoEntropy},
    types::Millis,
};

/// Entropy and wall time of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemEnvironment {
    tick: Duration,
}

impl SystemEnvironment {
    /// With ticks of this length; 50 ms is usual.
    pub fn new(tick: Duration) -> Self {
        Self { tick }
    }
}

impl Environment for SystemEnvironment {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        SysRng.try_fill_bytes(bytes).map_err(|_| NoEntropy)
    }

    /// A clock before 1970 stands at 0.
    #[allow(clippy::disallowed_methods, reason = "this is where wall time comes from")]
    fn wall(&mut self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn tick(&self) -> Duration {
        self.tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_fresh_and_the_clock_is_past_2025() {
        let mut system = SystemEnvironment::new(Duration::from_millis(50));
        let (mut first, mut second) = ([0; 32], [0; 32]);
        system.fill(&mut first).unwrap();
        system.fill(&mut second).unwrap();
        assert_ne!(first, second);
        assert!(system.wall() > Millis(1_735_689_600_000));
    }
}
