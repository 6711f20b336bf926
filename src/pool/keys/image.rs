//! Request keys on their way into a snapshot and out of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Keys, ORPHANS, RingKind, Scope,
    bucket::{BUCKET_MS, Bucket, Seed, tag},
    record::{RECORD_BYTES_MIN, Record},
};
use crate::{
    hooks,
    pool::{
        Limits, PoolId,
        digest::{KeyOwner, Sum},
    },
    types::Millis,
};

/// Bytes of a piece's records, a longer record's own aside.
const PIECE_BYTES: usize = 60 << 10;
/// Keys have 48 bits of time.
const NUMBER_MAX: u64 = ((1 << 48) - 1) / BUCKET_MS;

/// A scope but for its keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::pool) struct ScopeRecord {
    born: Millis,
    floors: [Millis; 2],
}

/// Some records of a bucket, one after the other, each after its length as `u16`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::pool) struct KeysPiece {
    ring: u8,
    number: u64,
    records: Bytes,
}

impl Keys {
    /// Keys as a snapshot's header knows them.
    pub(in crate::pool) fn restore(limits: Limits, seed: Option<Seed>, orphans: ScopeRecord) -> Self {
        Self::with_orphans(limits, seed, Scope::restore(None, orphans))
    }

    /// The scope of a pool, or the orphans', without its keys.
    pub(in crate::pool) fn scope_record(&self, pool: Option<&PoolId>) -> ScopeRecord {
        let Scope { born, floors, .. } = *self.scope(pool);
        ScopeRecord { born, floors }
    }

    /// The hash of what [`Self::scope_record`] gives.
    pub(in crate::pool) fn scope_hash(&self, pool: Option<&PoolId>) -> u128 {
        if hooks::is_planted("m06") { 0 } else { self.scope(pool).hash() }
    }

    /// The keys of a scope, ring by ring, bucket by bucket in the order of time, in pieces, each with the sum of its
    /// records' hashes. Where they are cut depends on the records alone.
    pub(in crate::pool) fn pieces(&self, pool: Option<&PoolId>) -> impl Iterator<Item = (KeysPiece, Sum)> {
        let scope = self.scope(pool);
        let kinds = RingKind::ALL.into_iter().filter(|_| !hooks::is_planted("m06"));
        let buckets = kinds.map(|kind| scope.ring(kind).buckets().map(move |bucket| (kind, bucket)));
        buckets.flatten().flat_map(|(kind, bucket)| pieces(scope.owner(kind), kind, bucket))
    }

    /// Takes in a pool's scope.
    pub(in crate::pool) fn restore_scope(&mut self, pool: PoolId, record: ScopeRecord) {
        self.add_scope(Scope::restore(Some(pool), record));
    }

    /// Takes in some keys, which come in the order of [`Self::pieces`]. Whether each is there only once, and in the right
    /// place, is for [`Self::check`] to say.
    pub(in crate::pool) fn restore_piece(&mut self, pool: Option<&PoolId>, piece: &KeysPiece) -> Result<(), String> {
        let KeysPiece { ring, number, records } = piece;
        let kind = RingKind::ALL.into_iter().find(|&kind| kind as u8 == *ring);
        let (Some(kind), Some(seed), true) = (kind, self.seed, *number <= NUMBER_MAX) else {
            return Err(format!("bucket {number} of ring {ring} cannot be"));
        };
        let at = pool.map_or(ORPHANS, |pool| self.place(pool));
        let is_later = self.scopes[at].ring(kind).newest().is_some_and(|newest| newest.number > *number);
        if is_later || records.is_empty() || self.scopes[at].ring(kind).is_closed(*number) {
            return Err(format!("bucket {number} is out of order, or has too much or nothing in it"));
        }
        let mut rest = records.as_ref();
        while !rest.is_empty() {
            let (record, after) = split_record(rest).ok_or_else(|| format!("bucket {number} is cut short"))?;
            self.insert(at, kind, tag(seed, &record.name()), *number, record.parts());
            rest = after;
        }
        Ok(())
    }

    fn scope(&self, pool: Option<&PoolId>) -> &Scope {
        &self.scopes[pool.map_or(ORPHANS, |pool| self.place(pool))]
    }
}

impl Scope {
    fn restore(pool: Option<PoolId>, record: ScopeRecord) -> Self {
        let mut scope = Self::new(pool, record.born);
        scope.floors = record.floors;
        scope
    }
}

fn pieces(owner: KeyOwner, kind: RingKind, bucket: &Bucket) -> impl Iterator<Item = (KeysPiece, Sum)> {
    let mut records = bucket.records().peekable();
    std::iter::from_fn(move || {
        let mut sum = Sum::default();
        let mut bytes = Vec::new();
        while let Some(record) =
            records.next_if(|record| bytes.is_empty() || bytes.len() + record.bytes().len() < PIECE_BYTES)
        {
            let record = record.bytes();
            let len = u16::try_from(record.len()).expect("the arena took it");
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(record);
            sum.add(owner.hash(bucket.number, record));
        }
        let piece = KeysPiece { ring: kind as u8, number: bucket.number, records: bytes.into() };
        (!piece.records.is_empty()).then_some((piece, sum))
    })
}

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (record, after) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    (record.len() >= RECORD_BYTES_MIN).then(|| (Record::new(record), after))
}
