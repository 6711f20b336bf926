//! Streams of chance. Each has a name: a seed, a purpose and numbers. What one stream gives does not depend on what was taken
//! from another, so that taking an event out of a plan does not reshuffle the rest.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The stream of that name.
pub fn stream(seed: u64, purpose: &str, ids: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(name(seed, purpose, ids))
}

/// One number of that name, uniform over all of `u64`; cheaper than a stream.
pub fn number(seed: u64, purpose: &str, ids: &[u64]) -> u64 {
    // Each step is the finaliser of splitmix64 (Steele, Lea, Flood, 2014): it mixes every bit into every other.
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let add = |state: u64, value: u64| mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ value);
    let named = purpose.bytes().fold(add(0, seed), |state, byte| add(state, u64::from(byte)));
    ids.iter().fold(add(named, u64::MAX), |state, id| add(state, *id))
}

/// Does something of this chance, in parts per million, happen? `number` is uniform over all of `u64`.
pub fn happens(number: u64, ppm: u32) -> bool {
    (u128::from(number) * 1_000_000) >> 64 < u128::from(ppm)
}

fn name(seed: u64, purpose: &str, ids: &[u64]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update((purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_chances_hold() {
        assert_ne!(number(1, "loss", &[2, 3]), number(1, "loss", &[3, 2]));
        assert_ne!(number(1, "loss", &[2]), number(2, "loss", &[2]));
        assert_ne!(name(1, "a", &[]), name(1, "b", &[]));
        let hits = (0..100_000).filter(|n| happens(number(7, "loss", &[*n]), 50_000)).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        assert!(!happens(0, 0) && happens(u64::MAX, 1_000_000));
    }
}
