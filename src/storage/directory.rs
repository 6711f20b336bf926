//! The data directory: `DIR/replica-ID/` holds `store.redb` and `LOCK`, for its owner alone.
//!
//! A store is made as `store.redb.new`, and takes its name only when it is whole and synced: so whatever bears the name
//! was whole once, and a crash while making it leaves nothing but a leftover, removed at the next start. A directory
//! without a store gets one, with a new disk id; the cluster then refuses it if the replica was known with another.
//!
//! The lock is the operating system's (`flock`, by [`File::try_lock`]): it ends with the process, however that ends. It
//! stands above the file, whose creation it covers too; redb's own locks are therefore left unused.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::backends::FileBackend;

use super::{JOURNAL_BYTES, OpenError, Progress, Store, StoreError, Wanted, create, file::StoreFile};
use crate::{
    durable::{Identity, Recovered},
    types::{DiskId, ReplicaId},
};

const STORE: &str = "store.redb";
const STORE_NEW: &str = "store.redb.new";
const LOCK: &str = "LOCK";

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Permission bits of the group and of others.
const FOREIGN_BITS: u32 = 0o077;

/// The file that holds the store of a replica under `data_dir`.
pub fn file(data_dir: &Path, replica: ReplicaId) -> PathBuf {
    directory_of(data_dir, replica).join(STORE)
}

fn directory_of(data_dir: &Path, replica: ReplicaId) -> PathBuf {
    here_if_empty(data_dir).join(format!("replica-{replica}"))
}

/// Opens the store of the `wanted` replica under `data_dir`, and makes one on `new_disk`, which is random, if there is
/// none. The directory stays locked as long as the store lives. `progress` is told how far it has come, as
/// [`Store::open`] does.
pub fn open(
    data_dir: &Path,
    wanted: Wanted,
    new_disk: DiskId,
    progress: impl Fn(Progress) + Send + 'static,
) -> Result<(Store, Recovered), OpenError> {
    let data_dir = here_if_empty(data_dir);
    let directory = directory_of(data_dir, wanted.replica);
    let prepared = prepare(data_dir, &directory, wanted, new_disk);
    let opened = prepared.and_then(|file| Store::open(file, wanted, progress));
    opened.map_err(|error| OpenError { directory, error })
}

/// Locks the directory, and makes what is not there yet: the directory, and the store.
fn prepare(data_dir: &Path, directory: &Path, wanted: Wanted, new_disk: DiskId) -> Result<StoreFile, StoreError> {
    create_directory(directory)?;
    check_private(directory)?;
    let lock = lock(directory)?;
    remove_leftover(&directory.join(STORE_NEW))?;
    let path = directory.join(STORE);
    // The name counts, not what it leads to: a link to a disk that is not mounted is no reason for a new store.
    match fs::symlink_metadata(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_store(directory, wanted, new_disk)?,
        Err(error) => return Err(failed("look for", &path, error)),
    }
    // At every start: whoever renamed it may have been killed before this, and nothing may be promised on a store whose
    // name a power cut can still take back.
    sync_directory(directory)?;
    sync_directory(data_dir)?;
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| failed("open", &path, e))?;
    StoreFile::new(file, &path, lock)
}

fn create_store(directory: &Path, wanted: Wanted, disk: DiskId) -> Result<(), StoreError> {
    let Wanted { cluster, shard, replica } = wanted;
    let new = directory.join(STORE_NEW);
    let file = private_file().create_new(true).open(&new).map_err(|e| failed("create", &new, e))?;
    let synced = file.try_clone().map_err(|e| failed("create", &new, e))?;
    create(FileBackend::new(file)?, Identity { cluster, shard, replica, disk }, JOURNAL_BYTES)?;
    synced.sync_all().map_err(|e| failed("sync", &new, e))?;
    fs::rename(&new, directory.join(STORE)).map_err(|e| failed("rename", &new, e))
}

fn remove_leftover(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

/// Creates `directory` and what is missing above it, for the owner alone, so that a power cut does not take them away.
fn create_directory(directory: &Path) -> Result<(), StoreError> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().map_or(Path::new("."), here_if_empty);
    create_directory(parent)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        // Another process was faster; the lock will tell which of the two goes on.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        made => made.map_err(|e| failed("create", directory, e))?,
    }
    sync_directory(parent)
}

/// The parent of a bare name, and a data directory of none, is the working directory.
fn here_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(|e| failed("sync", directory, e))
}

fn check_private(directory: &Path) -> Result<(), StoreError> {
    let mode = fs::metadata(directory).map_err(|e| failed("look at", directory, e))?.permissions().mode() & 0o777;
    if mode & FOREIGN_BITS != 0 {
        return Err(StoreError::Exposed { directory: directory.into(), mode });
    }
    Ok(())
}

/// Locks the directory until the file that is returned is closed; leaves this process's number for who comes later.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let mut file = private_file().create(true).open(&path).map_err(|e| failed("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            // A courtesy: whoever holds it may not have written its number yet.
            let _ = file.read_to_string(&mut process);
            return Err(StoreError::Locked { directory: directory.into(), process: process.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(|e| failed("write", &path, e))?;
    Ok(file)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false).mode(FILE_MODE);
    options
}

fn failed(verb: &str, path: &Path, source: io::Error) -> StoreError {
    StoreError::io(format!("{verb} {}", path.display()), source)
}
