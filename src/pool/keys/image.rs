//! Request keys on their way into a snapshot and out of it, and checked from nothing.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Keys, RingKind, Scope,
    record::{RECORD_BYTES_MIN, Record},
    ring::{BUCKET_MS, Bucket, Ring, Seed, bucket_number},
};
use crate::{
    pool::{
        Limits, PoolId, RequestKey,
        digest::{Sum, hash_key_record},
    },
    types::{Index, Millis},
};

/// A scope but for its keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::pool) struct ScopeRecord {
    born: Millis,
    floors: [Millis; 2],
}

/// A bucket of a scope: its records one after the other, sorted by name, each after its length as `u16`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::pool) struct BucketRecord {
    ring: u8,
    number: u64,
    records: Bytes,
}

/// Keys have 48 bits of time.
const NUMBER_MAX: u64 = ((1 << 48) - 1) / BUCKET_MS;

impl Keys {
    /// Keys as a snapshot's header knows them.
    pub(in crate::pool) fn restore(limits: Limits, seed: Option<Seed>, orphans: ScopeRecord) -> Self {
        let mut keys = Self { seed, ..Self::new(limits) };
        keys.sum = Sum::default();
        keys.orphans = Scope::restore(orphans);
        keys.sum.add(keys.orphans.hash(None));
        keys
    }

    /// A scope without its keys; that of the orphans is part of every snapshot.
    pub(in crate::pool) fn scope_record(&self, pool: Option<&PoolId>) -> Option<ScopeRecord> {
        self.scope(pool).map(|scope| ScopeRecord { born: scope.born, floors: scope.floors })
    }

    /// The buckets of a scope, ring by ring, in the order of time.
    pub(in crate::pool) fn bucket_records(&self, pool: Option<&PoolId>) -> impl Iterator<Item = BucketRecord> {
        self.scope(pool).into_iter().flat_map(|scope| {
            let rings = RingKind::ALL.into_iter().map(|kind| (kind, &scope.rings[kind as usize]));
            rings.flat_map(|(kind, ring)| ring.buckets().map(move |bucket| image(kind, bucket)))
        })
    }

    /// Takes in a pool's scope.
    pub(in crate::pool) fn restore_scope(&mut self, pool: PoolId, record: ScopeRecord) {
        let scope = Scope::restore(record);
        self.sum.add(scope.hash(Some(&pool)));
        self.scopes.insert(pool, scope);
    }

    /// Takes in a bucket; they come in the order of [`Self::bucket_records`].
    pub(in crate::pool) fn restore_bucket(
        &mut self,
        pool: Option<&PoolId>,
        image: &BucketRecord,
    ) -> Result<(), String> {
        let number = image.number;
        let kind = RingKind::ALL.into_iter().find(|&kind| kind as u8 == image.ring);
        let (Some(kind), Some(seed), true) = (kind, self.seed, number <= NUMBER_MAX) else {
            return Err(format!("bucket {number} of ring {} cannot be", image.ring));
        };
        let scope = match pool {
            Some(pool) => self.scopes.get_mut(pool),
            None => Some(&mut self.orphans),
        };
        let ring = &mut scope.ok_or("keys of a pool that is not there")?.rings[kind as usize];
        if ring.newest().is_some_and(|newest| newest.number >= number) || image.records.is_empty() {
            return Err(format!("bucket {number} is empty, or out of order"));
        }
        let mut rest = image.records.as_ref();
        let mut last = None;
        while !rest.is_empty() {
            let (record, after) = split_record(rest).ok_or_else(|| format!("bucket {number} is cut short"))?;
            if last.is_some_and(|last| last >= record.name()) {
                return Err(format!("bucket {number} is not sorted"));
            }
            let change = ring.insert(seed, number, pool.map_or("", PoolId::as_str), kind as u8, record.parts());
            self.used[kind.budget() as usize] += change.bytes;
            self.sum.merge(change.sum);
            (last, rest) = (Some(record.name()), after);
        }
        Ok(())
    }

    /// The sum over all records, from nothing.
    pub(in crate::pool) fn recompute(&self) -> Sum {
        let mut sum = Sum::default();
        for (pool, scope) in self.scopes() {
            sum.add(scope.hash(pool));
            for kind in RingKind::ALL {
                let records = scope.rings[kind as usize].buckets().flat_map(Bucket::records);
                let name = pool.map_or("", PoolId::as_str);
                records.for_each(|record| sum.add(hash_key_record(name, kind as u8, record.parts())));
            }
        }
        sum
    }

    /// Looks at every key, given how many items a pool has (`None`: no such pool). Says how many keys there are, and adds
    /// to `violations` what does not hold.
    pub(in crate::pool) fn check(
        &self,
        items: impl Fn(&PoolId) -> Option<usize>,
        (applied, now): (Index, Millis),
        violations: &mut Vec<String>,
    ) -> u64 {
        let mut used = [0; 2];
        let mut keys = 0;
        for (pool, scope) in self.scopes() {
            let whose = pool.map_or("<none>", PoolId::as_str);
            let Some(items) = pool.map_or(Some(0), &items) else {
                violations.push(format!("there are keys of pool {whose}, which is not there"));
                continue;
            };
            for kind in RingKind::ALL {
                let ring = &scope.rings[kind as usize];
                used[kind.budget() as usize] += ring.bytes();
                let check = RingCheck { seed: self.seed, kind, keyed: pool.is_some(), items, applied, now };
                match check.run(ring) {
                    Ok(found) => keys += found,
                    Err(why) => violations.push(format!("keys of pool {whose}, ring {kind:?}: {why}")),
                }
            }
        }
        if used != self.used {
            violations.push(format!("keys use {used:?} bytes, counted are {:?}", self.used));
        }
        keys
    }

    fn scope(&self, pool: Option<&PoolId>) -> Option<&Scope> {
        pool.map_or(Some(&self.orphans), |pool| self.scopes.get(pool))
    }

    fn scopes(&self) -> impl Iterator<Item = (Option<&PoolId>, &Scope)> {
        std::iter::once((None, &self.orphans)).chain(self.scopes.iter().map(|(id, scope)| (Some(id), scope)))
    }
}

impl Scope {
    fn restore(record: ScopeRecord) -> Self {
        Self { born: record.born, floors: record.floors, ..Self::default() }
    }
}

fn image(kind: RingKind, bucket: &Bucket) -> BucketRecord {
    let mut records: Vec<Record<'_>> = bucket.records().collect();
    records.sort_unstable_by_key(|record| record.name());
    let mut bytes = Vec::new();
    for record in records {
        let len: usize = record.parts().iter().map(|part| part.len()).sum();
        bytes.extend_from_slice(&u16::try_from(len).expect("the arena took it").to_le_bytes());
        record.parts().iter().for_each(|part| bytes.extend_from_slice(part));
    }
    BucketRecord { ring: kind as u8, number: bucket.number, records: bytes.into() }
}

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (record, after) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    (record.len() >= RECORD_BYTES_MIN).then(|| (Record::new(record), after))
}

/// What a ring's records are checked against.
struct RingCheck {
    seed: Option<Seed>,
    kind: RingKind,
    /// Are records found by their key, rather than by a hash of pool and key?
    keyed: bool,
    items: usize,
    applied: Index,
    now: Millis,
}

impl RingCheck {
    fn run(&self, ring: &Ring) -> Result<u64, String> {
        let mut keys = 0;
        if !ring.buckets().is_sorted_by(|one, next| one.number < next.number) {
            return Err("buckets are out of order".into());
        }
        for bucket in ring.buckets() {
            for record in bucket.records() {
                keys += 1;
                self.check(ring, bucket.number, record).map_err(|why| {
                    let name: String = record.name().iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("record {name}: {why}")
                })?;
            }
        }
        if ring.recount() == ring.bytes() { Ok(keys) } else { Err("its bytes are miscounted".into()) }
    }

    fn check(&self, ring: &Ring, number: u64, record: Record<'_>) -> Result<(), &'static str> {
        let told = record.decode().ok_or("cannot be read")?;
        if !told.verdict.is_within(self.items) {
            return Err("names an item that is not there");
        }
        if told.index > self.applied || told.now > self.now {
            return Err("is of the future");
        }
        if self.keyed {
            let key = RequestKey::try_from(record.name()).map_err(|_| "is of no request key")?;
            if bucket_number(key.time()) != number || !RingKind::of_key(&key).contains(&self.kind) {
                return Err("is in the wrong place");
            }
        }
        let found = self.seed.and_then(|seed| ring.find(seed, number, &record.name()));
        let itself = found.is_some_and(|found| std::ptr::eq(found.told_bytes(), record.told_bytes()));
        if itself { Ok(()) } else { Err("is not found, or is there twice") }
    }
}
