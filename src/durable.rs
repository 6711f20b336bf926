//! What must reach the disk: the words that `replica` says and `storage` keeps. Neither layer knows the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    pool::Limits,
    types::{ClusterId, DiskId, Genesis, Index, ReplicaId, ShardId, Term},
};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Position; entries of a log are contiguous.
    pub index: Index,
    /// Term in which a leader appended it; never falls along the log.
    pub term: Term,
    /// What it holds.
    pub kind: EntryKind,
    /// An encoded [`crate::pool::Batch`], or empty for a new leader's no-op.
    pub data: Bytes,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A batch of commands, or nothing.
    Normal,
    /// A change of membership. Reserved: no command makes one yet.
    Membership,
}

/// What raft promises about itself. Term and vote are promises to others; commit is a hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// The replica voted for in `term`; `ReplicaId(0)` for none.
    pub vote: ReplicaId,
    /// The newest index known to be committed.
    pub commit: Index,
}

/// The founding replicas, their disks and their limits: who the cluster is, agreed before anything is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founders {
    /// The cluster they found.
    pub cluster: ClusterId,
    /// Limits of its pools; replicated state from then on.
    pub limits: Limits,
    /// Each founder's disk, sorted by replica id.
    pub disks: BTreeMap<ReplicaId, DiskId>,
}

/// Bytes of every chunk of a snapshot's body but the last, which has the rest. With its key, checksum and page header it
/// just fits a page of 256 KiB in the store.
pub const CHUNK_BYTES: usize = crate::hooks::CHUNK_BYTES;

/// What a snapshot is of. The body, an encoded pool state, is kept in chunks beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last index applied in it.
    pub index: Index,
    /// The term of that index.
    pub term: Term,
    /// The voters at that index, sorted.
    pub voters: Vec<ReplicaId>,
    /// The founders, carried on for ever.
    pub founders: Founders,
    /// Length of the body in bytes.
    pub body_bytes: u64,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
}

/// A snapshot with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is of.
    pub meta: SnapshotMeta,
    /// The encoded pool state, in chunks of [`CHUNK_BYTES`].
    pub body: Vec<Bytes>,
}

impl SnapshotMeta {
    /// How many chunks the body has.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.body_bytes.div_ceil(CHUNK_BYTES as u64)).expect("bodies are bounded far below 2^32 chunks")
    }

    /// The hash that names a cluster for good: SHA-256 of the founding snapshot's meta, which holds the body's hash.
    pub fn genesis(&self) -> Genesis {
        use sha2::Digest;
        Genesis(sha2::Sha256::digest(crate::codec::encode(self)).into())
    }
}

/// A step of founding, to be durable before the next (see `replica::founding`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingWrite {
    /// This node will found with these founders and no others.
    Prepare(Founders),
    /// The founding snapshot, whose genesis names the cluster; and the first hard state.
    Found(Snapshot),
}

/// What becomes durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// The replica's number of it; rises by one. 0 in a founding step.
    pub number: u64,
    /// Entries to append. Whatever the store holds at or above the first one's index is removed.
    pub entries: Vec<Entry>,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Term or vote change: it is committed in two phases, so that a torn newest commit is an error on open and not a silent
    /// return to the state before it.
    pub promise: bool,
    /// A step of founding.
    pub founding: Option<FoundingWrite>,
    /// Another snapshot becomes the newest one.
    pub snapshot: Option<SnapshotWrite>,
}

/// Another snapshot becomes the newest one. Its body is staged, whole and durable, before; see [`Staging`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotWrite {
    /// One that this replica took of its own state. Its log goes on, without the entries up to `truncated`.
    Taken {
        /// What it is of.
        meta: SnapshotMeta,
        /// The last entry that leaves the log, at or below the snapshot's index, and its term.
        truncated: (Index, Term),
    },
    /// One that came from another replica. The whole log goes; it begins anew after the snapshot.
    Installed {
        /// What it is of.
        meta: SnapshotMeta,
    },
}

/// A snapshot whose body is being brought to the disk, chunk by chunk, beside the log. There is one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Staging {
    /// Of this replica's own state at an index. What it was interrupted at is worth nothing.
    Own {
        /// The index.
        index: Index,
    },
    /// One that another replica sends. A transfer that was interrupted goes on where it was.
    Received(SnapshotMeta),
}

impl Staging {
    /// The index of the snapshot.
    pub fn index(&self) -> Index {
        match self {
            Self::Own { index } => *index,
            Self::Received(meta) => meta.index,
        }
    }
}

/// Who a store belongs to; written once, when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The replica.
    pub replica: ReplicaId,
    /// This disk.
    pub disk: DiskId,
}

/// What a store held when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Who it belongs to.
    pub identity: Identity,
    /// How far it had come.
    pub state: RecoveredState,
}

/// How far a store had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveredState {
    /// Not founded yet; perhaps bound to found with certain founders.
    Unfounded {
        /// The founders that this node is bound to.
        prepared: Option<Founders>,
    },
    /// Founded.
    Founded(RecoveredLog),
}

/// A founded store's content, checked: `truncated <= snapshot.index <= hard_state.commit <= last index`, entries contiguous
/// from `truncated + 1`, terms never falling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredLog {
    /// Hash of the founding snapshot.
    pub genesis: Genesis,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The newest snapshot.
    pub snapshot: Snapshot,
    /// The last entry that was compacted away, and its term; at most the snapshot's.
    pub truncated: (Index, Term),
    /// The entries after it.
    pub entries: Vec<Entry>,
}
