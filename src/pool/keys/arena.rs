//! Records end to end in pages that are only ever appended to, so that a snapshot shares them all: what a snapshot holds
//! of a page is left as it is, and the next record begins a new one.
//!
//! The pages of an arena grow with it, so that what the last one has to spare is small beside what there is. None ever
//! moves: a page is made as long as it will be.

use std::{iter::repeat_n, sync::Arc};

use super::table::Place;

/// Most bytes of a page. 2^16, so that a place is a page's number and an offset in it, 16 bits each.
const PAGE_BYTES_MAX: usize = 1 << 16;
/// Fewest bytes of a page.
const PAGE_BYTES_MIN: usize = 256;
/// A page is as long as the arena's bytes over this.
const PAGE_SHARE: usize = 4;
/// A shared page with no more than this in it is copied, lest snapshots in quick succession leave a page for every few
/// records.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// From so many pages on every shared page is copied. The pages that are left, each lacking less than a record, have room
/// for all that a bucket takes ([`super::bucket::BUCKET_BYTES_MAX`]).
const LEFT_PAGES_MAX: usize = 1 << 14;
/// Bytes of a record's length, before it.
const LEN_BYTES: usize = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Page>,
    /// Of all records.
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Page {
    /// How many bytes are in use.
    used: usize,
    bytes: Arc<[u8]>,
}

impl Arena {
    /// Appends a record, given in parts.
    pub(super) fn push(&mut self, parts: [&[u8]; 3]) -> Place {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let prefix = u16::try_from(len).expect("a record is a few thousand bytes at most").to_le_bytes();
        let number = self.make_room(LEN_BYTES + len);
        let Page { used, bytes } = &mut self.pages[number];
        let place = number << 16 | *used;
        let bytes = Arc::get_mut(bytes).expect("room is made in a page of our own");
        for part in [&prefix, parts[0], parts[1], parts[2]] {
            bytes[*used..*used + part.len()].copy_from_slice(part);
            *used += part.len();
        }
        self.bytes += LEN_BYTES + len;
        Place::try_from(place).expect("a bucket is closed before it has 2^16 pages")
    }

    /// The number of the last page, which is not shared and has room for so many bytes.
    fn make_room(&mut self, len: usize) -> usize {
        let all_are_copied = self.pages.len() >= LEFT_PAGES_MAX;
        let mut last = self.pages.last_mut().filter(|page| page.used + len <= page.bytes.len());
        if let Some(page) = &mut last
            && Arc::get_mut(&mut page.bytes).is_none()
        {
            if page.used <= COPIED_BYTES_MAX || all_are_copied {
                Arc::make_mut(&mut page.bytes);
            } else {
                last = None;
            }
        }
        if last.is_none() {
            let share = (self.bytes / PAGE_SHARE).clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX);
            self.pages.push(Page { used: 0, bytes: repeat_n(0, share.max(len)).collect() });
        }
        self.pages.len() - 1
    }

    pub(super) fn get(&self, place: Place) -> &[u8] {
        record_at(&self.pages[place as usize >> 16].bytes[place as usize & (PAGE_BYTES_MAX - 1)..]).0
    }

    /// Every record, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.iter().flat_map(|page| {
            let mut rest = &page.bytes[..page.used];
            std::iter::from_fn(move || {
                let (record, after) = (!rest.is_empty()).then(|| record_at(rest))?;
                rest = after;
                Some(record)
            })
        })
    }
}

fn record_at(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (prefix, rest) = bytes.split_first_chunk::<LEN_BYTES>().expect("a record begins with its length");
    rest.split_at(u16::from_le_bytes(*prefix).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(arena: &Arena) -> Vec<usize> {
        arena.pages.iter().map(|page| page.bytes.len()).collect()
    }

    #[test]
    fn records_are_found_where_they_were_put_and_in_order() {
        let mut arena = Arena::default();
        let records: Vec<Vec<u8>> = (0..9_000u32).map(|at| vec![at as u8; at as usize % 300]).collect();
        let places: Vec<Place> = records.iter().map(|record| arena.push([record, b"-", b""])).collect();
        for (record, place) in records.iter().zip(places) {
            assert_eq!(arena.get(place), [record, b"-".as_slice()].concat());
        }
        assert!(arena.iter().zip(&records).all(|(got, record)| got[..record.len()] == record[..]));
        assert_eq!(arena.iter().count(), records.len());
        let room: usize = lens(&arena).iter().sum();
        assert!(room < arena.bytes * 4 / 3 && lens(&arena).contains(&PAGE_BYTES_MAX), "{room}");
    }

    #[test]
    fn a_record_longer_than_its_page_would_be_has_one_of_its_own() {
        let mut arena = Arena::default();
        let long = vec![7; 5_000];
        let place = arena.push([&long, b"", b""]);
        assert_eq!(arena.get(place), long);
        assert_eq!(lens(&arena), [LEN_BYTES + long.len()]);
    }

    #[test]
    fn what_is_shared_is_left_alone() {
        let mut arena = Arena::default();
        arena.push([b"a", b"", b""]);
        let seen = arena.clone();
        let place = arena.push([b"b", b"", b""]);
        assert_eq!((seen.iter().count(), arena.iter().count(), arena.pages.len()), (1, 2, 1), "small: copied");
        assert_eq!(arena.get(place), b"b");

        while arena.pages.last().unwrap().used <= COPIED_BYTES_MAX {
            arena.push([&[1; 64], b"", b""]);
        }
        let (seen, pages) = (arena.clone(), arena.pages.len());
        arena.push([b"c", b"", b""]);
        assert_eq!(arena.pages.len(), pages + 1, "large: left as it is");
        assert!(arena.pages.iter().zip(&seen.pages).all(|(ours, theirs)| Arc::ptr_eq(&ours.bytes, &theirs.bytes)));
        assert!(seen.iter().eq(arena.iter().take(seen.iter().count())));
    }
}
