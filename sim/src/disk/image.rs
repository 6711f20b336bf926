//! The bytes of a file, in pages that clones share until one of them writes. A page that nobody wrote is a hole: it reads
//! as zeros and takes no room.

use std::{io, ops::Range, sync::Arc};

/// What a disk writes at once.
pub const SECTOR_BYTES: usize = 512;
/// What is shared, and what a disk keeps in its cache.
pub const PAGE_BYTES: usize = 4096;
/// Sectors of a page.
pub const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

/// A page; `None` is a hole.
pub type Page = Option<Arc<[u8; PAGE_BYTES]>>;

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pages: Vec<Page>,
    len: usize,
}

impl Image {
    pub fn len(&self) -> usize {
        self.len
    }

    /// New bytes are zero.
    pub fn resize(&mut self, len: usize) {
        if let (true, Some(Some(cut))) = (len < self.len, self.pages.get_mut(len / PAGE_BYTES)) {
            Arc::make_mut(cut)[len % PAGE_BYTES..].fill(0);
        }
        self.pages.resize(len.div_ceil(PAGE_BYTES), None);
        self.len = len;
    }

    /// Reads past the end are errors.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        self.check(offset, out.len())?;
        for (page, within, part) in parts(offset, out.len()) {
            match &self.pages[page] {
                Some(bytes) => out[part].copy_from_slice(&bytes[within]),
                None => out[part].fill(0),
            }
        }
        Ok(())
    }

    /// So are writes: a store sets its length before.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> io::Result<()> {
        self.check(offset, data.len())?;
        for (page, within, part) in parts(offset, data.len()) {
            let bytes = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(bytes)[within].copy_from_slice(&data[part]);
        }
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "past the end of the file")),
        }
    }

    /// The page of that number; past the end are holes.
    pub fn page(&self, page: usize) -> Page {
        self.pages.get(page).cloned().flatten()
    }

    /// Puts a page in the place of another. What of it lies past the end is lost.
    pub fn set_page(&mut self, page: usize, content: Page) {
        let Some(place) = self.pages.get_mut(page) else { return };
        *place = content;
        let end = self.len.saturating_sub(page * PAGE_BYTES);
        if let (true, Some(bytes)) = (end < PAGE_BYTES, place) {
            Arc::make_mut(bytes)[end..].fill(0);
        }
    }

    /// Would this write fill a hole?
    pub fn is_hole(&self, offset: usize, len: usize) -> bool {
        parts(offset, len).any(|(page, ..)| self.pages.get(page).is_none_or(Option::is_none))
    }

    /// Numbers of the pages that were written ever, ascending.
    pub fn used(&self) -> Vec<usize> {
        (0..self.pages.len()).filter(|page| self.pages[*page].is_some()).collect()
    }

    /// Flips a bit of a used byte.
    pub fn flip(&mut self, at: usize, bit: u8) {
        if let Some(Some(page)) = self.pages.get_mut(at / PAGE_BYTES) {
            Arc::make_mut(page)[at % PAGE_BYTES] ^= 1 << bit;
        }
    }
}

/// The pages that a range of a file touches.
pub fn pages(offset: usize, len: usize) -> Range<usize> {
    offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES)
}

/// Cuts a range of a file by its pages: the page, where in it, and which part of the range that is.
fn parts(offset: usize, len: usize) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let end = offset + len;
    pages(offset, len).filter(move |_| len > 0).map(move |page| {
        let (from, to) = (offset.max(page * PAGE_BYTES), end.min((page + 1) * PAGE_BYTES));
        (page, from - page * PAGE_BYTES..to - page * PAGE_BYTES, from - offset..to - offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(image: &Image) -> Vec<u8> {
        let mut all = vec![0; image.len()];
        image.read(0, &mut all).unwrap();
        all
    }

    #[test]
    fn it_reads_what_was_written_across_pages_and_zeros_elsewhere() {
        let mut image = Image::default();
        image.resize(3 * PAGE_BYTES + 100);
        let data: Vec<u8> = (0..PAGE_BYTES + 900).map(|at| at as u8 | 1).collect();
        image.write(PAGE_BYTES - 500, &data).unwrap();
        let mut wanted = vec![0; image.len()];
        wanted[PAGE_BYTES - 500..][..data.len()].copy_from_slice(&data);
        assert_eq!(bytes(&image), wanted);
        assert_eq!(image.used(), [0, 1, 2]);
        assert!(image.is_hole(3 * PAGE_BYTES - 1, 2) && !image.is_hole(0, 3 * PAGE_BYTES));
    }

    #[test]
    fn nothing_is_read_or_written_past_the_end() {
        let mut image = Image::default();
        image.resize(10);
        assert!(image.write(8, &[1; 3]).is_err() && image.read(8, &mut [0; 3]).is_err());
        assert!(image.read(usize::MAX, &mut [0; 3]).is_err());
        image.write(8, &[1; 2]).unwrap();
        image.read(10, &mut []).unwrap();
        assert_eq!(bytes(&image), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn what_is_cut_off_does_not_come_back() {
        let mut image = Image::default();
        image.resize(2 * PAGE_BYTES);
        image.write(0, &[7; 2 * PAGE_BYTES]).unwrap();
        image.resize(5);
        image.resize(2 * PAGE_BYTES);
        let mut wanted = vec![0; 2 * PAGE_BYTES];
        wanted[..5].fill(7);
        assert_eq!(bytes(&image), wanted);
    }

    #[test]
    fn a_clone_is_another_image() {
        let mut image = Image::default();
        image.resize(PAGE_BYTES);
        image.write(0, &[1]).unwrap();
        let before = image.clone();
        image.write(0, &[2]).unwrap();
        image.flip(1, 3);
        assert_eq!((bytes(&before)[..2].to_vec(), bytes(&image)[..2].to_vec()), (vec![1, 0], vec![2, 8]));
    }
}
