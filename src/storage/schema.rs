//! What lies where in the redb file.
//!
//! Every key begins with the shard, so that many groups can share a file, and its fsync, one day. Every value is a record
//! (see [`super::record`]): a checksum, then bytes of [`crate::codec`]. Formats are append-only: a change that an older
//! build would misread takes a new [`FORMAT`].

use redb::TableDefinition;

use crate::types::{Index, ShardId};

/// The format that this build writes, and the only one it reads.
pub(super) const FORMAT: u32 = 1;

/// About the file itself: [`FORMAT_KEY`] and nothing else so far.
pub(super) const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");
/// Key in [`ABOUT`] of the format, a `u32`.
pub(super) const FORMAT_KEY: &str = "format";

/// (shard, [`Slot`]) to what there is one of.
pub(super) const STATE: TableDefinition<StateKey, &[u8]> = TableDefinition::new("state");
/// (shard, index) to a [`crate::durable::Entry`].
pub(super) const LOG: TableDefinition<LogKey, &[u8]> = TableDefinition::new("log");
/// (shard, the snapshot's index, number of the chunk) to [`crate::durable::CHUNK_BYTES`] of its body, or the rest.
pub(super) const CHUNKS: TableDefinition<ChunkKey, &[u8]> = TableDefinition::new("chunks");

/// Key of [`STATE`].
pub(super) type StateKey = (u32, u8);
/// Key of [`LOG`].
pub(super) type LogKey = (u32, u64);
/// Key of [`CHUNKS`].
pub(super) type ChunkKey = (u32, u64, u32);

/// What there is one of in a shard. Append only: the number is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Slot {
    /// [`crate::durable::Identity`].
    Identity = 0,
    /// [`crate::durable::Founders`] that this node is bound to; gone once it has founded.
    Prepared = 1,
    /// [`crate::types::Genesis`].
    Genesis = 2,
    /// [`crate::durable::HardState`].
    HardState = 3,
    /// [`crate::durable::SnapshotMeta`] of the newest snapshot.
    Snapshot = 4,
}

impl Slot {
    /// Its key.
    pub(super) fn key(self, shard: ShardId) -> StateKey {
        (shard.0, self as u8)
    }
}

/// Key of an entry.
pub(super) fn log_key(shard: ShardId, index: Index) -> LogKey {
    (shard.0, index.0)
}
