//! One node of the production runtime, on a disk in memory that survives it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use madsim::{runtime::Handle, task::NodeId, time::TimeHandle};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use redb::StorageBackend;
use tombola::{
    durable::{Identity, Staging, WriteSet},
    pool::{CatalogItem, Limits, Stock, Weight},
    replica::SnapshotPolicy,
    runtime::{Environment, NoEntropy, Node, NodeHandle, Persist, PersistError, SNAPSHOT_BYTES_PER_S},
    storage::{self, Backend, Store, StoreError, Wanted},
    types::{ClusterId, DiskId, Index, Millis, ReplicaId, ShardId},
};

use crate::{
    book::Book,
    chance::stream,
    check::{Report, Violation},
    clients::{caller::Caller, serve},
    network::Network,
    plan::{ClockOptions, DiskOptions, NetworkOptions, Options, Plan},
    store::Writing,
    trace::Trace,
    world::machine::config,
};

pub const NODE: ReplicaId = ReplicaId(1);
const WANTED: Wanted = Wanted { cluster: ClusterId([7; 16]), shard: ShardId::FIRST, replica: NODE };
/// Far enough from 1970 for every key to have a past.
const BEGIN_MS: u64 = crate::clock::START_MS;

/// A plan of one node without clients.
pub fn plan(seed: u64, network: NetworkOptions) -> Plan {
    let item = |id: &str, stock, weight| CatalogItem { item: id.parse().unwrap(), stock, weight: Weight(weight) };
    let options = Options {
        voters: 1,
        safety_ms: 60_000,
        quiet_ms: 0,
        tick_ms: 50,
        heartbeat_ticks: 1,
        election_ticks: 10,
        network,
        disk: DiskOptions::default(),
        clocks: vec![ClockOptions { offset_ms: 0, rate_ppm: 1_000_000 }],
        snapshots: SnapshotPolicy { log_bytes_min: 20_000, trailing_entries: 20, ..SnapshotPolicy::default() },
        snapshot_bytes_per_s: SNAPSHOT_BYTES_PER_S,
        flow: Default::default(),
        limits: Limits::default(),
        catalog: vec![item("gold", Stock::Finite(40), 1), item("mud", Stock::Unlimited, 9)],
    };
    Plan { seed, options, clients: vec![], faults: vec![] }
}

/// A file in memory.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }
}

impl Backend for Memory {}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let bytes = self.bytes();
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        self.bytes()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// A store whose writes are told to the book.
struct Told {
    store: Store,
    book: Book,
    incarnation: u64,
}

impl Persist for Told {
    async fn commit(&mut self, writes: Vec<WriteSet>) -> Result<(), PersistError> {
        self.book.writing(NODE, self.incarnation, Writing::Handed(&writes));
        self.store.commit(&writes).map_err(failed)?;
        self.book.writing(NODE, self.incarnation, Writing::Durable);
        Ok(())
    }

    async fn begin(&mut self, staging: Staging) -> Result<u32, PersistError> {
        self.store.begin(&staging).map_err(failed)
    }

    async fn stage(&mut self, number: u32, chunk: Bytes) -> Result<(), PersistError> {
        self.store.stage(number, &chunk).map_err(failed)
    }

    async fn chunk(&mut self, snapshot: Index, number: u32) -> Result<Option<Bytes>, PersistError> {
        self.store.chunk(snapshot, number).map_err(failed)
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        self.store.clean().map_err(failed)
    }
}

fn failed(error: StoreError) -> PersistError {
    PersistError(error.to_string())
}

struct World(ChaCha8Rng);

impl Environment for World {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fill_bytes(bytes);
        Ok(())
    }

    fn wall(&mut self) -> Millis {
        Millis(BEGIN_MS + TimeHandle::current().elapsed().as_millis() as u64)
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(50)
    }
}

/// The node, and what it runs on.
pub struct Rig {
    pub network: Network,
    pub book: Book,
    plan: Plan,
    disk: Memory,
    incarnation: u64,
    /// Where it lives; and its handle, once it is up.
    alive: Option<(NodeId, Arc<Mutex<Option<NodeHandle>>>)>,
}

impl Rig {
    pub fn new(plan: &Plan, bug: Option<String>, trace: Trace) -> Self {
        let network = Network::new(plan.seed, plan.options.network, trace.clone());
        tokio::spawn(network.clone().dispatch());
        let book = Book::new(plan, bug, trace);
        tombola::hooks::install(Some(Arc::new(book.clone())));
        let disk = Memory::default();
        let identity = Identity { cluster: WANTED.cluster, shard: WANTED.shard, replica: NODE, disk: DiskId([3; 16]) };
        storage::create(disk.clone(), identity, 16 << 10).unwrap();
        Self { network, book, plan: plan.clone(), disk, incarnation: 0, alive: None }
    }

    pub fn start(&mut self) {
        self.incarnation += 1;
        let (store, recovered) = Store::open(self.disk.clone(), WANTED, |_| {}).unwrap();
        let place = Handle::current().create_node().name("node").build();
        self.book.started(NODE, self.incarnation, place.id(), &recovered);
        let (link, door) = self.network.join(NODE, self.incarnation);
        let store = Told { store, book: self.book.clone(), incarnation: self.incarnation };
        let environment = World(stream(self.plan.seed, "entropy", &[self.incarnation]));
        let config = config(&self.plan);
        let slot = Arc::<Mutex<Option<NodeHandle>>>::default();
        self.alive = Some((place.id(), slot.clone()));
        place.spawn(async move {
            let node = Node::start(config, recovered, link, store, environment);
            tokio::spawn(serve(door, node.handle.clone()));
            *slot.lock().unwrap() = Some(node.handle);
            panic!("the node ended: {}", node.task.await.unwrap());
        });
    }

    /// Power is cut, and the disk keeps everything.
    pub fn crash(&mut self) {
        let (place, _) = self.alive.take().unwrap();
        self.book.fenced(NODE);
        self.network.fence(NODE);
        // What a dropped store would still write is of a life that is over.
        let left = self.disk.bytes().clone();
        self.disk = Memory(Arc::new(Mutex::new(left)));
        Handle::current().kill(place);
    }

    /// The node, once it has come up.
    pub async fn handle(&self) -> NodeHandle {
        let (_, slot) = self.alive.as_ref().unwrap();
        loop {
            if let Some(handle) = &*slot.lock().unwrap() {
                return handle.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A client of that number.
    pub fn caller(&self, plan: &Plan, client: u64) -> Caller {
        Caller::new(plan, &self.network, &self.book, client, vec![NODE])
    }

    /// The node has what it has in the end, and everything is judged.
    pub async fn finish(self) -> Result<Report, Violation> {
        let status = self.handle().await.status().await.unwrap();
        self.book.survived(NODE, status.replica.digests);
        tombola::hooks::install(None);
        self.book.finish()
    }
}
