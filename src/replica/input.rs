//! Everything that can happen to a replica.

use super::{Checkpoint, message::RaftMessage, proposals::ProposalId, reads::ReadId};
use crate::{
    durable::SnapshotMeta,
    pool::{Command, StateMachine},
    types::{Entropy, Millis, ReplicaId},
};

/// One event. Time is [`Input::Tick`]; randomness comes in with it or stands in the configuration.
#[derive(Debug)]
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
    /// Put these commands into one entry. Each is answered once, in [`super::Output::Proposals`].
    Propose {
        /// The leader's word on the time.
        time: Millis,
        /// Fresh bytes of the operating system.
        entropy: Entropy,
        /// At most a batch's worth (limits: [`crate::pool::Batch`]). None make a tick, which only moves time.
        commands: Vec<(ProposalId, Command)>,
    },
    /// Linearizable reads want to be served, by one question if none is out. Each is answered by
    /// [`super::Output::ReadReady`], some day.
    Reads(Vec<ReadId>),
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
    /// The body of the snapshot that was asked for with [`super::Output::TakeSnapshot`] is staged, whole and durable.
    SnapshotTaken {
        /// What it is of.
        meta: SnapshotMeta,
    },
    /// That snapshot will not come: another one may be asked for.
    SnapshotGivenUp,
    /// A peer's snapshot: its body is staged, whole and durable, and this is the state that it was found to hold.
    Snapshot {
        /// The peer.
        from: ReplicaId,
        /// The message that announced it, of kind [`super::RaftBody::Snapshot`]; not checked yet.
        message: RaftMessage,
        /// The state.
        machine: Box<StateMachine>,
    },
    /// What became of a snapshot that was to be sent with [`super::Output::SendSnapshot`]; told once for each.
    SnapshotReport {
        /// The peer.
        to: ReplicaId,
        /// The peer has it. Otherwise it may be sent again.
        arrived: bool,
    },
    /// A peer's digests at an index.
    Checkpoint {
        /// The peer.
        from: ReplicaId,
        /// What it has.
        checkpoint: Checkpoint,
    },
}
