//! Draws for whoever makes a plan, from one named stream. Integers only.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::chance;

/// A stream of draws.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of that name.
    pub(super) fn new(seed: u64, purpose: &str, ids: &[u64]) -> Self {
        Self(chance::stream(seed, purpose, ids))
    }

    /// Uniform, both ends included.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = u128::from(most - least) + 1;
        least + ((u128::from(self.0.next_u64()) * span) >> 64) as u64
    }

    /// As likely in one octave as in another: mostly small, now and then large. Both ends included, `least` above 0.
    pub(super) fn skewed(&mut self, least: u64, most: u64) -> u64 {
        let (low, high) = (least.ilog2(), most.ilog2());
        let octave = self.between(low.into(), high.into()) as u32;
        let (from, to) = (1 << octave, (1 << octave) + ((1 << octave) - 1));
        self.between(least.max(from), most.min(to))
    }

    /// Does something of this chance, in percent, happen?
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    /// One of them.
    pub(super) fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.between(0, among.len() as u64 - 1) as usize].clone()
    }

    /// In any order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.between(0, last as u64) as usize);
        }
    }

    /// Times up to `end`, apart by anything up to twice `mean`.
    pub(super) fn times(&mut self, mean: u64, end: u64) -> Vec<u64> {
        let mut at = 0;
        let mut times = Vec::new();
        loop {
            at += self.between(1, 2 * mean);
            if at >= end {
                return times;
            }
            times.push(at);
        }
    }

    /// So many times before `end`, in order.
    pub(super) fn moments(&mut self, count: u64, end: u64) -> Vec<u64> {
        let mut times: Vec<u64> = (0..count).map(|_| self.between(0, end - 1)).collect();
        times.sort_unstable();
        times
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_of_a_range_comes_and_no_other() {
        let mut dice = Dice::new(1, "test", &[]);
        let uniform: BTreeSet<u64> = (0..1_000).map(|_| dice.between(3, 9)).collect();
        let skewed: BTreeSet<u64> = (0..10_000).map(|_| dice.skewed(3, 9)).collect();
        assert_eq!(uniform, (3..=9).collect());
        assert_eq!(skewed, (3..=9).collect());
        let small = (0..1_000).filter(|_| dice.skewed(1, 1_000) < 32).count();
        assert!((400..600).contains(&small), "{small} of 1,000 are in the lower half of the octaves");
    }

    #[test]
    fn times_are_in_order_and_end() {
        let mut dice = Dice::new(1, "test", &[]);
        let times = dice.times(100, 10_000);
        assert!(times.is_sorted() && times.iter().all(|at| *at < 10_000));
        assert!((60..150).contains(&times.len()), "{}", times.len());
        assert!(dice.moments(50, 10).is_sorted());
    }
}
