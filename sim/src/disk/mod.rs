//! A node's disk: what is written is pending until it is synced, and a power cut keeps of it what it likes.
//!
//! **What it promises** is as little as redb asks of a disk: what was synced stays; of what was not, each sector of 512
//! bytes is old, new, or new up to some byte, and so is the length, each on its own. Every choice is a number named by
//! (seed, node, incarnation, sector): none depends on how often anything was asked before.
//!
//! **Incarnations.** A [`Disk::open`] belongs to one life of the node. [`Disk::fence`] ends that life at once: whatever its
//! handle asks for from then on, the closing of redb's database included, gets an error and changes nothing. One place
//! decides that (`Handle::begin`), another looks that it did: [`Disk::check`] fails if a stale handle changed a byte.
//! A fence without a crash is a killed process: what it had written stays pending, and visible.
//!
//! **Faults.** Power cut in the middle of a commit, an operation that fails, no more room, a sync that lies; and, while the
//! node is down, a bit that rots and a disk that is lost. What damages durable data is for the [`atlas`] to allow. A sync
//! that fails is as bad as on Linux: what it should have written counts as written, and never will be, however often
//! one asks.
//!
//! **What is absent.** Time: redb cannot wait, so latency is the asynchronous store's. Pages that are read wrong once and
//! right later, writes that go elsewhere, and a rename that is durable before what it names.

pub mod atlas;
mod backend;
mod file;
mod image;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tombola::{
    durable::{Identity, Recovered},
    storage::{self, Store, StoreError, Wanted},
    types::{DiskId, ReplicaId},
};

pub use self::file::Part;
use self::{
    backend::Handle,
    file::{File, Left},
};
use crate::{
    chance,
    plan::{DiskOperation, Keep},
};

/// A node's disk; clones share it.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

/// Which byte was changed at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotten {
    /// What it belongs to.
    pub part: Part,
    /// Its offset in the file.
    pub at: u64,
}

/// What a disk failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// An operation of that kind.
    Operation(DiskOperation),
    /// It had no room.
    Full,
}

/// What there is, and what is to go wrong.
struct Platter {
    seed: u64,
    node: ReplicaId,
    /// Whose handle counts; nobody's after a fence.
    live: Option<u64>,
    /// The last life that opened it.
    incarnation: Option<u64>,
    /// What is being made, under a name that is never opened.
    new: Option<File>,
    /// What bears the store's name.
    store: Option<File>,
    /// A power cut cannot take the name back any more.
    is_name_durable: bool,
    /// Operations that will fail: the n-th that comes, counted from 1.
    failing: Vec<(DiskOperation, u32)>,
    failed: Option<Failing>,
    /// Power was cut when a commit had changed something, and not ended.
    is_half_done: bool,
    is_full: bool,
    lies: bool,
    /// How much longer each call takes; for whoever keeps time.
    slow: Duration,
    cut: Option<Cut>,
    /// Operations of the commit that goes on, if one does.
    commit: Option<u32>,
    is_fence_off: bool,
    /// How often a handle changed something after its life.
    stale_changes: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// A power cut to come, in the middle of a commit.
struct Cut {
    operations: u32,
    tell: Box<dyn FnOnce() + Send>,
}

impl Disk {
    /// An empty disk. The seed and the node name its chances.
    pub fn new(seed: u64, node: ReplicaId) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            seed,
            node,
            live: None,
            incarnation: None,
            new: None,
            store: None,
            is_name_durable: false,
            failing: Vec::new(),
            failed: None,
            is_half_done: false,
            is_full: false,
            lies: false,
            slow: Duration::ZERO,
            cut: None,
            commit: None,
            is_fence_off: false,
            stale_changes: 0,
            counts: BTreeMap::new(),
        })))
    }

    /// Opens the store for a life of the node, as `storage::open` does for production: a leftover is removed; if there is no
    /// store, one is made under another name, synced and renamed, on `new_disk`; and the name is durable before anything
    /// is promised on it. Whatever was open before is fenced.
    ///
    /// # Panics
    /// If a life comes back.
    pub fn open(&self, incarnation: u64, wanted: Wanted, new_disk: DiskId) -> Result<(Store, Recovered), StoreError> {
        self.begin_life(incarnation);
        // Making a store and mending one after a crash write too, and power may go meanwhile.
        self.begin_commit();
        let opened = self.open_store(incarnation, wanted, new_disk);
        self.end_commit();
        opened
    }

    fn open_store(&self, incarnation: u64, wanted: Wanted, new_disk: DiskId) -> Result<(Store, Recovered), StoreError> {
        if self.platter().store.is_none() {
            let new = File::new(1 + self.journal_pages());
            self.platter().new = Some(new);
            let new = Handle::new(self.clone(), incarnation, backend::Name::New);
            let Wanted { cluster, shard, replica } = wanted;
            storage::create(
                new.clone(),
                Identity { cluster, shard, replica, disk: new_disk },
                (self.journal_pages() * image::PAGE_BYTES) as u64,
            )?;
            new.sync_and_rename().map_err(|source| failed("make the store", source))?;
        }
        let handle = Handle::new(self.clone(), incarnation, backend::Name::Store);
        handle.sync_directory().map_err(|source| failed("sync the directory", source))?;
        Store::open(handle, wanted, |_| {})
    }

    /// A short journal is taken over often, a long one grows; one whose halves are single pages holds two records.
    fn journal_pages(&self) -> usize {
        let platter = self.platter();
        let lengths = [2, 6, 20, 100];
        lengths[chance::number(platter.seed, "length of the journal", &[platter.node.0]) as usize % lengths.len()]
    }

    fn begin_life(&self, incarnation: u64) {
        let mut platter = self.platter();
        assert!(platter.incarnation < Some(incarnation), "life {incarnation} of node {} comes back", platter.node);
        (platter.incarnation, platter.live) = (Some(incarnation), Some(incarnation));
        (platter.failed, platter.commit) = (None, None);
        if platter.new.take().is_some() {
            platter.count("disk: leftover removed");
        }
    }

    /// At once: nothing of the present life reaches the disk any more.
    pub fn fence(&self) {
        self.platter().live = None;
    }

    /// Is this the life whose handle counts?
    pub fn is_live(&self, incarnation: u64) -> bool {
        self.platter().live == Some(incarnation)
    }

    /// Power is cut: what is left of what was pending. It lies no longer, and has room again only if told so.
    ///
    /// # Panics
    /// If nobody fenced it before.
    pub fn crash(&self, keep: Keep) {
        let platter = &mut *self.platter();
        assert!(platter.live.is_none(), "a crash of node {} without a fence", platter.node);
        let left = platter.cut_power(keep);
        platter.lies = false;
        platter.count("disk: crash");
        for (name, happened) in [
            ("disk: sector kept", left.kept),
            ("disk: sector dropped", left.dropped),
            ("disk: sector torn", left.torn),
            ("disk: length dropped", u64::from(left.is_length_dropped)),
        ] {
            if happened > 0 {
                *platter.counts.entry(name).or_default() += happened;
            }
        }
    }

    /// Cuts power during the next commit, after so many operations of it that change something, or at its end if it has
    /// fewer: fences itself, and calls. One at a time; a later one takes the place of one that did not come to pass.
    pub fn cut_power_in(&self, operations: u32, tell: Box<dyn FnOnce() + Send>) {
        self.platter().cut = Some(Cut { operations, tell });
    }

    /// A commit begins, of whoever's handle counts.
    pub fn begin_commit(&self) {
        self.platter().commit = Some(0);
    }

    /// It is over.
    pub fn end_commit(&self) {
        let mut platter = self.platter();
        let did_something = platter.commit.take().is_some_and(|operations| operations > 0);
        if did_something && let Some(tell) = platter.take_cut() {
            drop(platter);
            tell();
        }
    }

    /// Fails the n-th of the operations of that kind that come, counted from 1.
    pub fn fail(&self, operation: DiskOperation, nth: u32) {
        self.platter().failing.push((operation, nth.max(1)));
    }

    /// Has no more room, or has again: nothing can grow, and nothing be written where nothing was.
    pub fn set_full(&self, is_full: bool) {
        self.platter().is_full = is_full;
    }

    /// Has it no more room?
    pub fn is_full(&self) -> bool {
        self.platter().is_full
    }

    /// Syncs say that they did, and do not, until power is cut; or they do again.
    pub fn lie(&self, lies: bool) {
        self.platter().lies = lies;
    }

    /// How much longer each call of the store is to take.
    pub fn set_slow(&self, more: Duration) {
        self.platter().slow = more;
    }

    /// How much longer each call of the store takes.
    pub fn slow(&self) -> Duration {
        self.platter().slow
    }

    /// Nothing is to go wrong any more. What went wrong stays.
    pub fn heal(&self) {
        let mut platter = self.platter();
        (platter.is_full, platter.lies, platter.slow) = (false, false, Duration::ZERO);
        platter.failing.clear();
        platter.cut = None;
    }

    /// A bit of what is durable flips; the number says which. For a node that is down.
    pub fn rot(&self, at: u64) -> Rotten {
        let mut platter = self.platter();
        let (part, at) = platter.store.as_mut().map_or((Part::Nothing, 0), |store| store.rot(at));
        match part {
            Part::Nothing => {}
            Part::Header => platter.count("disk: rot in the header"),
            Part::Newest => platter.count("disk: rot in the newest commit"),
            Part::Older => platter.count("disk: rot in an older page"),
        }
        Rotten { part, at }
    }

    /// The disk is lost, and replaced by an empty one. For a node that is down.
    pub fn wipe(&self) {
        let mut platter = self.platter();
        if platter.store.take().is_some() {
            platter.count("disk: lost");
        }
        (platter.new, platter.is_name_durable) = (None, false);
    }

    /// Has it failed an operation since it was opened last? A node may have stopped because of that.
    pub fn has_failed(&self) -> bool {
        self.failed().is_some()
    }

    /// What it failed at last, since it was opened.
    pub fn failed(&self) -> Option<Failing> {
        self.platter().failed
    }

    /// How many writes it failed so far, for whatever reason.
    pub fn failures(&self) -> u64 {
        let platter = self.platter();
        ["disk: error on write", "disk: no room"].iter().filter_map(|kind| platter.counts.get(kind)).sum()
    }

    /// Was power cut in the middle of a commit since this was asked last?
    pub fn take_half_done(&self) -> bool {
        std::mem::take(&mut self.platter().is_half_done)
    }

    /// Has it written anything that a power cut may take back?
    pub fn is_pending(&self) -> bool {
        self.platter().store.as_ref().is_some_and(File::is_pending)
    }

    /// Lets stale handles through: a bug to be noticed.
    pub fn set_fence_off(&self, is_off: bool) {
        self.platter().is_fence_off = is_off;
    }

    /// Did any handle change something after its life? How often, if so.
    pub fn check(&self) -> Result<(), u64> {
        match self.platter().stale_changes {
            0 => Ok(()),
            changes => Err(changes),
        }
    }

    /// Faults that took effect, and what power cuts left.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.platter().counts.clone()
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("no panic holds it")
    }
}

impl Platter {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Cuts power if that was wanted: fences itself, and gives whom to tell.
    fn take_cut(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        let Cut { tell, .. } = self.cut.take()?;
        self.live = None;
        self.count("disk: power cut in a commit");
        Some(tell)
    }

    fn cut_power(&mut self, keep: Keep) -> Left {
        let (seed, ids) = (self.seed, [self.node.0, self.incarnation.unwrap_or_default()]);
        if !self.is_name_durable
            && match keep {
                Keep::All => false,
                Keep::Nothing => true,
                Keep::Some | Keep::Torn => {
                    chance::happens(chance::number(seed, "a crash drops the name", &ids), 500_000)
                }
            }
        {
            self.new = self.store.take().or_else(|| self.new.take());
        }
        let chance = |sector: Option<usize>| match sector {
            Some(sector) => chance::number(seed, "a crash keeps a sector", &[ids[0], ids[1], sector as u64]),
            None => chance::number(seed, "a crash keeps the length", &ids),
        };
        // A leftover is removed, whatever is in it.
        self.is_name_durable = self.store.is_some();
        self.store.as_mut().map(|store| store.cut_power(keep, chance)).unwrap_or_default()
    }
}

fn failed(doing: &str, source: io::Error) -> StoreError {
    StoreError::Io { doing: doing.to_owned(), source }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({})", self.platter().node)
    }
}
