//! The journal: what lengthened the log since the tables were written last, record behind record, each durable at once.
//!
//! **Why.** A transaction of redb writes some nine pages to nine places and costs three to four times a bare sync (see
//! docs/performance.md). Nearly every commit of a replica does nothing but append entries and move the commit index; so
//! these go here, and a transaction takes them over for hundreds of commits at once: when a half of the journal is full, when
//! something else is to be written, and at the next start.
//!
//! **Halves.** While the tables take over what one half holds (see [`super::fold`]), commits go to the other. A half is
//! written from its beginning on, once all that it held is in the tables, and nothing has to be erased: records are numbered
//! through all halves and lives (see [`RecordNumber`]), and the tables name the first one that they do not hold. What has a
//! lower number is of the past. Each record begins on a page of its own, so that no write can tear one that is durable.
//!
//! **What a power cut leaves.** A record is written after the one before it is durable. So the first place where
//! the next record does not stand, behind the last one or at the beginning of the other half, is the end, or the one record
//! that was being written; and any further record means that the disk lost one in between, or that redb lost a transaction.
//! Damage to exactly the last record cannot be told from a power cut, as with redb's own transactions (see the essay in
//! `storage`): what holds a promise never goes through the journal.
//!
//! **Salt.** A record's checksum covers the disk's random id. Clients choose bytes that end up in records, and
//! a page of theirs must not pass for one.

use std::{mem, ops::Range};

use serde::{Deserialize, Serialize};

use super::{
    error::StoreError,
    layout::{PAGE_BYTES, Shared},
    record,
    schema::RecordNumber,
};
use crate::{
    codec,
    durable::{Entry, HardState, WriteSet},
    hooks,
    types::DiskId,
};

/// Checksum, length of the body, number.
const HEAD_BYTES: usize = 16;

/// The head of a record. Little-endian on the disk, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    checksum: u32,
    body_bytes: u32,
    number: RecordNumber,
}

impl Head {
    fn encode(self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&self.checksum.to_le_bytes());
        head[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        head[8..].copy_from_slice(&self.number.0.to_le_bytes());
        head
    }

    fn decode(bytes: &[u8]) -> Self {
        let number = |range: Range<usize>| bytes[range].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self { checksum: number(0..4) as u32, body_bytes: number(4..8) as u32, number: RecordNumber(number(8..16)) }
    }
}

/// What a record says. Written from what the WriteSets hold, without a copy of it.
#[derive(Serialize)]
struct Written<'s> {
    entries: Vec<&'s Entry>,
    hard_state: Option<HardState>,
}

/// What a record, or several, say.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Journaled {
    /// They follow the last entry of the tables.
    pub(super) entries: Vec<Entry>,
    /// The newest, if it is newer than that of the tables.
    pub(super) hard_state: Option<HardState>,
}

impl Journaled {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.hard_state.is_none()
    }
}

/// The journal of an open store.
pub(super) struct Journal {
    disk: Shared,
    halves: [Range<u64>; 2],
    salt: DiskId,
    /// Which of them is written.
    half: usize,
    /// Where the next record goes.
    end: u64,
    /// Its number.
    next: RecordNumber,
    /// What the records say that were not handed to the tables.
    journaled: Journaled,
    /// A record, while it is made.
    record: Vec<u8>,
}

impl Journal {
    /// Reads what the journal says from this record on, the first that the tables do not hold.
    pub(super) fn open(
        disk: Shared,
        halves: [Range<u64>; 2],
        salt: DiskId,
        first: RecordNumber,
    ) -> Result<Self, StoreError> {
        let failed = |source| StoreError::io("read the store's journal", source);
        let mut bytes = halves.clone().map(|half| vec![0; (half.end - half.start) as usize]);
        for (half, bytes) in halves.iter().zip(&mut bytes) {
            disk.read(half.start, bytes).map_err(failed)?;
        }
        let (end, journaled) = (halves[0].start, Journaled::default());
        let mut journal = Self { disk, halves, salt, half: 0, end, next: first, journaled, record: Vec::new() };
        let mut rest = [&bytes[0][..], &bytes[1][..]];
        if hooks::is_planted("m43") {
            let oldest = rest.iter().filter_map(|rest| journal.record_at(rest)).map(|(head, _)| head.number).min();
            journal.next = oldest.unwrap_or(first);
        }
        while let Some((half, body)) = journal.find_next(rest) {
            journal.take(body)?;
            rest[half] = &rest[half][pages_bytes(body.len())..];
            journal.half = half;
            journal.end = journal.area().end - rest[half].len() as u64;
            journal.next = journal.next.next();
        }
        rest.iter().try_for_each(|rest| journal.check_end(rest, first))?;
        Ok(journal)
    }

    /// What neither the tables hold yet, nor who takes it there.
    pub(super) fn journaled(&self) -> &Journaled {
        &self.journaled
    }

    /// Is there nothing of the kind?
    pub(super) fn is_empty(&self) -> bool {
        self.journaled.is_empty()
    }

    /// The number of the next record.
    pub(super) fn next(&self) -> RecordNumber {
        self.next
    }

    /// The half that is written.
    pub(super) fn area(&self) -> Range<u64> {
        self.halves[self.half].clone()
    }

    /// Goes to the other half, which must be free, with this record; what was journaled is the tables' now.
    pub(super) fn begin_half(&mut self, first: RecordNumber) -> Journaled {
        self.half = 1 - self.half;
        (self.end, self.next) = (self.area().start, first);
        mem::take(&mut self.journaled)
    }

    /// Appends what these WriteSets append, durable once it returns. `false` if there is no room for it in this half.
    pub(super) fn append(&mut self, sets: &[WriteSet]) -> Result<bool, StoreError> {
        let hard_state = sets.iter().rev().find_map(|set| set.hard_state);
        let entries = || sets.iter().flat_map(|set| &set.entries);
        self.record.clear();
        self.record.resize(HEAD_BYTES, 0);
        codec::encode_into(&Written { entries: entries().collect(), hard_state }, &mut self.record);
        let body_bytes = self.record.len() - HEAD_BYTES;
        let pages_bytes = pages_bytes(body_bytes);
        if pages_bytes as u64 > self.area().end - self.end {
            return Ok(false);
        }
        self.seal(body_bytes);
        self.record.resize(pages_bytes, 0);
        let failed = |source| StoreError::io("write the store's journal", source);
        let written = match hooks::is_planted("m19") {
            true => self.disk.write(self.end, &self.record),
            false => self.disk.write_durably(self.end, &self.record),
        };
        written.map_err(failed)?;
        (self.next, self.end) = (self.next.next(), self.end + pages_bytes as u64);
        self.journaled.entries.extend(entries().cloned());
        self.journaled.hard_state = hard_state.or(self.journaled.hard_state);
        Ok(true)
    }

    /// Writes the head of the record whose body is there.
    fn seal(&mut self, body_bytes: usize) {
        let (head, body) = self.record.split_at_mut(HEAD_BYTES);
        let (number, body_bytes) = (self.next, body_bytes as u32);
        let checksum = record::checksum("journal", &(self.salt, number, body_bytes), body);
        head.copy_from_slice(&Head { checksum, body_bytes, number }.encode());
    }

    /// The record that begins here.
    fn record_at<'b>(&self, bytes: &'b [u8]) -> Option<(Head, &'b [u8])> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let head = Head::decode(head);
        let body = rest.get(..head.body_bytes as usize)?;
        let key = (self.salt, head.number, head.body_bytes);
        (record::checksum("journal", &key, body) == head.checksum).then_some((head, body))
    }

    /// In which of these the next record begins, and its body.
    fn find_next<'b>(&self, rest: [&'b [u8]; 2]) -> Option<(usize, &'b [u8])> {
        let next_in = |half: usize| self.record_at(rest[half]).filter(|(head, _)| head.number == self.next);
        (0..2).find_map(|half| next_in(half).map(|(_, body)| (half, body)))
    }

    fn take(&mut self, body: &[u8]) -> Result<(), StoreError> {
        let said: Journaled = codec::decode(body, body.len())
            .map_err(|error| StoreError::Damaged(format!("record {} of the journal: {error}", self.next.0)))?;
        self.journaled.entries.extend(said.entries);
        self.journaled.hard_state = said.hard_state.or(self.journaled.hard_state);
        Ok(())
    }

    /// Is this all, from the first place on where the next record is not? Whatever stands there was written after it, or is
    /// of the past.
    fn check_end(&self, rest: &[u8], first: RecordNumber) -> Result<(), StoreError> {
        let pages = (0..rest.len()).step_by(PAGE_BYTES as usize);
        let mut found = pages.filter_map(|at| Some(self.record_at(&rest[at..])?.0.number));
        match found.find(|number| *number >= first) {
            Some(number) if !hooks::is_planted("m43") => Err(StoreError::Damaged(format!(
                "the journal holds record {} where record {} is missing",
                number.0, self.next.0
            ))),
            _ => Ok(()),
        }
    }
}

/// Bytes of the pages that a record takes.
fn pages_bytes(body_bytes: usize) -> usize {
    (HEAD_BYTES + body_bytes).next_multiple_of(PAGE_BYTES as usize)
}
