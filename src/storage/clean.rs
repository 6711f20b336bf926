//! Removing what does not count any more, a little at a time.
//!
//! A flip only says what is garbage from then on: the old snapshot's chunks and the entries that it stands for may be
//! hundreds of megabytes, and the log must not wait for them. What is garbage follows from two records (see
//! [`Newest`] and [`super::schema::Begun`]), so a restart forgets none of it.

use std::{borrow::Borrow, ops::RangeInclusive};

use redb::{Key, ReadableTable, Table, WriteTransaction};

use super::{
    error::StoreError,
    read,
    schema::{Body, CHUNKS, LOG, Newest, STATE, chunk_key, log_key},
};
use crate::types::{Index, ShardId};

/// Most records that one call removes.
const RECORDS_MAX: usize = 512;
/// Length of records, in bytes, after which one call removes no further: they have to be read to be removed.
const BYTES_MAX: usize = 4 << 20;

/// What one call may still remove.
struct Budget {
    records: usize,
    bytes: usize,
    /// It had to leave something.
    is_exceeded: bool,
    has_removed: bool,
}

/// What one call did.
pub(super) struct Cleaned {
    pub(super) has_removed: bool,
    /// There is more.
    pub(super) is_more: bool,
}

/// Removes what there is time for.
pub(super) fn clean(transaction: &WriteTransaction, shard: ShardId, newest: &Newest) -> Result<Cleaned, StoreError> {
    let mut budget = Budget { records: RECORDS_MAX, bytes: BYTES_MAX, is_exceeded: false, has_removed: false };
    let first_log = log_key(shard, Body(0), Index(0));
    let mut log = transaction.open_table(LOG)?;
    budget.remove(&mut log, first_log..=log_key(shard, newest.log, newest.truncated.0))?;
    let begun = read::begun(&transaction.open_table(STATE)?, shard)?;
    let mut chunks = transaction.open_table(CHUNKS)?;
    let mut bodies = vec![(Body(0), newest.body)];
    bodies.extend(begun.map(|begun| (newest.body.next(), begun.body)));
    for (first, end) in bodies.into_iter().filter(|(first, end)| first < end) {
        let last = Body(end.0 - 1);
        budget.remove(&mut chunks, chunk_key(shard, first, 0)..=chunk_key(shard, last, u32::MAX))?;
    }
    Ok(Cleaned { has_removed: budget.has_removed, is_more: budget.is_exceeded })
}

impl Budget {
    /// Removes from the front of `range` what it allows; a record at least, so that there is an end.
    fn remove<K>(&mut self, table: &mut Table<'_, K, &'static [u8]>, range: RangeInclusive<K>) -> Result<(), StoreError>
    where
        K: Key + Copy + for<'k> Borrow<K::SelfType<'k>> + 'static,
        for<'k> K::SelfType<'k>: Into<K>,
    {
        let mut last = None;
        for found in table.range(range.clone())? {
            let (key, record) = found?;
            if self.records == 0 || self.bytes == 0 {
                self.is_exceeded = true;
                break;
            }
            self.records -= 1;
            self.bytes = self.bytes.saturating_sub(record.value().len());
            last = Some(key.value().into());
        }
        if let Some(last) = last {
            table.retain_in(*range.start()..=last, |_, _| false)?;
            self.has_removed = true;
        }
        Ok(())
    }
}
