//! N replicas, a bag of messages and a disk each, stepped by hand. No clock, no thread, no async.
//!
//! A disk is what is durable (`image`) and what is on its way (`queued`): a crash keeps any prefix of the latter. Every
//! applied index is compared with what any other replica has ever applied there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tombola::{
    durable::{FoundingWrite, Identity, RecoveredLog, WriteSet},
    pool::{Answer, Command, Limits, PoolId, PoolState, Query},
    replica::{
        Config, Input, Output, ProposalId, ProposalResult, RaftMessage, ReadId, Replica, Role,
        founding::{Founding, FoundingOutput},
    },
    types::{ClusterId, DiskId, Entropy, HistoryDigest, Index, Millis, ReplicaId, ShardId},
};

pub const HEARTBEAT_TICKS: usize = 2;
pub const ELECTION_TICKS: usize = 10;

/// A replica, its disk, and what it has answered.
pub struct Node {
    pub identity: Identity,
    pub image: RecoveredLog,
    pub queued: VecDeque<WriteSet>,
    pub replica: Option<Replica>,
    pub incarnation: u64,
    pub results: BTreeMap<ProposalId, ProposalResult>,
    pub reads: BTreeMap<ReadId, (Index, PoolState)>,
}

pub struct Cluster {
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub network: Vec<RaftMessage>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// What was applied where, by whoever was first.
    history: BTreeMap<Index, HistoryDigest>,
    seed: u64,
    last_id: u64,
    pub now: Millis,
}

impl Cluster {
    /// Founds a cluster of replicas 1 to `count` and starts them.
    pub fn new(count: u64, seed: u64) -> Self {
        let images = found(count);
        let nodes = images.into_iter().map(|(identity, image)| {
            let node = Node {
                identity,
                image,
                queued: VecDeque::new(),
                replica: None,
                incarnation: 0,
                results: BTreeMap::new(),
                reads: BTreeMap::new(),
            };
            (identity.replica, node)
        });
        let mut cluster = Self {
            nodes: nodes.collect(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            history: BTreeMap::new(),
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

    /// Hands a replica an input and takes all its outputs.
    pub fn input(&mut self, id: ReplicaId, input: Input) {
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        let Some(replica) = &mut node.replica else { return };
        replica.handle(input).unwrap_or_else(|broken| panic!("replica {id}: {broken}"));
        self.take_outputs(id);
    }

    fn take_outputs(&mut self, id: ReplicaId) {
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        let replica = node.replica.as_mut().expect("the replica is up");
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Send { to, message } => {
                    assert_eq!((message.from, message.to), (id, to));
                    if !self.cut.contains(&(id, to)) {
                        self.network.push(message);
                    }
                }
                Output::Persist(write) => node.queued.push_back(write),
                Output::Proposal { id, result } => {
                    assert!(node.results.insert(id, result).is_none(), "a proposal is answered once");
                }
                Output::TakeSnapshot(_) | Output::SendSnapshot { .. } | Output::Checkpoint(_) | Output::Discard(_) => {}
                Output::ReadReady(read) => {
                    let pool = read_default(replica);
                    assert!(node.reads.insert(read, (replica.machine().applied(), pool)).is_none());
                }
            }
        }
        let digests = replica.machine().digests();
        let first = self.history.entry(digests.index).or_insert(digests.history);
        assert_eq!(*first, digests.history, "replica {id} has another history at {}", digests.index);
        for (&index, digest) in self.history.range(..digests.index).rev().take(64) {
            let ours = replica.history_at(index);
            assert!(ours.is_none_or(|ours| ours == *digest), "replica {id} has another history at {index}");
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
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        if let Some(write) = node.queued.pop_front() {
            write_to(&mut node.image, &write);
            self.input(id, Input::Persisted { number: write.number });
        }
    }

    /// Ends a replica; `kept` of its queued WriteSets made it to the disk, though nobody was told.
    pub fn crash(&mut self, id: ReplicaId, kept: usize) {
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        node.replica = None;
        let queued = std::mem::take(&mut node.queued);
        queued.iter().take(kept).for_each(|write| write_to(&mut node.image, write));
    }

    /// Starts a replica on what its disk holds.
    pub fn restart(&mut self, id: ReplicaId) {
        let node = self.nodes.get_mut(&id).expect("a replica of the cluster");
        node.incarnation += 1;
        let config = Config {
            heartbeat_ticks: HEARTBEAT_TICKS,
            election_ticks: ELECTION_TICKS,
            election_seed: self.seed,
            boot_nonce: node.incarnation,
            snapshots: Default::default(),
            checkpoint_every: tombola::replica::CHECKPOINT_EVERY,
        };
        let replica = Replica::new(config, node.identity, node.image.clone());
        node.replica = Some(replica.unwrap_or_else(|broken| panic!("replica {id}: {broken}")));
        self.take_outputs(id);
    }

    pub fn propose(&mut self, at: ReplicaId, commands: Vec<Command>) -> Vec<ProposalId> {
        let commands: Vec<_> = commands.into_iter().map(|command| (ProposalId(self.next_id()), command)).collect();
        let ids = commands.iter().map(|(id, _)| *id).collect();
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.last_id.to_le_bytes());
        entropy[8..16].copy_from_slice(&self.seed.to_le_bytes());
        self.input(at, Input::Propose { time: self.now, entropy: Entropy(entropy), commands });
        ids
    }

    pub fn read(&mut self, at: ReplicaId) -> ReadId {
        let read = ReadId(self.next_id());
        self.input(at, Input::Read(read));
        read
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Delivers and persists until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            while !self.network.is_empty() {
                self.deliver(self.network.len() - 1);
            }
            let busy: Vec<_> = self.ids().into_iter().filter(|id| !self.nodes[id].queued.is_empty()).collect();
            if busy.is_empty() {
                return;
            }
            busy.into_iter().for_each(|id| self.persist(id));
        }
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

/// What a store does with a WriteSet.
pub fn write_to(image: &mut RecoveredLog, write: &WriteSet) {
    if let Some(first) = write.entries.first() {
        image.entries.retain(|entry| entry.index < first.index);
        image.entries.extend(write.entries.iter().cloned());
    }
    if let Some(hard_state) = write.hard_state {
        assert!(hard_state.term >= image.hard_state.term, "terms never fall on a disk");
        image.hard_state = hard_state;
    }
    let last = image.entries.last().map_or(image.snapshot.meta.index, |entry| entry.index);
    assert!(image.hard_state.commit <= last, "line 20: commit {} beyond {last}", image.hard_state.commit);
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
