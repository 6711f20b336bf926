//! What a node takes from the operating system: time, entropy, and a disk that may take its time.

use std::time::{Duration, SystemTime};

use rand::{TryRng, rngs::SysRng};
use tokio::task::spawn_blocking;

use crate::{
    durable::WriteSet,
    runtime::{Environment, NoEntropy, Persist, PersistError},
    storage::Store,
    types::Millis,
};

/// This machine's clock and entropy.
#[derive(Debug)]
pub struct Machine {
    /// Length of a tick.
    pub tick: Duration,
}

impl Environment for Machine {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        SysRng.try_fill_bytes(bytes).map_err(|_| NoEntropy)
    }

    fn wall(&mut self) -> Millis {
        // Before 1970 there was no draw: a clock that says so is as wrong as one at 1970.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn tick(&self) -> Duration {
        self.tick
    }
}

/// A store whose fsyncs happen on tokio's threads for blocking work.
pub struct Disk {
    /// Absent while a commit runs, and for good if one was given up: nobody knows what it did.
    store: Option<Store>,
}

impl Disk {
    /// The store, made asynchronous.
    pub fn new(store: Store) -> Self {
        Self { store: Some(store) }
    }
}

impl Persist for Disk {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        let mut store = self.store.take().ok_or_else(|| PersistError("a commit before was given up".to_owned()))?;
        let committed = spawn_blocking(move || {
            let result = store.commit(&writes);
            (store, result)
        });
        let (store, result) = committed.await.map_err(|error| PersistError(error.to_string()))?;
        self.store = Some(store);
        result.map_err(|error| PersistError(error.to_string()))
    }
}
