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
    names::{ItemId, POOL_ID_BYTES_MAX, PoolId},
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
/// Most bytes of a key record but for what was told: the above, ring and length, pool, name and fingerprint.
const HEAD_BYTES_MAX: usize = 4 + 2 + POOL_ID_BYTES_MAX + 16 + 16;

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
    // What comes before the last part is short, and hashed as one: the hasher is slow with pieces.
    let mut head = [0; HEAD_BYTES_MAX];
    let id_len = u8::try_from(pool.len()).expect("a pool id has at most 63 bytes");
    let mut len = 0;
    for piece in [&KEY_RECORD.to_le_bytes(), [ring, id_len].as_slice(), pool.as_bytes(), parts[0], parts[1]] {
        head[len..len + piece.len()].copy_from_slice(piece);
        len += piece.len();
    }
    let mut hasher = SipHasher24::new_with_key(STATE_KEY);
    hasher.write(&head[..len]);
    hasher.write(parts[2]);
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
