//! The reward pools as a deterministic state machine.

mod command;
mod names;
mod outcome;
mod query;

pub use command::*;
pub use names::*;
pub use outcome::*;
pub use query::*;

use crate::types::{HistoryDigest, Index, Millis, StateDigest};

/// Where a replica's state stands: equal on all replicas at the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digests {
    /// The index.
    pub index: Index,
    /// Of everything that ever happened.
    pub history: HistoryDigest,
    /// Of what is now.
    pub state: StateDigest,
}

/// Pools, items, request keys, counters, cluster time and digests.
#[derive(Debug)]
pub struct StateMachine {}

/// A view of the state at an index, taken at once and encoded elsewhere while the state moves on.
#[derive(Debug)]
pub struct SnapshotHandle {}

/// A snapshot's bytes that cannot be restored.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be restored: {0}")]
pub struct BadSnapshot(pub String);

impl StateMachine {
    /// The state at founding: pool `default`, empty, at [`Index::FOUNDING`].
    pub fn founding(_limits: Limits) -> Self {
        todo!()
    }
    /// Applies the batch at `index`, which must be the one after the last.
    pub fn apply(&mut self, _index: Index, _entry: &[u8]) -> Vec<Outcome> {
        todo!()
    }
    /// Answers a read at the applied index.
    pub fn query(&self, _query: &Query) -> Answer {
        todo!()
    }
    /// A view of the state as it is now.
    pub fn snapshot(&self) -> SnapshotHandle {
        todo!()
    }
    /// The state that a snapshot was taken of.
    pub fn restore(_body: &[u8]) -> Result<Self, BadSnapshot> {
        todo!()
    }
    /// Where the state stands.
    pub fn digests(&self) -> Digests {
        todo!()
    }
    /// Cluster time at the applied index.
    pub fn now(&self) -> Millis {
        todo!()
    }
    /// The applied index.
    pub fn applied(&self) -> Index {
        todo!()
    }
}

impl SnapshotHandle {
    /// The index it is of.
    pub fn index(&self) -> Index {
        todo!()
    }
    /// Encodes it; may take long.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}

/// Replicated limits: equal on every replica, fixed at founding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes of request keys that are remembered in all.
    pub keys_bytes_max: u64,
    /// Longest that a key is remembered, in milliseconds.
    pub keys_age_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keys_bytes_max: 256 << 20, keys_age_ms_max: 24 * 60 * 60 * 1_000 }
    }
}
