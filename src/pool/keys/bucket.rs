//! The keys of five seconds: records in an arena, found through a hash table. What grows with the keys is in pages that a
//! clone shares.

use siphasher::sip::SipHasher13;

use super::{
    arena::Arena,
    record::{Name, Record},
    table::Table,
};
use crate::{
    pool::digest::{KeyOwner, Sum},
    types::Millis,
};

/// Width of a bucket in key time.
pub(super) const BUCKET_MS: u64 = 5_000;
/// What a bucket is counted as, beside its records: what it takes before they come, and what small ones have to spare.
pub(super) const BUCKET_BYTES: u64 = 1_024;
/// What a record is counted as, beside its own length: its slot in a table, on average, and its length prefix.
const SLOT_BYTES: u64 = 18;
/// Width of a slice of time, in milliseconds. Keys that come together were mostly made within a few of them.
const SLICE_MS: u32 = 32;
/// How many slices there are, over and over; a power of two.
const SLICES: u32 = 128;
/// A bucket takes no more records beyond this, since places have 32 bits.
pub(super) const BUCKET_BYTES_MAX: u64 = 2 << 30;

/// Key of the tables' hash.
pub(super) type Seed = [u64; 2];

/// Number of the bucket that a key of that time belongs to.
pub(super) fn bucket_number(time: Millis) -> u64 {
    time.0 / BUCKET_MS
}

/// How much there is of some records, or by how much that grew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) keys: u64,
    /// Counted, not measured: equal on every replica, whatever its allocator and its snapshots did.
    pub(super) bytes: u64,
    pub(super) sum: Sum,
}

impl Tally {
    pub(super) fn add(&mut self, more: Self) {
        self.keys += more.keys;
        self.bytes += more.bytes;
        self.sum.merge(more.sum);
    }
}

/// A bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) number: u64,
    table: Table,
    arena: Arena,
    pub(super) tally: Tally,
}

impl Bucket {
    pub(super) fn new(number: u64) -> Self {
        let tally = Tally { bytes: BUCKET_BYTES, ..Tally::default() };
        Self { number, table: Table::new(), arena: Arena::default(), tally }
    }

    /// The last millisecond that belongs to it.
    pub(super) fn last_time(&self) -> Millis {
        Millis((self.number + 1) * BUCKET_MS - 1)
    }

    /// Its records in the order of arrival, which is that of the log, and the same on every replica.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.arena.iter().map(Record::new)
    }

    pub(super) fn find(&self, tag: u32, name: &Name) -> Option<Record<'_>> {
        let is_it = |place| Record::new(self.arena.get(place)).name() == *name;
        self.table.find(tag, is_it).map(|place| Record::new(self.arena.get(place)))
    }

    /// Adds a record whose name is new, and has this tag; says how much that is.
    pub(super) fn insert(&mut self, tag: u32, owner: KeyOwner, parts: [&[u8]; 3]) -> Tally {
        let place = self.arena.push(parts);
        self.table.insert(tag, place);
        let record = self.arena.get(place);
        let more = Tally { keys: 1, bytes: counted_bytes(record), sum: Sum::of([owner.hash(self.number, record)]) };
        self.tally.add(more);
        more
    }

    /// Keys and counted bytes, from nothing.
    pub(super) fn recount(&self) -> (u64, u64) {
        let add = |(keys, bytes), record: Record<'_>| (keys + 1, bytes + counted_bytes(record.bytes()));
        self.records().fold((0, BUCKET_BYTES), add)
    }
}

fn counted_bytes(record: &[u8]) -> u64 {
    SLOT_BYTES + record.len() as u64
}

/// What a name is looked for by: the high half of SipHash-1-3, keyed, so that nobody outside can choose keys that collide,
/// but for its low bits, which are the slice of time that the name begins with.
///
/// Tables split by the low bits first. So keys of now lie together in a few pages, which stay in the processor's caches,
/// while a bucket's whole table is longer than those.
pub(super) fn tag(seed: Seed, name: &Name) -> u32 {
    let hash = (SipHasher13::new_with_keys(seed[0], seed[1]).hash(name) >> 32) as u32;
    hash & !(SLICES - 1) | slice(name)
}

/// Of the low bits of its milliseconds, the last four of six bytes. A name that is a hash has one by chance, which does as well.
fn slice(name: &Name) -> u32 {
    let [_, _, a, b, c, d, ..] = *name;
    u32::from_be_bytes([a, b, c, d]) / SLICE_MS % SLICES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::RequestKey;

    #[test]
    fn keys_of_one_moment_lie_together_and_a_moment_s_keys_are_spread() {
        let tags = |at: u64| {
            let name = move |number: u8| *RequestKey::new(Millis(at), [number; 10]).as_bytes();
            (0..100).map(move |number| tag([1, 2], &name(number)))
        };
        let at = 1_735_689_600_000;
        let slices = |at| tags(at).map(|tag| tag % SLICES).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((slices(at).len(), slices(at) == slices(at + 31)), (1, true));
        assert_ne!(slices(at), slices(at + 32));
        assert_eq!(slices(at), slices(at + u64::from(SLICE_MS * SLICES)), "over and over");
        let spread: std::collections::BTreeSet<_> = tags(at).map(|tag| tag / SLICES).collect();
        assert_eq!(spread.len(), 100);
    }
}
