//! The production store behind the runtime's seam: its work is done on a thread that may block.

use bytes::Bytes;

use super::{Persist, PersistError};
use crate::{
    durable::{Staging, WriteSet},
    storage::{Store, StoreError},
    types::Index,
};

/// A [`Store`] whose transactions, which wait for the disk, run beside the event loop.
pub struct Blocking {
    /// Missing while it works; and for good if that panicked.
    store: Option<Store>,
}

impl Blocking {
    /// Takes the store over, until the node ends.
    pub fn new(store: Store) -> Self {
        Self { store: Some(store) }
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PersistError> {
        let Some(mut store) = self.store.take() else {
            return Err(PersistError("an earlier transaction did not come back".to_owned()));
        };
        let work = tokio::task::spawn_blocking(move || {
            let result = work(&mut store);
            (store, result)
        });
        let (store, result) = work.await.map_err(|error| PersistError(error.to_string()))?;
        self.store = Some(store);
        result.map_err(|error| PersistError(error.to_string()))
    }
}

impl Persist for Blocking {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        self.run(move |store| store.commit(&writes)).await
    }

    async fn begin(&mut self, staging: Staging) -> Result<u32, PersistError> {
        self.run(move |store| store.begin(&staging)).await
    }

    async fn stage(&mut self, number: u32, chunk: Bytes) -> Result<(), PersistError> {
        self.run(move |store| store.stage(number, &chunk)).await
    }

    async fn chunk(&mut self, snapshot: Index, number: u32) -> Result<Option<Bytes>, PersistError> {
        self.run(move |store| store.chunk(snapshot, number)).await
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        self.run(Store::clean).await
    }
}
