//! Nodes in one process: a network, disks and clocks in memory, with the faults that the tests ask for.
//!
//! Time is real, since ticks are; so no test here may assert how long anything takes, beyond what the node promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tombola::{
    api::{Consistency, Failure, NodeStatus},
    durable::{Identity, Recovered},
    pool::{Answer, CatalogItem, ItemState, Limits, PoolId, PoolState, Query, RequestKey, Stock, Weight},
    replica::SnapshotPolicy,
    runtime::{
        Environment, FlowLimits, NoEntropy, Node, NodeConfig, NodeHandle, SNAPSHOT_BYTES_PER_S, Stopped, StoreThread,
    },
    storage::{self, Store, Wanted},
    transport::{Dropped, Event, Lane, Transport},
    types::{ClusterId, DiskId, Millis, ReplicaId, ShardId},
};

use crate::disk::Disk;

/// Longest that anything in these tests may take before it counts as never.
pub const NEVER: Duration = Duration::from_secs(60);
/// What callers allow a request.
pub const PATIENT: Duration = Duration::from_secs(10);
/// What callers allow a request that they expect to fail.
pub const BRIEF: Duration = Duration::from_millis(600);

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(10);

/// What is wrong with the network.
#[derive(Default)]
struct Faults {
    /// Frames on these links vanish, without a word.
    cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// Every so many-th frame vanishes.
    loses_one_in: Option<u64>,
    /// Every so many-th frame comes twice, the second time after what came meanwhile.
    doubles_one_in: Option<u64>,
    /// In every so many-th bulk frame a byte is changed.
    spoils_one_in: Option<u64>,
    /// Frames sent.
    sent: u64,
    /// Bulk frames sent.
    bulk: u64,
    /// Second copies on their way.
    copies: Vec<(ReplicaId, Event)>,
}

#[derive(Default)]
struct Network {
    inboxes: BTreeMap<ReplicaId, mpsc::Sender<Event>>,
    /// What each node says of itself.
    hellos: BTreeMap<ReplicaId, Bytes>,
    /// Between whom there is a connection, the lesser id first.
    connections: BTreeSet<(ReplicaId, ReplicaId)>,
    faults: Faults,
}

impl Network {
    /// Both sides meet, unless they have. `None` if one of them is not there, or cannot take it.
    fn connect(&mut self, from: ReplicaId, to: ReplicaId) -> Option<()> {
        let pair = (from.min(to), from.max(to));
        let is_cut = [(from, to), (to, from)].iter().any(|link| self.faults.cut.contains(link));
        if self.connections.contains(&pair) || is_cut {
            return Some(());
        }
        let (from_hello, to_hello) = (self.hellos.get(&from)?, self.hellos.get(&to)?);
        let met = |peer, hello: &Bytes| Event::Met { peer, hello: hello.clone() };
        self.inboxes.get(&from)?.try_send(met(to, to_hello)).ok()?;
        self.inboxes.get(&to)?.try_send(met(from, from_hello)).ok()?;
        self.connections.insert(pair);
        Some(())
    }

    /// Everybody who is there meets everybody.
    fn connect_all(&mut self) {
        let there: Vec<_> = self.hellos.keys().copied().collect();
        for from in &there {
            there.iter().filter(|to| from < to).for_each(|to| _ = self.connect(*from, *to));
        }
    }

    /// A node is gone, and its connections with it.
    fn leave(&mut self, id: ReplicaId) {
        self.inboxes.remove(&id);
        self.hellos.remove(&id);
        self.connections.retain(|(one, other)| *one != id && *other != id);
    }
}

/// One node's end of the network.
struct Link {
    me: ReplicaId,
    network: Arc<Mutex<Network>>,
    inbox: mpsc::Receiver<Event>,
}

impl Transport for Link {
    fn introduce(&mut self, hello: Bytes) {
        let network = &mut *self.network.lock().expect("no panic holds it");
        network.hellos.insert(self.me, hello);
        network.connect_all();
    }

    fn refuse(&mut self, peer: ReplicaId, reason: &str) {
        let network = &mut *self.network.lock().expect("no panic holds it");
        network.connections.remove(&(self.me.min(peer), self.me.max(peer)));
        let refused = Event::Refused { peer: self.me, reason: reason.to_owned() };
        let _ = network.inboxes.get(&peer).map(|inbox| inbox.try_send(refused));
    }

    fn send(&mut self, to: ReplicaId, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        let network = &mut *self.network.lock().expect("no panic holds it");
        network.connect(self.me, to).ok_or(Dropped)?;
        let (faults, inboxes) = (&mut network.faults, &network.inboxes);
        let inbox = inboxes.get(&to).ok_or(Dropped)?;
        faults.sent += 1;
        let hits = |one_in: Option<u64>| one_in.is_some_and(|one_in| faults.sent.is_multiple_of(one_in));
        if faults.cut.contains(&(self.me, to)) || hits(faults.loses_one_in) {
            return Ok(());
        }
        let is_bulk = lane == Lane::Bulk;
        faults.bulk += u64::from(is_bulk);
        let is_spoiled = is_bulk && faults.spoils_one_in.is_some_and(|one_in| faults.bulk.is_multiple_of(one_in));
        let frame = if is_spoiled { spoiled(&frame) } else { frame };
        let event = Event::Frame { from: self.me, frame };
        let is_doubled = hits(faults.doubles_one_in);
        inbox.try_send(event.clone()).map_err(|_| Dropped)?;
        for (to, copy) in faults.copies.drain(..) {
            let _ = inboxes.get(&to).map(|inbox| inbox.try_send(copy));
        }
        if is_doubled {
            faults.copies.push((to, event));
        }
        Ok(())
    }

    async fn receive(&mut self) -> Option<Event> {
        self.inbox.recv().await
    }
}

/// A frame with one byte changed, in its middle: far from what it says of itself.
fn spoiled(frame: &[u8]) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x40;
    bytes.into()
}

/// A machine's clock and entropy.
#[derive(Clone)]
struct Machine {
    state: Arc<AtomicU64>,
    /// How far its wall clock is ahead, in milliseconds.
    clock_offset_ms: Arc<AtomicI64>,
    has_entropy: Arc<AtomicBool>,
}

impl Environment for Machine {
    /// SplitMix64 (Steele, Lea, Flood 2014): for tests alone.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        if !self.has_entropy.load(Ordering::Relaxed) {
            return Err(NoEntropy);
        }
        for part in bytes.chunks_mut(8) {
            let state = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..part.len()]);
        }
        Ok(())
    }

    fn wall(&mut self) -> Millis {
        let offset_ms = self.clock_offset_ms.load(Ordering::Relaxed);
        Millis(wall().0.saturating_add_signed(offset_ms))
    }

    fn tick(&self) -> Duration {
        TICK
    }
}

/// Nodes that run, and what they run on.
pub struct World {
    catalog: Vec<CatalogItem>,
    snapshots: SnapshotPolicy,
    /// Where the stores are, if they are real ones.
    files: Option<TempDir>,
    network: Arc<Mutex<Network>>,
    voters: Vec<ReplicaId>,
    disks: BTreeMap<ReplicaId, Disk>,
    machines: BTreeMap<ReplicaId, Machine>,
    nodes: BTreeMap<ReplicaId, Node>,
    /// Who each store belongs to.
    identities: BTreeMap<ReplicaId, Identity>,
    /// What nodes are told from their next start on.
    pub accept_clock: bool,
}

/// A replica.
pub fn replica(number: u64) -> ReplicaId {
    ReplicaId(number)
}

/// An item of a catalog.
pub fn item(id: &str, stock: Stock, weight: u32) -> CatalogItem {
    CatalogItem { item: id.parse().expect("a legal id"), stock, weight: Weight(weight) }
}

/// The time that is right.
pub fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
    Millis(since.as_millis() as u64)
}

/// A key of now; the same number gives another key each time.
pub fn key(number: u16) -> RequestKey {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let mut unique = [0; 10];
    unique[..2].copy_from_slice(&number.to_be_bytes());
    unique[3..].copy_from_slice(&made.to_be_bytes()[1..]);
    RequestKey::new(wall(), unique)
}

/// Who a store belongs to, if nobody says otherwise.
pub fn identity(replica: ReplicaId) -> Identity {
    let mut disk = [0; 16];
    disk[0] = replica.0 as u8;
    Identity { cluster: ClusterId([7; 16]), shard: ShardId::FIRST, replica, disk: DiskId(disk) }
}

/// The pool of all tests.
pub fn pool() -> PoolId {
    PoolId::default_pool()
}

impl World {
    /// Voters that are not started yet.
    pub fn new(voters: u64, catalog: &[CatalogItem]) -> Self {
        let voters: Vec<_> = (1..=voters).map(ReplicaId).collect();
        let machine = |voter: &ReplicaId| Machine {
            state: Arc::new(AtomicU64::new(voter.0 << 32)),
            clock_offset_ms: Arc::default(),
            has_entropy: Arc::new(AtomicBool::new(true)),
        };
        Self {
            catalog: catalog.to_vec(),
            snapshots: SnapshotPolicy::default(),
            files: None,
            network: Arc::default(),
            disks: voters.iter().map(|voter| (*voter, Disk::default())).collect(),
            machines: voters.iter().map(|voter| (*voter, machine(voter))).collect(),
            nodes: BTreeMap::new(),
            identities: voters.iter().map(|voter| (*voter, identity(*voter))).collect(),
            accept_clock: false,
            voters,
        }
    }

    /// Voters that run, one of which leads and has imported the catalog.
    pub async fn running(voters: u64, catalog: &[CatalogItem]) -> Self {
        Self::running_with(voters, catalog, SnapshotPolicy::default()).await
    }

    /// The same, with snapshots by another policy.
    pub async fn running_with(voters: u64, catalog: &[CatalogItem], snapshots: SnapshotPolicy) -> Self {
        Self { snapshots, ..Self::new(voters, catalog) }.started().await
    }

    /// The same, on real stores.
    pub async fn running_on_files(voters: u64, catalog: &[CatalogItem], snapshots: SnapshotPolicy) -> Self {
        let files = Some(tempfile::tempdir().expect("a temporary directory can be made"));
        Self { snapshots, files, ..Self::new(voters, catalog) }.started().await
    }

    async fn started(mut self) -> Self {
        self.voters.clone().into_iter().for_each(|id| self.start(id));
        self.stocked().await;
        self
    }

    /// Waits until the catalog is in the pool.
    pub async fn stocked(&self) {
        let expected = self.catalog.len();
        eventually("the catalog is imported", async || {
            for handle in self.nodes.values().map(|node| &node.handle) {
                if !items(handle, Consistency::Linearizable).await.is_ok_and(|items| items.len() == expected) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Starts a node on what its disk holds.
    pub fn start(&mut self, id: ReplicaId) {
        let identity = self.identities[&id];
        let config = NodeConfig {
            founders: self.voters.clone(),
            heartbeat_ticks: 2,
            election_ticks: 20,
            snapshots: self.snapshots,
            snapshot_bytes_per_s: SNAPSHOT_BYTES_PER_S,
            flow: FlowLimits::default(),
            limits: Limits::default(),
            catalog: self.catalog.clone(),
            accept_clock: self.accept_clock,
        };
        let (outside, inbox) = mpsc::channel(1_024);
        self.network.lock().expect("no panic holds it").inboxes.insert(id, outside);
        let link = Link { me: id, network: self.network.clone(), inbox };
        let machine = self.machines[&id].clone();
        let node = if let Some(files) = &self.files {
            let (store, recovered) = open(files, identity);
            Node::start(config, recovered, link, StoreThread::start(store).expect("a thread can be started"), machine)
        } else {
            let (state, handle) = self.disks[&id].begin_incarnation();
            Node::start(config, Recovered { identity, state }, link, handle, machine)
        };
        self.nodes.insert(id, node);
    }

    /// Takes a node away without a word; its disk stays.
    pub async fn crash(&mut self, id: ReplicaId) {
        self.disks[&id].begin_incarnation();
        self.network.lock().expect("no panic holds it").leave(id);
        let node = self.nodes.remove(&id).expect("it runs");
        node.task.abort();
        match node.task.await {
            Err(error) if error.is_cancelled() => {}
            ended => panic!("it ended by itself: {ended:?}"),
        }
    }

    /// Asks a node to stop, and waits until it has.
    pub async fn stop(&mut self, id: ReplicaId) -> Stopped {
        let node = self.nodes.remove(&id).expect("it runs");
        node.handle.stop().await;
        self.network.lock().expect("no panic holds it").leave(id);
        node.task.await.expect("it does not panic")
    }

    /// Waits until a node ends by itself.
    pub async fn ended(&mut self, id: ReplicaId) -> Stopped {
        let node = self.nodes.remove(&id).expect("it runs");
        let stopped = tokio::time::timeout(NEVER, node.task).await.expect("it ends").expect("it does not panic");
        self.network.lock().expect("no panic holds it").leave(id);
        stopped
    }

    pub fn node(&self, id: ReplicaId) -> &NodeHandle {
        &self.nodes[&id].handle
    }

    /// The nodes that run.
    pub fn running_nodes(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes that run and are not this one.
    pub fn others(&self, id: ReplicaId) -> Vec<ReplicaId> {
        self.nodes.keys().copied().filter(|other| *other != id).collect()
    }

    pub fn disk(&self, id: ReplicaId) -> Disk {
        self.disks[&id].clone()
    }

    /// Puts another disk into a machine that is off.
    pub fn set_disk(&mut self, id: ReplicaId, disk: Disk, identity: Identity) {
        assert!(!self.nodes.contains_key(&id), "{id} runs");
        self.disks.insert(id, disk);
        self.identities.insert(id, identity);
    }

    /// Sets a machine's wall clock to so many milliseconds ahead of the right time.
    pub fn set_clock(&self, id: ReplicaId, offset_ms: i64) {
        self.machines[&id].clock_offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Gives or takes a machine's entropy.
    pub fn set_entropy(&self, id: ReplicaId, has: bool) {
        self.machines[&id].has_entropy.store(has, Ordering::Relaxed);
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, id: ReplicaId) {
        let cut = &mut self.network.lock().expect("no panic holds it").faults.cut;
        for other in self.voters.iter().filter(|other| **other != id) {
            cut.extend([(id, *other), (*other, id)]);
        }
    }

    /// Loses and doubles every so many-th frame.
    pub fn disturb(&self, loses_one_in: u64, doubles_one_in: u64) {
        let faults = &mut self.network.lock().expect("no panic holds it").faults;
        (faults.loses_one_in, faults.doubles_one_in) = (Some(loses_one_in), Some(doubles_one_in));
    }

    /// Changes a byte of every so many-th chunk of a snapshot.
    pub fn spoil_chunks(&self, one_in: u64) {
        self.network.lock().expect("no panic holds it").faults.spoils_one_in = Some(one_in);
    }

    /// How many chunks of snapshots were sent since the faults were set.
    pub fn chunks_sent(&self) -> u64 {
        self.network.lock().expect("no panic holds it").faults.bulk
    }

    /// Undoes every fault.
    pub fn heal(&self) {
        let network = &mut *self.network.lock().expect("no panic holds it");
        network.faults = Faults::default();
        network.connect_all();
    }

    /// Waits until a node of these leads, in a way that a majority of them knows.
    pub async fn leader_among(&self, among: &[ReplicaId]) -> ReplicaId {
        eventually("somebody leads", async || {
            let mut followers = BTreeMap::<ReplicaId, usize>::new();
            for id in among {
                let leader = status(self.node(*id)).await.replica.leader;
                leader.into_iter().for_each(|leader| *followers.entry(leader).or_default() += 1);
            }
            followers.into_iter().find(|(leader, knowing)| among.contains(leader) && *knowing * 2 > among.len())
        })
        .await
        .0
    }

    /// Waits until a node leads.
    pub async fn leader(&self) -> ReplicaId {
        self.leader_among(&self.running_nodes()).await
    }
}

/// Opens a real store. The process that had it before may still be writing; it has to let go of it.
fn open(files: &TempDir, identity: Identity) -> (Store, Recovered) {
    let Identity { cluster, shard, replica, disk } = identity;
    let start = Instant::now();
    loop {
        match storage::open(files.path(), Wanted { cluster, shard, replica }, disk, |_| {}) {
            Ok(opened) => return opened,
            Err(error) => assert!(start.elapsed() < NEVER, "{error}"),
        }
        std::thread::sleep(TICK);
    }
}

/// Waits until `probe` gives something.
pub async fn eventually<T>(what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::time::timeout(NEVER, found).await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub async fn status(handle: &NodeHandle) -> NodeStatus {
    handle.status().await.expect("it runs")
}

/// The items of the pool.
pub async fn items(handle: &NodeHandle, consistency: Consistency) -> Result<Vec<ItemState>, Failure> {
    match handle.read(Query::Pool(pool()), consistency, BRIEF).await?.answer {
        Answer::Pool(PoolState { items, .. }) => Ok(items),
        other => panic!("the pool exists: {other:?}"),
    }
}

/// How many units of all items were awarded.
pub async fn awarded(handle: &NodeHandle) -> u64 {
    let items = eventually("a read is answered", async || items(handle, Consistency::Linearizable).await.ok()).await;
    items.iter().map(|item| item.awarded).sum()
}
