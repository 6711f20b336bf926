//! The store: what a replica must not forget, in one redb file.
//!
//! **What it promises.** [`Store::commit`] makes WriteSets durable, in order, all of them or none: one redb transaction,
//! one fsync. What it reported durable is what [`Store::open`] gives back after any crash, checked: contiguous, within
//! its ranges, every record under its own checksum. A store that cannot be shown to be whole is refused, and so is one of
//! another cluster or replica, or in a format this build does not know. It is never mended and never begun anew: a
//! replica that forgot a vote may vote twice.
//!
//! **How.** `durable` names what is kept, `schema` says where, `record` seals each value to its place, `check` holds the
//! rules that writing and reading share. Term, vote and founding are promises to others, so their transactions take redb's
//! two-phase commit, and one fsync more. [`Store`] knows no file: its disk is any [`redb::StorageBackend`], and so the
//! simulator's, too. [`open`] is the door for production: a directory for each replica, locked by the operating system.
//!
//! **The first error is the last call.** After a failed fsync nobody knows what is on the disk, and asking again may be
//! answered with a success that is not one. So every later call fails as well, and the node stops.
//!
//! **What it cannot notice.** A one-phase commit whose pages are damaged looks like one that power cut short, and redb
//! takes the state before it. Damage to exactly the newest transaction, found at a restart, therefore loses it without
//! a word, unless it held a promise. Damage to anything older is noticed.
//!
//! **What is absent.** Reading at run time: the log is mirrored in memory, so the disk is read at the start only. Retries,
//! repair, and any clock, randomness or thread: the disk id comes from the caller. Snapshots other than the founding one
//! and compaction are still to come; `CHUNK_BYTES` and the keys of the chunks are made for them.

mod check;
mod directory;
mod error;
mod read;
mod record;
mod schema;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, StorageBackend, WriteTransaction};

pub use directory::{file, open};
pub use error::{OpenError, StoreError};

use crate::{
    durable::{Identity, Recovered, Staging, WriteSet},
    types::{ClusterId, Index, ReplicaId, ShardId},
};
use schema::{ABOUT, CHUNKS, FORMAT, FORMAT_KEY, Slot};
use write::{Stage, Writer};

/// Most memory that redb may use for pages, in bytes. The store is read once; what is worth keeping is the end of the log.
const CACHE_BYTES_MAX: usize = 32 << 20;

/// Whose store is wanted; everything of an [`Identity`] but the disk, which only the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The replica.
    pub replica: ReplicaId,
}

/// An open store.
pub struct Store {
    database: Database,
    identity: Identity,
    /// How far it has come; ahead of the disk only while a commit runs.
    stage: Stage,
    /// The first error of a commit.
    failed: Option<String>,
}

/// Makes an empty store for `identity` on an empty backend.
///
/// A crash within leaves anything. So let it work under a name that [`Store::open`] is never given, sync, and rename.
pub fn create<B: StorageBackend>(backend: B, identity: Identity) -> Result<(), StoreError> {
    let bytes = backend.len().map_err(|source| StoreError::io("read the length of the new store", source))?;
    if bytes != 0 {
        return Err(StoreError::Refused(format!("a store is to be created over {bytes} bytes")));
    }
    let database = builder().create_with_backend(backend)?;
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut about = transaction.open_table(ABOUT)?;
        about.insert(FORMAT_KEY, record::encode("about", &FORMAT_KEY, &FORMAT).as_slice())?;
        transaction.open_table(CHUNKS)?;
        Writer::new(&transaction, &identity)?.put(Slot::Identity, &identity)?;
    }
    transaction.commit()?;
    Ok(database.close()?)
}

impl Store {
    /// Opens the store on `backend`, which must hold one: an empty backend is a damaged store, not a new one.
    ///
    /// Reads every page twice, since redb verifies its checksums only when told to, and every record once.
    pub fn open<B: StorageBackend>(backend: B, wanted: Wanted) -> Result<(Self, Recovered), StoreError> {
        let bytes = backend.len().map_err(|source| StoreError::io("read the length of the store", source))?;
        if bytes == 0 {
            return Err(StoreError::Damaged("it is empty".into()));
        }
        // Checked while it is opened, because a plain open may panic on what it has not checked; and then again,
        // because only that says whether anything had to be mended.
        let mut database = builder().set_check_integrity_on_open(true).create_with_backend(backend)?;
        if !database.check_integrity()? {
            return Err(StoreError::Damaged("redb had to mend it".into()));
        }
        let reading = database.begin_read()?;
        read::check_format(&reading)?;
        let identity = read::check_identity(&reading, wanted)?;
        let recovered = read::recover(&reading, identity)?;
        drop(reading);
        let stage = Stage::of(&recovered)?;
        Ok((Self { database, identity, stage, failed: None }, recovered))
    }

    /// Reads back all that the store holds.
    pub fn load(&self) -> Result<Recovered, StoreError> {
        self.check_failed()?;
        let recovered = read::recover(&self.database.begin_read()?, self.identity)?;
        Stage::of(&recovered)?;
        Ok(recovered)
    }

    /// Makes the WriteSets durable: in order, in one transaction, all or none. Returns once they are.
    ///
    /// An error is final, whatever it is, and whether they are durable is then unknown: every later call fails.
    pub fn commit(&mut self, sets: &[WriteSet]) -> Result<(), StoreError> {
        self.check_failed()?;
        let result = self.commit_sets(sets);
        if let Err(error) = &result {
            self.failed = Some(error.to_string());
        }
        result
    }

    /// Begins to stage a body, or goes on with it: tells how many chunks of exactly this one are staged already.
    /// Whatever else was staged is forgotten.
    pub fn begin(&mut self, _staging: &Staging) -> Result<u32, StoreError> {
        self.check_failed()?;
        Ok(0)
    }

    /// Stages the next chunk, which has this number; durable once it returns.
    pub fn stage(&mut self, _number: u32, _chunk: &[u8]) -> Result<(), StoreError> {
        self.check_failed()
    }

    /// Reads a chunk of the staged body, or of the newest snapshot's. `None` if there is no such chunk (any more).
    pub fn chunk(&self, _snapshot: Index, _number: u32) -> Result<Option<Bytes>, StoreError> {
        self.check_failed()?;
        Ok(None)
    }

    /// Removes a bounded number of entries and chunks that are not needed any more. `true` if there are more.
    pub fn clean(&mut self) -> Result<bool, StoreError> {
        self.check_failed()?;
        Ok(false)
    }

    fn commit_sets(&mut self, sets: &[WriteSet]) -> Result<(), StoreError> {
        if sets.iter().all(is_empty) {
            return Ok(());
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(sets.iter().any(|set| set.promise || set.founding.is_some()));
        match self.fill(&transaction, sets) {
            Ok(stage) => {
                transaction.commit()?;
                self.stage = stage;
                Ok(())
            }
            Err(error) => {
                // What it had written was never committed; whether taking it back succeeds does not matter any more.
                let _ = transaction.abort();
                Err(error)
            }
        }
    }

    fn fill(&self, transaction: &WriteTransaction, sets: &[WriteSet]) -> Result<Stage, StoreError> {
        let mut stage = self.stage.clone();
        let mut writer = Writer::new(transaction, &self.identity)?;
        sets.iter().try_for_each(|set| writer.write(&mut stage, set))?;
        Ok(stage)
    }

    fn check_failed(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(why) => Err(StoreError::Failed(why.clone())),
            None => Ok(()),
        }
    }
}

/// Does it carry nothing but its number?
fn is_empty(set: &WriteSet) -> bool {
    set.entries.is_empty() && set.hard_state.is_none() && set.founding.is_none()
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
}
