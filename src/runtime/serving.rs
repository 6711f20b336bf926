//! A node's second phase: it serves.
//!
//! One loop: take one input, give it to the replica, do what the replica wants done, until nothing is left; then see who
//! leads, propose or forward what waits, and wait again. No output waits for I/O: frames go into bounded queues, WriteSets
//! to the writer.
//!
//! **When to propose.** At once, if the store is idle; while it writes, what comes gathers, and is proposed when the write
//! is reported. So the disk sets the pace, a batch is as large as what came during one sync, and behind a disk that stalls
//! no more than one batch is in raft: the rest waits where it is bounded.

use crate::{
    api::Consistency,
    durable::RecoveredLog,
    pool::{Action, Actor, Command, KeyOrigin, PoolId, Query},
    replica::{
        CHECKPOINT_EVERY, Config, Input, Output, ProposalId, ProposalResult, Replica, TransferRefused,
        founding::{self as founders, FoundingMessage},
    },
    transport::{self, Transport},
    types::{Entropy, ReplicaId},
};

use super::{
    Environment, Stopped,
    batch::gather,
    catalog::Catalog,
    clock::Tick,
    forwards::Forwards,
    handle::{Ask, TIMEOUT_MAX},
    inputs::Event,
    peer::{PeerMessage, REASON_CHARS_MAX, in_frames},
    quorum_time::QuorumTime,
    requests::Teller,
    station::Station,
    transfers,
    view::{Leader, View},
};

/// How long a node that is asked to stop goes on answering what it accepted.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// How many heartbeats a leader that stops looks for a successor.
const SUCCESSOR_HEARTBEATS: u64 = 3;

/// How a node that is asked to stop comes to its end.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// When it ends, whatever is open.
    until: Tick,
    succession: Succession,
}

/// How far a leader that stops has come with handing leadership over.
#[derive(Clone, Copy, Debug)]
enum Succession {
    /// It still has to answer what it accepted.
    Later,
    /// It looks for somebody until then: raft now and then forgets for a heartbeat who answers.
    Seeking { until: Tick },
    /// Somebody is to take over.
    Named,
}

/// A founded node.
pub(super) struct Serving<'a, T, E> {
    station: &'a mut Station<T, E>,
    replica: Replica,
    /// Who leads, as of the last look.
    view: View,
    /// What peers want proposed.
    forwards: Forwards,
    /// What the voters' clocks say.
    time: QuorumTime,
    catalog: Catalog,
    /// Set when the node is asked to stop.
    drain: Option<Drain>,
    /// Entropy was missing at the last attempt to propose.
    lacks_entropy: bool,
}

impl<'a, T: Transport, E: Environment> Serving<'a, T, E> {
    /// Goes on from what the store holds.
    pub fn start(station: &'a mut Station<T, E>, log: RecoveredLog) -> Result<Self, Stopped> {
        station.set_genesis(log.genesis);
        let config = Config {
            heartbeat_ticks: station.config.heartbeat_ticks,
            election_ticks: station.config.election_ticks,
            election_seed: station.boot.election_seed,
            boot_nonce: station.boot.nonce,
            snapshots: station.config.snapshots,
            checkpoint_every: CHECKPOINT_EVERY,
        };
        let replica = Replica::new(config, station.identity, log)?;
        let applied = replica.machine().applied();
        tracing::info!(node = station.me().0, %applied, last = %replica.status().last_index, "recovered");
        let catalog = Catalog::new(station.config.catalog.clone());
        let mut serving = Self {
            replica,
            view: View::default(),
            forwards: Forwards::default(),
            time: QuorumTime::default(),
            catalog,
            drain: None,
            lacks_entropy: false,
            station,
        };
        serving.drain_outputs()?;
        serving.ask_what_waited()?;
        Ok(serving)
    }

    /// Runs until something ends the node.
    pub async fn run(mut self) -> Stopped {
        loop {
            let event = self.station.inputs.next().await;
            match self.turn(event) {
                Ok(false) => {}
                Ok(true) => return Stopped::Asked,
                Err(stopped) => return stopped,
            }
        }
    }

    /// One turn of the loop. `true` when the node may end.
    fn turn(&mut self, event: Event) -> Result<bool, Stopped> {
        match event {
            Event::Stop => self.begin_to_stop(),
            Event::Persisted(report) => self.step(Input::Persisted { number: report? })?,
            Event::Network(transport::Event::Frame { from, frame }) => self.handle_frame(from, &frame)?,
            Event::Network(transport::Event::Unreachable { peer }) => self.handle_unreachable(peer)?,
            Event::Network(transport::Event::Met { .. } | transport::Event::Refused { .. }) => {}
            Event::Ticks(ticks) => self.handle_ticks(ticks)?,
            Event::Asked => {
                for ask in self.station.inputs.take_asks() {
                    self.handle_ask(ask)?;
                }
            }
        }
        self.look();
        self.read_for_catalog()?;
        self.transfer()?;
        self.forward();
        self.propose()?;
        self.send_answers();
        // What was dropped on its way out was dropped alone: of what left before it nothing is known to be lost.
        for peer in self.station.take_unreachable() {
            self.step(Input::Unreachable { peer })?;
        }
        self.end_if_drained()
    }

    /// One input to the replica, and everything that follows from it.
    fn step(&mut self, input: Input) -> Result<(), Stopped> {
        self.replica.handle(input)?;
        self.drain_outputs()
    }

    fn drain_outputs(&mut self) -> Result<(), Stopped> {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Send { to, message } => _ = self.station.send(to, PeerMessage::Raft(message)),
                Output::Persist(write) => self.station.write(write)?,
                Output::Proposal { id, result } => {
                    let others = self.catalog.handle_result(id, result);
                    if let Some(result) = others.and_then(|result| self.forwards.handle_result(id, result)) {
                        self.station.handle_result(id, Teller::Here, result);
                    }
                }
                Output::TakeSnapshot(_) => self.step(Input::SnapshotGivenUp)?,
                Output::SendSnapshot { to, .. } => self.step(Input::SnapshotReport { to, arrived: false })?,
                Output::Checkpoint(_) | Output::SnapshotSettled { .. } => {}
                Output::Discard(garbage) => drop(garbage),
                Output::ReadReady(id) => {
                    if let Some(ask) = self.station.reads.take(id) {
                        ask.answer(self.replica.machine());
                    }
                }
            }
        }
        Ok(())
    }

    fn handle_ticks(&mut self, ticks: u64) -> Result<(), Stopped> {
        // After a stall no burst: one election timeout is enough to act on, and what was missed is past.
        for _ in 0..ticks.min(self.station.config.election_ticks as u64) {
            self.step(Input::Tick)?;
        }
        for read in self.station.handle_tick(self.view) {
            self.step(Input::ForgetRead(read))?;
        }
        self.station.metrics.handle_tick(&self.replica.status(), self.station.requests.len());
        Ok(())
    }

    fn handle_unreachable(&mut self, peer: ReplicaId) -> Result<(), Stopped> {
        let now = self.station.now();
        self.station.requests.handle_unreachable(peer, now);
        self.step(Input::Unreachable { peer })
    }

    fn handle_ask(&mut self, ask: Ask) -> Result<(), Stopped> {
        match self.station.handle_ask(ask, Some(&self.replica)) {
            Some(read) => self.step(Input::Read(read)),
            None => Ok(()),
        }
    }

    /// Puts the reads that came before there was a replica.
    fn ask_what_waited(&mut self) -> Result<(), Stopped> {
        for ask in self.station.reads.take_all() {
            if ask.consistency == Consistency::Stale {
                ask.answer(self.replica.machine());
            } else if let Some(read) = self.station.reads.add(ask) {
                self.step(Input::Read(read))?;
            }
        }
        Ok(())
    }

    fn handle_frame(&mut self, from: ReplicaId, frame: &[u8]) -> Result<(), Stopped> {
        let Some((wall, message)) = self.station.open(from, frame) else { return Ok(()) };
        match message {
            PeerMessage::Raft(message) => self.step(Input::Message { from, message })?,
            PeerMessage::Founding(message) => self.answer_founder(from, &message),
            PeerMessage::Forward(requests) => self.accept_forwarded(from, requests),
            PeerMessage::Forwarded(results) => {
                for (id, result) in results {
                    self.station.handle_result(id, Teller::Peer(from), result);
                }
            }
            PeerMessage::Transfer { wish, to } => self.hand_over(wish, Some(from), to)?,
            PeerMessage::TransferRefused { wish, why } => {
                let why = why.chars().take(REASON_CHARS_MAX).collect();
                self.station.transfers.handle_refusal(wish, Leader::Peer(from), why);
            }
        }
        // After the step: a message of a new term makes all earlier samples old, but not its own.
        self.time.handle_term(self.replica.term());
        self.time.sample(from, wall, self.station.inputs.clock.elapsed());
        Ok(())
    }

    fn answer_founder(&mut self, from: ReplicaId, message: &FoundingMessage) {
        if let Some(answer) = founders::answer(self.replica.founders(), message) {
            self.station.send(from, PeerMessage::Founding(answer));
        }
    }

    fn accept_forwarded(&mut self, from: ReplicaId, requests: Vec<(ProposalId, Command)>) {
        for (id, command) in requests {
            if let Err(reason) = self.forwards.offer(from, id, command) {
                tracing::debug!(node = self.station.me().0, from = from.0, reason, "dropped a forwarded request");
            }
        }
    }

    /// Sees who leads now, and tells everybody whom that concerns.
    fn look(&mut self) {
        let view = View::of(&self.replica, self.station.me());
        self.time.handle_term(view.term);
        if view == self.view {
            return;
        }
        tracing::info!(node = self.station.me().0, term = view.term.0, leader = ?view.leader, "leadership");
        self.view = view;
        self.station.metrics.handle_view(view);
        self.station.requests.handle_view(view);
        self.forwards.handle_view(view);
        self.catalog.handle_leadership((view.leader == Leader::Here).then_some(view.term));
    }

    /// Looks whether pool `default` wants the catalog.
    fn read_for_catalog(&mut self) -> Result<(), Stopped> {
        let Some(reply) = self.catalog.poll_read() else { return Ok(()) };
        self.handle_ask(Ask::Read {
            query: Query::Pool(PoolId::default_pool()),
            consistency: Consistency::Linearizable,
            deadline: tokio::time::Instant::now() + TIMEOUT_MAX,
            reply,
        })
    }

    /// Pursues the wishes to hand leadership over.
    fn transfer(&mut self) -> Result<(), Stopped> {
        let (me, now) = (self.station.me(), self.station.now());
        for step in self.station.transfers.handle_view(self.view, me, now) {
            match step {
                transfers::Step::HandOver { wish, to } => self.hand_over(wish, None, to)?,
                transfers::Step::Ask { leader, wish, to } => {
                    self.station.send(leader, PeerMessage::Transfer { wish, to });
                }
            }
        }
        Ok(())
    }

    /// Hands leadership over as a caller, or a peer's caller, wishes; or says why not.
    fn hand_over(&mut self, wish: u64, peer: Option<ReplicaId>, to: ReplicaId) -> Result<(), Stopped> {
        match self.replica.check_transfer(to) {
            Ok(()) => self.step(Input::Transfer { to }),
            // Who does not lead is asked by mistake, and who hands over already will be done soon: both are asked again.
            Err(TransferRefused::NotLeader | TransferRefused::UnderWay) => Ok(()),
            Err(refused) => {
                let why = refused.to_string();
                match peer {
                    Some(peer) => _ = self.station.send(peer, PeerMessage::TransferRefused { wish, why }),
                    None => self.station.transfers.handle_refusal(wish, Leader::Here, why),
                }
                Ok(())
            }
        }
    }

    /// Forwards what waits to the leader, if that is a peer.
    fn forward(&mut self) {
        let Leader::Peer(leader) = self.view.leader else { return };
        let now = self.station.now();
        let mut requests = Vec::new();
        while self.station.requests.peek().is_some() {
            let id = self.station.numbers.next();
            requests.push((id, self.station.requests.forward(id, leader, now).command));
        }
        for frame in in_frames(requests) {
            let ids: Vec<_> = frame.iter().map(|(id, _)| *id).collect();
            if !self.station.send(leader, PeerMessage::Forward(frame)) {
                ids.into_iter().for_each(|id| self.station.requests.handle_dropped(id, now));
            }
        }
    }

    /// Proposes what waits, if this node leads and its store is idle.
    fn propose(&mut self) -> Result<(), Stopped> {
        let waits = self.station.requests.peek().is_some() || self.forwards.peek().is_some();
        let waits = if self.catalog.comes_first() { self.catalog.import().is_some() } else { waits };
        if !waits || self.replica.is_persisting() || !self.replica.can_propose() {
            return Ok(());
        }
        let (own, at) = (self.station.environment.wall(), self.station.inputs.clock.elapsed());
        let me = self.station.me();
        let peers = self.replica.founders().disks.keys().filter(|voter| **voter != me);
        let Some(time) = self.time.median(own, at, peers) else { return Ok(()) };
        let Some(entropy) = self.draw_entropy() else { return Ok(()) };
        let commands = match self.catalog.import() {
            Some(action) => vec![self.import(action)],
            None => gather(&mut self.station.requests, &mut self.forwards, &mut self.station.numbers),
        };
        self.station.metrics.batch_commands.observe(commands.len() as u64);
        self.step(Input::Propose { time, entropy, commands })
    }

    /// The catalog's import as a proposal.
    fn import(&mut self, action: Action) -> (ProposalId, Command) {
        let id = self.station.numbers.next();
        self.catalog.handle_proposed(id);
        let key = self.station.make_key(self.replica.machine().now());
        let (pool, origin, actor) = (PoolId::default_pool(), KeyOrigin::Server, Actor::default());
        (id, Command { pool, key, origin, actor, action })
    }

    fn draw_entropy(&mut self) -> Option<Entropy> {
        let mut entropy = [0; 32];
        let drawn = self.station.environment.fill(&mut entropy);
        if let Err(none) = drawn
            && !self.lacks_entropy
        {
            tracing::error!(node = self.station.me().0, %none, "nothing can be proposed");
        }
        self.lacks_entropy = drawn.is_err();
        drawn.is_ok().then_some(Entropy(entropy))
    }

    /// Tells peers what became of the requests they forwarded.
    fn send_answers(&mut self) {
        for (peer, answers) in self.forwards.take_answers() {
            let frames: Vec<Vec<(ProposalId, ProposalResult)>> = in_frames(answers);
            for frame in frames {
                self.station.send(peer, PeerMessage::Forwarded(frame));
            }
        }
    }

    fn begin_to_stop(&mut self) {
        let clock = self.station.inputs.clock;
        self.station.close();
        self.forwards.close();
        let until = clock.now().plus(clock.ticks_in(DRAIN_MAX));
        self.drain.get_or_insert(Drain { until, succession: Succession::Later });
    }

    /// A node that is asked to stop first answers what it accepted, then hands leadership over if somebody can take it.
    fn end_if_drained(&mut self) -> Result<bool, Stopped> {
        let Some(drain) = self.drain else { return Ok(false) };
        if self.station.now() >= drain.until {
            return Ok(true);
        }
        if !self.station.requests.is_empty() || !self.forwards.is_empty() {
            return Ok(false);
        }
        if self.view.leader != Leader::Here || self.replica.founders().disks.len() == 1 {
            return Ok(true);
        }
        let now = self.station.now();
        let until = match drain.succession {
            Succession::Named => return Ok(false),
            Succession::Seeking { until } => until,
            Succession::Later => now.plus(SUCCESSOR_HEARTBEATS * self.station.config.heartbeat_ticks as u64),
        };
        let Some(to) = self.successor() else {
            self.drain = Some(Drain { succession: Succession::Seeking { until }, ..drain });
            return Ok(now >= until);
        };
        self.drain = Some(Drain { succession: Succession::Named, ..drain });
        self.step(Input::Transfer { to })?;
        Ok(false)
    }

    /// The voter that would lead best: the one with the longest log that can take over now.
    fn successor(&self) -> Option<ReplicaId> {
        let can_lead = |voter: &ReplicaId| *voter != self.station.me() && self.replica.check_transfer(*voter).is_ok();
        let matched = self.replica.status().matched.into_iter().filter(|(voter, _)| can_lead(voter));
        matched.max_by_key(|(_, index)| *index).map(|(voter, _)| voter)
    }
}
