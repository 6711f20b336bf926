//! A request key's record: its name and fingerprint, then what was answered in compact form.
//!
//! Little-endian: name (16 bytes), fingerprint (16), index `u64`, time `u64`, verdict. The part from the index on is what
//! was *told*, and is what the history digest hashes too.

use crate::{
    pool::{Fingerprint, ItemId, Outcome, verdict::Verdict},
    types::{Index, Millis},
};

/// What a record is found by: the request key, or a hash of pool and key where there is no such pool.
pub(super) type Name = [u8; 16];

const TOLD_AT: usize = 32;
/// Name, fingerprint, index, time and a byte of verdict: anything shorter is no record.
pub(super) const RECORD_BYTES_MIN: usize = TOLD_AT + 17;

/// What was told under a key.
#[derive(Clone, Debug)]
pub(in crate::pool) struct Told<'a> {
    pub(in crate::pool) index: Index,
    pub(in crate::pool) now: Millis,
    pub(in crate::pool) verdict: Verdict<'a>,
}

impl<'a> Told<'a> {
    /// Writes what comes before the verdict.
    pub(in crate::pool) fn begin(index: Index, now: Millis, out: &mut Vec<u8>) {
        out.extend_from_slice(&index.0.to_le_bytes());
        out.extend_from_slice(&now.0.to_le_bytes());
    }

    /// What was written; `None` if it cannot have been.
    pub(in crate::pool) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (index, rest) = bytes.split_first_chunk()?;
        let (now, verdict) = rest.split_first_chunk()?;
        let (index, now) = (Index(u64::from_le_bytes(*index)), Millis(u64::from_le_bytes(*now)));
        Some(Self { index, now, verdict: Verdict::decode(verdict)? })
    }

    /// The outcome in words, for the first time or once more; `name` names items by position.
    pub(in crate::pool) fn outcome<'b>(self, replayed: bool, name: impl Fn(u32) -> &'b ItemId) -> Outcome {
        Outcome { index: self.index, now: self.now, replayed, result: self.verdict.tell(name) }
    }
}

/// A record in place.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    /// Of at least [`RECORD_BYTES_MIN`] bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn name(self) -> Name {
        *self.0.first_chunk().expect("a record begins with its name")
    }

    pub(in crate::pool) fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.0[16..TOLD_AT].try_into().expect("16 bytes"))
    }

    /// The index at which it was told.
    pub(in crate::pool) fn index(self) -> Index {
        let index = self.told_bytes().first_chunk().expect("what was told begins with its index");
        Index(u64::from_le_bytes(*index))
    }

    /// The part that was told, in bytes.
    pub(in crate::pool) fn told_bytes(self) -> &'a [u8] {
        &self.0[TOLD_AT..]
    }

    pub(super) fn parts(self) -> [&'a [u8]; 3] {
        [&self.0[..16], &self.0[16..TOLD_AT], self.told_bytes()]
    }

    /// What was told; `None` if the bytes are not a record's, which only a forged snapshot can bring about.
    pub(in crate::pool) fn decode(self) -> Option<Told<'a>> {
        Told::decode(self.0.get(TOLD_AT..)?)
    }
}
