//! What lies where in redb's tables.
//!
//! Every key begins with the shard, so that many groups can share a file, and its fsync, one day. Every value is a record
//! (see [`super::record`]): a checksum, then bytes of [`crate::codec`]. Formats are append-only: a change that an older
//! build would misread takes a new [`FORMAT`].

use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use crate::{
    durable::{SnapshotMeta, Staging},
    types::{Index, ShardId, Term},
};

/// The format that this build writes, and the only one it reads. Format 2 has snapshots whose digests are of another hash,
/// format 3 a journal of one piece.
pub(super) const FORMAT: u32 = 4;

/// (shard, [`Slot`]) to what there is one of.
pub(super) const STATE: TableDefinition<StateKey, &[u8]> = TableDefinition::new("state");
/// (shard, the [`Body`] that the log began with, index) to a [`crate::durable::Entry`].
pub(super) const LOG: TableDefinition<LogKey, &[u8]> = TableDefinition::new("log");
/// (shard, [`Body`], number of the chunk) to [`crate::durable::CHUNK_BYTES`] of a snapshot's body, or the rest.
pub(super) const CHUNKS: TableDefinition<ChunkKey, &[u8]> = TableDefinition::new("chunks");

/// Key of [`STATE`].
pub(super) type StateKey = (u32, u8);
/// Key of [`LOG`].
pub(super) type LogKey = (u32, u64, u64);
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
    /// [`Newest`].
    Newest = 4,
    /// [`Begun`]; gone once it is the newest snapshot.
    Begun = 5,
    /// [`RecordNumber`] of the journal's first record that the tables do not hold.
    FirstRecord = 6,
}

impl Slot {
    /// Its key.
    pub(super) fn key(self, shard: ShardId) -> StateKey {
        (shard.0, self as u8)
    }
}

/// Names a snapshot's body in a store. Bodies are numbered as they are begun, and no number is given twice: so a body is
/// never taken for another one, nor for what is left of it, whatever their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Body(pub(super) u64);

impl Body {
    /// The founding snapshot's.
    pub(super) const FOUNDING: Self = Self(1);

    /// The one to begin after this.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Numbers the records of the journal, from one half to the other and for as long as the store lives. What goes to the tables
/// and not through the journal takes a number, too: so if the tables should lose it, the records do not follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct RecordNumber(pub(super) u64);

impl RecordNumber {
    /// A new store's.
    pub(super) const FIRST: Self = Self(1);

    /// The one behind it.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The newest snapshot and the log that goes with it. One record, so that both change at once. What is in the tables and
/// in neither of them is garbage: chunks of bodies before this one, entries of logs before this one, and this log's up
/// to `truncated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Newest {
    /// What the snapshot is of.
    pub(super) meta: SnapshotMeta,
    /// Where its body is.
    pub(super) body: Body,
    /// Where the log is: the body that it began with, the founding one or the last that was installed.
    pub(super) log: Body,
    /// The last entry that does not count any more, and its term.
    pub(super) truncated: (Index, Term),
}

/// A body that is being staged. It is greater than the newest snapshot's; what lies between the two is garbage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// Where it is.
    pub(super) body: Body,
    /// What it is of.
    pub(super) staging: Staging,
}

/// Key of an entry.
pub(super) fn log_key(shard: ShardId, log: Body, index: Index) -> LogKey {
    (shard.0, log.0, index.0)
}

/// Key of a chunk.
pub(super) fn chunk_key(shard: ShardId, body: Body, number: u32) -> ChunkKey {
    (shard.0, body.0, number)
}
