//! The bytes of a disk. Clones share the pages that neither has written since: the tests make thousands.

use std::{io, ops::Range, sync::Arc};

const PAGE: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pages: Vec<Arc<[u8; PAGE]>>,
    len: usize,
}

impl Image {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// New bytes are zero.
    pub(super) fn resize(&mut self, len: usize) {
        if let (true, Some(cut)) = (len < self.len, self.pages.get_mut(len / PAGE)) {
            Arc::make_mut(cut)[len % PAGE..].fill(0);
        }
        self.pages.resize_with(len.div_ceil(PAGE), || Arc::new([0; PAGE]));
        self.len = len;
    }

    /// Reads past the end are errors.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        for part in parts(offset, out.len()) {
            let (from, to) = (at % PAGE, at % PAGE + part.len());
            out[part.clone()].copy_from_slice(&self.pages[at / PAGE][from..to]);
            at += part.len();
        }
        Ok(())
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= self.len, "a write past the end");
        let mut at = offset;
        for part in parts(offset, data.len()) {
            let (from, to) = (at % PAGE, at % PAGE + part.len());
            Arc::make_mut(&mut self.pages[at / PAGE])[from..to].copy_from_slice(&data[part.clone()]);
            at += part.len();
        }
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.read(range.start, &mut bytes).expect("within the image");
        bytes
    }

    pub(super) fn all(&self) -> Vec<u8> {
        self.bytes(0..self.len)
    }

    /// Changes one byte by exclusive or.
    pub(super) fn flip(&mut self, at: usize, bits: u8) {
        Arc::make_mut(&mut self.pages[at / PAGE])[at % PAGE] ^= bits;
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        let mut image = Self::default();
        image.resize(bytes.len());
        image.write(0, &bytes);
        image
    }
}

/// Cuts a range of a disk, which begins at `offset`, into ranges of the buffer that lie within one page each.
fn parts(offset: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        at = (at + PAGE - (offset + at) % PAGE).min(len);
        (start < len).then_some(start..at)
    })
}
