//! Everything that a replica wants done. Each variant says which I/O it is and when it may run.

use super::{
    message::RaftMessage,
    proposals::{ProposalId, ProposalResult},
    reads::ReadId,
};
use crate::{durable::WriteSet, types::ReplicaId};

/// One thing to do, in the order given.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send to a peer, now: whatever it promises is durable already. May be lost.
    Send {
        /// The peer.
        to: ReplicaId,
        /// What to say.
        message: RaftMessage,
    },
    /// Make durable, after every earlier one; then tell [`super::Input::Persisted`]. Neighbours may share a transaction.
    Persist(WriteSet),
    /// Answer a proposal, now.
    Proposal {
        /// Which.
        id: ProposalId,
        /// What became of it.
        result: ProposalResult,
    },
    /// Answer this read from the state as it is now, before the next input: it is linearizable.
    ReadReady(ReadId),
}
