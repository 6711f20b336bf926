//! The production store behind the runtime's seam: commits on a thread that may block.

use super::{Persist, PersistError};
use crate::{durable::WriteSet, storage::Store};

/// A [`Store`] whose commits, which wait for the disk, run beside the event loop.
pub struct Blocking {
    /// Missing while it commits; and for good if the commit panicked.
    store: Option<Store>,
}

impl Blocking {
    /// Takes the store over, until the node ends.
    pub fn new(store: Store) -> Self {
        Self { store: Some(store) }
    }
}

impl Persist for Blocking {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        let Some(mut store) = self.store.take() else {
            return Err(PersistError("an earlier commit did not come back".to_owned()));
        };
        let commit = tokio::task::spawn_blocking(move || {
            let result = store.commit(&writes);
            (store, result)
        });
        let (store, result) = commit.await.map_err(|error| PersistError(error.to_string()))?;
        self.store = Some(store);
        result.map_err(|error| PersistError(error.to_string()))
    }
}
