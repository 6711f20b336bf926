//! Where the simulator looks in: its build's twin of `hooks.rs`. Whoever runs the simulation installs a [`Watcher`], which
//! knows by the task that runs whose life it is looking at.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;

use crate::{
    replica::Status,
    types::{Index, Term},
};

/// Bytes of a snapshot's chunk: so few that what a simulated cluster holds takes some, as a real one's does.
pub const CHUNK_BYTES: usize = 4_000;

/// What looks in. Each is told on the task of the node that it is about.
pub trait Watcher {
    /// Power may be cut here.
    fn crash_point(&self, name: &'static str);
    /// A rare state was reached.
    fn sometimes(&self, name: &'static str);
    /// Is the bug of this name planted?
    fn is_planted(&self, bug: &'static str) -> bool;
    /// A number that differs from node to node and from call to call.
    fn whim(&self) -> u64;
    /// An entry was applied.
    fn applied(&self, index: Index, term: Term, data: &Bytes);
    /// A replica goes on from a state of this index.
    fn restored(&self, index: Index);
    /// A key was answered out of memory, with what it was told at this index.
    fn remembered(&self, index: Index);
    /// Most memory of a store for pages, for those who usually have so much.
    fn cache_bytes(&self, usual: usize) -> usize;
    /// A turn of a node's loop is over.
    fn turned(&self, status: Status);
}

thread_local! {
    static WATCHER: RefCell<Option<Arc<dyn Watcher>>> = const { RefCell::new(None) };
}

/// From now on this watcher looks in on what this thread runs; or nobody does.
pub fn install(watcher: Option<Arc<dyn Watcher>>) {
    WATCHER.set(watcher);
}

fn watch<T>(look: impl FnOnce(&dyn Watcher) -> T) -> Option<T> {
    let watcher = WATCHER.with_borrow(Clone::clone);
    watcher.map(|watcher| look(&*watcher))
}

/// Power may be cut here.
pub fn crash_point(name: &'static str) {
    watch(|watcher| watcher.crash_point(name));
}

/// A rare state was reached: over enough seeds, each of these must be.
pub fn sometimes(name: &'static str) {
    watch(|watcher| watcher.sometimes(name));
}

/// Is the bug of this name planted?
pub fn is_planted(bug: &'static str) -> bool {
    watch(|watcher| watcher.is_planted(bug)).unwrap_or(false)
}

/// A number that differs from node to node and from call to call: what a planted bug takes for chance, or for its clock.
pub fn whim() -> u64 {
    watch(|watcher| watcher.whim()).unwrap_or(0)
}

/// An entry was applied.
pub fn applied(index: Index, term: Term, data: &Bytes) {
    watch(|watcher| watcher.applied(index, term, data));
}

/// A replica goes on from a state of this index: at its start, or when a snapshot was installed.
pub fn restored(index: Index) {
    watch(|watcher| watcher.restored(index));
}

/// A key was answered out of memory, with what it was told at this index.
pub fn remembered(index: Index) {
    watch(|watcher| watcher.remembered(index));
}

/// Most memory of a store for pages, for those who usually have so much.
pub fn cache_bytes(usual: usize) -> usize {
    watch(|watcher| watcher.cache_bytes(usual)).unwrap_or(usual)
}

/// A turn of a node's loop is over.
pub fn turned(status: impl FnOnce() -> Status) {
    watch(|watcher| watcher.turned(status()));
}
