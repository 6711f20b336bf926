//! A file on a disk that may lose power: what is durable, what is written, and which of it the disk still owes.

use std::{collections::BTreeSet, io};

use super::image::{Image, PAGE_BYTES, PAGE_SECTORS, Page, SECTOR_BYTES, pages};
use crate::{chance, plan::Keep};

/// Length of redb's header, which names the newest commit; longer than what the store's front page says.
const HEADER_BYTES: usize = 320;

/// A file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// What every reader sees.
    now: Image,
    /// What a power cut leaves in any case.
    durable: Image,
    /// Pages of `now` that the next sync makes durable.
    dirty: BTreeSet<usize>,
    /// So is its length.
    is_length_dirty: bool,
    /// The page at which redb's part begins, with its header. Before it lies the store's journal.
    tables: usize,
    /// The pages of the journal that the last sync made durable which had any.
    newest_record: Vec<usize>,
    /// The same of redb's pages, but for its header.
    newest_commit: Vec<usize>,
}

/// What a power cut left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Pending sectors that are there.
    pub kept: u64,
    /// Pending sectors that are not.
    pub dropped: u64,
    /// Pending sectors of which a part is there.
    pub torn: u64,
    /// The pending length is not.
    pub is_length_dropped: bool,
}

/// What a byte that was changed belongs to, as far as that is cheaply known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing is there.
    Nothing,
    /// The store's front page, or redb's header.
    Header,
    /// A page that the newest commit to the journal wrote, or the newest to the tables.
    Newest,
    /// Another page: of an older commit, or free.
    Older,
}

impl File {
    /// An empty one, in which redb's part will begin at this page.
    pub fn new(tables: usize) -> Self {
        Self { tables, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.now.len()
    }

    pub fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        self.now.read(offset, out)
    }

    pub fn write(&mut self, offset: usize, data: &[u8]) -> io::Result<()> {
        self.now.write(offset, data)?;
        self.dirty.extend(pages(offset, data.len()));
        Ok(())
    }

    /// Would this write need more room than the file has?
    pub fn is_hole(&self, offset: usize, len: usize) -> bool {
        self.now.is_hole(offset, len)
    }

    pub fn set_len(&mut self, len: usize) {
        let before = self.now.len();
        self.now.resize(len);
        self.is_length_dirty = true;
        // What is new is zero; what is durable there from before may not be.
        let new = pages(before, len.saturating_sub(before));
        self.dirty.extend(new.filter(|page| self.durable.page(*page).is_some()));
    }

    /// Is anything written that a power cut may take back?
    pub fn is_pending(&self) -> bool {
        !self.dirty.is_empty() || self.is_length_dirty
    }

    /// Makes durable what the disk owes.
    pub fn sync(&mut self) {
        if std::mem::take(&mut self.is_length_dirty) {
            self.durable.resize(self.now.len());
        }
        let dirty = std::mem::take(&mut self.dirty);
        for page in &dirty {
            self.durable.set_page(*page, self.now.page(*page));
        }
        let of = |is_of: &dyn Fn(usize) -> bool| dirty.iter().copied().filter(|page| is_of(*page)).collect::<Vec<_>>();
        let (record, commit) = (of(&|page| page < self.tables), of(&|page| page > self.tables));
        for (newest, written) in [(&mut self.newest_record, record), (&mut self.newest_commit, commit)] {
            if !written.is_empty() {
                *newest = written;
            }
        }
    }

    /// A sync that fails, as Linux has it: the cache forgets that it owes anything. Every reader goes on to see what was
    /// written, no later sync makes it durable, and only a page that is written once more gets another chance.
    pub fn fail_sync(&mut self) {
        self.dirty.clear();
        self.is_length_dirty = false;
    }

    /// Power is cut. `chance` gives a number for each sector, and for none the one that decides about the length.
    pub fn cut_power(&mut self, keep: Keep, chance: impl Fn(Option<usize>) -> u64) -> Left {
        let mut left = Left::default();
        let mut after = self.durable.clone();
        if self.is_length_dirty && self.now.len() != self.durable.len() {
            let is_kept = match keep {
                Keep::All => true,
                Keep::Nothing => false,
                Keep::Some | Keep::Torn => chance::happens(chance(None), 500_000),
            };
            left.is_length_dropped = !is_kept;
            if is_kept {
                after.resize(self.now.len());
            }
        }
        for page in std::mem::take(&mut self.dirty) {
            let (old, new) = (self.durable.page(page), self.now.page(page));
            // What was cut off and still is there, since the length is dropped, is as it was.
            let end = self.now.len().saturating_sub(page * PAGE_BYTES).min(PAGE_BYTES);
            let sector = |sector| chance(Some(page * PAGE_SECTORS + sector));
            after.set_page(page, mix(keep, &old, &new, end, sector, &mut left));
        }
        (self.now, self.durable, self.is_length_dirty) = (after.clone(), after, false);
        left
    }

    /// A bit of a durable byte in use flips, as `at` says: one in four in a header, one in four in what the newest commit to
    /// the journal or the tables wrote, one in four in what neither did, if there is such a thing.
    pub fn rot(&mut self, at: u64) -> (Part, u64) {
        let used = self.durable.used();
        let is_newest = |page: &usize| self.newest_record.contains(page) || self.newest_commit.contains(page);
        let (newest, older): (Vec<_>, Vec<_>) = used.iter().copied().partition(is_newest);
        let headers: Vec<_> = used.iter().copied().filter(|page| *page == 0 || *page == self.tables).collect();
        let (kind, bit, choice) = (at % 4, (at / 4 % 8) as u8, at / 32);
        let (pages, page_bytes) = match kind {
            0 => (&headers[..], HEADER_BYTES),
            1 if !newest.is_empty() => (&newest[..], PAGE_BYTES),
            3 if !older.is_empty() => (&older[..], PAGE_BYTES),
            _ => (&used[..], PAGE_BYTES),
        };
        let Some(bytes) = (pages.len() as u64 * page_bytes as u64).checked_sub(1) else { return (Part::Nothing, 0) };
        let chosen = (choice % (bytes + 1)) as usize;
        let at = pages[chosen / page_bytes] * PAGE_BYTES + chosen % page_bytes;
        self.durable.flip(at, bit);
        if !self.dirty.contains(&(at / PAGE_BYTES)) {
            self.now.set_page(at / PAGE_BYTES, self.durable.page(at / PAGE_BYTES));
        }
        let part = match at / PAGE_BYTES {
            page if headers.contains(&page) && at % PAGE_BYTES < HEADER_BYTES => Part::Header,
            page if newest.contains(&page) => Part::Newest,
            _ => Part::Older,
        };
        (part, at as u64)
    }
}

/// A dirty page after power was cut: of each sector that differs before `end`, the old bytes or the new ones, or new ones
/// up to a point.
fn mix(keep: Keep, old: &Page, new: &Page, end: usize, chance: impl Fn(usize) -> u64, left: &mut Left) -> Page {
    const HOLE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let (before, written) = (old.as_deref().unwrap_or(&HOLE), new.as_deref().unwrap_or(&HOLE));
    let mut mixed = *before;
    for sector in 0..end.div_ceil(SECTOR_BYTES) {
        let start = sector * SECTOR_BYTES;
        let range = start..(start + SECTOR_BYTES).min(end);
        if before[range.clone()] == written[range.clone()] {
            continue;
        }
        let bytes = kept_bytes(keep, || chance(sector)).min(range.len());
        *match bytes {
            0 => &mut left.dropped,
            bytes if bytes == range.len() => &mut left.kept,
            _ => &mut left.torn,
        } += 1;
        let kept = start..start + bytes;
        mixed[kept.clone()].copy_from_slice(&written[kept]);
    }
    match (old, new) {
        _ if mixed == *written => new.clone(),
        _ if mixed == *before => old.clone(),
        _ => Some(mixed.into()),
    }
}

/// How many bytes of a pending sector are new.
fn kept_bytes(keep: Keep, chance: impl Fn() -> u64) -> usize {
    match keep {
        Keep::All => SECTOR_BYTES,
        Keep::Nothing => 0,
        Keep::Some if chance::happens(chance(), 500_000) => SECTOR_BYTES,
        Keep::Some => 0,
        // A third is torn; the others are there or not.
        Keep::Torn => match (chance() % 3, chance() / 3) {
            (0, _) => 0,
            (1, _) => SECTOR_BYTES,
            (_, number) => 1 + (number % (SECTOR_BYTES as u64 - 1)) as usize,
        },
    }
}
