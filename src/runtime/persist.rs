//! WriteSets on their way to the store, in order, off the loop.

use std::future::Future;

use crate::durable::WriteSet;

/// The store as the runtime sees it: asynchronous, so that production can sync on a thread of its own and the
/// simulator can take its time.
pub trait Persist: Send + 'static {
    /// Makes the WriteSets durable, in one transaction, in order. An error is final: it is never retried.
    fn commit(&mut self, writes: Vec<WriteSet>) -> impl Future<Output = Result<(), PersistError>> + Send;
}

/// The store failed; the node must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct PersistError(pub String);
