//! Real files: creation, permissions, and the lock, held by another process too.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;

const DISK: DiskId = DiskId([0xd1; 16]);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The code of the refusal; its text names the directory.
#[track_caller]
fn refused(data_dir: &Path) -> &'static str {
    let error = open(data_dir, wanted(), DISK, |_| {}).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains(data_dir.join("replica-1").to_str().unwrap()), "{error}");
    error.code()
}

/// A data directory with a store in it that was closed cleanly.
fn with_store() -> (tempfile::TempDir, PathBuf) {
    let data_dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
    store.commit(&[prepare(), found(100)]).unwrap();
    let replica_dir = data_dir.path().join("replica-1");
    (data_dir, replica_dir)
}

#[test]
fn a_store_is_made_where_there_is_none_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let data_dir = parent.path().join("some/where");
    let (store, recovered) = open(&data_dir, wanted(), DISK, |_| {}).unwrap();
    assert_eq!(recovered, model(&[]));
    let replica_dir = data_dir.join("replica-1");
    assert_eq!([mode(&data_dir), mode(&replica_dir)], [0o700; 2]);
    assert_eq!([mode(&replica_dir.join("store.redb")), mode(&replica_dir.join("LOCK"))], [0o600; 2]);
    assert!(!replica_dir.join("store.redb.new").exists());
    drop(store);
}

#[test]
fn a_store_that_exists_keeps_its_disk_id_and_its_content() {
    let (data_dir, _) = with_store();
    let (_, recovered) = open(data_dir.path(), wanted(), DiskId([9; 16]), |_| {}).unwrap();
    assert_eq!(recovered, model(&[prepare(), found(100)]));
}

#[test]
fn replicas_share_a_data_directory() {
    let (data_dir, _) = with_store();
    let second = Wanted { replica: ReplicaId(2), ..wanted() };
    let (_store, recovered) = open(data_dir.path(), second, DiskId([0xd2; 16]), |_| {}).unwrap();
    assert_eq!(recovered.identity.replica, ReplicaId(2));
    open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
}

#[test]
fn another_ones_store_is_refused_with_its_directory() {
    let (data_dir, replica_dir) = with_store();
    let other = Wanted { cluster: ClusterId([9; 16]), ..wanted() };
    let error = open(data_dir.path(), other, DISK, |_| {}).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "STORE_OTHER_CLUSTER");
    assert!(error.to_string().contains(replica_dir.to_str().unwrap()), "{error}");
    fs::rename(&replica_dir, data_dir.path().join("replica-3")).unwrap();
    let other = Wanted { replica: ReplicaId(3), ..wanted() };
    let error = open(data_dir.path(), other, DISK, |_| {}).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "STORE_OTHER_REPLICA");
}

#[test]
fn a_leftover_of_a_crashed_creation_is_removed() {
    let data_dir = tempfile::tempdir().unwrap();
    let replica_dir = data_dir.path().join("replica-1");
    fs::create_dir(&replica_dir).unwrap();
    fs::set_permissions(&replica_dir, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(replica_dir.join("store.redb.new"), b"half a store").unwrap();
    let (_store, recovered) = open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
    assert_eq!(recovered, model(&[]));
    assert!(!replica_dir.join("store.redb.new").exists());
}

#[test]
fn a_damaged_store_is_never_begun_anew() {
    for damage in [&b""[..], b"not a store"] {
        let (data_dir, replica_dir) = with_store();
        fs::write(replica_dir.join("store.redb"), damage).unwrap();
        assert_eq!(refused(data_dir.path()), "STORE_DAMAGED");
        assert_eq!(fs::read(replica_dir.join("store.redb")).unwrap(), damage);
    }
}

#[test]
fn a_link_to_a_disk_that_is_away_is_not_a_missing_store() {
    let (data_dir, replica_dir) = with_store();
    fs::remove_file(replica_dir.join("store.redb")).unwrap();
    symlink(data_dir.path().join("not mounted"), replica_dir.join("store.redb")).unwrap();
    assert_eq!(refused(data_dir.path()), "STORE_IO");
    assert!(replica_dir.join("store.redb").is_symlink());
}

#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let (data_dir, replica_dir) = with_store();
    fs::set_permissions(&replica_dir, fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(refused(data_dir.path()), "STORE_EXPOSED");
    fs::set_permissions(&replica_dir, fs::Permissions::from_mode(0o700)).unwrap();
    open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
}

#[test]
fn a_data_directory_that_is_a_file_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let data_dir = parent.path().join("file");
    fs::write(&data_dir, b"").unwrap();
    assert_eq!(refused(&data_dir), "STORE_IO");
}

#[test]
fn a_store_is_locked_as_long_as_it_lives() {
    let data_dir = tempfile::tempdir().unwrap();
    let (store, _) = open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
    assert_eq!(refused(data_dir.path()), "STORE_LOCKED");
    drop(store);
    open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
}

#[test]
fn what_is_copied_from_an_open_store_opens_without_a_clean_shutdown() {
    let (data_dir, replica_dir) = with_store();
    let (mut store, _) = open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
    store.commit(&[append(1, entries(2..=4, 1, 100))]).unwrap();
    let copy = tempfile::tempdir().unwrap();
    drop(open(copy.path(), wanted(), DISK, |_| {}).unwrap());
    fs::copy(replica_dir.join("store.redb"), copy.path().join("replica-1/store.redb")).unwrap();
    let (_, recovered) = open(copy.path(), wanted(), DISK, |_| {}).unwrap();
    assert_eq!(recovered, store.load().unwrap());
}

/// Names the data directory to the process that [`another_process`] starts.
const HELD: &str = "TOMBOLA_TEST_HELD_DATA_DIR";

/// This test binary again, running only [`hold`], once it holds the lock.
fn another_process(data_dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::tests::directory::hold", "--nocapture"])
        .env(HELD, data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")), "the other process could not open the store");
    child
}

/// Nothing by itself: the other half of [`a_lock_ends_with_its_process`], until its standard input ends.
#[test]
fn hold() {
    let Some(data_dir) = std::env::var_os(HELD) else { return };
    let _store = open(Path::new(&data_dir), wanted(), DISK, |_| {}).unwrap();
    println!("held");
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_lock_ends_with_its_process() {
    let (data_dir, replica_dir) = with_store();
    let mut child = another_process(data_dir.path());
    let error = open(data_dir.path(), wanted(), DISK, |_| {}).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "STORE_LOCKED");
    assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
    assert!(error.to_string().contains(replica_dir.to_str().unwrap()), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, recovered) = open(data_dir.path(), wanted(), DISK, |_| {}).unwrap();
    assert_eq!(recovered, model(&[prepare(), found(100)]));
}

#[test]
fn commits_and_what_takes_the_journal_over_go_side_by_side() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut store = open(data_dir.path(), wanted(), DISK, |_| {}).unwrap().0;
    let mut sets = vec![prepare(), found(100), promise(1, hard_state(2, 1, 1))];
    store.commit(&sets).unwrap();
    let mut folds = 0;
    // Of some 45 pages each: a half is full after five.
    for index in 2..60 {
        sets.push(append(index, entries(index..=index, 2, 180_000)));
        let fold = store.fold().inspect(|_| folds += 1);
        std::thread::scope(|scope| {
            scope.spawn(move || fold.iter().for_each(Fold::run));
            store.commit(&sets[sets.len() - 1..]).unwrap();
        });
    }
    assert!(folds > 5, "{folds}");
    assert_eq!(store.load().unwrap(), model(&sets));
    drop(store);
    assert_eq!(open(data_dir.path(), wanted(), DISK, |_| {}).unwrap().1, model(&sets));
}
