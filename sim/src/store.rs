//! The simulated store behind the runtime's seam: it sleeps, does its transaction within one poll, and sleeps again.
//!
//! The transaction is the production [`Store`]'s, on a simulated [`Disk`]. Nothing can come in between while it runs, so
//! power that is cut within is the disk's doing; this store says when a transaction begins and ends. Once power is off,
//! no call comes back: whatever the disk answered to a handle of a life that is over, nobody learns of it.
//!
//! How long a call takes is a number named by (seed, node, life, number of the call). The simulator's clock has steps of a
//! millisecond; what takes less only lets others run.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use tokio::{task::yield_now, time::sleep};
use tombola::{
    durable::{CHUNK_BYTES, Staging, WriteSet},
    hooks,
    runtime::{Persist, PersistError},
    storage::{Fold, Store, StoreError},
    types::{Index, ReplicaId},
};

use crate::{chance, disk::Disk, plan::DiskOptions};

/// Shortest sleep that the simulator's clock can tell from none.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// How often a slow disk is asked whether it still is.
const SLOW_STEP: Duration = Duration::from_millis(20);

/// What the store is asked for, and what comes of it; in the order in which it happens.
#[derive(Clone, Copy, Debug)]
pub enum Writing<'a> {
    /// These are handed to the disk, in one transaction.
    Handed(&'a [WriteSet]),
    /// All that were handed are reported durable.
    Durable,
    /// The last chunk of a peer's snapshot is.
    Staged,
}

/// Who follows what is written.
pub type Follower = Box<dyn Fn(Writing<'_>) + Send + Sync>;

/// A store that takes its time.
pub struct SimStore {
    store: Store,
    disk: Disk,
    options: DiskOptions,
    seed: u64,
    node: ReplicaId,
    incarnation: u64,
    /// Calls so far.
    calls: u64,
    /// What may be done beside the store's calls.
    fold: Option<Fold>,
    /// Chunks of the body that is being staged, if it is a peer's.
    chunks: Option<u32>,
    follower: Follower,
}

impl SimStore {
    /// The store of a life, on the disk that opened it.
    pub fn new(store: Store, disk: Disk, options: DiskOptions, seed: u64, node: ReplicaId, incarnation: u64) -> Self {
        let follower = Box::new(|_: Writing<'_>| {});
        Self { store, disk, options, seed, node, incarnation, calls: 0, fold: None, chunks: None, follower }
    }

    /// Tells what is written and what is durable.
    pub fn followed_by(self, follower: Follower) -> Self {
        Self { follower, ..self }
    }

    /// A call: half its time, the work within one poll, the other half. Work that writes is a commit to the disk.
    async fn call<T>(
        &mut self,
        is_commit: bool,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, PersistError> {
        self.calls += 1;
        let (before, after) = self.latency();
        self.wait(before).await;
        self.fold().await;
        if is_commit {
            self.disk.begin_commit();
        }
        let failed = self.disk.failures();
        let result = work(&mut self.store).map_err(|error| PersistError(error.to_string()));
        self.fold = self.store.fold().or(self.fold.take());
        if result.is_ok() && self.disk.failures() > failed {
            hooks::sometimes("write_error_absorbed");
        }
        if is_commit {
            self.disk.end_commit();
        }
        self.stop_without_power().await;
        self.wait(after).await;
        result
    }

    /// Takes the journal over if that is due: now, or before a later call, or never, and the store has to.
    async fn fold(&mut self) {
        let number = chance::number(self.seed, "journal is taken over", &[self.node.0, self.incarnation, self.calls]);
        if !chance::happens(number, 300_000) {
            return;
        }
        if let Some(fold) = self.fold.take() {
            self.disk.begin_commit();
            fold.run();
            self.disk.end_commit();
            hooks::sometimes("journal_folded_beside");
            self.stop_without_power().await;
        }
    }

    /// How long this call takes, before its work and after it.
    fn latency(&self) -> (Duration, Duration) {
        let DiskOptions { commit_us_min, commit_us_max } = self.options;
        let number = |purpose| chance::number(self.seed, purpose, &[self.node.0, self.incarnation, self.calls]);
        let range = u64::from(commit_us_max.saturating_sub(commit_us_min)) + 1;
        let latency = u64::from(commit_us_min) + number("latency of the disk") % range;
        let before = number("when the disk does its work") % (latency + 1);
        (Duration::from_micros(before), Duration::from_micros(latency - before))
    }

    /// Waits so long, and as long as the disk is slow.
    async fn wait(&self, latency: Duration) {
        match latency < SLEEP_MIN {
            true => yield_now().await,
            false => sleep(latency).await,
        }
        let mut waited = Duration::ZERO;
        while let more = self.disk.slow() / 2
            && waited < more
        {
            let step = SLOW_STEP.min(more - waited).max(SLEEP_MIN);
            sleep(step).await;
            waited += step;
        }
        self.stop_without_power().await;
    }

    /// Power may be cut here.
    async fn crash_point(&self, name: &'static str) {
        hooks::crash_point(name);
        self.stop_without_power().await;
    }

    async fn stop_without_power(&self) {
        if !self.disk.is_live(self.incarnation) {
            pending::<()>().await;
        }
    }
}

impl Persist for SimStore {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        self.crash_point("before_commit").await;
        (self.follower)(Writing::Handed(&writes));
        self.call(true, |store| store.commit(&writes)).await?;
        self.crash_point("after_commit_before_report").await;
        if writes.iter().any(|write| write.snapshot.is_some()) {
            self.crash_point("compacted").await;
        }
        (self.follower)(Writing::Durable);
        Ok(())
    }

    async fn begin(&mut self, staging: Staging) -> Result<u32, PersistError> {
        self.chunks = match &staging {
            Staging::Received(meta) => Some(meta.chunks()),
            Staging::Own { .. } => None,
        };
        self.call(true, |store| store.begin(&staging)).await
    }

    async fn stage(&mut self, number: u32, chunk: Bytes) -> Result<(), PersistError> {
        // How long an own body is, only its last chunk says, which is shorter unless the lengths happen to fit.
        let is_last = chunk.len() < CHUNK_BYTES || self.chunks == Some(number + 1);
        self.call(true, |store| store.stage(number, &chunk)).await?;
        if is_last {
            if self.chunks.is_some() {
                (self.follower)(Writing::Staged);
            }
            self.crash_point("snapshot_staged").await;
        }
        Ok(())
    }

    async fn chunk(&mut self, snapshot: Index, number: u32) -> Result<Option<Bytes>, PersistError> {
        self.call(false, |store| store.chunk(snapshot, number)).await
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        self.call(true, Store::clean).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use madsim::runtime::Runtime;
    use tokio::time::{Instant, timeout};
    use tombola::{
        durable::{Founders, FoundingWrite},
        pool::Limits,
        storage::Wanted,
        types::{ClusterId, DiskId, ShardId},
    };

    use super::*;
    use crate::plan::Keep;

    const NODE: ReplicaId = ReplicaId(1);

    fn opened(disk: &Disk, incarnation: u64) -> SimStore {
        let wanted = Wanted { cluster: ClusterId([1; 16]), shard: ShardId::FIRST, replica: NODE };
        let (store, _) = disk.open(incarnation, wanted, DiskId([1; 16])).unwrap();
        let options = DiskOptions { commit_us_min: 4_000, commit_us_max: 9_000 };
        SimStore::new(store, disk.clone(), options, 1, NODE, incarnation)
    }

    fn binding() -> Vec<WriteSet> {
        let disks = BTreeMap::from([(NODE, DiskId([1; 16]))]);
        let founders = Founders { cluster: ClusterId([1; 16]), limits: Limits::default(), disks };
        vec![WriteSet { founding: Some(FoundingWrite::Prepare(founders)), ..WriteSet::default() }]
    }

    #[test]
    fn a_call_takes_its_time_and_tells_what_is_durable() {
        Runtime::with_seed_and_config(1, Default::default()).block_on(async {
            let events = Arc::new(Mutex::new(Vec::new()));
            let told = events.clone();
            let mut store = opened(&Disk::new(1, NODE), 1).followed_by(Box::new(move |writing| {
                told.lock().unwrap().push(match writing {
                    Writing::Handed(sets) => sets.len(),
                    Writing::Durable | Writing::Staged => 0,
                });
            }));
            for _ in 0..20 {
                let begun = Instant::now();
                store.commit(binding()).await.unwrap();
                let took = begun.elapsed().as_millis();
                assert!((2..=12).contains(&took), "{took}");
            }
            assert_eq!(*events.lock().unwrap(), [1, 0].repeat(20));
        });
    }

    #[test]
    fn a_stall_lasts_until_it_is_healed() {
        Runtime::with_seed_and_config(1, Default::default()).block_on(async {
            let disk = Disk::new(1, NODE);
            let mut store = opened(&disk, 1);
            disk.set_slow(Duration::MAX);
            let mut commit = Box::pin(store.commit(binding()));
            assert!(timeout(Duration::from_secs(60), &mut commit).await.is_err());
            disk.heal();
            timeout(Duration::from_millis(60), commit).await.unwrap().unwrap();
        });
    }

    #[test]
    fn once_power_is_off_no_call_comes_back() {
        Runtime::with_seed_and_config(1, Default::default()).block_on(async {
            for operations in 0..8 {
                let disk = Disk::new(1, NODE);
                let mut store = opened(&disk, 1);
                disk.cut_power_in(operations, Box::new(|| {}));
                let reported = timeout(Duration::from_secs(60), store.commit(binding())).await;
                assert!(reported.is_err(), "power was cut after {operations} operations");
                disk.crash(Keep::Torn);
                drop(store);
                opened(&disk, 2).commit(binding()).await.unwrap();
                assert_eq!(disk.check(), Ok(()));
            }
        });
    }
}
