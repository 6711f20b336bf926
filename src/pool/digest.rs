//! The two digests by which replicas know that they are one.
//!
//! *History*: `H_i = SHA-256(H_(i-1) || index as u64 LE || SHA-256(entry bytes) || SHA-256(its answers))`, for every entry:
//! a leader's no-op and an entry that does not decode are chained like any other, with no answers.
//! `H_1 = SHA-256("tombola.history.v1")`. An answer is hashed in its compact form: 1 if replayed, else 0; the length as
//! `u32` LE; then index, time and verdict as the key tables hold them.
//!
//! *State*: the sum modulo 2^128 of XXH3-128 (Y. Collet), seeded, of each record's bytes: of a request key's record those that
//! the key tables hold, under a seed that says whose it is and in which bucket; of any other its encoding, under
//! [`STATE_SEED`]. A sum can be kept up to date by what an entry touched, and does not depend on the order of records. It
//! guards against faults, not against forgers: anybody can compute it.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::{
    Limits,
    names::{ItemId, PoolId},
    state::Facts,
    stock::Item,
};
use crate::{
    codec,
    types::{HistoryDigest, Index, Millis, StateDigest},
};

/// Seed of the state digest's hash.
const STATE_SEED: u64 = u64::from_le_bytes(*b"tombola2");

/// A record of the state, in the form in which it is hashed. Append only.
#[derive(Serialize)]
pub(super) enum Record<'a> {
    Globals { now: Millis, limits: &'a Limits, seed: &'a Option<[u64; 2]> },
    Pool { id: &'a PoolId, facts: &'a Facts },
    Item { pool: &'a PoolId, position: u32, id: &'a ItemId, item: &'a Item },
    Keys { pool: Option<&'a PoolId>, born: Millis, floors: [Millis; 2] },
}

impl Record<'_> {
    pub(super) fn hash(&self) -> u128 {
        xxh3_128_with_seed(&codec::encode(self), STATE_SEED)
    }
}

/// Whose the records of some request keys are, as their hashes know it: their pool's, in one of its rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyOwner(u64);

impl KeyOwner {
    /// `pool` is empty for the keys of pools that do not exist.
    pub(super) fn new(pool: &str, ring: u8) -> Self {
        Self(xxh3_64_with_seed(&[&[ring], pool.as_bytes()].concat(), STATE_SEED))
    }

    /// The hash of a record of theirs, which is in the bucket of that number.
    pub(super) fn hash(self, number: u64, record: &[u8]) -> u128 {
        xxh3_128_with_seed(record, self.0.wrapping_add(number))
    }
}

/// A sum of record hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u128);

impl Sum {
    /// Of some hashes.
    pub(super) fn of<const N: usize>(hashes: [u128; N]) -> Self {
        let mut sum = Self::default();
        hashes.into_iter().for_each(|hash| sum.add(hash));
        sum
    }

    pub(super) fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    pub(super) fn replace(&mut self, old: u128, new: u128) {
        self.0 = self.0.wrapping_sub(old).wrapping_add(new);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.add(other.0);
    }

    pub(super) fn unmerge(&mut self, other: Self) {
        self.replace(other.0, 0);
    }

    pub(super) fn digest(self) -> StateDigest {
        StateDigest(self.0)
    }
}

/// `H_1`.
pub(super) fn history_at_founding() -> HistoryDigest {
    HistoryDigest(Sha256::digest(b"tombola.history.v1").into())
}

/// Collects the answers to one entry, in the form in which they are hashed.
#[derive(Debug, Default)]
pub(super) struct Answers {
    bytes: Vec<u8>,
    /// Where what the newest tells begins.
    told_at: usize,
}

impl Answers {
    /// Begins the next answer; what it tells is to be written to its end, and [`Self::end`]ed.
    pub(super) fn begin(&mut self, replayed: bool) -> &mut Vec<u8> {
        self.bytes.extend_from_slice(&[u8::from(replayed), 0, 0, 0, 0]);
        self.told_at = self.bytes.len();
        &mut self.bytes
    }

    /// Where the answer that was begun is to be written on.
    pub(super) fn told_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the answer; what it tells.
    pub(super) fn end(&mut self) -> &[u8] {
        let (before, told) = self.bytes.split_at_mut(self.told_at);
        let len = u32::try_from(told.len()).expect("an answer is a few thousand bytes at most");
        *before.last_chunk_mut().expect("its length stands before it") = len.to_le_bytes();
        told
    }

    /// What the newest answer tells.
    pub(super) fn told(&self) -> &[u8] {
        &self.bytes[self.told_at..]
    }

    /// Takes them all away, but for the room they had.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// `H_i` from `H_(i-1)`.
pub(super) fn chain(previous: HistoryDigest, index: Index, entry: &[u8], answers: &Answers) -> HistoryDigest {
    let mut hasher = Sha256::new();
    hasher.update(previous.0);
    hasher.update(index.0.to_le_bytes());
    hasher.update(Sha256::digest(entry));
    hasher.update(Sha256::digest(&answers.bytes));
    HistoryDigest(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of another implementation, xxHash 0.8.4 in C: XXH3 takes another way for each of these lengths.
    #[test]
    fn the_hash_is_xxh3() {
        let bytes: Vec<u8> = (0..2_000).map(|at| (at * 7 % 251) as u8).collect();
        let expected = [
            (83, 0xe099_ce8c_947e_0f3b_337e_7a38_0723_2813),
            (200, 0x410d_8796_b92e_f802_b58c_65e9_fddf_3bf5),
            (300, 0xb7ec_723f_6d2c_ee33_a61c_a5c4_5bf3_64fa),
            (2_000, 0xcb15_ecf6_2fdd_cf63_13a3_b99a_b484_1758),
        ];
        for (len, hash) in expected {
            assert_eq!(KeyOwner(5).hash(2, &bytes[..len]), hash, "{len} bytes");
        }
        assert_eq!(KeyOwner::new("default", 0).0, 0x0835_a42b_aaa5_1c94);
    }

    #[test]
    fn equal_records_in_different_places_have_different_hashes() {
        let places =
            [("", 0, 0), ("", 1, 0), ("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("a", 2, 0), ("b", 0, 0), ("aa", 0, 0)];
        let hashes = places.map(|(pool, ring, number)| KeyOwner::new(pool, ring).hash(number, &[7; 60]));
        assert_eq!(std::collections::BTreeSet::from(hashes).len(), places.len());
    }
}
