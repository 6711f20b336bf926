//! The reward pools as a deterministic state machine: the same entries make the same state, the same answers and the same
//! digests, on every replica, in every build.
//!
//! **Shape.** [`StateMachine::apply`] takes an entry of the log, an encoded [`Batch`], and gives one [`Outcome`] a
//! [`Command`]. It cannot fail: what a command may not do is a [`Refusal`], an outcome like any other, replicated and final;
//! what a command cannot mean is refused before it is proposed ([`Command::check`]), and again here. An entry that is no
//! batch does nothing. A broken invariant panics, since a state that is not what it says must not answer anyone.
//!
//! **An entry** (`entry`), **in order** (`machine`): time is the greater of the last and the batch's; keys that time has taken away are
//! forgotten; the commands, one after the other, each first looked up under its request key (`keys`), then executed
//! (`state`, over `stock`); the counters of what was touched are checked; both digests follow (`digest`). What a command gave
//! is written once, compactly (`verdict`), as the keys and the history have it; the words of an outcome are made of that, and
//! only where somebody waits for them.
//!
//! **A draw** (`draw`, `selector`) is one ChaCha word a step, keyed by the entropy that the leader stamped on the batch, made
//! a ticket below the sum of weights by integers alone, and the first item whose running sum exceeds it. It is decided where
//! the entry is applied, against the state at that index, by every replica for itself.
//!
//! **Snapshots** (`snapshot`) are views that share the state's pages (`paged`, `keys`): taken at once, encoded elsewhere
//! while the state moves on, byte for byte the same on every replica. What can be derived is not in them. Restoring one
//! (`restore`) believes nothing of it. Neither way holds the bytes as a whole.
//!
//! **Nothing takes long**, however large the state, but what is done elsewhere: a snapshot, the write beside one, forgetting
//! the keys of five seconds ([`Garbage`]).
//!
//! **What it has none of**: clocks, randomness of the operating system, floats, threads, I/O, and iteration over anything
//! hashed. Time and entropy come in the batch, and what is hashed, keys and the names of a draw's `steps`, is looked up
//! and never walked.
//!
//! **Deliberately absent** so far: holds, user limits, pity, windows and pacing, revocation, archiving and events. The
//! counters `reserved` and `returned` stand in every format already, at 0, so that holds and revocation need no new one.

mod check;
mod command;
mod digest;
mod draw;
mod entry;
mod garbage;
mod invariants;
mod keys;
mod machine;
mod names;
mod outcome;
mod paged;
mod query;
mod restore;
mod selector;
mod snapshot;
mod state;
mod steps;
mod stock;
#[cfg(test)]
mod tests;
mod verdict;

pub use check::*;
pub use command::*;
pub use garbage::Garbage;
pub use keys::KeyStats;
pub use machine::*;
pub use names::*;
pub use outcome::*;
pub use query::*;
pub use restore::{BadSnapshot, Restorer};
pub use snapshot::SnapshotHandle;
pub use steps::Steps;

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

/// Replicated limits: equal on every replica, fixed at founding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes of request keys that are remembered in all, as the pool counts them; administrative commands have 16 MiB more.
    /// While all keys are younger than 30 s it may be exceeded up to twice.
    pub keys_bytes_max: u64,
    /// Longest that a key is remembered, in milliseconds.
    pub keys_age_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keys_bytes_max: 256 << 20, keys_age_ms_max: 24 * 60 * 60 * 1_000 }
    }
}
