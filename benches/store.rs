//! What a commit costs, beside a bare write and fdatasync of as many bytes on the same disk in the same run: the price
//! of keeping the log in redb instead of a file of our own (DESIGN, decision 4).
//!
//! Run it on the disk that matters: the files lie in the directory for temporary files (`TMPDIR`). On a tmpfs both sides
//! cost nothing and the comparison means nothing.

use std::{collections::BTreeMap, fs::File, hint::black_box, os::unix::fs::FileExt, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sha2::Digest;
use tombola::{
    durable::{Entry, EntryKind, Founders, FoundingWrite, HardState, Snapshot, SnapshotMeta, WriteSet},
    pool::Limits,
    storage::{self, Store, Wanted},
    types::{ClusterId, DiskId, Index, ReplicaId, ShardId, Term},
};

/// A small batch, a page, and a full one.
const SIZES: [usize; 3] = [256, 4 << 10, 64 << 10];
/// The bare file is written around in circles, as redb writes its freed pages anew: neither side grows a file each time.
const BARE_BYTES: u64 = 64 << 20;

fn founded(data_dir: &std::path::Path) -> Store {
    let wanted = Wanted { cluster: ClusterId([1; 16]), shard: ShardId::FIRST, replica: ReplicaId(1) };
    let disk = DiskId([1; 16]);
    let (mut store, _) = storage::open(data_dir, wanted, disk, |_| {}).expect("an empty directory takes a store");
    let founders = Founders {
        cluster: wanted.cluster,
        limits: Limits::default(),
        disks: BTreeMap::from([(wanted.replica, disk)]),
    };
    let meta = SnapshotMeta {
        index: Index::FOUNDING,
        term: Term(1),
        voters: vec![wanted.replica],
        founders,
        body_bytes: 0,
        body_sha256: sha2::Sha256::digest(b"").into(),
    };
    let found = WriteSet {
        founding: Some(FoundingWrite::Found(Snapshot { meta, body: Vec::new() })),
        hard_state: Some(HardState { term: Term(1), vote: ReplicaId(0), commit: Index::FOUNDING }),
        promise: true,
        ..WriteSet::default()
    };
    store.commit(&[found]).expect("an empty store can be founded");
    store
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
                let entry = Entry { index, term: Term(1), kind: EntryKind::Normal, data: data.clone() };
                let set = WriteSet { number: index.0, entries: vec![entry], ..WriteSet::default() };
                store.commit(black_box(&[set])).expect("the disk works");
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

criterion_group!(benches, commit_by_size);
criterion_main!(benches);
