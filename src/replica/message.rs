//! What replicas say to each other: our own structs, so that protobuf never parses a byte from the network.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    durable::Entry,
    types::{Index, ReplicaId, Term},
};

/// A raft message. `to` and `from` are the transport's to prove; the gate checks the rest before raft sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    /// Who it is for.
    pub to: ReplicaId,
    /// Who says it.
    pub from: ReplicaId,
    /// The sender's term; 0 for a ReadIndex alone.
    pub term: Term,
    /// What it says.
    pub body: RaftBody,
}

/// What a raft message says. Append only: the position of a variant is its wire form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftBody {
    /// Entries after (`index`, `log_term`), and how far the leader has committed.
    Append { index: Index, log_term: Term, commit: Index, entries: Vec<Entry> },
    /// The follower's log matches up to `index`, or it rejects and hints.
    AppendResponse { index: Index, log_term: Term, commit: Index, reject: bool, reject_hint: Index },
    /// Asks for a vote (or, `pre`, whether one would be given).
    RequestVote { pre: bool, index: Index, log_term: Term, commit: Index, commit_term: Term, transfer: bool },
    /// Gives or refuses it.
    RequestVoteResponse { pre: bool, reject: bool, commit: Index, commit_term: Term },
    /// The leader is alive; `context` confirms reads.
    Heartbeat { commit: Index, context: Bytes },
    /// So it is heard.
    HeartbeatResponse { commit: Index, context: Bytes },
    /// A follower asks at which index a read may be served.
    ReadIndex { context: Bytes },
    /// At this one.
    ReadIndexResponse { index: Index, context: Bytes },
    /// Campaign at once: leadership is being handed to you.
    TimeoutNow,
}
