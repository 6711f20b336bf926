//! What lies where in the store's file: a page that says so, the journal behind it, and behind that redb's part.
//!
//! | from byte | |
//! |---|---|
//! | 0 | the front page: [`MAGIC`], [`FORMAT`], length of the journal, their checksum |
//! | 4,096 | the journal, its one half and then the other (see [`super::journal`]) |
//! | 4,096 + its length | redb's file, which knows nothing of what lies before it |
//!
//! One file, so that there is one thing to lock, to rename and to lose, and so that the simulator's disk needs to know
//! nothing of it. The journal is written in full when the file is made: to write to blocks that were never written costs a
//! sync twice to four times as much.

use std::{fmt, io, ops::Range, sync::Arc};

use redb::StorageBackend;

use super::{backend::Backend, error::StoreError, record, schema::FORMAT};

/// Bytes of a page: what a disk writes at once, and no two records of the journal share.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Every store begins so.
const MAGIC: [u8; 8] = *b"tombola\n";
/// So did format 1, which was redb's file and nothing else.
const MAGIC_OF_REDB: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Magic, format, length of the journal and checksum.
const FRONT_BYTES: usize = 24;
/// Longest journal that is believed, in bytes.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// A disk that the journal and redb share.
pub(super) type Shared = Arc<dyn Backend>;

/// What the front page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Front {
    /// Two halves of whole pages.
    journal_bytes: u64,
}

impl Front {
    /// A file with a journal of so many bytes, in two halves of whole pages.
    pub(super) fn new(journal_bytes: u64) -> Result<Self, StoreError> {
        let front = Self { journal_bytes };
        match front.is_plausible() {
            true => Ok(front),
            false => Err(StoreError::Refused(format!("a journal of {journal_bytes} bytes"))),
        }
    }

    fn is_plausible(self) -> bool {
        let is_in_range = (2 * PAGE_BYTES..=JOURNAL_BYTES_MAX).contains(&self.journal_bytes);
        is_in_range && self.journal_bytes.is_multiple_of(2 * PAGE_BYTES)
    }

    /// Where the halves of the journal lie.
    pub(super) fn journal(self) -> [Range<u64>; 2] {
        let middle = PAGE_BYTES + self.journal_bytes / 2;
        [PAGE_BYTES..middle, middle..self.tables_from()]
    }

    fn tables_from(self) -> u64 {
        PAGE_BYTES + self.journal_bytes
    }

    /// Makes an empty file one with this front page and an empty journal; durable with the next sync.
    pub(super) fn write(self, disk: &Shared) -> io::Result<()> {
        let mut page = vec![0; PAGE_BYTES as usize];
        page[..FRONT_BYTES].copy_from_slice(&self.encode());
        disk.set_len(self.tables_from())?;
        disk.write(0, &page)?;
        disk.write(PAGE_BYTES, &vec![0; self.journal_bytes as usize])
    }

    fn encode(self) -> [u8; FRONT_BYTES] {
        let mut front = [0; FRONT_BYTES];
        front[..8].copy_from_slice(&MAGIC);
        front[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        front[12..20].copy_from_slice(&self.journal_bytes.to_le_bytes());
        let checksum = record::checksum("front", &(), &front[..20]);
        front[20..].copy_from_slice(&checksum.to_le_bytes());
        front
    }

    /// Reads the front page of a file that must hold a store.
    pub(super) fn read(disk: &Shared) -> Result<Self, StoreError> {
        let io = |source| StoreError::io("read the store", source);
        let damaged = |what: &str| Err(StoreError::Damaged(what.into()));
        let bytes = disk.len().map_err(io)?;
        let mut front = [0; FRONT_BYTES];
        if bytes < front.len() as u64 {
            return damaged(if bytes == 0 { "it is empty" } else { "it is cut short" });
        }
        disk.read(0, &mut front).map_err(io)?;
        if front.starts_with(&MAGIC_OF_REDB) {
            return Err(StoreError::Format { found: "1".into() });
        }
        let number = |range: Range<usize>| front[range].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if !front.starts_with(&MAGIC) || number(20..24) != u64::from(record::checksum("front", &(), &front[..20])) {
            return damaged("its front page is not one");
        }
        match number(8..12) {
            found if found == u64::from(FORMAT) => {}
            found => return Err(StoreError::Format { found: found.to_string() }),
        }
        let front = Self { journal_bytes: number(12..20) };
        match front.is_plausible() && front.tables_from() < bytes {
            true => Ok(front),
            // To redb a file without a byte would be a new one.
            false => damaged("it is cut short"),
        }
    }

    /// redb's part of the file.
    pub(super) fn tables(self, disk: Shared) -> Tables {
        Tables { disk, from: self.tables_from() }
    }
}

/// redb's part of the file, as a disk of its own.
pub(super) struct Tables {
    disk: Shared,
    from: u64,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

impl StorageBackend for Tables {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.len()?.saturating_sub(self.from))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(self.from + offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(self.from + len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(self.from + offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.disk.close()
    }
}
