//! What can be read of the pools at an applied index.

use serde::{Deserialize, Serialize};

use super::{
    Policy,
    names::{DrawSeq, PoolId, RequestKey, Version},
    outcome::{ItemState, Outcome, Refusal},
};
use crate::types::Millis;

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// A pool and its items.
    Pool(PoolId),
    /// Every pool, without its items.
    Pools,
    /// What became of a request.
    Outcome(PoolId, RequestKey),
    /// Conservation and digests of everything, recomputed from nothing: slow on a large state.
    Verify,
}

/// A read's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Query::Pool`].
    Pool(PoolState),
    /// To [`Query::Pools`], sorted by id.
    Pools(Vec<PoolSummary>),
    /// To [`Query::Outcome`].
    Outcome(Remembered),
    /// To [`Query::Verify`].
    Verified(Verification),
    /// Whatever was asked: there is no such pool, and so on.
    Refused(Refusal),
}

/// A pool without its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSummary {
    /// Its id.
    pub id: PoolId,
    /// Paused: draws and claims are refused.
    pub paused: bool,
    /// Its policy.
    pub policy: Policy,
    /// Its version.
    pub version: Version,
    /// Number of the newest draw; 0 before the first.
    pub draw_seq: DrawSeq,
    /// Items, removed ones left out.
    pub items: u32,
    /// Keys of this time and earlier are refused.
    pub key_floor: Millis,
}

/// A pool and its items, in creation order, removed ones left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// The pool.
    pub summary: PoolSummary,
    /// Its items.
    pub items: Vec<ItemState>,
}

/// What is remembered of a request key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remembered {
    /// Its outcome, `replayed` set.
    Outcome(Outcome),
    /// Not applied at this index; it may still be in flight.
    NotSeen,
    /// Older than what is remembered.
    Expired {
        /// Keys of this time and earlier are forgotten.
        floor: Millis,
    },
}

/// The state checked against itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Pools looked at.
    pub pools: u64,
    /// Items looked at, removed ones too.
    pub items: u64,
    /// Request keys looked at.
    pub keys: u64,
    /// What does not hold, in words; empty when all is well.
    pub violations: Vec<String>,
}
