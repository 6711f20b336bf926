//! What a commit costs, beside a bare write and fdatasync of as many bytes on the same disk in the same run: the price
//! of keeping the log in redb instead of a file of our own (DESIGN, decision 4). And what a snapshot of 256 MiB costs the
//! log: a chunk staged, the flip, a call that cleans up; and a start from it, with 64 MiB of log.
//!
//! Run it on the disk that matters: the files lie in the directory for temporary files (`TMPDIR`). On a tmpfs both sides
//! cost nothing and the comparison means nothing.

use std::{
    collections::BTreeMap,
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sha2::Digest;
use tombola::{
    durable::{
        CHUNK_BYTES, Entry, EntryKind, Founders, FoundingWrite, HardState, Snapshot, SnapshotMeta, SnapshotWrite,
        Staging, WriteSet,
    },
    pool::Limits,
    storage::{self, Store, Wanted},
    types::{ClusterId, DiskId, Index, ReplicaId, ShardId, Term},
};

/// A small batch, a page, and a full one.
const SIZES: [usize; 3] = [256, 4 << 10, 64 << 10];
/// The bare file is written around in circles, as redb writes its freed pages anew: neither side grows a file each time.
const BARE_BYTES: u64 = 64 << 20;

/// The snapshot that a state of 256 MiB has, and the log beside it.
const BODY_CHUNKS: usize = (256 << 20) / CHUNK_BYTES;
const LOG_BYTES: usize = 64 << 20;

fn wanted() -> Wanted {
    Wanted { cluster: ClusterId([1; 16]), shard: ShardId::FIRST, replica: ReplicaId(1) }
}

fn open(data_dir: &Path) -> Store {
    storage::open(data_dir, wanted(), DiskId([1; 16]), |_| {}).expect("the directory is ours").0
}

/// What a snapshot at `index` is of, that has this body.
fn meta(index: Index, body_bytes: usize, body_sha256: [u8; 32]) -> SnapshotMeta {
    let disks = BTreeMap::from([(wanted().replica, DiskId([1; 16]))]);
    SnapshotMeta {
        index,
        term: Term(1),
        voters: vec![wanted().replica],
        founders: Founders { cluster: wanted().cluster, limits: Limits::default(), disks },
        body_bytes: body_bytes as u64,
        body_sha256,
    }
}

fn founded(data_dir: &Path) -> Store {
    let mut store = open(data_dir);
    let meta = meta(Index::FOUNDING, 0, sha2::Sha256::digest(b"").into());
    let found = WriteSet {
        founding: Some(FoundingWrite::Found(Snapshot { meta, body: Vec::new() })),
        hard_state: Some(committed(Index::FOUNDING)),
        promise: true,
        ..WriteSet::default()
    };
    store.commit(&[found]).expect("an empty store can be founded");
    store
}

fn committed(commit: Index) -> HardState {
    HardState { term: Term(1), vote: ReplicaId(0), commit }
}

fn append(index: Index, data: &Bytes) -> WriteSet {
    let entry = Entry { index, term: Term(1), kind: EntryKind::Normal, data: data.clone() };
    WriteSet { number: index.0, entries: vec![entry], ..WriteSet::default() }
}

fn commit_by_size(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut store = founded(directory.path());
    let bare = File::create_new(directory.path().join("bare")).expect("a file");
    // Written, not only as long: filling holes would cost the file system metadata each time.
    bare.write_all_at(&vec![1; BARE_BYTES as usize], 0).and_then(|()| bare.sync_all()).expect("room for the bare file");

    let mut group = c.benchmark_group("commit");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5)).sample_size(50);
    let mut index = Index::FOUNDING;
    let mut offset = 0;
    for bytes in SIZES {
        let data = Bytes::from(vec![0xa5; bytes]);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("store", bytes), |b| {
            b.iter(|| {
                index = index.next();
                store.commit(black_box(&[append(index, &data)])).expect("the disk works");
            });
        });
        group.bench_function(BenchmarkId::new("bare_fdatasync", bytes), |b| {
            b.iter(|| {
                bare.write_all_at(black_box(&data), offset).and_then(|()| bare.sync_data()).expect("the disk works");
                offset = (offset + bytes as u64) % (BARE_BYTES - (64 << 10));
            });
        });
    }
    group.finish();
}

/// A chunk that differs from every other.
fn chunk(number: usize) -> Vec<u8> {
    let mut state = number as u64;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    next.take(CHUNK_BYTES).collect()
}

/// Brings a store to a snapshot of 256 MiB and 64 MiB of log, as it comes about: appends of 64 KiB, a body staged chunk by
/// chunk, the flip. Gives how long each chunk and each flip took.
fn take_snapshot(store: &mut Store, last: Index) -> (Vec<Duration>, Duration) {
    let mut hasher = sha2::Sha256::new();
    let mut chunks = Vec::new();
    store.begin(&Staging::Own { index: last }).expect("the disk works");
    for number in 0..BODY_CHUNKS {
        let chunk = chunk(number);
        hasher.update(&chunk);
        let begin = Instant::now();
        store.stage(number as u32, &chunk).expect("the disk works");
        chunks.push(begin.elapsed());
    }
    let meta = meta(last, BODY_CHUNKS * CHUNK_BYTES, hasher.finalize().into());
    let taken = SnapshotWrite::Taken { meta, truncated: (last, Term(1)) };
    let set = WriteSet { snapshot: Some(taken), hard_state: Some(committed(last)), ..WriteSet::default() };
    let begin = Instant::now();
    store.commit(&[set]).expect("the disk works");
    (chunks, begin.elapsed())
}

fn append_log(store: &mut Store, after: Index, bytes: usize) -> Index {
    let data = Bytes::from(vec![0x5a; bytes]);
    let last = Index(after.0 + (LOG_BYTES / bytes) as u64);
    for first in (after.0 + 1..=last.0).step_by(64) {
        let sets: Vec<_> = (first..(first + 64).min(last.0 + 1)).map(|index| append(Index(index), &data)).collect();
        store.commit(&sets).expect("the disk works");
    }
    last
}

/// Not criterion's: each happens once in a while, and its worst case counts. Three rounds, as the first one's file grows.
fn snapshot_of_256_mib(_: &mut Criterion) {
    // As criterion tells a bench from a test, which shall only show that it builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut store = founded(directory.path());
    let mut last = Index::FOUNDING;
    for round in 1..=3 {
        last = append_log(&mut store, last, 4 << 10);
        let (chunks, flip) = take_snapshot(&mut store, last);
        let mut cleans = Vec::new();
        let mut is_more = true;
        while is_more {
            let begin = Instant::now();
            is_more = store.clean().expect("the disk works");
            cleans.push(begin.elapsed());
        }
        println!("snapshot of 256 MiB, round {round}: flip {flip:.1?}");
        report("stage a chunk", chunks);
        report("clean", cleans);
    }
    append_log(&mut store, last, 64 << 10);
    for how in ["after a clean stop", "again"] {
        drop(store);
        let begin = Instant::now();
        store = open(directory.path());
        println!("open with a snapshot of 256 MiB and 64 MiB of log, {how}: {:.1?}", begin.elapsed());
    }
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let (count, sum) = (took.len(), took.iter().sum::<Duration>());
    let [median, p99, max] = [count / 2, count * 99 / 100, count - 1].map(|at| took[at]);
    println!("  {what}: {count} times, {sum:.1?} in all; median {median:.1?}, p99 {p99:.1?}, max {max:.1?}");
}

criterion_group!(benches, commit_by_size, snapshot_of_256_mib);
criterion_main!(benches);
