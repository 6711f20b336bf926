//! N replicas, a bag of messages and a disk each, stepped by hand. No clock, no thread, no async.
//!
//! What is queued for a disk gets there in order: a crash keeps any prefix of it. Whatever a replica applies or answers goes
//! past the observer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tombola::{
    durable::{FoundingWrite, Identity, RecoveredLog},
    pool::{Answer, Command, Limits, PoolId, PoolState, Query},
    replica::{
        BrokenInvariant, Checkpoint, Config, Input, Output, ProposalId, ProposalResult, RaftMessage, ReadId, Replica,
        Role, SnapshotPolicy,
        founding::{Founding, FoundingOutput},
    },
    types::{ClusterId, DiskId, Entropy, Index, Millis, ReplicaId, ShardId},
};
use tombola_sim::check::Report;

use crate::{
    disk::Disk,
    observe::{Observer, Seen},
    transfer::{Arrived, Chunk, Counts, Taking},
};

pub const HEARTBEAT_TICKS: usize = 2;
pub const ELECTION_TICKS: usize = 10;

/// A replica, its disk, and what it has answered.
pub struct Node {
    pub identity: Identity,
    pub disk: Disk,
    pub replica: Option<Replica>,
    pub incarnation: u64,
    /// Up to where what it applied was observed.
    applied: Index,
    /// Its own snapshot that is being staged.
    pub taking: Option<Taking>,
    /// The snapshot that it sends, to whom and how announced.
    pub sending: Option<(ReplicaId, RaftMessage)>,
    /// The announcement of the snapshot that is being staged.
    pub receiving: Option<RaftMessage>,
    /// A peer's that is whole.
    pub arrived: Option<Arrived>,
    /// Why it stopped, if it did.
    pub stopped: Option<BrokenInvariant>,
    /// What it did with snapshots, in words.
    pub notes: Vec<String>,
    pub results: BTreeMap<ProposalId, ProposalResult>,
    pub reads: BTreeMap<ReadId, (Index, PoolState)>,
}

impl Node {
    fn new(identity: Identity, image: RecoveredLog) -> Self {
        Self {
            identity,
            disk: Disk::new(image),
            replica: None,
            incarnation: 0,
            applied: Index(0),
            taking: None,
            sending: None,
            receiving: None,
            arrived: None,
            stopped: None,
            notes: Vec::new(),
            results: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }
}

/// What all replicas of a cluster are told.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub snapshots: SnapshotPolicy,
    pub checkpoint_every: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { snapshots: SnapshotPolicy::default(), checkpoint_every: tombola::replica::CHECKPOINT_EVERY }
    }
}

pub struct Cluster {
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub network: Vec<RaftMessage>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(ReplicaId, ReplicaId)>,
    pub observer: Observer,
    pub counts: Counts,
    settings: Settings,
    seed: u64,
    last_id: u64,
    pub now: Millis,
}

impl Cluster {
    /// Founds a cluster of replicas 1 to `count` and starts them.
    pub fn new(count: u64, seed: u64, settings: Settings) -> Self {
        let nodes = found(count).into_iter().map(|(identity, image)| (identity.replica, Node::new(identity, image)));
        let mut cluster = Self {
            nodes: nodes.collect(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            observer: Observer::default(),
            counts: Counts::default(),
            settings,
            seed,
            last_id: 0,
            now: Millis(1_000_000),
        };
        cluster.ids().into_iter().for_each(|id| cluster.restart(id));
        cluster
    }

    pub fn ids(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    pub fn replica(&self, id: ReplicaId) -> &Replica {
        self.nodes[&id].replica.as_ref().expect("the replica is up")
    }

    pub fn is_up(&self, id: ReplicaId) -> bool {
        self.nodes[&id].replica.is_some()
    }

    /// The leader of the highest term, if any replica leads.
    pub fn leader(&self) -> Option<ReplicaId> {
        let up = self.nodes.values().filter_map(|node| node.replica.as_ref());
        up.filter(|replica| replica.role() == Role::Leader)
            .max_by_key(|replica| replica.term())
            .map(|replica| replica.status().replica)
    }

    pub fn is_cut(&self, from: ReplicaId, to: ReplicaId) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(crate) fn node(&mut self, id: ReplicaId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a replica of the cluster")
    }

    /// Hands a replica an input and takes all its outputs.
    pub fn input(&mut self, id: ReplicaId, input: Input) {
        let Some(replica) = &mut self.node(id).replica else { return };
        match replica.handle(input) {
            Ok(()) => self.take_outputs(id),
            Err(broken) if !self.observer.damaged.is_empty() => {
                self.crash(id, 0);
                self.node(id).stopped = Some(broken);
            }
            Err(broken) => panic!("replica {id}: {broken}"),
        }
    }

    fn take_outputs(&mut self, id: ReplicaId) {
        let replica = self.node(id).replica.as_mut().expect("the replica is up");
        let outputs: Vec<_> = std::iter::from_fn(|| replica.poll_output()).collect();
        let installed = outputs.iter().find_map(|output| match output {
            Output::SnapshotSettled { index, installed: true } => Some(*index),
            _ => None,
        });
        self.observe_applied(id, installed);
        for output in outputs {
            self.take_output(id, output);
        }
    }

    /// Shows the observer what was applied: raft hands out what is durable here, so the disk has it.
    fn observe_applied(&mut self, id: ReplicaId, installed: Option<Index>) {
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        let (replica, image) = (node.replica.as_ref().expect("the replica is up"), &node.disk.image);
        if let Some(at) = installed {
            self.observer.see(id, &Seen::Installed { at });
            node.applied = at;
        }
        let applied = replica.machine().applied();
        let from = (node.applied.0 - image.truncated.0.0) as usize;
        let to = (applied.0 - image.truncated.0.0) as usize;
        for entry in &image.entries[from..to] {
            let history = replica.history_at(entry.index).expect("it was applied just now");
            self.observer.see(id, &Seen::Applied { entry, history });
        }
        node.applied = applied;
        self.observer.see(id, &Seen::Rested { status: &replica.status() });
    }

    fn take_output(&mut self, id: ReplicaId, output: Output) {
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        match output {
            Output::Send { to, message } => {
                assert_eq!((message.from, message.to), (id, to));
                if !self.cut.contains(&(id, to)) {
                    self.network.push(message);
                }
            }
            Output::Persist(write) => node.disk.queue(*write),
            Output::Proposals(results) => {
                assert!(!results.is_empty());
                for (proposal, result) in results {
                    self.observer.see(id, &Seen::Answered { id: proposal, result: &result });
                    assert!(node.results.insert(proposal, result).is_none(), "a proposal is answered once");
                }
            }
            Output::ReadReady(read) => {
                let replica = node.replica.as_ref().expect("the replica is up");
                self.observer.see(id, &Seen::ReadServed { id: read, machine: replica.machine() });
                let served = (replica.machine().applied(), read_default(replica));
                assert!(node.reads.insert(read, served).is_none(), "a read is served once");
            }
            Output::TakeSnapshot(take) => self.begin_taking(id, *take),
            Output::SendSnapshot { to, message } => {
                self.counts.sent += 1;
                node.notes.push(format!("sends a snapshot to {to}"));
                assert!(node.sending.replace((to, message)).is_none(), "line 43: one transfer at a time");
            }
            Output::SnapshotSettled { index, installed } => {
                node.receiving = None;
                if installed {
                    self.counts.installed += 1;
                } else {
                    node.disk.staged = None;
                }
                node.notes
                    .push(format!("has {} for the snapshot at {index}", if installed { "use" } else { "no use" }));
            }
            Output::Checkpoint(checkpoint) => self.tell(id, checkpoint),
            Output::Discard(garbage) => drop(garbage),
        }
    }

    /// A checkpoint goes to whoever can hear it; it may not be the first to have come that far.
    fn tell(&mut self, from: ReplicaId, checkpoint: Checkpoint) {
        for to in self.ids() {
            if to != from && self.is_up(to) && !self.is_cut(from, to) {
                self.input(to, Input::Checkpoint { from, checkpoint });
            }
        }
    }

    pub fn tick(&mut self, id: ReplicaId) {
        self.input(id, Input::Tick);
    }

    /// Delivers one message of the bag.
    pub fn deliver(&mut self, position: usize) {
        let message = self.network.swap_remove(position);
        if !self.cut.contains(&(message.from, message.to)) {
            self.input(message.to, Input::Message { from: message.from, message });
        }
    }

    /// Makes the oldest queued WriteSet of a replica durable and tells it.
    pub fn persist(&mut self, id: ReplicaId) {
        let disk = &mut self.node(id).disk;
        let snapshot = disk.image.snapshot.meta.index;
        if let Some(number) = disk.write_next() {
            let is_new = self.nodes[&id].disk.image.snapshot.meta.index > snapshot;
            let installed = self.counts.installed;
            self.input(id, Input::Persisted { number });
            self.counts.taken += usize::from(is_new && self.counts.installed == installed);
        }
    }

    /// Ends a replica; `kept` of its queued WriteSets made it to the disk, though nobody was told.
    pub fn crash(&mut self, id: ReplicaId, kept: usize) {
        if !self.is_up(id) {
            return;
        }
        self.count_crash(id, kept);
        let node = self.node(id);
        node.disk.crash(kept);
        (node.replica, node.taking, node.sending, node.receiving, node.arrived) = Default::default();
    }

    /// Damages an entry on the disk of a replica that is down, unnoticed. It is not judged any more.
    pub fn rot(&mut self, id: ReplicaId, index: Index) {
        assert!(!self.is_up(id), "the disk of a replica that is down");
        self.observer.damaged.insert(id);
        let entries = &mut self.node(id).disk.image.entries;
        entries.iter_mut().find(|entry| entry.index == index).expect("it has the entry").data = Bytes::new();
    }

    /// Starts a replica on what its disk holds.
    pub fn restart(&mut self, id: ReplicaId) {
        let (settings, seed) = (self.settings, self.seed);
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        node.incarnation += 1;
        let config = Config {
            heartbeat_ticks: HEARTBEAT_TICKS,
            election_ticks: ELECTION_TICKS,
            election_seed: seed,
            boot_nonce: node.incarnation,
            messages_max: 64,
            message_bytes_max: 256 << 10,
            uncommitted_bytes_max: 16 << 20,
            snapshots: settings.snapshots,
            checkpoint_every: settings.checkpoint_every,
        };
        let recovered = node.disk.open();
        node.applied = recovered.snapshot.meta.index;
        self.observer.see(id, &Seen::Started { at: node.applied });
        let replica = Replica::new(config, node.identity, recovered);
        node.replica = Some(replica.unwrap_or_else(|broken| panic!("replica {id}: {broken}")));
        self.take_outputs(id);
    }

    pub fn propose(&mut self, at: ReplicaId, commands: Vec<Command>) -> Vec<ProposalId> {
        let commands: Vec<_> = commands.into_iter().map(|command| (ProposalId(self.next_id()), command)).collect();
        let ids = commands.iter().map(|(id, _)| *id).collect();
        for (id, command) in &commands {
            self.observer.see(at, &Seen::Proposed { id: *id, command });
        }
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.last_id.to_le_bytes());
        entropy[8..16].copy_from_slice(&self.seed.to_le_bytes());
        self.input(at, Input::Propose { time: self.now, entropy: Entropy(entropy), commands });
        ids
    }

    pub fn read(&mut self, at: ReplicaId) -> ReadId {
        let read = ReadId(self.next_id());
        self.observer.see(at, &Seen::ReadAsked { id: read });
        self.input(at, Input::Reads(vec![read]));
        read
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Delivers, persists and moves snapshots until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            while !self.network.is_empty() {
                self.deliver(self.network.len() - 1);
            }
            let is_busy = |id: &ReplicaId| !self.nodes[id].disk.queued.is_empty() || self.is_busy_with_snapshots(*id);
            let busy: Vec<_> = self.ids().into_iter().filter(is_busy).collect();
            if busy.is_empty() {
                return;
            }
            for id in busy {
                self.persist(id);
                self.stage(id);
                self.transfer(id, Chunk::Arrives);
                self.hand_over(id);
            }
        }
    }

    /// Shows the observer what every replica has in the end, and has all that it saw judged.
    pub fn verdict(&mut self) -> Report {
        for (id, node) in &self.nodes {
            let machine = node.replica.as_ref().expect("all are up in the end").machine();
            self.observer.see(*id, &Seen::Survived { machine });
        }
        self.observer.verdict()
    }

    /// Ticks everybody, settling in between.
    pub fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now.0 += 50;
            self.ids().into_iter().for_each(|id| self.tick(id));
            self.settle();
        }
    }

    /// Runs until somebody leads and a majority follows.
    pub fn elect(&mut self) -> ReplicaId {
        for _ in 0..50 {
            self.run(ELECTION_TICKS);
            let up = self.nodes.values().filter_map(|node| node.replica.as_ref());
            let following = up.filter(|replica| replica.leader() == self.leader()).count();
            if let Some(leader) = self.leader().filter(|_| following > self.nodes.len() / 2) {
                return leader;
            }
        }
        panic!("nobody leads");
    }
}

/// Pool `default` as a replica has it.
pub fn read_default(replica: &Replica) -> PoolState {
    match replica.machine().query(&Query::Pool(PoolId::default_pool())) {
        Answer::Pool(pool) => pool,
        other => panic!("not a pool: {other:?}"),
    }
}

pub fn identity(replica: u64) -> Identity {
    Identity {
        cluster: ClusterId([7; 16]),
        shard: ShardId::FIRST,
        replica: ReplicaId(replica),
        disk: DiskId([replica as u8; 16]),
    }
}

/// Founds a cluster by the founders' own protocol.
fn found(count: u64) -> Vec<(Identity, RecoveredLog)> {
    let ids: Vec<_> = (1..=count).map(ReplicaId).collect();
    let mut founders: BTreeMap<_, _> = ids
        .iter()
        .map(|id| (*id, Founding::new(identity(id.0), &ids, Limits::default(), None).expect("nothing is bound yet")))
        .collect();
    let mut images = BTreeMap::new();
    for _ in 0..100 {
        for &id in &ids {
            let mut messages = Vec::new();
            let founder = founders.get_mut(&id).unwrap();
            founder.handle_tick();
            while let Some(output) = founder.poll_output() {
                match output {
                    FoundingOutput::Send { to, message } => messages.push((to, message)),
                    FoundingOutput::Persist(write) => {
                        if let Some(FoundingWrite::Found(snapshot)) = write.founding {
                            let genesis = snapshot.meta.genesis();
                            let hard_state = write.hard_state.expect("founding sets the hard state");
                            let truncated = (snapshot.meta.index, snapshot.meta.term);
                            let entries = Vec::new();
                            images.insert(id, RecoveredLog { genesis, hard_state, snapshot, truncated, entries });
                        }
                        founder.handle_persisted();
                    }
                }
            }
            for (to, message) in messages {
                founders.get_mut(&to).unwrap().handle_message(id, message).expect("all are alike");
            }
        }
    }
    assert_eq!(images.len() as u64, count, "everybody founds");
    images.into_iter().map(|(id, image)| (identity(id.0), image)).collect()
}
