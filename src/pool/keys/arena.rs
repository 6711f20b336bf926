//! Records end to end in pages that are only ever appended to, so that a snapshot shares them all: a page that one holds
//! is left as it is, and the next record begins a new one.

use std::sync::Arc;

use super::table::Place;

/// Bytes of a page. 2^16, so that a place is a page's number and an offset in it, 16 bits each.
const PAGE_BYTES: usize = 1 << 16;
/// Bytes of a record's length, before it.
const LEN_BYTES: usize = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Arc<Vec<u8>>>,
}

impl Arena {
    /// Appends a record, given in parts.
    pub(super) fn push(&mut self, parts: [&[u8]; 3]) -> Place {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let prefix = u16::try_from(len).expect("a record is a few thousand bytes at most").to_le_bytes();
        let fits =
            |page: &mut Arc<Vec<u8>>| Arc::get_mut(page).is_some_and(|page| page.len() + LEN_BYTES + len <= PAGE_BYTES);
        if !self.pages.last_mut().is_some_and(fits) {
            // Grows as it fills: most buckets are small.
            self.pages.push(Arc::default());
        }
        let number = self.pages.len() - 1;
        let page = self.pages.last_mut().and_then(Arc::get_mut).expect("the last page is not shared");
        let place = number << 16 | page.len();
        page.extend_from_slice(&prefix);
        parts.iter().for_each(|part| page.extend_from_slice(part));
        Place::try_from(place).expect("a bucket is closed before it has 2^16 pages")
    }

    pub(super) fn get(&self, place: Place) -> &[u8] {
        record_at(&self.pages[place as usize >> 16][place as usize & (PAGE_BYTES - 1)..]).0
    }

    /// Every record, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.iter().flat_map(|page| {
            let mut rest = page.as_slice();
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

    #[test]
    fn records_are_found_where_they_were_put_and_in_order() {
        let mut arena = Arena::default();
        let records: Vec<Vec<u8>> = (0..2_000u32).map(|at| vec![at as u8; at as usize % 300]).collect();
        let places: Vec<Place> = records.iter().map(|record| arena.push([record, b"-", b""])).collect();
        for (record, place) in records.iter().zip(places) {
            assert_eq!(arena.get(place), [record, b"-".as_slice()].concat());
        }
        assert!(arena.pages.len() > 1);
        assert!(arena.iter().zip(&records).all(|(got, record)| got[..record.len()] == record[..]));
        assert_eq!(arena.iter().count(), records.len());
    }

    #[test]
    fn a_shared_page_is_left_alone() {
        let mut arena = Arena::default();
        arena.push([b"a", b"", b""]);
        let seen = arena.clone();
        let place = arena.push([b"b", b"", b""]);
        assert_eq!((seen.iter().count(), arena.iter().count()), (1, 2));
        assert_eq!(arena.get(place), b"b");
        assert!(Arc::ptr_eq(&seen.pages[0], &arena.pages[0]));
    }
}
