//! Reading a store back: everything, once, checked.

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::de::DeserializeOwned;

use super::{
    Wanted,
    check::{Broken, Tail, check_founders, check_snapshot},
    error::StoreError,
    journal::Journaled,
    record,
    schema::{Begun, Body, CHUNKS, LOG, LogKey, Newest, RecordNumber, STATE, Slot, StateKey, chunk_key, log_key},
    standing::{Founded, Standing},
};
use crate::{
    durable::{Entry, Founders, HardState, Identity, Recovered, RecoveredLog, RecoveredState, Snapshot},
    types::{Genesis, Index, ShardId},
};

/// Is it the store that was asked for?
pub(super) fn check_identity(reading: &ReadTransaction, wanted: Wanted) -> Result<Identity, StoreError> {
    let state = reading.open_table(STATE)?;
    let Some(found) = get::<Identity>(&state, wanted.shard, Slot::Identity)? else {
        return Err(match state.first()? {
            Some((key, _)) => StoreError::OtherShard { found: ShardId(key.value().0), wanted: wanted.shard },
            None => StoreError::Damaged("it does not say whose it is".into()),
        });
    };
    if found.cluster != wanted.cluster {
        return Err(StoreError::OtherCluster { found: found.cluster, wanted: wanted.cluster });
    }
    if found.replica != wanted.replica {
        return Err(StoreError::OtherReplica { found: found.replica, wanted: wanted.replica });
    }
    Ok(found)
}

/// The journal's first record that the tables do not hold.
pub(super) fn first_record(reading: &ReadTransaction, shard: ShardId) -> Result<RecordNumber, StoreError> {
    present(&reading.open_table(STATE)?, shard, Slot::FirstRecord)
}

/// Reads all that the store holds for the shard of `identity`, in its tables and its journal; and where the store stands with
/// it, to go on from there.
pub(super) fn recover(
    reading: &ReadTransaction,
    journaled: &Journaled,
    identity: Identity,
) -> Result<(Recovered, Standing), StoreError> {
    let (state, standing) = if get::<Genesis>(&reading.open_table(STATE)?, identity.shard, Slot::Genesis)?.is_some() {
        let (log, founded) = recover_log(reading, journaled, &identity)?;
        (RecoveredState::Founded(log), Standing::Founded(Box::new(founded)))
    } else {
        let prepared = recover_unfounded(reading, journaled, &identity)?;
        (RecoveredState::Unfounded { prepared: prepared.clone() }, Standing::Unfounded(prepared))
    };
    Ok((Recovered { identity, state }, standing))
}

fn recover_unfounded(
    reading: &ReadTransaction,
    journaled: &Journaled,
    identity: &Identity,
) -> Result<Option<Founders>, StoreError> {
    let state = reading.open_table(STATE)?;
    let shard = identity.shard;
    let is_empty = journaled.is_empty()
        && get::<HardState>(&state, shard, Slot::HardState)?.is_none()
        && get::<Newest>(&state, shard, Slot::Newest)?.is_none()
        && reading.open_table(LOG)?.is_empty()?;
    if !is_empty {
        return Err(StoreError::Damaged("it holds a log, but was never founded".into()));
    }
    let prepared = get(&state, shard, Slot::Prepared)?;
    if let Some(founders) = &prepared {
        check_founders(identity, founders).map_err(StoreError::Damaged)?;
    }
    Ok(prepared)
}

fn recover_log(
    reading: &ReadTransaction,
    journaled: &Journaled,
    identity: &Identity,
) -> Result<(RecoveredLog, Founded), StoreError> {
    let state = reading.open_table(STATE)?;
    let shard = identity.shard;
    let newest: Newest = present(&state, shard, Slot::Newest)?;
    let mut body = Vec::new();
    each_chunk(reading, shard, newest.body, |_, chunk| {
        body.push(Bytes::copy_from_slice(chunk));
        Ok(())
    })?;
    let in_tables = present(&state, shard, Slot::HardState)?;
    let mut entries = entries(reading, shard, &newest)?;
    entries.extend(journaled.entries.iter().cloned());
    let log = RecoveredLog {
        genesis: present(&state, shard, Slot::Genesis)?,
        hard_state: journaled.hard_state.unwrap_or(in_tables),
        snapshot: Snapshot { meta: newest.meta.clone(), body },
        truncated: newest.truncated,
        entries,
    };
    let tail = check_log(identity, &newest, &log).map_err(StoreError::Damaged)?;
    Ok((log, Founded { tail, newest, staged: None }))
}

/// Checks a founded store's content; gives the shape of it, to go on from.
fn check_log(identity: &Identity, newest: &Newest, log: &RecoveredLog) -> Result<Tail, Broken> {
    check_snapshot(identity, &log.snapshot)?;
    if log.snapshot.meta.index == Index::FOUNDING && log.genesis != log.snapshot.meta.genesis() {
        return Err(format!("genesis {} is not the founding snapshot's", log.genesis));
    }
    let mut tail = Tail::new(newest);
    log.entries.iter().try_for_each(|entry| tail.append(entry))?;
    tail.promise(log.hard_state)?;
    tail.check()?;
    Ok(tail)
}

/// What is being staged, if anything.
pub(super) fn begun(
    state: &impl ReadableTable<StateKey, &'static [u8]>,
    shard: ShardId,
) -> Result<Option<Begun>, StoreError> {
    get(state, shard, Slot::Begun)
}

/// Reads a chunk, if it is there.
pub(super) fn chunk(
    reading: &ReadTransaction,
    shard: ShardId,
    body: Body,
    number: u32,
) -> Result<Option<Bytes>, StoreError> {
    let key = chunk_key(shard, body, number);
    match reading.open_table(CHUNKS)?.get(key)? {
        Some(found) => Ok(Some(Bytes::copy_from_slice(record::unseal("chunks", &key, found.value())?))),
        None => Ok(None),
    }
}

/// Reads the chunks of a body in order; `take` is told their numbers, too.
pub(super) fn each_chunk(
    reading: &ReadTransaction,
    shard: ShardId,
    body: Body,
    mut take: impl FnMut(u32, &[u8]) -> Result<(), Broken>,
) -> Result<(), StoreError> {
    let chunks = reading.open_table(CHUNKS)?;
    for found in chunks.range(chunk_key(shard, body, 0)..=chunk_key(shard, body, u32::MAX))? {
        let (key, record) = found?;
        let number = key.value().2;
        take(number, record::unseal("chunks", &key.value(), record.value())?).map_err(StoreError::Damaged)?;
    }
    Ok(())
}

/// The entry at `index`, which must be there.
pub(super) fn entry(
    table: &impl ReadableTable<LogKey, &'static [u8]>,
    shard: ShardId,
    log: Body,
    index: Index,
) -> Result<Entry, StoreError> {
    let key = log_key(shard, log, index);
    match table.get(key)? {
        Some(found) => record::decode("log", &key, found.value()),
        None => Err(StoreError::Damaged(format!("entry {index} is missing"))),
    }
}

fn get<T: DeserializeOwned>(
    state: &impl ReadableTable<StateKey, &'static [u8]>,
    shard: ShardId,
    slot: Slot,
) -> Result<Option<T>, StoreError> {
    let key = slot.key(shard);
    state.get(key)?.map(|found| record::decode("state", &key, found.value())).transpose()
}

fn present<T: DeserializeOwned>(
    state: &impl ReadableTable<StateKey, &'static [u8]>,
    shard: ShardId,
    slot: Slot,
) -> Result<T, StoreError> {
    get(state, shard, slot)?.ok_or_else(|| StoreError::Damaged(format!("{slot:?} is missing")))
}

fn entries(reading: &ReadTransaction, shard: ShardId, newest: &Newest) -> Result<Vec<Entry>, StoreError> {
    let log = reading.open_table(LOG)?;
    let first = log_key(shard, newest.log, newest.truncated.0.next());
    log.range(first..=log_key(shard, newest.log, Index(u64::MAX)))?
        .map(|found| {
            let (key, record) = found?;
            record::decode("log", &key.value(), record.value())
        })
        .collect()
}
