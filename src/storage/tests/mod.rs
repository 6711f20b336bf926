//! The store on a disk in memory, whose power can be cut. What needs real files is in `directory`.

mod commit;
mod crash;
mod damage;
mod directory;
mod disk;
mod failure;
mod flip;
mod fold;
mod formats;
mod image;
mod journal;
mod life;

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::Digest;

use self::{disk::Disk, image::Image, life::Model};
use super::{
    layout::PAGE_BYTES,
    schema::{Begun, Body, Newest},
    *,
};
use crate::{
    durable::{
        CHUNK_BYTES, Entry, EntryKind, Founders, FoundingWrite, HardState, RecoveredLog, RecoveredState, Snapshot,
        SnapshotMeta,
    },
    pool::Limits,
    types::{DiskId, Index, Term},
};

fn identity() -> Identity {
    Identity { cluster: ClusterId([0xc1; 16]), shard: ShardId::FIRST, replica: ReplicaId(1), disk: DiskId([0xd1; 16]) }
}

fn wanted() -> Wanted {
    let Identity { cluster, shard, replica, .. } = identity();
    Wanted { cluster, shard, replica }
}

fn founders() -> Founders {
    let disks = [(1, 0xd1), (2, 0xd2), (3, 0xd3)];
    let disks = disks.map(|(replica, disk)| (ReplicaId(replica), DiskId([disk; 16])));
    Founders { cluster: identity().cluster, limits: Limits::default(), disks: BTreeMap::from(disks) }
}

/// A founding snapshot whose body has `bytes` bytes.
fn founding(bytes: usize) -> Snapshot {
    let body: Bytes = (0..bytes).map(|at| (at / 7) as u8 ^ 0x5a).collect();
    let meta = SnapshotMeta {
        index: Index::FOUNDING,
        term: Term(1),
        voters: founders().disks.into_keys().collect(),
        founders: founders(),
        body_bytes: bytes as u64,
        body_sha256: sha2::Sha256::digest(&body).into(),
    };
    Snapshot { meta, body: body.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect() }
}

/// The record of a founding.
fn newest(body_bytes: usize) -> Newest {
    let meta = founding(body_bytes).meta;
    Newest { truncated: (meta.index, meta.term), meta, body: Body::FOUNDING, log: Body::FOUNDING }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: ReplicaId(vote), commit: Index(commit) }
}

/// Entries of `term` at these indexes, each with `bytes` bytes of its own.
fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Vec<Entry> {
    let entry = |index: u64| {
        let data = (0..bytes).map(|at| (at as u64 ^ index ^ term << 5) as u8).collect();
        Entry { index: Index(index), term: Term(term), kind: EntryKind::Normal, data }
    };
    indexes.map(entry).collect()
}

fn prepare() -> WriteSet {
    WriteSet { founding: Some(FoundingWrite::Prepare(founders())), ..WriteSet::default() }
}

fn found(body_bytes: usize) -> WriteSet {
    WriteSet {
        founding: Some(FoundingWrite::Found(founding(body_bytes))),
        hard_state: Some(hard_state(1, 0, 1)),
        promise: true,
        ..WriteSet::default()
    }
}

fn append(number: u64, entries: Vec<Entry>) -> WriteSet {
    WriteSet { number, entries, ..WriteSet::default() }
}

fn promise(number: u64, hard_state: HardState) -> WriteSet {
    WriteSet { number, hard_state: Some(hard_state), promise: true, ..WriteSet::default() }
}

fn commit_to(number: u64, hard_state: HardState) -> WriteSet {
    WriteSet { number, hard_state: Some(hard_state), ..WriteSet::default() }
}

/// A journal each of whose halves is full after so many short commits.
const SHORT_JOURNAL_BYTES: u64 = 2 * HALF_PAGES * PAGE_BYTES;
const HALF_PAGES: u64 = 8;

/// A store that was created on `disk`, and nothing more.
fn created(disk: &Disk) -> Store {
    create(disk.clone(), identity(), SHORT_JOURNAL_BYTES).unwrap();
    opened(disk).0
}

fn opened(disk: &Disk) -> (Store, Recovered) {
    Store::open(disk.clone(), wanted(), |_| {}).unwrap()
}

/// A store in term 2 with entries 2 to 6, the last two of them not committed.
fn with_log(disk: &Disk) -> Store {
    let mut store = created(disk);
    store.commit(&[prepare(), found(100), promise(1, hard_state(2, 1, 1))]).unwrap();
    store.commit(&[append(2, entries(2..=6, 2, 64)), commit_to(3, hard_state(2, 1, 4))]).unwrap();
    store
}

/// A store in term 2 whose tables hold entries 2 to 6, all committed, and whose journal holds nothing.
fn folded(disk: &Disk) -> Store {
    let mut store = with_log(disk);
    store.commit(&[promise(4, hard_state(2, 1, 6))]).unwrap();
    store
}

/// Appends entry by entry, each with this many bytes.
fn lengthen(store: &mut Store, indexes: std::ops::RangeInclusive<u64>, bytes: usize) {
    for index in indexes {
        store.commit(&[append(index, entries(index..=index, 2, bytes))]).unwrap();
    }
}

/// A store that lost power now.
fn cut_off(disk: &Disk) -> Disk {
    Disk::holding(disk.image())
}

/// The half of the journal that is written.
fn area(store: &Store) -> std::ops::Range<usize> {
    let area = store.journal.area();
    area.start as usize..area.end as usize
}

/// redb's part of a store, as redb sees it.
fn tables_of(disk: &Disk) -> Database {
    let disk: Shared = Arc::new(disk.clone());
    let front = Front::read(&disk).unwrap();
    builder().create_with_backend(front.tables(disk)).unwrap()
}

fn log_of(recovered: &Recovered) -> &RecoveredLog {
    match &recovered.state {
        RecoveredState::Founded(log) => log,
        RecoveredState::Unfounded { .. } => panic!("not founded"),
    }
}

/// What a store must hold after these WriteSets.
fn model<'a>(sets: impl IntoIterator<Item = &'a WriteSet>) -> Recovered {
    let mut model = Model::new();
    sets.into_iter().for_each(|set| model.commit(set));
    model.content().recovered
}
