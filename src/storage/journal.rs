//! The journal: what lengthened the log since the tables were written last, record behind record, each durable at once.
//!
//! **Why.** A transaction of redb writes some nine pages to nine places and costs three to four times a bare sync (see
//! docs/performance.md). Nearly every commit of a replica does nothing but append entries and move the commit index; so
//! these go here, and a transaction takes them over for hundreds of commits at once: when the journal is full, when something
//! else is to be written, and at the next start.
//!
//! **Rounds.** The tables say which round of the journal goes with them. Every transaction that brings them WriteSets, the
//! journal's or others, counts it up, and in that moment everything in the journal is of the past: the next record goes to
//! its beginning, and nothing has to be erased. Should redb lose such a transaction, what was written behind it shows.
//! A round is a prefix of the area: records numbered from 0, each beginning on a page of its own, so that no write can
//! tear a record that is durable.
//!
//! **What a power cut leaves.** A record is written after the one before it is durable. So the first place where
//! no record of this round stands is the end, or the one record that was being written; and a record of this round behind
//! that place means that the disk lost one in between. Damage to exactly the last record cannot be told from a power cut,
//! as with redb's own transactions (see the essay in `storage`): what holds a promise never goes through the journal.
//!
//! **Salt.** A record's checksum covers the disk's random id. Clients choose bytes that end up in records, and
//! a page of theirs must not pass for one.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    error::StoreError,
    layout::{PAGE_BYTES, Shared},
    record,
    schema::Round,
};
use crate::{
    codec,
    durable::{Entry, HardState, WriteSet},
    hooks,
    types::DiskId,
};

/// Checksum, length of the body, round, number.
const HEAD_BYTES: usize = 24;

/// The head of a record. Little-endian on the disk, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    checksum: u32,
    body_bytes: u32,
    round: Round,
    number: u64,
}

impl Head {
    fn encode(self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&self.checksum.to_le_bytes());
        head[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        head[8..16].copy_from_slice(&self.round.0.to_le_bytes());
        head[16..].copy_from_slice(&self.number.to_le_bytes());
        head
    }

    fn decode(bytes: &[u8]) -> Self {
        let number = |range: Range<usize>| bytes[range].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self {
            checksum: number(0..4) as u32,
            body_bytes: number(4..8) as u32,
            round: Round(number(8..16)),
            number: number(16..24),
        }
    }
}

/// What a record says. Written from what the WriteSets hold, without a copy of it.
#[derive(Serialize)]
struct Written<'s> {
    entries: Vec<&'s Entry>,
    hard_state: Option<HardState>,
}

/// What a record, or a round, says.
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
    area: Range<u64>,
    salt: DiskId,
    round: Round,
    /// Number of the next record.
    number: u64,
    /// Where it goes.
    end: u64,
    /// What this round says.
    journaled: Journaled,
    /// A record, while it is made.
    record: Vec<u8>,
}

impl Journal {
    /// Reads what the journal says in this round, the tables'.
    pub(super) fn open(disk: Shared, area: Range<u64>, salt: DiskId, round: Round) -> Result<Self, StoreError> {
        let end = area.start;
        let journaled = Journaled::default();
        let mut journal = Self { disk, area, salt, round, number: 0, end, journaled, record: Vec::new() };
        let mut bytes = vec![0; (journal.area.end - journal.area.start) as usize];
        let failed = |source| StoreError::io("read the store's journal", source);
        journal.disk.read(journal.area.start, &mut bytes).map_err(failed)?;
        let mut rest = &bytes[..];
        while let Some((_, body)) = journal.record_at(rest).filter(|(head, _)| journal.is_next(head)) {
            journal.take(body)?;
            let pages_bytes = pages_bytes(body.len());
            (journal.number, journal.end) = (journal.number + 1, journal.end + pages_bytes as u64);
            rest = &rest[pages_bytes..];
        }
        journal.check_end(rest)?;
        Ok(journal)
    }

    /// What the tables do not hold yet.
    pub(super) fn journaled(&self) -> &Journaled {
        &self.journaled
    }

    /// Do the tables hold everything?
    pub(super) fn is_empty(&self) -> bool {
        self.journaled.is_empty()
    }

    /// The round that the tables name once they hold more than they do.
    pub(super) fn next_round(&self) -> Round {
        match hooks::is_planted("m44") {
            true => self.round,
            false => Round(self.round.0 + 1),
        }
    }

    /// The tables hold all that was here, and name the next round.
    pub(super) fn begin_round(&mut self) {
        self.round = self.next_round();
        (self.number, self.end, self.journaled) = (0, self.area.start, Journaled::default());
    }

    /// Appends what these WriteSets append, durable once it returns. `false` if there is no room for it.
    pub(super) fn append(&mut self, sets: &[WriteSet]) -> Result<bool, StoreError> {
        let hard_state = sets.iter().rev().find_map(|set| set.hard_state);
        let entries = || sets.iter().flat_map(|set| &set.entries);
        self.record.clear();
        self.record.resize(HEAD_BYTES, 0);
        codec::encode_into(&Written { entries: entries().collect(), hard_state }, &mut self.record);
        let body_bytes = self.record.len() - HEAD_BYTES;
        let pages_bytes = pages_bytes(body_bytes);
        if pages_bytes as u64 > self.area.end - self.end {
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
        (self.number, self.end) = (self.number + 1, self.end + pages_bytes as u64);
        self.journaled.entries.extend(entries().cloned());
        self.journaled.hard_state = hard_state.or(self.journaled.hard_state);
        Ok(true)
    }

    /// Writes the head of the record whose body is there.
    fn seal(&mut self, body_bytes: usize) {
        let (head, body) = self.record.split_at_mut(HEAD_BYTES);
        let (round, number, body_bytes) = (self.round, self.number, body_bytes as u32);
        let checksum = record::checksum("journal", &(self.salt, round, number, body_bytes), body);
        head.copy_from_slice(&Head { checksum, body_bytes, round, number }.encode());
    }

    /// The record that begins here, of this round or a later one.
    fn record_at<'b>(&self, bytes: &'b [u8]) -> Option<(Head, &'b [u8])> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let head = Head::decode(head);
        if head.round < self.round && !hooks::is_planted("m43") {
            return None;
        }
        let body = rest.get(..head.body_bytes as usize)?;
        let key = (self.salt, head.round, head.number, head.body_bytes);
        (record::checksum("journal", &key, body) == head.checksum).then_some((head, body))
    }

    fn is_next(&self, head: &Head) -> bool {
        (head.round == self.round || hooks::is_planted("m43")) && head.number == self.number
    }

    fn take(&mut self, body: &[u8]) -> Result<(), StoreError> {
        let said: Journaled = codec::decode(body, body.len())
            .map_err(|error| StoreError::Damaged(format!("record {} of the journal: {error}", self.number)))?;
        self.journaled.entries.extend(said.entries);
        self.journaled.hard_state = said.hard_state.or(self.journaled.hard_state);
        Ok(())
    }

    /// Is this all, from the first place on where the next record is not? Whatever stands there was written after it.
    fn check_end(&self, rest: &[u8]) -> Result<(), StoreError> {
        let mut pages = rest.chunks(PAGE_BYTES as usize).enumerate();
        let later = pages.find_map(|(page, _)| self.record_at(&rest[page * PAGE_BYTES as usize..]));
        match later {
            Some((head, _)) if !hooks::is_planted("m43") => Err(StoreError::Damaged(format!(
                "the journal holds record {} of round {}, and not record {} of round {}",
                head.number, head.round.0, self.number, self.round.0
            ))),
            _ => Ok(()),
        }
    }
}

/// Bytes of the pages that a record takes.
fn pages_bytes(body_bytes: usize) -> usize {
    (HEAD_BYTES + body_bytes).next_multiple_of(PAGE_BYTES as usize)
}
