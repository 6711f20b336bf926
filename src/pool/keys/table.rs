//! A hash table from a name's 32-bit tag to a place in the arena, that neither stops the world to grow nor to be shared.
//!
//! Extendible hashing (R. Fagin and others, "Extendible hashing", 1979): a directory, indexed by the low bits of the tag,
//! of small open-addressing pages. A page that fills up doubles until it has [`PAGE_SLOTS`] slots, then splits in two by
//! one more bit of the tag. So growing costs one page at a time, and a write beside a snapshot copies one page.
//! Tags are a keyed hash, but for a few low bits ([`super::bucket::tag`]); the table is looked up in, never iterated.

use std::{iter::repeat_n, sync::Arc};

/// Slots of a full-grown page: 2 KiB. A full batch beside a snapshot copies 4 096 of them at worst.
const PAGE_SLOTS: usize = 256;
/// Slots of the first page, to begin with.
const FIRST_SLOTS: usize = 8;
/// Bits that the directory can use. Beyond, pages grow instead: tags chosen to be equal cannot exhaust the memory. Where all
/// have the same low bits, as keys of one moment have, the directory is so much longer for its pages: 4 MiB at most.
const DEPTH_MAX: u32 = 20;
/// A place that is none.
const EMPTY: u64 = u64::MAX;

/// Where a record lies. Never `u32::MAX`.
pub(super) type Place = u32;

#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Its length is a power of two; indexed by the tag's low bits.
    directory: Vec<u32>,
    pages: Vec<Page>,
}

/// Linear probing; at most three quarters full.
#[derive(Clone, Debug)]
struct Page {
    /// How many low bits all its tags share.
    depth: u32,
    used: u32,
    /// Tag in the high half, place in the low; a power of two of them.
    slots: Arc<[u64]>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { directory: vec![0], pages: vec![Page::new(0, FIRST_SLOTS)] }
    }

    /// The place of that tag for which `is_it` holds.
    pub(super) fn find(&self, tag: u32, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let slots = &*self.pages[self.page_of(tag)].slots;
        let mut slot = first_slot(slots, tag);
        while slots[slot] != EMPTY {
            let place = slots[slot] as Place;
            if tag_of(slots[slot]) == tag && is_it(place) {
                return Some(place);
            }
            slot = next_slot(slots, slot);
        }
        None
    }

    /// Adds a place that is not there yet.
    pub(super) fn insert(&mut self, tag: u32, place: Place) {
        while self.pages[self.page_of(tag)].is_full() {
            self.grow(tag);
        }
        let at = self.page_of(tag);
        self.pages[at].insert(u64::from(tag) << 32 | u64::from(place));
    }

    fn page_of(&self, tag: u32) -> usize {
        self.directory[tag as usize & (self.directory.len() - 1)] as usize
    }

    fn grow(&mut self, tag: u32) {
        let at = self.page_of(tag);
        let full = &self.pages[at];
        let (depth, slots) = (full.depth, full.slots.len());
        if slots < PAGE_SLOTS || depth >= DEPTH_MAX {
            self.pages[at] = full.refilled(depth, slots * 2, |_| true);
            return;
        }
        let has_bit = |tag: u32| tag >> depth & 1 == 1;
        // One of the two may be all but empty, where tags have bits in common.
        let with_len = full.values().filter(|&value| has_bit(tag_of(value))).count();
        let without_len = full.used as usize - with_len;
        let with = full.refilled(depth + 1, slots_for(with_len), has_bit);
        self.pages[at] = full.refilled(depth + 1, slots_for(without_len), |tag| !has_bit(tag));
        self.pages.push(with);
        if self.directory.len() == 1 << depth {
            self.directory.extend_from_within(..);
        }
        let sibling = u32::try_from(self.pages.len() - 1).expect("a bucket has fewer pages than places");
        let first = (tag as usize & ((1 << depth) - 1)) | 1 << depth;
        for entry in self.directory.iter_mut().skip(first).step_by(1 << (depth + 1)) {
            *entry = sibling;
        }
    }
}

impl Page {
    fn new(depth: u32, slots: usize) -> Self {
        Self { depth, used: 0, slots: repeat_n(EMPTY, slots).collect() }
    }

    fn is_full(&self) -> bool {
        self.used as usize * 4 >= self.slots.len() * 3
    }

    fn insert(&mut self, value: u64) {
        assert!(!self.is_full(), "a page has room before anything is put into it");
        let slots = Arc::make_mut(&mut self.slots);
        let mut slot = first_slot(slots, tag_of(value));
        while slots[slot] != EMPTY {
            slot = next_slot(slots, slot);
        }
        slots[slot] = value;
        self.used += 1;
    }

    /// A page with so many slots and those of this one's values whose tags are wanted.
    fn refilled(&self, depth: u32, slots: usize, wanted: impl Fn(u32) -> bool) -> Self {
        let mut page = Self::new(depth, slots);
        self.values().filter(|&value| wanted(tag_of(value))).for_each(|value| page.insert(value));
        page
    }

    fn values(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().copied().filter(|&value| value != EMPTY)
    }
}

fn tag_of(value: u64) -> u32 {
    (value >> 32) as u32
}

/// Slots for so many values, with room for as many again.
fn slots_for(len: usize) -> usize {
    (2 * len).next_power_of_two().clamp(FIRST_SLOTS, PAGE_SLOTS)
}

/// Where a tag is looked for first. The directory uses the low bits, so this begins with the high ones.
fn first_slot(slots: &[u64], tag: u32) -> usize {
    tag.rotate_left(32 - DEPTH_MAX) as usize & (slots.len() - 1)
}

/// Where it is looked for next. This finds an empty slot before it comes round, as no page is more than three quarters full.
fn next_slot(slots: &[u64], slot: usize) -> usize {
    (slot + 1) & (slots.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers over all tags (D. Knuth's multiplicative hash).
    fn tag(number: u32) -> u32 {
        number.wrapping_mul(2_654_435_769)
    }

    #[test]
    fn what_was_inserted_is_found_and_nothing_else() {
        let mut table = Table::new();
        for number in 0..100_000 {
            assert_eq!(table.find(tag(number), |_| true), None);
            table.insert(tag(number), number);
        }
        assert!((0..100_000).all(|number| table.find(tag(number), |place| place == number) == Some(number)));
        assert!((100_000..200_000).all(|number| table.find(tag(number), |_| true).is_none()));
        assert!(table.pages.iter().all(|page| page.slots.len() <= PAGE_SLOTS));
    }

    #[test]
    fn equal_tags_are_told_apart_by_what_they_name() {
        let mut table = Table::new();
        (0..2_000).for_each(|place| table.insert(7, place));
        assert!((0..2_000).all(|wanted| table.find(7, |place| place == wanted) == Some(wanted)));
        assert_eq!(table.find(7, |place| place == 2_000), None);
    }

    #[test]
    fn tags_that_have_their_low_bits_in_common_take_few_pages_and_little_room() {
        let mut table = Table::new();
        let tag = |number: u32| tag(number) & !127 | 5;
        (0..100_000).for_each(|number| table.insert(tag(number), number));
        assert!((0..100_000).all(|number| table.find(tag(number), |place| place == number) == Some(number)));
        assert!((100_000..100_100).all(|number| table.find(tag(number), |place| place == number).is_none()));
        assert!(table.pages.iter().all(|page| page.slots.len() <= PAGE_SLOTS));
        let slots: usize = table.pages.iter().map(|page| page.slots.len()).sum();
        assert!(slots < 300_000, "{slots}");
        // Beside about as many bits as spread tags would take, the seven in common.
        assert!(table.directory.len() <= 1 << (10 + 7 + 2), "{}", table.directory.len());
        // None is told for another, in the pages of other low bits either.
        assert!((6..100).all(|number| table.find(number, |_| true).is_none()));
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut table = Table::new();
        (0..1_000).for_each(|number| table.insert(tag(number), number));
        let seen = table.clone();
        (1_000..2_000).for_each(|number| table.insert(tag(number), number));
        assert!((0..1_000).all(|number| seen.find(tag(number), |_| true).is_some()));
        assert!((1_000..2_000).all(|number| seen.find(tag(number), |_| true).is_none()));
    }
}
