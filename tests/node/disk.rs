//! A disk in memory: what the store promises of it, and what can go wrong with it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tombola::{
    durable::{
        CHUNK_BYTES, Entry, Founders, FoundingWrite, HardState, RecoveredLog, RecoveredState, Snapshot, SnapshotMeta,
        SnapshotWrite, Staging, WriteSet,
    },
    runtime::{Persist, PersistError},
    types::{Genesis, Index, Term},
};

use crate::world::TICK;

/// What a disk holds.
#[derive(Default)]
struct Image {
    prepared: Option<Founders>,
    genesis: Option<Genesis>,
    newest: Option<Snapshot>,
    truncated: (Index, Term),
    hard_state: HardState,
    entries: Vec<Entry>,
    staged: Option<(Staging, Vec<Bytes>)>,
    /// How much there is to clean up.
    garbage: usize,
    /// Handles of earlier incarnations write nothing.
    incarnation: u64,
    fails: bool,
    held: Option<Held>,
    counts: Counts,
    /// Chunks that were staged of the received bodies of snapshots at these indexes.
    received: BTreeMap<Index, usize>,
}

/// An operation that does not come back until its process is gone, or it is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Staging the chunk of this number of a received body.
    Staging(u32),
    /// Reading the chunk of this number.
    Reading(u32),
}

/// What a disk has seen since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Snapshots of its node's own that became the newest.
    pub taken: usize,
    /// Snapshots of others that became the newest.
    pub installed: usize,
    /// Operations that were held up.
    pub held: usize,
    /// The most entries that the log had.
    pub entries_max: usize,
}

impl Image {
    fn write(&mut self, write: WriteSet) -> Result<(), String> {
        match write.founding {
            Some(FoundingWrite::Prepare(founders)) => self.prepared = Some(founders),
            Some(FoundingWrite::Found(snapshot)) => {
                self.genesis = Some(snapshot.meta.genesis());
                self.truncated = (snapshot.meta.index, snapshot.meta.term);
                self.newest = Some(snapshot);
            }
            None => {}
        }
        if let Some(SnapshotWrite::Installed { meta }) = &write.snapshot {
            self.flip(Staging::Received(meta.clone()), meta)?;
            self.garbage += self.entries.len();
            self.entries.clear();
            self.truncated = (meta.index, meta.term);
            self.counts.installed += 1;
        }
        if let Some(first) = write.entries.first() {
            let next = self.entries.last().map_or(self.truncated.0, |last| last.index).next();
            if first.index > next || first.index <= self.hard_state.commit {
                return Err(format!("entries from {} on, where {next} is the next", first.index));
            }
            self.entries.retain(|entry| entry.index < first.index);
        }
        self.entries.extend(write.entries);
        self.counts.entries_max = self.counts.entries_max.max(self.entries.len());
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(SnapshotWrite::Taken { meta, truncated }) = &write.snapshot {
            self.flip(Staging::Own { index: meta.index }, meta)?;
            if truncated.0 > meta.index || truncated.0 < self.truncated.0 || meta.index > self.hard_state.commit {
                return Err(format!("a snapshot at {} whose log begins after {}", meta.index, truncated.0));
            }
            self.garbage += self.entries.iter().filter(|entry| entry.index <= truncated.0).count();
            self.entries.retain(|entry| entry.index > truncated.0);
            self.truncated = *truncated;
            self.counts.taken += 1;
        }
        Ok(())
    }

    /// What is staged becomes the newest snapshot.
    fn flip(&mut self, staging: Staging, meta: &SnapshotMeta) -> Result<(), String> {
        let Some((found, body)) = self.staged.take() else { return Err("nothing is staged".to_owned()) };
        let sha256: [u8; 32] = Sha256::digest(body.concat()).into();
        if found != staging || body.len() as u64 != u64::from(meta.chunks()) || sha256 != meta.body_sha256 {
            return Err(format!("{found:?} is staged, with {} chunks, not {staging:?}", body.len()));
        }
        self.garbage += self.newest.as_ref().map_or(0, |newest| newest.body.len());
        self.newest = Some(Snapshot { meta: meta.clone(), body });
        Ok(())
    }

    fn begin(&mut self, staging: Staging) -> u32 {
        match &self.staged {
            Some((found @ Staging::Received(_), body)) if *found == staging => body.len() as u32,
            _ => {
                self.garbage += self.staged.take().map_or(0, |(_, body)| body.len());
                self.staged = Some((staging, Vec::new()));
                0
            }
        }
    }

    fn stage(&mut self, number: u32, chunk: Bytes) -> Result<(), String> {
        let Some((staging, body)) = &mut self.staged else { return Err("nothing is staged".to_owned()) };
        if number as usize != body.len() || body.last().is_some_and(|last| last.len() != CHUNK_BYTES) {
            return Err(format!("chunk {number} after {} of {staging:?}", body.len()));
        }
        body.push(chunk);
        if let Staging::Received(meta) = staging {
            *self.received.entry(meta.index).or_default() += 1;
        }
        Ok(())
    }

    fn chunk(&self, snapshot: Index, number: u32) -> Option<Bytes> {
        let newest = self.newest.as_ref().map(|newest| (newest.meta.index, &newest.body));
        let staged = self.staged.as_ref().map(|(staging, body)| (staging.index(), body));
        let of_it = [newest, staged].into_iter().flatten().find(|(index, _)| *index == snapshot);
        of_it.and_then(|(_, body)| body.get(number as usize).cloned())
    }

    fn state(&self) -> RecoveredState {
        match (&self.newest, self.genesis) {
            (Some(snapshot), Some(genesis)) => RecoveredState::Founded(RecoveredLog {
                genesis,
                hard_state: self.hard_state,
                snapshot: snapshot.clone(),
                truncated: self.truncated,
                entries: self.entries.clone(),
            }),
            _ => RecoveredState::Unfounded { prepared: self.prepared.clone() },
        }
    }
}

/// A disk that keeps what was committed, and can be made to stall, to fail, or to spoil what it holds.
#[derive(Clone, Default)]
pub struct Disk {
    image: Arc<Mutex<Image>>,
    /// Commits pass while there is a permit to be had.
    stalled: Arc<tokio::sync::Mutex<()>>,
    /// How long each takes, in milliseconds.
    slow_ms: Arc<AtomicU64>,
}

impl Disk {
    fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().expect("no panic holds it")
    }

    /// Lets no commit pass until the guard is dropped.
    pub async fn stall(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.stalled.clone().lock_owned().await
    }

    /// Lets every commit take so long.
    pub fn slow(&self, takes: Duration) {
        self.slow_ms.store(takes.as_millis() as u64, Ordering::Relaxed);
    }

    /// Fails every commit from now on.
    pub fn fail(&self) {
        self.image().fails = true;
    }

    /// Holds an operation up; `None` lets it go.
    pub fn hold(&self, held: Option<Held>) {
        self.image().held = held;
    }

    /// Changes a byte of the newest snapshot's body.
    pub fn spoil(&self) {
        let mut image = self.image();
        let chunk = image.newest.as_mut().and_then(|newest| newest.body.last_mut()).expect("there is a snapshot");
        let mut bytes = chunk.to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        *chunk = bytes.into();
    }

    /// What it has seen.
    pub fn counts(&self) -> Counts {
        self.image().counts
    }

    /// How many chunks of the snapshot at this index were ever received and staged.
    pub fn received_of(&self, index: Index) -> usize {
        self.image().received.get(&index).copied().unwrap_or_default()
    }

    /// How many chunks are staged of a received body.
    pub fn received(&self) -> Option<usize> {
        let image = self.image();
        let received = image.staged.as_ref().filter(|(staging, _)| matches!(staging, Staging::Received(_)));
        received.map(|(_, body)| body.len())
    }

    /// Index and chunks of the newest snapshot.
    pub fn newest(&self) -> (Index, usize) {
        self.image().newest.as_ref().map_or((Index(0), 0), |newest| (newest.meta.index, newest.body.len()))
    }

    /// How much there is to clean up.
    pub fn garbage(&self) -> usize {
        self.image().garbage
    }

    /// A process starts on it, or ends: what an earlier one still does comes to nothing.
    pub fn begin_incarnation(&self) -> (RecoveredState, Handle) {
        let mut image = self.image();
        image.incarnation += 1;
        // What a process has staged of its own state is worth nothing to the next.
        if let Some((Staging::Own { .. }, body)) = &image.staged {
            image.garbage += body.len();
            image.staged = None;
        }
        (image.state(), Handle { disk: self.clone(), incarnation: image.incarnation })
    }
}

/// A process's way to its disk.
pub struct Handle {
    disk: Disk,
    incarnation: u64,
}

impl Handle {
    /// Does something, some time later. If the process is gone meanwhile, it never comes back: an error would be one more
    /// thing that the process sees, and ends by itself, before it is taken away.
    async fn run<T>(&self, what: impl FnOnce(&mut Image) -> Result<T, String>) -> Result<T, PersistError> {
        tokio::task::yield_now().await;
        match self.run_alive(what) {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    /// Does something at once; `None` if the process is gone.
    fn run_alive<T>(&self, what: impl FnOnce(&mut Image) -> Result<T, String>) -> Option<Result<T, PersistError>> {
        let mut image = self.disk.image();
        match image.incarnation == self.incarnation {
            true if image.fails => Some(Err(PersistError("unplugged".to_owned()))),
            true => Some(what(&mut image).map_err(PersistError)),
            false => None,
        }
    }

    async fn pass(&self, what: Held) {
        let mut is_counted = false;
        loop {
            {
                let mut image = self.disk.image();
                if image.held != Some(what) || image.incarnation != self.incarnation {
                    return;
                }
                image.counts.held += usize::from(!is_counted);
                is_counted = true;
            }
            tokio::time::sleep(TICK / 10).await;
        }
    }
}

impl Persist for Handle {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        let passes = self.disk.stalled.lock().await;
        match self.disk.slow_ms.load(Ordering::Relaxed) {
            0 => tokio::task::yield_now().await,
            takes_ms => tokio::time::sleep(Duration::from_millis(takes_ms)).await,
        }
        match self.run_alive(|image| writes.into_iter().try_for_each(|write| image.write(write))) {
            Some(result) => result,
            None => {
                // The next process shall not wait for one that is gone.
                drop(passes);
                std::future::pending().await
            }
        }
    }

    async fn begin(&mut self, staging: Staging) -> Result<u32, PersistError> {
        self.run(|image| Ok(image.begin(staging))).await
    }

    async fn stage(&mut self, number: u32, chunk: Bytes) -> Result<(), PersistError> {
        if self.disk.received().is_some() {
            self.pass(Held::Staging(number)).await;
        }
        self.run(|image| image.stage(number, chunk)).await
    }

    async fn chunk(&mut self, snapshot: Index, number: u32) -> Result<Option<Bytes>, PersistError> {
        self.pass(Held::Reading(number)).await;
        self.run(|image| Ok(image.chunk(snapshot, number))).await
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        self.run(|image| {
            image.garbage = image.garbage.saturating_sub(8);
            Ok(image.garbage > 0)
        })
        .await
    }
}
