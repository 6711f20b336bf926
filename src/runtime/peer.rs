//! What nodes say to each other.

use serde::{Deserialize, Serialize};

use crate::{
    pool::Command,
    replica::{ProposalId, ProposalResult, RaftMessage, founding::FoundingMessage},
    types::{ClusterId, Genesis, Millis, ShardId},
};

/// A frame between peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFrame {
    /// Format of the frame.
    pub version: u16,
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The sender's wall time.
    pub wall: Millis,
    /// The sender's cluster, once it is founded: frames of another one are not for us.
    pub genesis: Option<Genesis>,
    /// What it says.
    pub message: PeerMessage,
}

/// What a frame says. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// For founders.
    Founding(FoundingMessage),
    /// For raft.
    Raft(RaftMessage),
    /// Requests that the sender accepted, for the leader to propose.
    Forward(Vec<(ProposalId, Command)>),
    /// What became of them.
    Forwarded(Vec<(ProposalId, ProposalResult)>),
}
