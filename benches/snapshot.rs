//! What a snapshot costs a node that goes on: how long its state stands still while one is taken under load, beside the
//! same load without; and how long a start from it takes.
//!
//! `cargo bench --bench snapshot [STATE_MIB]`, 256 by default; on the disk that matters (`TMPDIR`), alone on the machine.
//! The node is a sole voter with a real store and no network: nothing but its own work can make it pause.

#[path = "../tests/support/nobody.rs"]
mod nobody;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tombola::{
    api::{Consistency, Request},
    durable::{
        CHUNK_BYTES, Founders, FoundingWrite, HardState, Recovered, Snapshot, SnapshotMeta, SnapshotWrite, Staging,
        WriteSet,
    },
    pool::{
        Action, Actor, Batch, CatalogItem, Command, KeyOrigin, Limits, PoolId, Query, RequestKey, StateMachine, Stock,
        Weight,
    },
    replica::SnapshotPolicy,
    runtime::{FlowLimits, Node, NodeConfig, NodeHandle, SNAPSHOT_BYTES_PER_S, StoreThread},
    storage::{self, Store, Wanted},
    system::SystemEnvironment,
    types::{ClusterId, DiskId, Entropy, Index, Millis, ReplicaId, ShardId, Term},
};

use nobody::Nobody;

const STATE_MIB: usize = 256;
const KEYS_PER_BATCH: u64 = 4_096;
/// Keys of so many milliseconds are in a batch of the state that is filled: buckets of 5 s get about 20,000 keys.
const BATCH_MS: u64 = 1_000;
const LIMITS: Limits = Limits { keys_bytes_max: 4 << 30, keys_age_ms_max: 24 * 60 * 60 * 1_000 };
const ME: ReplicaId = ReplicaId(1);
const WANTED: Wanted = Wanted { cluster: ClusterId([1; 16]), shard: ShardId::FIRST, replica: ME };
const DISK: DiskId = DiskId([1; 16]);
/// Calls in flight.
const IN_FLIGHT: u64 = 2_048;
/// How long each load lasts: with snapshots, until two were taken.
const QUIET: Duration = Duration::from_secs(15);
const SNAPSHOTS: u64 = 2;

fn wall_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis()).expect("it fits")
}

fn key(at_ms: u64, number: u64) -> RequestKey {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&number.to_le_bytes());
    RequestKey::new(Millis(at_ms), entropy)
}

fn draw(key: RequestKey) -> Command {
    let (pool, action) = (PoolId::default_pool(), Action::Draw { count: 1 });
    Command { pool, key, origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

/// A state whose snapshot has at least so many bytes, mostly of request keys.
fn filled(bytes: usize) -> StateMachine {
    let mut machine = StateMachine::founding(LIMITS);
    let item =
        |id: &str, stock, weight| CatalogItem { item: id.parse().expect("legal"), stock, weight: Weight(weight) };
    let items = vec![item("gold", Stock::Finite(1 << 40), 1), item("mud", Stock::Unlimited, 9)];
    let import = Action::ImportCatalog { items, draw_seq: Default::default() };
    let from = wall_ms() - 12 * 60 * 60 * 1_000;
    let mut apply = |at: u64, commands| {
        let entropy = Entropy([at as u8; 32]);
        let batch = Batch { version: Batch::VERSION, time: Millis(at), entropy, commands }.encode();
        machine.apply(machine.applied().next(), &batch);
        machine.key_stats().bytes_used as usize
    };
    let mut at = from;
    apply(at, vec![Command { action: import, ..draw(key(at, 0)) }]);
    let mut number = 0;
    loop {
        at += BATCH_MS;
        let commands = (0..KEYS_PER_BATCH).map(|_| {
            number += 1;
            draw(key(at - number % BATCH_MS, number))
        });
        if apply(at, commands.collect()) >= bytes {
            println!("state: {number} keys, {} MiB as the pool counts them", bytes >> 20);
            return machine;
        }
    }
}

fn meta_of(machine: &StateMachine, chunks: &[Bytes]) -> SnapshotMeta {
    let mut hasher = Sha256::new();
    chunks.iter().for_each(|chunk| hasher.update(chunk));
    SnapshotMeta {
        index: machine.applied(),
        term: Term(1),
        voters: vec![ME],
        founders: Founders { cluster: WANTED.cluster, limits: LIMITS, disks: BTreeMap::from([(ME, DISK)]) },
        body_bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        body_sha256: hasher.finalize().into(),
    }
}

/// A store that holds this state, as if a peer had sent it.
fn store_with(dir: &Path, machine: &StateMachine) {
    let (mut store, _) = storage::open(dir, WANTED, DISK, |_| {}).expect("an empty directory takes a store");
    let founding = StateMachine::founding(LIMITS);
    let body: Vec<Bytes> = founding.snapshot().chunks(CHUNK_BYTES).collect();
    let snapshot = Snapshot { meta: meta_of(&founding, &body), body };
    let hard_state = |commit| Some(HardState { term: Term(1), vote: ReplicaId(0), commit });
    let found = WriteSet {
        founding: Some(FoundingWrite::Found(snapshot)),
        hard_state: hard_state(Index::FOUNDING),
        promise: true,
        ..WriteSet::default()
    };
    store.commit(&[found]).expect("an empty store can be founded");

    let started = Instant::now();
    let handle = machine.snapshot();
    println!("snapshot(): {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let chunks: Vec<Bytes> = handle.chunks(CHUNK_BYTES).collect();
    let meta = meta_of(machine, &chunks);
    println!(
        "encoded: {} MiB in {} chunks, with its SHA-256, in {:.2} s",
        meta.body_bytes >> 20,
        chunks.len(),
        started.elapsed().as_secs_f64()
    );
    let started = Instant::now();
    store.begin(&Staging::Received(meta.clone())).expect("the disk works");
    for (number, chunk) in (0..).zip(&chunks) {
        store.stage(number, chunk).expect("the disk works");
    }
    println!("staged: in {:.2} s, each chunk with a sync of its own", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let hard_state = hard_state(meta.index);
    let install = WriteSet {
        number: 1,
        snapshot: Some(SnapshotWrite::Installed { meta }),
        hard_state,
        promise: true,
        ..WriteSet::default()
    };
    store.commit(&[install]).expect("a staged body can be installed");
    println!("installed: in {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
    while store.clean().expect("the disk works") {}
}

fn open(dir: &Path) -> (Store, Recovered) {
    storage::open(dir, WANTED, DISK, |_| {}).expect("what was closed opens")
}

async fn start(dir: &Path, snapshots: SnapshotPolicy) -> Node {
    let started = Instant::now();
    let (store, recovered) = open(dir);
    let opened = started.elapsed();
    let config = NodeConfig {
        founders: vec![ME],
        heartbeat_ticks: 2,
        election_ticks: 20,
        snapshots,
        snapshot_bytes_per_s: SNAPSHOT_BYTES_PER_S,
        accept_clock: false,
        flow: FlowLimits::default(),
        limits: LIMITS,
        catalog: Vec::new(),
    };
    let environment = SystemEnvironment::new(Duration::from_millis(50));
    let store = StoreThread::start(store).expect("a thread can be started");
    let node = Node::start(config, recovered, Nobody, store, environment);
    let query = || Query::first_pools();
    while node.handle.read(query(), Consistency::Linearizable, Duration::from_secs(10)).await.is_err() {}
    println!(
        "start: {:.2} s to open the store, {:.2} s to the first linearizable read (an election, 1 to 2 s, included)",
        opened.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    node
}

/// Draws until told to stop.
async fn load(handle: NodeHandle, first: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut number = first << 40;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = Some(key(wall_ms(), number));
        let action = Action::Draw { count: 1 };
        let request = Request { pool: PoolId::default_pool(), key, actor: Actor::default(), action };
        if handle.submit(request, Duration::from_secs(10)).await.is_ok() {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Times between two states that differ, in microseconds, seen by asking all the time.
async fn standstills(handle: &NodeHandle, until: impl Fn() -> bool) -> Vec<u64> {
    let mut gaps = Vec::new();
    let (mut seen, mut since) = (Index(0), Instant::now());
    while !until() {
        let read = handle.read(Query::first_pools(), Consistency::Stale, Duration::from_secs(10)).await;
        let index = read.expect("a stale read is answered").index;
        if index != seen {
            gaps.push(u64::try_from(since.elapsed().as_micros()).expect("it fits"));
            (seen, since) = (index, Instant::now());
        }
        tokio::task::yield_now().await;
    }
    gaps.sort_unstable();
    gaps
}

async fn measure(what: &str, node: &Node, until: impl Fn(Instant) -> bool) {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (1..=IN_FLIGHT)
        .map(|first| tokio::spawn(load(node.handle.clone(), first, stop.clone(), done.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (started, before) = (Instant::now(), done.load(Ordering::Relaxed));
    let gaps = standstills(&node.handle, || until(started)).await;
    let rate = (done.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("a caller does not panic");
    }
    let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "{what}: {rate:.0} draws/s for {:.0} s; the state stood still for p50 {:.2}, p99 {:.2}, p99.9 {:.2}, at most {:.2} ms",
        started.elapsed().as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

#[tokio::main]
async fn main() {
    let mib = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(STATE_MIB);
    let dir = tempfile::tempdir().expect("a temporary directory");
    store_with(dir.path(), &filled(mib << 20));

    let never = SnapshotPolicy { log_bytes_min: u64::MAX, log_bytes_max: u64::MAX, ..SnapshotPolicy::default() };
    let node = start(dir.path(), never).await;
    measure("without snapshots", &node, |started| started.elapsed() >= QUIET).await;
    node.handle.stop().await;

    let node = start(dir.path(), SnapshotPolicy::default()).await;
    let handle = node.handle.clone();
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let watch = tokio::spawn(async move {
        let mut last = None;
        while let Ok(status) = handle.status().await {
            let snapshot = status.replica.snapshot_index;
            if last.replace(snapshot).is_some_and(|last| last != snapshot) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    measure("with snapshots", &node, |started| {
        taken.load(Ordering::Relaxed) >= SNAPSHOTS || started.elapsed() >= 20 * QUIET
    })
    .await;
    println!("snapshots taken meanwhile: {}", taken.load(Ordering::Relaxed));
    node.handle.stop().await;
    watch.abort();
}
