//! What callers may ask of a node, and what it may answer: the words that `runtime`, `server` and `client` share.
//!
//! Three things are kept apart everywhere: *surely not applied*, *possibly applied*, and *refused*. The first two are a
//! [`Failure`]; the last is replicated and final, hence an [`Outcome`].

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    pool::{Action, Actor, Answer, Outcome, PoolId, RequestKey},
    replica::Status,
    types::{ClusterId, Index, Millis, ReplicaId},
};

/// A mutation as a caller asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The pool.
    pub pool: PoolId,
    /// The caller's key; without one the node makes one, and the caller has at most once.
    pub key: Option<RequestKey>,
    /// Who asks.
    pub actor: Actor,
    /// For what.
    pub action: Action,
}

/// A mutation's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The key it was made under: the caller's, or the node's.
    pub key: RequestKey,
    /// The outcome, refusals included.
    pub outcome: Outcome,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Reflects whatever had been answered, anywhere, before it was asked.
    Linearizable,
    /// This node's own state, now.
    Stale,
}

/// A read's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The index it reflects.
    pub index: Index,
    /// Cluster time at that index.
    pub now: Millis,
    /// The answer.
    pub answer: Answer,
}

/// A node seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The replica.
    pub replica: Status,
    /// Every voter, sorted.
    pub voters: Vec<ReplicaId>,
    /// The build's version.
    pub version: String,
}

/// No outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// Surely not applied: it may be sent again, under this key or another.
    #[error("{0}")]
    NotApplied(#[from] NotApplied),
    /// Possibly applied: only the same request under the same key is safe to send again.
    #[error("the outcome is unknown: send the same request again with --key {key}")]
    Unknown {
        /// The key.
        key: RequestKey,
    },
}

/// Why a request is surely not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NotApplied {
    /// Nobody was found to lead before the deadline.
    #[error("no leader was found in time; a majority of the nodes may be down")]
    NoLeader,
    /// The node's queues are full.
    #[error("overloaded: try again in {retry_after_ms} ms")]
    Overloaded {
        /// When it is worth trying again.
        retry_after_ms: u32,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Draining,
    /// The request breaks a rule of form, or a fixed limit.
    #[error("{0}")]
    Malformed(String),
    /// A linearizable read found no quorum in time.
    #[error("no quorum confirmed the read in time; a stale read asks for this node's own state")]
    NoQuorum,
    /// Leadership cannot be handed over as asked.
    #[error("{0}")]
    TransferRefused(String),
}

/// How a node does, as operators and metrics want to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Vitals {
    /// How far its wall clock is ahead of the median of a quorum of voters, in milliseconds. `None` while it has not heard
    /// of a quorum in this term; of five voters, a follower hears the leader alone.
    pub clock_offset_ms: Option<i64>,
    /// Peers that are not accepted here, or do not accept this node, and why.
    pub strangers: BTreeMap<ReplicaId, String>,
    /// Commands that callers wait for here.
    pub waiting_commands: usize,
    /// Their length in bytes, encoded.
    pub waiting_bytes: usize,
    /// How long the last command waited before it was sent.
    pub waited: Duration,
    /// How long a command usually takes from being sent to being decided.
    pub commit_time: Duration,
    /// More comes in than goes out: the newest are turned away.
    pub is_shedding: bool,
    /// A voter that lives is far behind, so half as much is taken.
    pub is_halved: bool,
    /// Commands turned away so far.
    pub turned_away: TurnedAway,
}

/// How many commands were turned away since the node started, surely not applied, each for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TurnedAway {
    /// As many wait as may.
    pub full: u64,
    /// As many of one client wait as may.
    pub client_full: u64,
    /// More came in than went out.
    pub shed: u64,
    /// Its deadline left less time than a command usually takes.
    pub too_late: u64,
}

impl Failure {
    /// The stable code: gRPC ErrorInfo's reason, and `error[CODE]` on a terminal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotApplied(why) => match why {
                NotApplied::NoLeader => "NO_LEADER",
                NotApplied::Overloaded { .. } => "OVERLOADED",
                NotApplied::Draining => "DRAINING",
                NotApplied::Malformed(_) => "MALFORMED",
                NotApplied::NoQuorum => "NO_QUORUM",
                NotApplied::TransferRefused(_) => "TRANSFER_REFUSED",
            },
            Self::Unknown { .. } => "OUTCOME_UNKNOWN",
        }
    }

    /// When it is worth trying again, if the node said.
    pub fn retry_after_ms(&self) -> Option<u32> {
        match self {
            Self::NotApplied(NotApplied::Overloaded { retry_after_ms }) => Some(*retry_after_ms),
            _ => None,
        }
    }
}
