//! Reading a store back: everything, once, checked.

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable};
use serde::de::DeserializeOwned;

use super::{
    Wanted,
    check::{Tail, check_founders, check_snapshot},
    error::StoreError,
    record,
    schema::{ABOUT, CHUNKS, FORMAT, FORMAT_KEY, LOG, STATE, Slot, StateKey, log_key},
};
use crate::{
    durable::{Entry, HardState, Identity, Recovered, RecoveredLog, RecoveredState, Snapshot, SnapshotMeta},
    types::{Index, ShardId},
};

/// Is the file in a format that this build reads?
pub(super) fn check_format(reading: &ReadTransaction) -> Result<(), StoreError> {
    let about = reading.open_table(ABOUT)?;
    let Some(format) = about.get(FORMAT_KEY)? else {
        return Err(StoreError::Damaged("it does not say its format".into()));
    };
    match record::decode("about", &FORMAT_KEY, format.value())? {
        FORMAT => Ok(()),
        other => Err(StoreError::Format { found: other.to_string() }),
    }
}

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

/// Reads all that the store holds for the shard of `identity`.
pub(super) fn recover(reading: &ReadTransaction, identity: Identity) -> Result<Recovered, StoreError> {
    let state = reading.open_table(STATE)?;
    let shard = identity.shard;
    let state = match get(&state, shard, Slot::Genesis)? {
        None => {
            let nothing_else = get::<HardState>(&state, shard, Slot::HardState)?.is_none()
                && get::<SnapshotMeta>(&state, shard, Slot::Snapshot)?.is_none()
                && entries(reading, shard)?.is_empty();
            if !nothing_else {
                return Err(StoreError::Damaged("it holds a log, but was never founded".into()));
            }
            let prepared = get(&state, shard, Slot::Prepared)?;
            if let Some(prepared) = &prepared {
                check_founders(&identity, prepared).map_err(StoreError::Damaged)?;
            }
            RecoveredState::Unfounded { prepared }
        }
        Some(genesis) => {
            let snapshot = snapshot(reading, present(&state, shard, Slot::Snapshot)?, shard)?;
            let hard_state = present(&state, shard, Slot::HardState)?;
            let truncated = (snapshot.meta.index, snapshot.meta.term);
            let entries = entries(reading, shard)?;
            RecoveredState::Founded(RecoveredLog { genesis, hard_state, snapshot, truncated, entries })
        }
    };
    Ok(Recovered { identity, state })
}

/// Checks a founded store's content; gives the end of it, to go on from.
pub(super) fn check_log(identity: &Identity, log: &RecoveredLog) -> Result<Tail, StoreError> {
    let checked = || {
        check_snapshot(identity, &log.snapshot)?;
        if log.snapshot.meta.index == Index::FOUNDING && log.genesis != log.snapshot.meta.genesis() {
            return Err(format!("genesis {} is not the founding snapshot's", log.genesis));
        }
        let mut tail = Tail::new(&log.snapshot);
        log.entries.iter().try_for_each(|entry| tail.append(entry))?;
        tail.promise(log.hard_state)?;
        tail.check()?;
        Ok(tail)
    };
    checked().map_err(StoreError::Damaged)
}

/// The entry at `index`, which must be there.
pub(super) fn entry(
    log: &impl ReadableTable<(u32, u64), &'static [u8]>,
    shard: ShardId,
    index: Index,
) -> Result<Entry, StoreError> {
    let key = log_key(shard, index);
    match log.get(key)? {
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

fn snapshot(reading: &ReadTransaction, meta: SnapshotMeta, shard: ShardId) -> Result<Snapshot, StoreError> {
    let chunks = reading.open_table(CHUNKS)?;
    let mut body = Vec::new();
    for (number, chunk) in chunks.range((shard.0, meta.index.0, 0)..=(shard.0, meta.index.0, u32::MAX))?.enumerate() {
        let (key, chunk) = chunk?;
        if key.value().2 as usize != number {
            return Err(StoreError::Damaged(format!("chunk {number} of the snapshot at {} is missing", meta.index)));
        }
        body.push(Bytes::copy_from_slice(record::unseal("chunks", &key.value(), chunk.value())?));
    }
    Ok(Snapshot { meta, body })
}

fn entries(reading: &ReadTransaction, shard: ShardId) -> Result<Vec<Entry>, StoreError> {
    let log = reading.open_table(LOG)?;
    log.range(log_key(shard, Index(0))..=log_key(shard, Index(u64::MAX)))?
        .map(|found| {
            let (key, record) = found?;
            record::decode("log", &key.value(), record.value())
        })
        .collect()
}
