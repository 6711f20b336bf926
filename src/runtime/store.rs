//! The production store behind the runtime's seam: its work is done on a thread that may block.

use std::{io, sync::mpsc, thread::Builder};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Persist, PersistError};
use crate::{
    durable::{Staging, WriteSet},
    storage::{Fold, Store, StoreError},
    types::Index,
};

/// Something to be done with the store.
type Work = Box<dyn FnOnce(&mut Store) + Send>;

/// A [`Store`] whose transactions, which wait for the disk, run beside the event loop, on a thread of their own; and what takes
/// its journal over beside them, on another.
///
/// `spawn_blocking` would do, but hands each to another thread of a pool, and needs more calls of the system to wake it.
pub struct StoreThread {
    works: mpsc::Sender<Work>,
    /// Told when the store is closed.
    closed: oneshot::Receiver<()>,
}

impl StoreThread {
    /// Takes the store over. It is closed, soon, when this is dropped; [`Persist::close`] waits for that.
    #[allow(clippy::disallowed_methods, reason = "the simulator has a store of its own, and never comes here")]
    pub fn start(mut store: Store) -> io::Result<Self> {
        let (works, wanted) = mpsc::channel::<Work>();
        let (told, closed) = oneshot::channel();
        let (folds, offered) = mpsc::channel::<Fold>();
        Builder::new().name("fold".to_owned()).spawn(move || offered.into_iter().for_each(|fold| fold.run()))?;
        Builder::new().name("store".to_owned()).spawn(move || {
            for work in wanted {
                work(&mut store);
                // If nobody takes it, the store will do it.
                store.fold().into_iter().for_each(|fold| _ = folds.send(fold));
            }
            drop(store);
            let _ = told.send(());
        })?;
        Ok(Self { works, closed })
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PersistError> {
        let (answer, answered) = oneshot::channel();
        // If nobody is there to do it, nobody answers.
        let _ = self.works.send(Box::new(move |store| _ = answer.send(work(store))));
        let result = answered.await.map_err(|_| PersistError("a transaction did not come back".to_owned()))?;
        result.map_err(|error| PersistError(error.to_string()))
    }
}

impl Persist for StoreThread {
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

    async fn close(self) {
        drop(self.works);
        // If it panicked, whoever waited for it was told.
        let _ = self.closed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        storage::{self, OpenError, Wanted},
        types::{ClusterId, DiskId, ReplicaId, ShardId},
    };

    fn open(data_dir: &tempfile::TempDir) -> Result<Store, OpenError> {
        let wanted = Wanted { cluster: ClusterId([1; 16]), shard: ShardId::FIRST, replica: ReplicaId(1) };
        storage::open(data_dir.path(), wanted, DiskId([1; 16]), |_| {}).map(|(store, _)| store)
    }

    #[tokio::test]
    async fn a_store_is_held_until_it_is_closed_and_no_longer() {
        let data_dir = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let mut thread = StoreThread::start(open(&data_dir).unwrap()).unwrap();
            thread.commit(vec![WriteSet::default()]).await.unwrap();
            assert_eq!(open(&data_dir).map(drop).unwrap_err().code(), "STORE_LOCKED");
            thread.close().await;
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_the_store_is_closed() {
        let data_dir = tempfile::tempdir().unwrap();
        let mut thread = StoreThread::start(open(&data_dir).unwrap()).unwrap();
        let panicked = thread.run::<()>(|_| panic!("a defect")).await.unwrap_err();
        assert_eq!(panicked, PersistError("a transaction did not come back".to_owned()));
        assert_eq!(thread.commit(Vec::new()).await.unwrap_err(), panicked);
        thread.close().await;
        open(&data_dir).unwrap();
    }
}
