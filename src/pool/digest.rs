//! The two digests by which replicas know that they are one.
//!
//! *History*: `H_i = SHA-256(H_(i-1) || index as u64 LE || SHA-256(entry bytes) || SHA-256(its answers))`, for every entry:
//! a leader's no-op and an entry that does not decode are chained like any other, with no answers.
//! `H_1 = SHA-256("tombola.history.v1")`. An answer is hashed in its compact form: 1 if replayed, else 0; the length as
//! `u32` LE; then index, time and verdict as the key tables hold them.
//!
//! *State*: the sum modulo 2^128 of SipHash-2-4-128 (J.-P. Aumasson, D. Bernstein), under [`STATE_KEY`], of each record's
//! canonical bytes. A sum can be kept up to date by what an entry touched, and does not depend on the order of records.
//! It guards against faults, not against forgers: the key is public.

use std::hash::Hasher as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

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

/// Key of the state digest's hash.
const STATE_KEY: &[u8; 16] = b"tombola.state.v1";
/// Stands before a key record, where the others have the position of their variant in [`Record`].
const KEY_RECORD: u32 = 4;

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
        SipHasher24::new_with_key(STATE_KEY).hash(&codec::encode(self)).as_u128()
    }
}

/// The hash of a request key's record; `pool` is empty for the keys of pools that do not exist.
pub(super) fn hash_key_record(pool: &str, ring: u8, parts: [&[u8]; 3]) -> u128 {
    let mut hasher = SipHasher24::new_with_key(STATE_KEY);
    hasher.write(&KEY_RECORD.to_le_bytes());
    let id_len = u8::try_from(pool.len()).expect("a pool id has at most 63 bytes");
    hasher.write(&[ring, id_len]);
    hasher.write(pool.as_bytes());
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish128().as_u128()
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

/// Collects the answers to one entry.
#[derive(Default)]
pub(super) struct Answers(Sha256);

impl Answers {
    pub(super) fn add(&mut self, replayed: bool, told: &[u8]) {
        let len = u32::try_from(told.len()).expect("an answer is a few thousand bytes at most");
        self.0.update([u8::from(replayed)]);
        self.0.update(len.to_le_bytes());
        self.0.update(told);
    }
}

/// `H_i` from `H_(i-1)`.
pub(super) fn chain(previous: HistoryDigest, index: Index, entry: &[u8], answers: Answers) -> HistoryDigest {
    let mut hasher = Sha256::new();
    hasher.update(previous.0);
    hasher.update(index.0.to_le_bytes());
    hasher.update(Sha256::digest(entry));
    hasher.update(answers.0.finalize());
    HistoryDigest(hasher.finalize().into())
}
