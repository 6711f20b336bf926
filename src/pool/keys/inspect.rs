//! Request keys looked at one by one, from nothing.

use super::{
    Keys, RingKind, Scope,
    bucket::{Bucket, Seed, bucket_number, tag},
    record::Record,
};
use crate::{
    pool::{PoolId, RequestKey},
    types::{Index, Millis},
};

impl Keys {
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
        for (scope, share) in self.scopes.iter().zip(&self.shares) {
            let whose = if scope.pool.is_some() { scope.name() } else { "<none>" };
            let Some(items) = scope.pool.as_ref().map_or(Some(0), &items) else {
                violations.push(format!("there are keys of pool {whose}, which is not there"));
                continue;
            };
            let check = Check { seed: self.seed, scope, items, applied, now };
            let mut bytes = [0; 2];
            for kind in RingKind::ALL {
                match check.ring(kind) {
                    Ok((more_keys, more_bytes)) => {
                        keys += more_keys;
                        bytes[kind.budget() as usize] += more_bytes;
                        used[kind.budget() as usize] += more_bytes;
                    }
                    Err(why) => violations.push(format!("keys of pool {whose}, ring {kind:?}: {why}")),
                }
            }
            if bytes != *share {
                violations.push(format!("keys of pool {whose} use {bytes:?} bytes, counted are {share:?}"));
            }
        }
        if (keys, used) != (self.len, self.used) {
            let counted = (self.len, self.used);
            violations.push(format!("keys and their bytes are {:?}, counted are {counted:?}", (keys, used)));
        }
        keys
    }
}

/// What a scope's records are checked against.
struct Check<'a> {
    seed: Option<Seed>,
    scope: &'a Scope,
    items: usize,
    applied: Index,
    now: Millis,
}

impl Check<'_> {
    /// Keys and bytes of a ring.
    fn ring(&self, kind: RingKind) -> Result<(u64, u64), String> {
        let (mut keys, mut bytes) = (0, 0);
        let mut last = None;
        for bucket in self.scope.ring(kind).buckets() {
            if last.replace(bucket.number) >= Some(bucket.number) {
                return Err("buckets are out of order".into());
            }
            for record in bucket.records() {
                self.record(kind, bucket, record).map_err(|why| {
                    let name: String = record.name().iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("record {name}: {why}")
                })?;
            }
            let counted = bucket.recount();
            if counted != (bucket.tally.keys, bucket.tally.bytes) || counted.0 == 0 {
                return Err(format!("bucket {} is miscounted, or empty", bucket.number));
            }
            (keys, bytes) = (keys + counted.0, bytes + counted.1);
        }
        Ok((keys, bytes))
    }

    fn record(&self, kind: RingKind, bucket: &Bucket, record: Record<'_>) -> Result<(), &'static str> {
        let told = record.decode().ok_or("cannot be read")?;
        if !told.verdict.is_within(self.items) {
            return Err("names an item that is not there");
        }
        if told.index > self.applied || told.now > self.now {
            return Err("is of the future");
        }
        // Those of the orphans are found by a hash.
        if self.scope.pool.is_some() {
            let key = RequestKey::try_from(record.name()).map_err(|_| "is of no request key")?;
            if bucket_number(key.time()) != bucket.number || !RingKind::of_key(&key).contains(&kind) {
                return Err("is in the wrong place");
            }
        }
        let found = self.seed.and_then(|seed| {
            let name = record.name();
            self.scope.ring(kind).find(tag(seed, &name), bucket.number, &name)
        });
        let itself = found.is_some_and(|found| std::ptr::eq(found.told_bytes(), record.told_bytes()));
        if itself { Ok(()) } else { Err("is not found, or is there twice") }
    }
}
