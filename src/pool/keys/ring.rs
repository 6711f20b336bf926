//! Records in buckets by the time of their keys: forgetting the oldest is dropping one bucket.

use std::{collections::VecDeque, hash::Hasher as _, sync::Arc};

use siphasher::sip::SipHasher13;

use super::{
    arena::Arena,
    record::{Name, Record},
    table::Table,
};
use crate::{
    pool::digest::{Sum, hash_key_record},
    types::Millis,
};

/// Width of a bucket in key time.
pub(super) const BUCKET_MS: u64 = 5_000;
/// What a bucket is counted as, beside its records.
const BUCKET_BYTES: u64 = 512;
/// What a record is counted as, beside its own length: its slot in a table, on average, and its length prefix.
const SLOT_BYTES: u64 = 18;
/// A bucket takes no more records beyond this, since places have 32 bits.
const BUCKET_BYTES_MAX: u64 = 2 << 30;

/// Key of the tables' hash.
pub(super) type Seed = [u64; 2];

/// Number of the bucket that a key of that time belongs to.
pub(super) fn bucket_number(time: Millis) -> u64 {
    time.0 / BUCKET_MS
}

/// The keys of five seconds.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) number: u64,
    table: Table,
    arena: Arena,
    /// Counted, not measured: equal on every replica, whatever its allocator and its snapshots did.
    bytes: u64,
    pub(super) sum: Sum,
}

impl Bucket {
    fn new(number: u64) -> Self {
        Self { number, table: Table::new(), arena: Arena::default(), bytes: BUCKET_BYTES, sum: Sum::default() }
    }

    /// The last millisecond that belongs to it.
    pub(super) fn last_time(&self) -> Millis {
        Millis((self.number + 1) * BUCKET_MS - 1)
    }

    /// Its records, in no order that replicas share.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.arena.iter().map(Record::new)
    }

    fn find(&self, seed: Seed, name: &Name) -> Option<Record<'_>> {
        let is_it = |place| Record::new(self.arena.get(place)).name() == *name;
        self.table.find(tag(seed, name), is_it).map(|place| Record::new(self.arena.get(place)))
    }

    fn insert(&mut self, seed: Seed, pool: &str, ring: u8, parts: [&[u8]; 3]) -> Change {
        let name: &Name = parts[0].try_into().expect("a record begins with its name of 16 bytes");
        self.table.insert(tag(seed, name), self.arena.push(parts));
        let mut sum = Sum::default();
        sum.add(hash_key_record(pool, ring, parts));
        let bytes = counted_bytes(parts);
        self.sum.merge(sum);
        self.bytes += bytes;
        Change { bytes, sum }
    }

    /// The counted bytes, from nothing.
    fn recount(&self) -> u64 {
        BUCKET_BYTES + self.records().map(|record| counted_bytes(record.parts())).sum::<u64>()
    }
}

fn counted_bytes(parts: [&[u8]; 3]) -> u64 {
    SLOT_BYTES + parts.iter().map(|part| part.len() as u64).sum::<u64>()
}

/// The high half of SipHash-1-3: keyed, so that nobody outside can choose keys that collide.
fn tag(seed: Seed, name: &Name) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write(name);
    (hasher.finish() >> 32) as u32
}

/// Buckets in the order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    buckets: VecDeque<Arc<Bucket>>,
    bytes: u64,
}

/// By how much a ring grew or shrank, for those who keep sums over several.
pub(super) struct Change {
    pub(super) bytes: u64,
    pub(super) sum: Sum,
}

impl Ring {
    /// Bytes of all its buckets, as counted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().map(Arc::as_ref)
    }

    pub(super) fn oldest(&self) -> Option<&Bucket> {
        self.buckets.front().map(Arc::as_ref)
    }

    pub(super) fn newest(&self) -> Option<&Bucket> {
        self.buckets.back().map(Arc::as_ref)
    }

    pub(super) fn find(&self, seed: Seed, number: u64, name: &Name) -> Option<Record<'_>> {
        let at = self.locate(number).ok()?;
        self.buckets[at].find(seed, name)
    }

    /// Has the bucket of that number all it can take?
    pub(super) fn is_closed(&self, number: u64) -> bool {
        self.locate(number).is_ok_and(|at| self.buckets[at].bytes >= BUCKET_BYTES_MAX)
    }

    /// Adds a record whose name is new; says how much bytes and sum grew by.
    pub(super) fn insert(&mut self, seed: Seed, number: u64, pool: &str, ring: u8, parts: [&[u8]; 3]) -> Change {
        let (at, opened) = match self.locate(number) {
            Ok(at) => (at, 0),
            Err(at) => {
                self.buckets.insert(at, Arc::new(Bucket::new(number)));
                (at, BUCKET_BYTES)
            }
        };
        let mut change = Arc::make_mut(&mut self.buckets[at]).insert(seed, pool, ring, parts);
        change.bytes += opened;
        self.bytes += change.bytes;
        change
    }

    /// Forgets the oldest bucket. Its pages are small, so that freeing even a large one costs the loop little.
    pub(super) fn drop_oldest(&mut self) -> Option<Change> {
        let bucket = self.buckets.pop_front()?;
        self.bytes -= bucket.bytes;
        Some(Change { bytes: bucket.bytes, sum: bucket.sum })
    }

    /// Where the bucket of that number is, or would be. Most keys are of now: looked for from the end.
    fn locate(&self, number: u64) -> Result<usize, usize> {
        let after = self.buckets.iter().rev().take(4).position(|bucket| bucket.number <= number);
        match after {
            Some(steps) => {
                let at = self.buckets.len() - 1 - steps;
                if self.buckets[at].number == number { Ok(at) } else { Err(at + 1) }
            }
            None => self.buckets.binary_search_by_key(&number, |bucket| bucket.number),
        }
    }

    /// The counted bytes, from nothing.
    pub(super) fn recount(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.recount()).sum()
    }
}
