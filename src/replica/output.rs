//! Everything that a replica wants done. Each variant says which I/O it is and when it may run.

use super::{
    Checkpoint,
    message::RaftMessage,
    proposals::{ProposalId, ProposalResult},
    reads::ReadId,
};
use crate::{
    durable::{Founders, SnapshotMeta, WriteSet},
    pool::{Garbage, SnapshotHandle},
    types::{Index, ReplicaId, Term},
};

/// A snapshot to be taken: everything but the length and the hash of its body.
#[derive(Debug)]
pub struct TakeSnapshot {
    /// The view.
    pub handle: SnapshotHandle,
    /// The term of its index.
    pub term: Term,
    /// The voters at its index, sorted.
    pub voters: Vec<ReplicaId>,
    /// The founders.
    pub founders: Founders,
}

impl TakeSnapshot {
    /// What the snapshot is of, once its body is encoded.
    pub fn meta(&self, body_bytes: u64, body_sha256: [u8; 32]) -> SnapshotMeta {
        SnapshotMeta {
            index: self.handle.index(),
            term: self.term,
            voters: self.voters.clone(),
            founders: self.founders.clone(),
            body_bytes,
            body_sha256,
        }
    }
}

/// One thing to do, in the order given.
#[derive(Debug)]
pub enum Output {
    /// Send to a peer, now: whatever it promises is durable already. May be lost.
    Send {
        /// The peer.
        to: ReplicaId,
        /// What to say.
        message: RaftMessage,
    },
    /// Make durable, after every earlier one; then tell [`super::Input::Persisted`]. Neighbours may share a transaction.
    Persist(Box<WriteSet>),
    /// Answer these proposals, now: what became of each. Never none.
    Proposals(Vec<(ProposalId, ProposalResult)>),
    /// Answer this read from the state as it is now, before the next input: it is linearizable.
    ReadReady(ReadId),
    /// Encode this view of the state, stage its body, and tell [`super::Input::SnapshotTaken`]; beside everything else.
    /// There is one at a time.
    TakeSnapshot(Box<TakeSnapshot>),
    /// Send this message, of kind [`super::RaftBody::Snapshot`], and the body of the newest durable snapshot, which it is of;
    /// then tell [`super::Input::SnapshotReport`], exactly once. There is one at a time. A log that gets too long meanwhile
    /// puts another snapshot in its place: what is left of the body is gone then, and so is the transfer.
    SendSnapshot {
        /// The peer.
        to: ReplicaId,
        /// What announces it.
        message: RaftMessage,
    },
    /// What became of a snapshot that came with [`super::Input::Snapshot`]; told once for each. What is left of its staging
    /// may go.
    SnapshotSettled {
        /// Its index.
        index: Index,
        /// It is durable, and the state is its. Otherwise it was of no use: stale, malformed, or its entries are here.
        installed: bool,
    },
    /// Tell every peer, now; may be lost.
    Checkpoint(Checkpoint),
    /// Drop this where nobody waits.
    Discard(Garbage),
}
