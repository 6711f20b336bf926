//! Noise that is the same in every run.

use std::sync::atomic::{AtomicU64, Ordering};

/// A generator of noise.
pub struct Noise(AtomicU64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn number(&self, below: usize) -> usize {
        // SplitMix64 (Steele, Lea, Flood, 2014).
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % below
    }

    pub fn bytes(&self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number(256) as u8).collect()
    }

    /// The same bytes, some of them changed.
    pub fn mutated(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.number(8) {
            let at = self.number(bytes.len());
            bytes[at] ^= 1 << self.number(8);
        }
        if self.number(8) == 0 {
            bytes.truncate(1 + self.number(bytes.len()));
        }
        bytes
    }
}
