//! What a node has from its start to its end, founded or not: its inputs, its ways out, and those who wait for an answer.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::{
    Environment, NodeConfig, Persist, PersistError,
    admission::{Admission, Permit},
    answer::AnswerTo,
    batch::{Measured, Numbers},
    beside::{Bin, DONE_MAX},
    clock::{Clock, Now, Tick},
    environment::NoEntropy,
    handle::{Ask, Desk},
    inputs::Inputs,
    introductions::{Introductions, printable},
    metrics::Metrics,
    pace::Pace,
    peer::{Framing, PeerMessage},
    persist::{self, Writer},
    quorum_time::QuorumTime,
    reads::{ReadAsk, Reads},
    requests::{Requests, Waiter},
    server_keys::ServerKeys,
    snapshots::Snapshots,
    transfers::Transfers,
    verifier::Verifier,
    view::View,
};
use crate::{
    api::{Answered, Consistency, NodeStatus, NotApplied, TurnedAway, Vitals},
    durable::{Founders, Identity, WriteSet},
    hooks,
    pool::{Digests, Query},
    replica::{ReadId, Replica, Role, Status},
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
    /// Keys the hashes of what clients choose; never leaves the node.
    pub hash_seed: u64,
}

impl Boot {
    fn draw(environment: &mut impl Environment) -> Result<Self, NoEntropy> {
        let mut number = || {
            let mut bytes = [0; 8];
            environment.fill(&mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        Ok(Self { election_seed: number()?, nonce: number()?, hash_seed: number()? })
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
    /// What the voters' clocks say.
    pub time: QuorumTime,
    pub numbers: Numbers,
    pub metrics: Arc<Metrics>,
    pub snapshots: Snapshots,
    pub verifier: Verifier,
    pub bin: Bin,
    /// Takes half as much as usual.
    is_halved: bool,
    admission: Arc<Admission>,
    framing: Framing,
    introductions: Introductions,
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
            inputs: Inputs::new(transport, clock, desk.admission.clone(), reports, told, desk.asks),
            requests: Requests::new(
                ServerKeys::new(identity.replica, boot.nonce),
                Pace::new(clock.length()),
                boot.hash_seed,
            ),
            reads: Reads::default(),
            transfers: Transfers::default(),
            time: QuorumTime::new(clock.length() * u32::try_from(config.election_ticks).unwrap_or(u32::MAX)),
            numbers: Numbers::after(if hooks::is_planted("m36") { 0 } else { boot.nonce }),
            metrics: desk.metrics,
            snapshots: Snapshots::new(bodies, done.clone(), boot.nonce, bytes_per_s, clock.length()),
            verifier: Verifier::new(done),
            bin: Bin::start(),
            is_halved: false,
            admission: desk.admission,
            framing: Framing { cluster: identity.cluster, shard: identity.shard, genesis: None },
            introductions: Introductions::new(&identity),
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

    /// What time it is.
    pub fn read_clock(&self) -> Now {
        self.inputs.clock.read()
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
        if self.introductions.handle_refused(peer, reason) {
            tracing::error!(node = self.me().0, peer = peer.0, reason, "refused a peer");
        }
    }

    /// A peer does not accept this node. Returns its reason if the peer is known to be founded.
    pub fn handle_refusal(&mut self, peer: ReplicaId, reason: &str) -> Option<String> {
        let reason = printable(reason);
        if self.introductions.handle_refused_by(peer, &reason) {
            tracing::error!(node = self.me().0, peer = peer.0, reason, "refused by a peer");
        }
        self.introductions.is_founded(peer).then_some(reason)
    }

    /// Sends to a peer; may be lost. `false` if it surely did not leave this node.
    pub fn send(&mut self, to: ReplicaId, message: PeerMessage) -> bool {
        let lane = message.lane();
        let frame = self.framing.encode(self.environment.wall(), message);
        let has_left = self.introductions.has_met(to) && self.inputs.transport.send(to, lane, frame).is_ok();
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
    pub fn open(&mut self, from: ReplicaId, frame: &[u8]) -> Option<(Millis, PeerMessage)> {
        if !self.introductions.has_met(from) {
            tracing::debug!(node = self.me().0, from = from.0, "dropped a frame of a peer that was not accepted");
            return None;
        }
        self.introductions.handle_frame(from);
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

    /// Accepts nothing more, and refuses what was accepted and not sent.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.requests.handle_stop();
    }

    /// Takes half as much as usual, or not.
    pub fn set_halved(&mut self, is_halved: bool) {
        if is_halved != self.is_halved {
            tracing::warn!(node = self.me().0, is_halved, "a voter that lives is far behind: half as much is taken");
        }
        self.is_halved = is_halved;
    }

    /// A read waits to be confirmed; under this id, unless there are too many.
    pub fn add_read(&mut self, ask: ReadAsk) -> Option<ReadId> {
        self.reads.add(ask, self.requests.pace().retry_after_ms())
    }

    /// Takes what a caller asks, answering what can be answered at once. Returns a read that the replica is to confirm, as
    /// soon as there is one.
    pub fn handle_ask(&mut self, ask: Ask, replica: Option<&Replica>) -> Option<ReadId> {
        match ask {
            Ask::Submit { command, deadline, permit, reply } => self.submit(command, deadline, permit, reply),
            Ask::Read { query, consistency, deadline, reply } => {
                let ask = ReadAsk { query, consistency, deadline: self.inputs.clock.tick_after(deadline), reply };
                match (consistency, replica) {
                    (Consistency::Stale, Some(replica)) => self.answer(ask, replica),
                    _ => return self.add_read(ask),
                }
            }
            Ask::Status { reply } => _ = reply.send(self.status(replica)),
            Ask::Vitals { reply } => _ = reply.send(self.vitals(replica)),
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

    /// Accepts a command.
    pub fn submit(&mut self, command: Measured, deadline: Instant, permit: Permit, reply: AnswerTo<Answered>) {
        if self.is_closing {
            reply.answer(Err(NotApplied::Draining.into()));
            return;
        }
        let deadline = self.inputs.clock.tick_after(deadline);
        self.requests.accept(command, Waiter { reply, deadline, permit }, self.read_clock());
    }

    /// Answers whom it is too late for. Returns the reads that nobody waits for any more.
    pub fn handle_tick(&mut self, view: View) -> Vec<ReadId> {
        self.metrics.beat();
        let now = self.now();
        self.requests.handle_tick(now);
        self.admission.set(self.is_halved, self.requests.pace().retry_after_ms());
        self.transfers.handle_tick(view, now);
        self.reads.handle_tick(now)
    }

    fn vitals(&mut self, replica: Option<&Replica>) -> Vitals {
        let (own, at, me) = (self.environment.wall(), self.inputs.clock.elapsed(), self.me());
        let voters = replica.map(|replica| replica.founders().disks.keys().filter(|voter| **voter != me));
        let (waiting_commands, waiting_bytes) = self.admission.waiting();
        let pace = self.requests.pace();
        Vitals {
            clock_offset_ms: voters.and_then(|voters| self.time.offset_ms(own, at, voters)),
            strangers: self.introductions.strangers(),
            waiting_commands,
            waiting_bytes,
            waited: pace.waited(),
            commit_time: pace.usual(),
            is_shedding: pace.is_standing(),
            is_halved: self.is_halved,
            turned_away: self.turned_away(),
        }
    }

    fn turned_away(&self) -> TurnedAway {
        let (door, here) = (self.admission.turned_away(), self.requests.turned_away());
        TurnedAway {
            full: door.full + here.full,
            client_full: door.client_full + here.client_full,
            shed: door.shed + here.shed,
            too_late: door.too_late + here.too_late,
        }
    }

    /// Brings the metrics up to date with what can be seen of the node now.
    pub fn observe(&self, replica: &Replica) {
        let keys = replica.machine().key_stats();
        self.metrics.handle_tick(&replica.status(), keys, self.admission.waiting().0, self.turned_away());
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
