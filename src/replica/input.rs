//! Everything that can happen to a replica.

use super::{message::RaftMessage, proposals::ProposalId, reads::ReadId};
use crate::{
    pool::Command,
    types::{Entropy, Millis, ReplicaId},
};

/// One event. Time is [`Input::Tick`]; randomness comes in with it or stands in the configuration.
#[derive(Clone, Debug)]
pub enum Input {
    /// One tick of the node's monotonic clock has passed. After a stall, at most an election timeout's worth is told.
    Tick,
    /// A peer, whose identity the transport has proved, sent a message.
    Message {
        /// The peer.
        from: ReplicaId,
        /// What it said; not checked yet.
        message: RaftMessage,
    },
    /// Put these commands into one entry. Each is answered by one [`super::Output::Proposal`].
    Propose {
        /// The leader's word on the time.
        time: Millis,
        /// Fresh bytes of the operating system.
        entropy: Entropy,
        /// At most a batch's worth (limits: [`crate::pool::Batch`]); not empty.
        commands: Vec<(ProposalId, Command)>,
    },
    /// A linearizable read wants to be served. Answered by [`super::Output::ReadReady`], some day.
    Read(ReadId),
    /// Nobody waits for this read any more.
    ForgetRead(ReadId),
    /// The WriteSets up to and including this number are durable.
    Persisted {
        /// The greatest of them.
        number: u64,
    },
    /// Hand leadership to this voter; to be checked with [`super::Replica::check_transfer`] first.
    Transfer {
        /// The voter.
        to: ReplicaId,
    },
    /// What was sent to this peer was dropped.
    Unreachable {
        /// The peer.
        peer: ReplicaId,
    },
}
