//! A snapshot's body on its way to the disk, chunk by chunk, each in a transaction of its own beside the log's.
//!
//! [`Begun`] says on the disk what is being staged, and as which [`super::schema::Body`]; the chunks are where they stay
//! once the body is the newest one, so that the flip moves nothing. [`Staged`] is the same in memory, with a running hash:
//! the flip must know the hash of it all, and has no time to read it again.

use redb::{ReadTransaction, WriteTransaction};
use sha2::{Digest, Sha256};

use super::{
    check::{BodyLength, Broken, check_sha256},
    error::StoreError,
    read, record,
    schema::{Begun, Body, CHUNKS, Newest, STATE, Slot, chunk_key},
};
use crate::{
    durable::{CHUNK_BYTES, SnapshotMeta, Staging},
    types::ShardId,
};

/// A body being staged, as far as it is durable.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) begun: Begun,
    length: BodyLength,
    hasher: Sha256,
}

impl Staged {
    /// Nothing of it yet.
    pub(super) fn new(begun: Begun) -> Self {
        Self { begun, length: BodyLength::default(), hasher: Sha256::new() }
    }

    /// What an earlier process had staged of it: read, and hashed, again.
    pub(super) fn resume(reading: &ReadTransaction, shard: ShardId, begun: Begun) -> Result<Self, StoreError> {
        let body = begun.body;
        let mut staged = Self::new(begun);
        read::each_chunk(reading, shard, body, |number, chunk| staged.push(number, chunk))?;
        Ok(staged)
    }

    /// How many chunks are there.
    pub(super) fn chunks(&self) -> u32 {
        self.length.chunks
    }

    /// Takes the next chunk.
    pub(super) fn push(&mut self, number: u32, chunk: &[u8]) -> Result<(), Broken> {
        if let Staging::Received(meta) = &self.begun.staging {
            let rest = meta.body_bytes.saturating_sub(self.length.bytes);
            let wanted = rest.min(CHUNK_BYTES as u64);
            if number == self.length.chunks && chunk.len() as u64 != wanted {
                return Err(format!("chunk {number} of a snapshot's body has {} bytes, not {wanted}", chunk.len()));
            }
        }
        self.length.push(number, chunk.len())?;
        self.hasher.update(chunk);
        Ok(())
    }

    /// Is it all that was announced, and yet not what was announced?
    pub(super) fn is_wrong(&self) -> bool {
        match &self.begun.staging {
            Staging::Received(meta) => self.length.check(meta).is_ok() && self.check_whole(meta).is_err(),
            Staging::Own { .. } => false,
        }
    }

    /// Is it this snapshot's body, whole?
    pub(super) fn check_whole(&self, meta: &SnapshotMeta) -> Result<(), Broken> {
        self.length.check(meta)?;
        check_sha256(meta, self.hasher.clone())
    }
}

/// Records that a body is being staged, under a number that no other has; what was staged before is garbage from then on.
pub(super) fn begin(
    transaction: &WriteTransaction,
    shard: ShardId,
    newest: &Newest,
    staging: Staging,
) -> Result<Begun, StoreError> {
    let mut state = transaction.open_table(STATE)?;
    let key = Slot::Begun.key(shard);
    let before = read::begun(&state, shard)?.map_or(newest.body, |begun| begun.body.max(newest.body));
    let begun = Begun { body: before.next(), staging };
    state.insert(key, record::encode("state", &key, &begun).as_slice())?;
    Ok(begun)
}

/// Writes a chunk.
pub(super) fn write(
    transaction: &WriteTransaction,
    shard: ShardId,
    body: Body,
    number: u32,
    chunk: &[u8],
) -> Result<(), StoreError> {
    let key = chunk_key(shard, body, number);
    let mut chunks = transaction.open_table(CHUNKS)?;
    chunks.insert(key, record::seal("chunks", &key, chunk).as_slice())?;
    Ok(())
}
