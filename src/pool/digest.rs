//! The two digests by which replicas know that they are one.
//!
//! *History*: `H_i = SHA-256(H_(i-1) || index as u64 LE || SHA-256(entry bytes) || SHA-256(its answers))`, for every entry:
//! a leader's no-op and an entry that does not decode are chained like any other, with no answers.
//! `H_1 = SHA-256("tombola.history.v1")`. An answer is hashed in its compact form: 1 if replayed, else 0; the length as
//! `u32` LE; then index, time and verdict as the key tables hold them.
//!
//! *State*: the sum modulo 2^128 of XXH3-128 (Y. Collet), seeded, of each record's bytes: of a request key's record those that
//! the key tables hold, under a seed that says whose they are; of any other its encoding, under [`STATE_SEED`]. A sum can be
//! kept up to date by what an entry touched, and does not depend on the order of records. It guards against faults, not
//! against forgers: anybody can compute it.

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

    /// The hash of a record of theirs.
    pub(super) fn hash(self, record: &[u8]) -> u128 {
        xxh3_128_with_seed(record, self.0)
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

    /// The vectors of the specification's reference implementation: of nothing, and under which seed.
    #[test]
    fn the_hash_is_what_it_always_was() {
        assert_eq!(xxh3_128_with_seed(b"", 0), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        assert_eq!(xxh3_64_with_seed(b"", 0), 0x2d06_8005_38d3_94c2);
        let record: Vec<u8> = (0..83).collect();
        assert_eq!(KeyOwner::new("default", 0).hash(&record), 0xa332_37b9_91bc_53c7_1800_aec5_2ad1_8bc1);
    }

    #[test]
    fn equal_records_of_different_owners_have_different_hashes() {
        let owners = [("", 0), ("", 1), ("a", 0), ("a", 1), ("a", 2), ("b", 0), ("aa", 0)];
        let hashes: std::collections::BTreeSet<_> =
            owners.map(|(pool, ring)| KeyOwner::new(pool, ring).hash(&[7; 60])).into();
        assert_eq!(hashes.len(), owners.len());
    }
}
