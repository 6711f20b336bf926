//! What a node has from its start to its end, founded or not: its inputs, its ways out, and those who wait for an answer.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Environment, NodeConfig, Persist, PersistError,
    admission::Permit,
    batch::{Measured, Numbers},
    beside::{Bin, DONE_MAX},
    clock::{Clock, Tick},
    environment::NoEntropy,
    handle::{Ask, Desk},
    inputs::Inputs,
    introductions::{Introductions, printable},
    metrics::Metrics,
    peer::{Framing, PeerMessage},
    persist::{self, Writer},
    reads::{ReadAsk, Reads},
    requests::{Requests, Teller, Waiter},
    server_keys::ServerKeys,
    snapshots::Snapshots,
    transfers::Transfers,
    verifier::Verifier,
    view::View,
};
use crate::{
    api::{Answered, Consistency, Failure, NodeStatus, NotApplied},
    durable::{Founders, Identity, WriteSet},
    pool::{Digests, KeyOrigin, Query, RequestKey},
    replica::{ProposalId, ProposalResult, ReadId, Replica, Role, Status},
    transport::Transport,
    types::{Genesis, HistoryDigest, Index, Millis, ReplicaId, StateDigest, Term},
};

/// Random numbers of one incarnation of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    /// Seeds the election timeouts.
    pub election_seed: u64,
    /// Tells this incarnation from others.
    pub nonce: u64,
}

impl Boot {
    fn draw(environment: &mut impl Environment) -> Result<Self, NoEntropy> {
        let mut number = || {
            let mut bytes = [0; 8];
            environment.fill(&mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        Ok(Self { election_seed: number()?, nonce: number()? })
    }
}

/// What a node has, founded or not.
pub(super) struct Station<T, E> {
    pub config: NodeConfig,
    pub identity: Identity,
    pub boot: Boot,
    pub inputs: Inputs<T>,
    pub environment: E,
    pub requests: Requests,
    pub reads: Reads,
    pub transfers: Transfers,
    pub numbers: Numbers,
    pub metrics: Arc<Metrics>,
    pub snapshots: Snapshots,
    pub verifier: Verifier,
    pub bin: Bin,
    framing: Framing,
    introductions: Introductions,
    keys: ServerKeys,
    writer: Writer,
    /// Peers for whom something was dropped on its way out.
    unreachable: BTreeSet<ReplicaId>,
    is_closing: bool,
}

/// What is left of a node when its station is gone. Dropping it tells [`super::NodeHandle::stop`].
pub(super) struct Remains {
    /// Ends when the store is closed.
    pub writer: JoinHandle<()>,
    /// Tells the handles that the node has ended.
    pub alive: mpsc::Receiver<Infallible>,
}

impl<T: Transport, E: Environment> Station<T, E> {
    /// Starts the writer and the clock. The boot numbers may be missing; then the node cannot start.
    pub fn new<P: Persist>(
        config: NodeConfig,
        identity: Identity,
        transport: T,
        store: P,
        mut environment: E,
        desk: Desk,
    ) -> (Result<Self, NoEntropy>, Remains) {
        let persist::Started { writer, bodies, reports, task } = Writer::start(store, desk.metrics.clone());
        let remains = Remains { writer: task, alive: desk.alive };
        let boot = match Boot::draw(&mut environment) {
            Ok(boot) => boot,
            Err(none) => return (Err(none), remains),
        };
        let clock = Clock::start(environment.tick());
        let (done, told) = mpsc::channel(DONE_MAX);
        let bytes_per_s = config.snapshot_bytes_per_s;
        let station = Self {
            boot,
            inputs: Inputs::new(transport, clock, desk.admission, reports, told, desk.asks),
            requests: Requests::default(),
            reads: Reads::default(),
            transfers: Transfers::default(),
            numbers: Numbers::after(boot.nonce),
            metrics: desk.metrics,
            snapshots: Snapshots::new(bodies, done.clone(), boot.nonce, bytes_per_s, clock.length()),
            verifier: Verifier::new(done),
            bin: Bin::start(),
            framing: Framing { cluster: identity.cluster, shard: identity.shard, genesis: None },
            introductions: Introductions::new(&identity),
            keys: ServerKeys::new(identity.replica, boot.nonce),
            writer,
            unreachable: BTreeSet::new(),
            is_closing: false,
            config,
            identity,
            environment,
        };
        (Ok(station), remains)
    }

    /// This node.
    pub fn me(&self) -> ReplicaId {
        self.identity.replica
    }

    /// The ticks that have passed since the start.
    pub fn now(&self) -> Tick {
        self.inputs.clock.now()
    }

    /// From now on connections to peers begin with this node's introduction.
    pub fn introduce(&mut self) {
        self.inputs.transport.introduce(self.introductions.hello());
    }

    /// The cluster is founded: from now on frames and introductions say by what, and only its own disks are accepted.
    pub fn set_founded(&mut self, genesis: Genesis, founders: &Founders) {
        self.framing.genesis = Some(genesis);
        for (peer, why) in self.introductions.handle_founded(genesis, founders) {
            self.refuse(peer, &why.to_string());
        }
        self.introduce();
    }

    /// A connection to a peer is up, and this is what it says of itself.
    pub fn handle_hello(&mut self, peer: ReplicaId, hello: &[u8]) {
        if let Err(why) = self.introductions.handle_hello(peer, hello) {
            self.refuse(peer, &why.to_string());
        }
    }

    fn refuse(&mut self, peer: ReplicaId, reason: &str) {
        self.inputs.transport.refuse(peer, reason);
        if self.introductions.handle_stranger(peer, reason) {
            tracing::error!(node = self.me().0, peer = peer.0, reason, "refused a peer");
        }
    }

    /// A peer does not accept this node. Returns its reason if the peer is known to be founded.
    pub fn handle_refusal(&mut self, peer: ReplicaId, reason: &str) -> Option<String> {
        let reason = printable(reason);
        if self.introductions.handle_stranger(peer, &reason) {
            tracing::error!(node = self.me().0, peer = peer.0, reason, "refused by a peer");
        }
        self.introductions.is_founded(peer).then_some(reason)
    }

    /// Sends to a peer; may be lost. `false` if it surely did not leave this node.
    pub fn send(&mut self, to: ReplicaId, message: PeerMessage) -> bool {
        let lane = message.lane();
        let frame = self.framing.encode(self.environment.wall(), message);
        let has_left = self.inputs.transport.send(to, lane, frame).is_ok();
        if !has_left {
            self.metrics.handle_dropped(to);
            self.unreachable.insert(to);
        }
        has_left
    }

    /// Takes the peers for whom something was dropped since the last call.
    pub fn take_unreachable(&mut self) -> BTreeSet<ReplicaId> {
        std::mem::take(&mut self.unreachable)
    }

    /// What a peer's frame says, with the peer's wall time; `None` if the frame is not for this node, or its sender was
    /// not accepted.
    pub fn open(&self, from: ReplicaId, frame: &[u8]) -> Option<(Millis, PeerMessage)> {
        if !self.introductions.has_met(from) {
            tracing::debug!(node = self.me().0, from = from.0, "dropped a frame of a peer that was not accepted");
            return None;
        }
        match self.framing.decode(frame) {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::debug!(node = self.me().0, from = from.0, %error, "dropped a frame");
                None
            }
        }
    }

    /// Queues a WriteSet for the store.
    pub fn write(&self, write: WriteSet) -> Result<(), PersistError> {
        self.writer.write(write)
    }

    /// Accepts nothing more.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// Takes what a caller asks, answering what can be answered at once. Returns a read that the replica is to confirm, as
    /// soon as there is one.
    pub fn handle_ask(&mut self, ask: Ask, replica: Option<&Replica>) -> Option<ReadId> {
        match ask {
            Ask::Submit { command, deadline, permit, reply } => {
                let seen = replica.map_or(Millis(0), |replica| replica.machine().now());
                self.submit(command, deadline, permit, reply, seen);
            }
            Ask::Read { query, consistency, deadline, reply } => {
                let ask = ReadAsk { query, consistency, deadline: self.inputs.clock.tick_after(deadline), reply };
                match (consistency, replica) {
                    (Consistency::Stale, Some(replica)) => self.answer(ask, replica),
                    _ => return self.reads.add(ask),
                }
            }
            Ask::Status { reply } => _ = reply.send(self.status(replica)),
            Ask::HistoryAt { index, reply } => _ = reply.send(replica.and_then(|replica| replica.history_at(index))),
            Ask::Transfer { to, deadline, reply } => {
                self.transfers.add(to, self.inputs.clock.tick_after(deadline), reply);
            }
        }
        None
    }

    /// Answers a read from the replica's state as it is now; what takes long, a little later.
    pub fn answer(&mut self, ask: ReadAsk, replica: &Replica) {
        match ask.query {
            Query::Verify => self.verifier.add(ask, replica.machine()),
            _ => ask.answer(replica.machine()),
        }
    }

    /// Accepts a command; one of origin server gets its key here. `seen` is the newest cluster time this node knows, or 0.
    pub fn submit(
        &mut self,
        mut command: Measured,
        deadline: Instant,
        permit: Permit,
        reply: oneshot::Sender<Result<Answered, Failure>>,
        seen: Millis,
    ) {
        if self.is_closing {
            let _ = reply.send(Err(NotApplied::Draining.into()));
            return;
        }
        if command.command.origin == KeyOrigin::Server {
            command.command.key = self.make_key(seen);
        }
        let deadline = self.inputs.clock.tick_after(deadline);
        self.requests.accept(command, Waiter { reply, deadline, permit });
    }

    /// A fresh key of this node's making. `seen` is the newest cluster time it knows, or 0.
    pub fn make_key(&mut self, seen: Millis) -> RequestKey {
        let time = if seen == Millis(0) { self.environment.wall() } else { seen };
        self.keys.make(time)
    }

    /// Answers whom it is too late for. Returns the reads that nobody waits for any more.
    pub fn handle_tick(&mut self, view: View) -> Vec<ReadId> {
        self.metrics.beat();
        let now = self.now();
        self.requests.handle_tick(now);
        self.transfers.handle_tick(view, now);
        self.reads.handle_tick(now)
    }

    /// Something became of a proposal, here or at a peer.
    pub fn handle_result(&mut self, id: ProposalId, teller: Teller, result: ProposalResult) {
        let now = self.now();
        self.requests.handle_result(id, teller, result, now, |time| self.keys.make(time));
    }

    fn status(&self, replica: Option<&Replica>) -> NodeStatus {
        let (status, voters) = match replica {
            Some(replica) => (replica.status(), replica.founders().disks.keys().copied().collect()),
            None => (unfounded(self.me()), self.config.founders.clone()),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        NodeStatus { cluster: self.identity.cluster, replica: status, voters, version }
    }
}

/// A replica that does not exist yet.
fn unfounded(replica: ReplicaId) -> Status {
    Status {
        replica,
        role: Role::Follower,
        term: Term(0),
        leader: None,
        commit: Index(0),
        digests: Digests { index: Index(0), history: HistoryDigest([0; 32]), state: StateDigest(0) },
        snapshot_index: Index(0),
        first_index: Index(0),
        last_index: Index(0),
        matched: Vec::new(),
        transferring: false,
    }
}
