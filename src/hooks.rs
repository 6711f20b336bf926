//! Where the simulator looks in. In this build nobody does: every hook is empty, and the compiler leaves nothing of it. Its
//! twin is `hooks_simulated.rs`; `lib.rs` chooses.

use bytes::Bytes;

use crate::{
    replica::Status,
    types::{Index, Term},
};

/// Bytes of a snapshot's chunk: see [`crate::durable::CHUNK_BYTES`].
pub const CHUNK_BYTES: usize = (256 << 10) - 256;

/// Power may be cut here.
#[inline(always)]
pub fn crash_point(_name: &'static str) {}

/// A rare state was reached: over enough seeds, each of these must be.
#[inline(always)]
pub fn sometimes(_name: &'static str) {}

/// Is the bug of this name planted?
#[inline(always)]
pub const fn is_planted(_bug: &'static str) -> bool {
    false
}

/// A number that differs from node to node and from call to call: what a planted bug takes for chance, or for its clock.
#[inline(always)]
pub const fn whim() -> u64 {
    0
}

/// An entry was applied.
#[inline(always)]
pub fn applied(_index: Index, _term: Term, _data: &Bytes) {}

/// A replica goes on from a state of this index: at its start, or when a snapshot was installed.
#[inline(always)]
pub fn restored(_index: Index) {}

/// A key was answered out of memory, with what it was told at this index.
#[inline(always)]
pub fn remembered(_index: Index) {}

/// Most memory of a store for pages, for those who usually have so much.
#[inline(always)]
pub const fn cache_bytes(usual: usize) -> usize {
    usual
}

/// A turn of a node's loop is over.
#[inline(always)]
pub fn turned(_status: impl FnOnce() -> Status) {}
