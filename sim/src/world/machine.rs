//! A machine: a disk, a clock, and the lives of the node that runs on it, one after the other.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use madsim::{runtime::Handle, task::NodeId};
use tombola::{
    durable::Recovered,
    runtime::{Node, NodeConfig, NodeHandle, Stopped},
    storage::{StoreError, Wanted},
    types::{ClusterId, DiskId, ReplicaId, ShardId},
};

use crate::{
    book::Book,
    chance, clients,
    clock::{SimEnvironment, WallClock},
    disk::Disk,
    network::Network,
    plan::Plan,
    store::{SimStore, Writing},
    trace::Trace,
};

/// How a life ended of itself.
#[derive(Clone, Debug)]
pub enum End {
    /// Its store was found damaged.
    Refused(String),
    /// Its store did not open.
    Unopened(String),
    /// It stopped, and said why.
    Stopped(Stopped),
}

/// What all machines share.
#[derive(Clone)]
pub struct Surroundings {
    /// What is to happen.
    pub plan: Arc<Plan>,
    /// The network between them.
    pub network: Network,
    /// What is written down of them.
    pub book: Book,
    /// Every event.
    pub trace: Trace,
}

/// One life of a node.
pub struct Life {
    /// Its place in madsim.
    pub place: NodeId,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    handle: Option<NodeHandle>,
    end: Option<End>,
}

impl Life {
    /// Its API, once it has opened its store, and while it has not ended.
    pub fn handle(&self) -> Option<NodeHandle> {
        let state = self.state.lock().expect("no panic holds it");
        if state.end.is_some() { None } else { state.handle.clone() }
    }

    /// How it ended of itself, if it did.
    pub fn end(&self) -> Option<End> {
        self.state.lock().expect("no panic holds it").end.clone()
    }
}

/// A machine.
pub struct Machine {
    /// The replica that lives here.
    pub id: ReplicaId,
    /// Its disk.
    pub disk: Disk,
    /// Its clock.
    pub clock: WallClock,
    /// The present life. None while it is down.
    pub life: Option<Life>,
    /// It is kept down: what its disk has lost would break a promise, or a human has to replace it.
    pub is_out: bool,
    /// Its disk was lost, and another one put in: nothing but the cluster keeps the node out.
    pub is_emptied: bool,
    /// Power is off, though what was under way goes on in vain.
    pub is_fenced: bool,
    /// It stands still.
    pub is_paused: bool,
    /// It ended since its disk was full.
    pub was_full: bool,
    incarnations: u64,
}

impl Machine {
    /// A machine with an empty disk, switched off.
    pub fn new(id: ReplicaId, plan: &Plan) -> Self {
        let at = usize::try_from(id.0 - 1).expect("a small number");
        Self {
            id,
            disk: Disk::new(plan.seed, id),
            clock: WallClock::new(plan.options.clocks[at]),
            life: None,
            is_out: false,
            is_emptied: false,
            is_fenced: false,
            is_paused: false,
            was_full: false,
            incarnations: 0,
        }
    }

    /// Begins the next life.
    pub fn start(&mut self, around: &Surroundings) {
        assert!(self.life.is_none(), "{} lives", self.id);
        self.is_fenced = false;
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let node = Handle::current().create_node().name(format!("n{} life {incarnation}", self.id)).build();
        let place = node.id();
        let state = Arc::new(Mutex::new(State::default()));
        let birth = Birth {
            id: self.id,
            incarnation,
            place,
            disk: self.disk.clone(),
            is_emptied: self.is_emptied,
            environment: environment(&around.plan, self.id, incarnation, self.clock.clone()),
            around: around.clone(),
            state: state.clone(),
        };
        drop(node.spawn(birth.live()));
        self.life = Some(Life { place, state });
    }

    /// Power is off: from this moment on nothing that the present life does has any effect. Called before it is killed,
    /// since a poll of its tasks may be under way.
    pub fn fence(&mut self, around: &Surroundings) {
        self.is_fenced = true;
        around.network.fence(self.id);
        self.disk.fence();
        around.book.fenced(self.id);
    }

    /// Takes away what is left of a fenced life.
    pub fn bury(&mut self) {
        if let Some(life) = self.life.take() {
            let madsim = Handle::current();
            if std::mem::take(&mut self.is_paused) {
                madsim.resume(life.place);
            }
            madsim.kill(life.place);
        }
    }

    /// Does it serve?
    pub fn handle(&self) -> Option<NodeHandle> {
        self.life.as_ref().and_then(Life::handle)
    }
}

fn environment(plan: &Plan, id: ReplicaId, incarnation: u64, clock: WallClock) -> SimEnvironment {
    SimEnvironment::new(plan.seed, id, incarnation, clock, Duration::from_millis(plan.options.tick_ms))
}

/// What a life needs to begin.
struct Birth {
    id: ReplicaId,
    incarnation: u64,
    place: NodeId,
    disk: Disk,
    is_emptied: bool,
    environment: SimEnvironment,
    around: Surroundings,
    state: Arc<Mutex<State>>,
}

impl Birth {
    async fn live(self) {
        let state = self.state.clone();
        let end = self.run().await;
        state.lock().expect("no panic holds it").end = Some(end);
    }

    fn open(&self) -> Result<(tombola::storage::Store, Recovered), StoreError> {
        let plan = &self.around.plan;
        let wanted = Wanted { cluster: cluster(plan.seed), shard: ShardId::FIRST, replica: self.id };
        let mut disk = [0; 16];
        disk[..8].copy_from_slice(&chance::number(plan.seed, "disk id", &[self.id.0, self.incarnation]).to_le_bytes());
        disk[8..].copy_from_slice(&self.incarnation.to_le_bytes());
        self.disk.open(self.incarnation, wanted, DiskId(disk))
    }

    async fn run(self) -> End {
        let (store, recovered) = match self.open() {
            Ok(opened) => opened,
            Err(error @ StoreError::Damaged(_)) => return End::Refused(error.to_string()),
            Err(error) => return End::Unopened(error.to_string()),
        };
        let Self { id, incarnation, place, disk, is_emptied, environment, around, state } = self;
        if disk.take_half_done() {
            around.book.half_done(id);
        }
        if !around.book.started(id, incarnation, place, &recovered) && !is_emptied {
            return End::Unopened("what this node had promised is gone with what was damaged".to_owned());
        }
        let plan = &around.plan;
        let store = SimStore::new(store, disk, plan.options.disk, plan.seed, id, incarnation);
        let book = around.book.clone();
        let store = store.followed_by(Box::new(move |writing: Writing<'_>| book.writing(id, incarnation, writing)));
        let (link, door) = around.network.join(id, incarnation);
        let node = Node::start(config(plan), recovered, link, store, environment);
        drop(tokio::spawn(clients::serve(door, node.handle.clone())));
        state.lock().expect("no panic holds it").handle = Some(node.handle);
        match node.task.await {
            Ok(stopped) => End::Stopped(stopped),
            Err(error) => panic!("the node's task ended: {error}"),
        }
    }
}

/// The cluster of a run.
pub fn cluster(seed: u64) -> ClusterId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&chance::number(seed, "cluster", &[]).to_le_bytes());
    ClusterId(id)
}

/// How the nodes of a plan are configured: all alike.
pub fn config(plan: &Plan) -> NodeConfig {
    let options = &plan.options;
    NodeConfig {
        founders: (1..=options.voters).map(ReplicaId).collect(),
        heartbeat_ticks: options.heartbeat_ticks,
        election_ticks: options.election_ticks,
        snapshots: options.snapshots,
        snapshot_bytes_per_s: options.snapshot_bytes_per_s,
        flow: options.flow,
        limits: options.limits,
        catalog: options.catalog.clone(),
        accept_clock: true,
    }
}
