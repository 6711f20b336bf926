//! The store: what a replica must not forget, in one file: redb's tables, and a journal before them.
//!
//! **What it promises.** [`Store::commit`] makes WriteSets durable, in order, all of them or none, nearly always with one
//! fsync. What it reported durable is what [`Store::open`] gives back after any crash, checked: contiguous, within
//! its ranges, every record under its own checksum. A store that cannot be shown to be whole is refused, and so is one of
//! another cluster or replica, or in a format this build does not know. It is never mended and never begun anew: a
//! replica that forgot a vote may vote twice.
//!
//! **How.** `durable` names what is kept, `schema` says where, `record` seals each value to its place, `check` holds the
//! rules that writing and reading share. What only lengthens the log goes to the `journal`, and in bulk from there to the
//! tables, by a [`Fold`] beside the commits; `layout` says where in the file the two lie. Term, vote, founding and snapshots are promises to others: they go to
//! the tables at once, together with what the journal holds, by redb's two-phase commit, and one fsync more. [`Store`]
//! knows no file: its disk is any [`Backend`], and so the simulator's, too. [`open`] is the door for
//! production: a directory for each replica, locked by the operating system.
//!
//! **Snapshots** may be large, and the log must not wait for them. So a body is staged first, a chunk at a time, each in a
//! transaction of its own between the log's: [`Store::begin`], [`Store::stage`]. The WriteSet that makes it the newest
//! one then moves nothing and removes nothing: bodies and logs are numbered, and it changes the one record that says
//! which of them count. Everything else is garbage from that moment, invisible to every reader, and [`Store::clean`]
//! removes it a little at a time. An installed snapshot begins a log of a number of its own, so an entry of the log
//! before it is never taken for one of this.
//!
//! **The first error is the last call.** After a failed fsync nobody knows what is on the disk, and asking again may be
//! answered with a success that is not one. So every later call fails as well, and the node stops.
//!
//! **What it cannot notice.** The journal's last record, if it is damaged, looks like one that power cut short, and so does a
//! one-phase commit to redb, which takes the state before it. Damage to exactly the newest commit, found at a restart,
//! therefore loses it without a word, unless it held a promise. And one bit of the file stands under no checksum, the one
//! that says which of the two newest transactions is the newer (bit 0 of byte 9 of redb's part): damage to it, after a stop
//! that was not clean, can cost the newest one even if it held a promise, since that is how a two-phase commit looks that
//! power cut off half way; unless the journal has records that came after it. Damage to anything older is noticed. Nothing
//! catches a panic of redb over a damaged file, as the product ends at any panic: redb promises that a
//! checked open reports damage instead, and the tests have found no byte that makes it break that.
//!
//! **What is absent.** Reading at run time, but for the chunks of a snapshot that is sent: the log is mirrored in memory.
//! Retries, repair, and any clock, randomness or thread: the disk id comes from the caller, who waits for a long
//! start is told by bytes (see [`Progress`]), not by time, and a [`Fold`] runs where the caller likes. The file never shrinks much: what is cleaned is used again.

mod backend;
mod check;
mod clean;
mod directory;
mod error;
mod file;
mod fold;
mod journal;
mod layout;
mod progress;
mod read;
mod record;
mod schema;
mod staging;
mod standing;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, WriteTransaction};

pub use backend::Backend;
pub use directory::{file, open};
pub use error::{OpenError, StoreError};
pub use fold::Fold;
pub use progress::{Phase, Progress};

use crate::{
    durable::{Identity, Recovered, SnapshotWrite, Staging, WriteSet},
    hooks,
    types::{ClusterId, Index, ReplicaId, ShardId},
};
use check::check_meta;
use journal::Journal;
use layout::{Front, Shared};
use progress::{Meter, Metered};
use schema::{CHUNKS, LOG, RecordNumber, STATE, Slot, log_key};
use staging::Staged;
use standing::Standing;
use write::Writer;

/// Most memory that redb may use for pages, in bytes. The store is read once; what is worth keeping is the end of the log.
const CACHE_BYTES_MAX: usize = 32 << 20;

/// Bytes of a store's journal: in each half 256 commits of few draws, or a quarter of a second of many. While one is taken over,
/// for 5 ms or more, the other is written; a shorter journal is taken over more often, and each time costs a sync at least.
pub const JOURNAL_BYTES: u64 = 2 << 20;

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
    database: Arc<Database>,
    /// What lengthened the log since the tables were written last, or a half of it.
    journal: Journal,
    /// What takes the other half over, or did so last.
    folding: Option<Fold>,
    /// The same, until somebody was offered it.
    offered: Option<Fold>,
    identity: Identity,
    /// Where it stands, as is durable.
    standing: Standing,
    /// The first error of a write.
    failed: Option<String>,
}

/// Makes an empty store for `identity` on an empty backend, with a journal of so many bytes, in two halves of whole pages of
/// 4,096: see [`JOURNAL_BYTES`].
///
/// A crash within leaves anything. So let it work under a name that [`Store::open`] is never given, sync, and rename.
pub fn create<B: Backend>(backend: B, identity: Identity, journal_bytes: u64) -> Result<(), StoreError> {
    let front = Front::new(journal_bytes)?;
    let bytes = backend.len().map_err(|source| StoreError::io("read the length of the new store", source))?;
    if bytes != 0 {
        return Err(StoreError::Refused(format!("a store is to be created over {bytes} bytes")));
    }
    let disk: Shared = Arc::new(backend);
    front.write(&disk).map_err(|source| StoreError::io("write the new store", source))?;
    let database = builder().create_with_backend(front.tables(disk))?;
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        transaction.open_table(CHUNKS)?;
        let mut writer = Writer::new(&transaction, &identity)?;
        writer.put(Slot::Identity, &identity)?;
        writer.put(Slot::FirstRecord, &RecordNumber::FIRST)?;
    }
    transaction.commit()?;
    Ok(database.close()?)
}

impl Store {
    /// Opens the store on `backend`, which must hold one: an empty backend is a damaged store, not a new one.
    ///
    /// Reads every page, since redb verifies its checksums only when told to, and then every record that counts; tells
    /// `progress` on the way.
    pub fn open<B: Backend>(
        backend: B,
        wanted: Wanted,
        progress: impl Fn(Progress) + Send + 'static,
    ) -> Result<(Self, Recovered), StoreError> {
        let bytes = backend.len().map_err(|source| StoreError::io("read the length of the store", source))?;
        let meter = Meter::new(bytes, progress);
        let disk: Shared = Arc::new(Metered { backend, meter: meter.clone() });
        let front = Front::read(&disk)?;
        // redb trusts what was closed cleanly, and may panic if it should not have; so every page is checked as it is
        // opened. A check after that would find nothing: what can be mended without loss, such as the list of free
        // pages, is mended by then, and nothing else is.
        let mut builder = builder();
        builder.set_check_integrity_on_open(!hooks::is_planted("m22"));
        let database = builder.create_with_backend(front.tables(disk.clone()))?;
        meter.begin(Phase::Loading);
        let reading = database.begin_read()?;
        let identity = read::check_identity(&reading, wanted)?;
        let first = read::first_record(&reading, identity.shard)?;
        let journal = Journal::open(disk, front.journal(), identity.disk, first)?;
        let (recovered, standing) = read::recover(&reading, journal.journaled(), identity)?;
        drop(reading);
        let database = Arc::new(database);
        let mut store = Self { database, journal, folding: None, offered: None, identity, standing, failed: None };
        // A sync that failed may have left what can be read and is not durable. So what the journal says is written once
        // more before anybody relies on it.
        if !store.journal.is_empty() {
            hooks::sometimes("journal_recovered");
            store.write_tables(&[])?;
        }
        meter.end();
        Ok((store, recovered))
    }

    /// Reads back all that the store holds.
    pub fn load(&self) -> Result<Recovered, StoreError> {
        self.check_failed()?;
        self.folding.iter().for_each(Fold::run);
        self.check_failed()?;
        let (recovered, _) = read::recover(&self.database.begin_read()?, self.journal.journaled(), self.identity)?;
        Ok(recovered)
    }

    /// Makes the WriteSets durable: in order, all or none. Returns once they are.
    ///
    /// An error is final, whatever it is, and whether they are durable is then unknown: every later call fails.
    pub fn commit(&mut self, sets: &[WriteSet]) -> Result<(), StoreError> {
        self.attempt(|store| {
            if sets.iter().all(is_empty) {
                return Ok(());
            }
            if hooks::is_planted("m20") && sets.iter().all(|set| set.snapshot.is_none() && set.founding.is_none()) {
                return store.commit_halves(sets);
            }
            if hooks::is_planted("m21") {
                store.cut_log_early(sets)?;
            }
            store.write(sets)
        })
    }

    /// A piece of the store's work that came up with a commit and may be done beside the next ones, on another thread: a half of
    /// the journal is to be taken over. If nobody does it, the store will, and a commit waits for it. Offered once.
    pub fn fold(&mut self) -> Option<Fold> {
        self.offered.take()
    }

    /// Begins to stage a body, or goes on with it: tells how many chunks of exactly this one are staged already, and
    /// durable. Whatever else was staged is forgotten. An own snapshot always begins with chunk 0; one that is received
    /// goes on, after a restart too, where it was. As many chunks as the body has are told only if it has its SHA-256.
    ///
    /// What an earlier process had staged is read and hashed again, which takes its time.
    ///
    /// A refusal changes nothing, and the store goes on; any other error is final.
    pub fn begin(&mut self, staging: &Staging) -> Result<u32, StoreError> {
        self.check_failed()?;
        self.standing.founded()?;
        if let Staging::Received(meta) = staging {
            check_meta(&self.identity, meta).map_err(StoreError::Refused)?;
        }
        self.attempt(|store| {
            let staged = match store.resume(staging)? {
                Some(staged) => staged,
                None => store.begin_anew(staging)?,
            };
            let chunks = staged.chunks();
            store.standing.set_staged(staged);
            Ok(chunks)
        })
    }

    /// Stages the next chunk, which has this number and [`crate::durable::CHUNK_BYTES`], or as much as is left; durable
    /// once it returns. If it completes a received body that does not have its SHA-256, everything staged is forgotten,
    /// and [`Store::begin`] says so: the fault is the sender's, and nothing of it may stay.
    ///
    /// A refusal changes nothing, and the store goes on; any other error is final.
    pub fn stage(&mut self, number: u32, chunk: &[u8]) -> Result<(), StoreError> {
        self.check_failed()?;
        let staged = self.standing.founded()?.staged.clone();
        let mut staged = staged.ok_or_else(|| StoreError::Refused("a chunk of a body that was not begun".into()))?;
        staged.push(number, chunk).map_err(StoreError::Refused)?;
        self.attempt(|store| {
            if staged.is_wrong() {
                staged = store.begin_anew(&staged.begun.staging)?;
            } else {
                let (shard, body) = (store.identity.shard, staged.begun.body);
                store.transact(false, |transaction| staging::write(transaction, shard, body, number, chunk))?;
            }
            store.standing.set_staged(staged);
            Ok(())
        })
    }

    /// Reads a chunk of the newest snapshot's body, or of the one that is being staged. `None` if there is no such chunk
    /// (any more).
    pub fn chunk(&self, snapshot: Index, number: u32) -> Result<Option<Bytes>, StoreError> {
        self.check_failed()?;
        let founded = self.standing.founded()?;
        let staged = founded.staged.as_ref().map(|staged| &staged.begun);
        let body = if founded.newest.meta.index == snapshot {
            founded.newest.body
        } else if let Some(begun) = staged.filter(|begun| begun.staging.index() == snapshot) {
            begun.body
        } else {
            return Ok(None);
        };
        read::chunk(&self.database.begin_read()?, self.identity.shard, body, number)
    }

    /// Removes a bounded number of entries and chunks that do not count any more, in a transaction of its own. `true` if
    /// there are more. An error is final.
    pub fn clean(&mut self) -> Result<bool, StoreError> {
        self.attempt(|store| {
            let Standing::Founded(founded) = &store.standing else { return Ok(false) };
            let transaction = store.database.begin_write()?;
            let cleaned = clean::clean(&transaction, store.identity.shard, &founded.newest)?;
            match cleaned.has_removed {
                true => transaction.commit()?,
                false => transaction.abort()?,
            }
            Ok(cleaned.is_more)
        })
    }

    /// What is staged of exactly this, by this process or by an earlier one.
    fn resume(&self, staging: &Staging) -> Result<Option<Staged>, StoreError> {
        if let Staging::Own { .. } = staging {
            return Ok(None);
        }
        let staged = match &self.standing.founded()?.staged {
            Some(staged) => Some(staged.clone()),
            None => {
                let reading = self.database.begin_read()?;
                let begun = read::begun(&reading.open_table(STATE)?, self.identity.shard)?;
                let same = begun.filter(|begun| begun.staging == *staging);
                same.map(|begun| Staged::resume(&reading, self.identity.shard, begun)).transpose()?
            }
        };
        Ok(staged.filter(|staged| staged.begun.staging == *staging && !staged.is_wrong()))
    }

    fn begin_anew(&self, staging: &Staging) -> Result<Staged, StoreError> {
        let newest = &self.standing.founded()?.newest;
        let begin = |transaction: &_| staging::begin(transaction, self.identity.shard, newest, staging.clone());
        self.transact(false, begin).map(Staged::new)
    }

    /// Writes to the journal what belongs there and finds room, and anything else to the tables.
    fn write(&mut self, sets: &[WriteSet]) -> Result<(), StoreError> {
        match self.standing.lengthened(sets)? {
            Some(tail) if self.append(sets)? => self.standing.set_tail(tail),
            _ => self.write_tables(sets)?,
        }
        Ok(())
    }

    /// Appends to the journal; to its other half if this one is full, whose way to the tables then begins. `false` if there is
    /// no room in a whole half.
    fn append(&mut self, sets: &[WriteSet]) -> Result<bool, StoreError> {
        if self.journal.append(sets)? {
            return Ok(true);
        }
        if self.journal.is_empty() {
            return Ok(false);
        }
        hooks::sometimes("journal_full");
        self.finish_fold()?;
        self.begin_fold()?;
        self.journal.append(sets)
    }

    /// The half of the journal that is written is the tables' to take over, and the other one is written.
    fn begin_fold(&mut self) -> Result<(), StoreError> {
        let log = self.standing.founded()?.newest.log;
        let first = self.journal.next();
        let journaled = self.journal.begin_half(first);
        let (database, identity) = (self.database.clone(), self.identity);
        let fold = Fold::new(fold::Work { database, identity, log, journaled, first });
        (self.offered, self.folding) = (Some(fold.clone()), Some(fold));
        Ok(())
    }

    /// The tables hold all but what is in the half of the journal that is written.
    fn finish_fold(&mut self) -> Result<(), StoreError> {
        self.offered = None;
        self.folding.take().map_or(Ok(()), |fold| fold.finish())
    }

    /// Writes to the tables: first what the journal holds, then these. The journal goes on in its other half, with a number left
    /// out: so that no record is ever taken for one behind other tables than those it was written behind. In two phases if there
    /// was a journal to be taken over, so that damage to what took it over is noticed.
    fn write_tables(&mut self, sets: &[WriteSet]) -> Result<(), StoreError> {
        self.finish_fold()?;
        let first = self.journal.next().next();
        let is_folded = !self.journal.is_empty();
        let mut standing = self.standing.clone();
        self.transact(is_folded || sets.iter().any(is_promise), |transaction| {
            let mut writer = Writer::new(transaction, &self.identity)?;
            if is_folded {
                writer.fold(self.standing.founded()?.newest.log, self.journal.journaled())?;
            }
            writer.begin_records(first)?;
            sets.iter().try_for_each(|set| writer.write(&mut standing, set))
        })?;
        self.journal.begin_half(first);
        self.standing = standing;
        Ok(())
    }

    /// Fills a transaction and commits it. If filling it fails, nothing of it is written.
    fn transact<T>(
        &self,
        in_two_phases: bool,
        fill: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        transact(&self.database, in_two_phases, fill)
    }

    /// The planted bug m20: the entries in a commit of their own, then what raft promised.
    fn commit_halves(&mut self, sets: &[WriteSet]) -> Result<(), StoreError> {
        let entries = |set: &WriteSet| WriteSet { hard_state: None, ..set.clone() };
        let promises = |set: &WriteSet| WriteSet { entries: Vec::new(), ..set.clone() };
        for half in [sets.iter().map(entries).collect::<Vec<_>>(), sets.iter().map(promises).collect()] {
            self.write(&half)?;
            hooks::crash_point("in_commit");
        }
        Ok(())
    }

    /// The planted bug m21: what a snapshot makes superfluous leaves the log in a transaction before the snapshot's.
    fn cut_log_early(&self, sets: &[WriteSet]) -> Result<(), StoreError> {
        let cut = sets.iter().find_map(|set| match &set.snapshot {
            Some(SnapshotWrite::Taken { truncated, .. }) => Some(truncated.0),
            _ => None,
        });
        let Some(cut) = cut else { return Ok(()) };
        let newest = &self.standing.founded()?.newest;
        let [first, last] =
            [Index(0), Index(cut.0.saturating_sub(1))].map(|index| log_key(self.identity.shard, newest.log, index));
        self.transact(false, |transaction| Ok(transaction.open_table(LOG)?.retain_in(first..=last, |_, _| false)?))?;
        hooks::crash_point("compacted");
        Ok(())
    }

    /// Does what writes. An error is final.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.check_failed()?;
        let result = work(self);
        if let Err(error) = &result {
            self.failed = Some(error.to_string());
            self.offered = None;
            self.folding.take().iter().for_each(Fold::cancel);
        }
        result
    }

    fn check_failed(&self) -> Result<(), StoreError> {
        let failed_fold = || self.folding.as_ref().and_then(Fold::failure);
        match self.failed.clone().or_else(failed_fold) {
            Some(why) => Err(StoreError::Failed(why)),
            None => Ok(()),
        }
    }
}

impl Drop for Store {
    /// A store that is closed in peace holds all in its tables, where damage to any of it is noticed.
    fn drop(&mut self) {
        if self.failed.is_some() || self.finish_fold().is_err() || self.journal.is_empty() {
            return;
        }
        // What stays in the journal is durable, and the next start takes it over.
        let _ = self.write_tables(&[]);
    }
}

/// Fills a transaction and commits it. If filling it fails, nothing of it is written.
fn transact<T>(
    database: &Database,
    in_two_phases: bool,
    fill: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(in_two_phases);
    if hooks::is_planted("m19") && !in_two_phases {
        transaction.set_durability(redb::Durability::None).expect("there are no savepoints");
    }
    let filled = fill(&transaction)?;
    transaction.commit()?;
    Ok(filled)
}

/// Does it carry nothing but its number?
fn is_empty(set: &WriteSet) -> bool {
    set.entries.is_empty() && set.hard_state.is_none() && set.founding.is_none() && set.snapshot.is_none()
}

/// Must damage to it be noticed, even if it is the newest commit? (See the essay above.)
fn is_promise(set: &WriteSet) -> bool {
    set.promise || set.founding.is_some() || set.snapshot.is_some()
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(hooks::cache_bytes(CACHE_BYTES_MAX));
    builder
}
