//! The reward pools as a deterministic state machine.
mod check;
mod command;
mod digest;
mod draw;
mod invariants;
mod keys;
mod machine;
mod names;
mod outcome;
mod paged;
mod query;
mod selector;
mod snapshot;
mod state;
mod stock;
#[cfg(test)]
mod tests;
mod verdict;

pub use check::*;
pub use command::*;
pub use machine::*;
pub use names::*;
pub use outcome::*;
pub use query::*;
pub use snapshot::SnapshotHandle;

use crate::types::{HistoryDigest, Index, StateDigest};

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

/// A snapshot's bytes that cannot be restored.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be restored: {0}")]
pub struct BadSnapshot(pub String);

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
