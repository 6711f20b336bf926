//! A node's clock and entropy: simulated time, at the rate and with the offset that the plan gives this node, and a stream
//! of chance for each of its lives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;
use tombola::{
    runtime::{Environment, NoEntropy},
    types::{Millis, ReplicaId},
};

use crate::{chance, plan::ClockOptions};

/// True time at the start of every run: 2025-01-01.
pub const START_MS: u64 = 1_735_689_600_000;

/// A machine's clock: it goes on while the node is down. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct WallClock {
    begun: Instant,
    rate_ppm: u32,
    offset_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// A clock that goes like this from now on.
    pub fn new(options: ClockOptions) -> Self {
        let ClockOptions { offset_ms, rate_ppm } = options;
        Self { begun: Instant::now(), rate_ppm, offset_ms: Arc::new(AtomicI64::new(offset_ms)) }
    }

    /// What it shows.
    pub fn read(&self) -> Millis {
        let gone = self.begun.elapsed().as_micros() * u128::from(self.rate_ppm) / 1_000_000_000;
        let shown = START_MS + u64::try_from(gone).unwrap_or(u64::MAX >> 1);
        Millis(shown.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed)))
    }

    /// Jumps.
    pub fn step(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// What this clock takes for `true_time`, the other way round: a fast clock's tick is short.
    fn period(&self, true_time: Duration) -> Duration {
        let nanos = true_time.as_nanos() * 1_000_000 / u128::from(self.rate_ppm.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What one life of a node takes from the world.
pub struct SimEnvironment {
    clock: WallClock,
    tick: Duration,
    entropy: ChaCha8Rng,
}

impl SimEnvironment {
    /// Of this life, with ticks of `tick` by its clock.
    pub fn new(seed: u64, node: ReplicaId, incarnation: u64, clock: WallClock, tick: Duration) -> Self {
        let tick = clock.period(tick);
        Self { clock, tick, entropy: chance::stream(seed, "entropy", &[node.0, incarnation]) }
    }
}

impl Environment for SimEnvironment {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.entropy.fill_bytes(bytes);
        Ok(())
    }

    fn wall(&mut self) -> Millis {
        self.clock.read()
    }

    fn tick(&self) -> Duration {
        self.tick
    }
}
