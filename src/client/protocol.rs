//! What clients and nodes say to each other over QUIC.
//!
//! A client opens one bidirectional stream. Each side writes frames: a little-endian `u32` length, then that many bytes of
//! one [`ClientFrame`] or [`ServerFrame`]. A frame carries whatever was waiting when it was written, so that batches form
//! by themselves; answers come in any order and carry the request's number.

use serde::{Deserialize, Serialize};

use crate::{
    api::{Answered, Consistency, Failure, NodeStatus, Read},
    pool::{Action, PoolId, Query, RequestKey},
    types::{HistoryDigest, Index, Millis, ReplicaId},
};

/// ALPN of clients.
pub const CLIENT_ALPN: &[u8] = b"tombola-client/1";
/// Longest frame in bytes, either way.
pub const CLIENT_FRAME_BYTES_MAX: usize = 1 << 20;

/// What a client writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFrame {
    /// In order of asking.
    pub calls: Vec<ClientCall>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCall {
    /// Number of the call on this stream; the answer repeats it.
    pub id: u64,
    /// How long the node may take, in milliseconds.
    pub timeout_ms: u32,
    /// What is asked.
    pub call: Call,
}

/// What can be asked. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// A mutation.
    Submit {
        /// The pool.
        pool: PoolId,
        /// The caller's key, if it has one.
        key: Option<RequestKey>,
        /// What to do.
        action: Action,
    },
    /// A read.
    Read {
        /// What is asked.
        query: Query,
        /// How fresh the answer must be.
        consistency: Consistency,
    },
    /// The node's status; also how a client learns the time.
    Status,
    /// The history digest at an index.
    HistoryAt(Index),
    /// Hand leadership over.
    Transfer(ReplicaId),
}

/// What a node writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFrame {
    /// In any order.
    pub replies: Vec<ClientReply>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReply {
    /// Number of the call.
    pub id: u64,
    /// Cluster time where the node stands: clients stamp their keys by it.
    pub now: Millis,
    /// The answer.
    pub reply: Result<Reply, Failure>,
}

/// What can be answered. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a mutation.
    Submitted(Answered),
    /// To a read.
    Read(Read),
    /// To a status call. Boxed, as it is twice as long as any other, and a reply is handed on often.
    Status(Box<NodeStatus>),
    /// To a digest call; `None` if the index is not applied yet, or long ago.
    HistoryAt(Option<HistoryDigest>),
    /// Leadership was handed over.
    Transferred,
}
