//! Buckets in the order of time: forgetting the oldest is taking one out.
//!
//! A ring may have as many buckets as fit into the budget, hundreds of thousands, of few keys each. So they are kept in
//! shared segments, those in a shared list: a clone is one pointer, and a write beside it copies the list, a segment, and
//! of the bucket what [`Bucket`] does not share.

use std::{collections::VecDeque, sync::Arc};

use super::{
    bucket::{BUCKET_BYTES, BUCKET_BYTES_MAX, Bucket, Tally},
    record::{Name, Record},
};
use crate::pool::digest::KeyOwner;

/// Buckets of a full segment: about eleven minutes. A day has 135 segments.
const SEGMENT_LEN: u64 = 128;

/// Neighbouring buckets; one at least.
#[derive(Clone, Debug)]
struct Segment {
    /// The number of each of its buckets over [`SEGMENT_LEN`].
    number: u64,
    buckets: Vec<Arc<Bucket>>,
}

/// Buckets in the order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    segments: Arc<VecDeque<Arc<Segment>>>,
}

impl Ring {
    pub(super) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.segments.iter().flat_map(|segment| &segment.buckets).map(Arc::as_ref)
    }

    pub(super) fn oldest(&self) -> Option<&Bucket> {
        self.segments.front()?.buckets.first().map(Arc::as_ref)
    }

    pub(super) fn newest(&self) -> Option<&Bucket> {
        self.segments.back()?.buckets.last().map(Arc::as_ref)
    }

    pub(super) fn find(&self, tag: u32, number: u64, name: &Name) -> Option<Record<'_>> {
        self.bucket(number)?.find(tag, name)
    }

    /// Has the bucket of that number all it can take?
    pub(super) fn is_closed(&self, number: u64) -> bool {
        self.bucket(number).is_some_and(|bucket| bucket.tally.bytes >= BUCKET_BYTES_MAX)
    }

    pub(super) fn bucket(&self, number: u64) -> Option<&Bucket> {
        let at = locate_segment(&self.segments, number).ok()?;
        let buckets = &self.segments[at].buckets;
        locate_bucket(buckets, number).ok().map(|at| buckets[at].as_ref())
    }

    /// Adds a record whose name is new, and has this tag; says how much that is, with the bucket if it is a new one.
    pub(super) fn insert(&mut self, tag: u32, number: u64, owner: KeyOwner, parts: [&[u8]; 3]) -> Tally {
        let segments = Arc::make_mut(&mut self.segments);
        let at = locate_segment(segments, number).unwrap_or_else(|at| {
            segments.insert(at, Arc::new(Segment { number: number / SEGMENT_LEN, buckets: Vec::new() }));
            at
        });
        let buckets = &mut Arc::make_mut(&mut segments[at]).buckets;
        let mut opened = 0;
        let at = locate_bucket(buckets, number).unwrap_or_else(|at| {
            buckets.insert(at, Arc::new(Bucket::new(number)));
            opened = BUCKET_BYTES;
            at
        });
        let mut more = Arc::make_mut(&mut buckets[at]).insert(tag, owner, parts);
        more.bytes += opened;
        more
    }

    /// Takes out the oldest bucket, in a time that does not depend on what is in it.
    pub(super) fn take_oldest(&mut self) -> Option<Arc<Bucket>> {
        let segments = Arc::make_mut(&mut self.segments);
        let segment = Arc::make_mut(segments.front_mut()?);
        let bucket = segment.buckets.remove(0);
        if segment.buckets.is_empty() {
            segments.pop_front();
        }
        Some(bucket)
    }
}

/// Where the segment of a bucket of that number is, or would be. Most keys are of now: the last is tried first.
fn locate_segment(segments: &VecDeque<Arc<Segment>>, number: u64) -> Result<usize, usize> {
    let number = number / SEGMENT_LEN;
    match segments.back() {
        Some(last) if last.number == number => Ok(segments.len() - 1),
        _ => segments.binary_search_by_key(&number, |segment| segment.number),
    }
}

/// Where the bucket of that number is, or would be.
fn locate_bucket(buckets: &[Arc<Bucket>], number: u64) -> Result<usize, usize> {
    match buckets.last() {
        Some(last) if last.number == number => Ok(buckets.len() - 1),
        _ => buckets.binary_search_by_key(&number, |bucket| bucket.number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all names: whoever bears it is told by the name itself.
    const TAG: u32 = 7;

    fn name(number: u64) -> Name {
        [number.to_le_bytes(), [0; 8]].concat().try_into().unwrap()
    }

    fn insert(ring: &mut Ring, number: u64) -> Tally {
        ring.insert(TAG, number, KeyOwner::new("pool", 0), [&name(number), &[0; 16], &[0; 17]])
    }

    fn numbers(ring: &Ring) -> Vec<u64> {
        ring.buckets().map(|bucket| bucket.number).collect()
    }

    #[test]
    fn buckets_stand_in_the_order_of_time_whatever_the_order_of_arrival() {
        let mut ring = Ring::default();
        let arrival = [500, 7, 501, 128, 127, 0, 300, 499, 7, 129];
        let bytes: Vec<u64> = arrival.iter().map(|&number| insert(&mut ring, number).bytes).collect();
        assert_eq!(numbers(&ring), [0, 7, 127, 128, 129, 300, 499, 500, 501]);
        assert_eq!(bytes[8], bytes[0] - BUCKET_BYTES, "bucket 7 is there already");
        for number in arrival {
            assert!(ring.find(TAG, number, &name(number)).is_some());
            assert!(ring.find(TAG, number + 1, &name(number)).is_none());
        }
        assert_eq!((ring.oldest().unwrap().number, ring.newest().unwrap().number), (0, 501));
    }

    #[test]
    fn the_oldest_goes_first_and_a_clone_keeps_it() {
        let mut ring = Ring::default();
        for number in 0..300 {
            insert(&mut ring, number);
        }
        let seen = ring.clone();
        for number in 0..300 {
            assert_eq!(ring.take_oldest().unwrap().number, number);
            assert_eq!(ring.oldest().map(|bucket| bucket.number), (number < 299).then_some(number + 1));
        }
        assert!(ring.take_oldest().is_none() && ring.newest().is_none());
        assert_eq!(numbers(&seen), (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn a_write_beside_a_clone_copies_one_segment() {
        let mut ring = Ring::default();
        for number in 0..300 {
            insert(&mut ring, number);
        }
        let seen = ring.clone();
        ring.insert(TAG, 299, KeyOwner::new("pool", 0), [&name(1_000), &[0; 16], &[0; 17]]);
        let shared = ring.segments.iter().zip(seen.segments.iter()).filter(|(ours, theirs)| Arc::ptr_eq(ours, theirs));
        assert_eq!((shared.count(), ring.segments.len()), (2, 3));
        let shared = ring.segments[2].buckets.iter().zip(&seen.segments[2].buckets);
        assert_eq!(shared.filter(|(ours, theirs)| !Arc::ptr_eq(ours, theirs)).count(), 1);
        assert!(seen.find(TAG, 299, &name(1_000)).is_none() && ring.find(TAG, 299, &name(1_000)).is_some());
    }
}
