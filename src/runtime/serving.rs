//! A node's second phase: it serves.
//!
//! One loop: take one input, give it to the replica, do what the replica wants done, until nothing is left; then see who
//! leads, propose or forward what waits, and wait again. No output waits for I/O: frames go into bounded queues, WriteSets
//! to the writer.
//!
//! **When to propose.** At once, if the store is idle; while it writes, what comes gathers, and is proposed when the write
//! is reported. So the disk sets the pace, a batch is as large as what came during one sync, and behind a disk that stalls
//! no more than one batch is in raft: the rest waits where it is bounded, and goes to another leader if the stall lasts (see
//! [`crate::replica`]).

mod beside;

use crate::{
    api::Consistency,
    durable::RecoveredLog,
    hooks,
    pool::{Action, Actor, BATCH_BYTES_MAX, Command, KeyOrigin, PoolId, Query},
    replica::{
        CHECKPOINT_EVERY, Config, Input, Output, ProposalId, ProposalResult, Replica, TransferRefused,
        founding::{self as founders, FoundingMessage},
    },
    transport::{self, Transport},
    types::{Entropy, Millis, ReplicaId},
};

use super::{
    Environment, Stopped,
    batch::{Gathered, gather},
    catalog::Catalog,
    clock::{Tick, check_wall},
    forwards::Forwards,
    handle::{Ask, TIMEOUT_MAX},
    inputs::Event,
    laggards::Laggards,
    peer::{PeerMessage, REASON_CHARS_MAX, in_frames},
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
    /// Voters that do not keep up.
    laggards: Laggards,
    catalog: Catalog,
    /// Set when the node is asked to stop.
    drain: Option<Drain>,
    /// Entropy was missing at the last attempt to propose.
    lacks_entropy: bool,
}

impl<'a, T: Transport, E: Environment> Serving<'a, T, E> {
    /// Goes on from what the store holds.
    pub fn start(station: &'a mut Station<T, E>, log: RecoveredLog) -> Result<Self, Stopped> {
        station.set_founded(log.genesis, &log.snapshot.meta.founders);
        let flow = station.config.flow;
        let config = Config {
            heartbeat_ticks: station.config.heartbeat_ticks,
            election_ticks: station.config.election_ticks,
            election_seed: station.boot.election_seed,
            boot_nonce: station.boot.nonce,
            messages_max: flow.messages_max,
            message_bytes_max: flow.message_bytes_max,
            uncommitted_bytes_max: flow.uncommitted_bytes_max,
            snapshots: station.config.snapshots,
            checkpoint_every: CHECKPOINT_EVERY,
        };
        let replica = Replica::new(config, station.identity, log)?;
        let applied = replica.machine().applied();
        tracing::info!(node = station.me().0, %applied, last = %replica.status().last_index, "recovered");
        if replica.founders().disks.len() == 1 && !station.config.accept_clock {
            check_wall(station.environment.wall(), replica.machine().now())?;
        }
        let catalog = Catalog::new(station.config.catalog.clone());
        let mut serving = Self {
            replica,
            view: View::default(),
            forwards: Forwards::default(),
            laggards: Laggards::default(),
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
            Event::Persisted(report) => {
                hooks::crash_point("after_report_before_send");
                self.step(Input::Persisted { number: report? })?;
            }
            Event::Done(done) => self.handle_done(done)?,
            Event::Network(transport::Event::Frame { from, frame }) => self.handle_frame(from, &frame)?,
            Event::Network(transport::Event::Unreachable { peer }) => self.handle_unreachable(peer)?,
            Event::Network(transport::Event::Met { peer, hello }) => self.station.handle_hello(peer, &hello),
            Event::Network(transport::Event::Refused { peer, reason }) => {
                // This node is founded as well: who of the two is wrong is for an operator to say.
                self.station.handle_refusal(peer, &reason);
            }
            Event::Ticks(ticks) => self.handle_ticks(ticks)?,
            Event::Asked => {
                let mut asks = self.station.inputs.take_asks();
                self.handle_asks(asks.drain(..))?;
                self.station.inputs.give_back(asks);
            }
        }
        self.follow_snapshots()?;
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
        hooks::turned(|| self.replica.status());
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
                Output::Send { to, message } => {
                    self.station.send(to, PeerMessage::Raft(message));
                    hooks::crash_point("after_send");
                }
                Output::Persist(write) => {
                    if write.snapshot.is_some() {
                        self.station.snapshots.handle_flip();
                    }
                    self.station.write(*write)?;
                }
                Output::Proposals(results) => self.handle_results(results),
                Output::TakeSnapshot(snapshot) => {
                    self.station.metrics.handle_snapshot_begun();
                    self.station.snapshots.take(*snapshot);
                }
                Output::SendSnapshot { to, message } => self.station.snapshots.send(to, message, self.station.now()),
                Output::SnapshotSettled { index, installed } => {
                    self.station.metrics.handle_snapshot_settled(installed);
                    let applied = self.replica.machine().applied();
                    self.station.snapshots.handle_settled(index, installed, applied);
                }
                Output::Checkpoint(checkpoint) => self.tell_checkpoint(checkpoint),
                Output::Discard(garbage) => self.station.bin.put(garbage),
                Output::ReadReady(id) => {
                    if let Some(ask) = self.station.reads.take(id) {
                        self.station.answer(ask, &self.replica);
                    }
                }
            }
        }
        Ok(())
    }

    /// Something became of proposals of this replica.
    fn handle_results(&mut self, results: Vec<(ProposalId, ProposalResult)>) {
        let now = self.station.read_clock();
        for (id, result) in results {
            let others = self.catalog.handle_result(id, result);
            if let Some(result) = others.and_then(|result| self.forwards.handle_result(id, result)) {
                self.station.requests.handle_result(id, Teller::Here, result, now);
            }
        }
    }

    fn handle_ticks(&mut self, ticks: u64) -> Result<(), Stopped> {
        // After a stall no burst: one election timeout is enough to act on, and what was missed is past.
        for _ in 0..ticks.min(self.station.config.election_ticks as u64) {
            self.step(Input::Tick)?;
        }
        self.look_for_laggards();
        for read in self.station.handle_tick(self.view) {
            self.step(Input::ForgetRead(read))?;
        }
        self.station.observe(&self.replica);
        self.tick_beside();
        Ok(())
    }

    /// Takes half as much while a voter that was heard of within an election timeout is far behind.
    fn look_for_laggards(&mut self) {
        let at = self.station.inputs.clock.elapsed();
        let silence_max = self.station.inputs.clock.length() * self.station.config.election_ticks as u32;
        let time = &self.station.time;
        let lives = |voter| time.heard_of(voter).is_some_and(|heard| at.saturating_sub(heard) <= silence_max);
        let status = self.replica.status();
        let live = status.matched.iter().filter(|(voter, _)| lives(*voter)).map(|(_, matched)| *matched);
        self.laggards.handle_tick(status.term, status.last_index, at, live);
        self.station.set_halved(self.laggards.is_far());
    }

    fn handle_unreachable(&mut self, peer: ReplicaId) -> Result<(), Stopped> {
        let now = self.station.now();
        self.station.requests.handle_unreachable(peer, now);
        self.step(Input::Unreachable { peer })
    }

    /// Reads that were asked for together are confirmed together.
    fn handle_asks(&mut self, asks: impl IntoIterator<Item = Ask>) -> Result<(), Stopped> {
        let (station, replica) = (&mut *self.station, &self.replica);
        let reads: Vec<_> = asks.into_iter().filter_map(|ask| station.handle_ask(ask, Some(replica))).collect();
        if reads.is_empty() { Ok(()) } else { self.step(Input::Reads(reads)) }
    }

    /// Puts the reads that came before there was a replica.
    fn ask_what_waited(&mut self) -> Result<(), Stopped> {
        let mut reads = Vec::new();
        for ask in self.station.reads.take_all() {
            if ask.consistency == Consistency::Stale {
                self.station.answer(ask, &self.replica);
            } else {
                reads.extend(self.station.add_read(ask));
            }
        }
        self.step(Input::Reads(reads))
    }

    fn handle_frame(&mut self, from: ReplicaId, frame: &[u8]) -> Result<(), Stopped> {
        let Some((wall, message)) = self.station.open(from, frame) else { return Ok(()) };
        match message {
            PeerMessage::Raft(message) => self.step(Input::Message { from, message })?,
            PeerMessage::Founding(message) => self.answer_founder(from, &message),
            PeerMessage::Forward(requests) => self.accept_forwarded(from, requests),
            PeerMessage::Forwarded(results) => {
                let now = self.station.read_clock();
                for (id, result) in results {
                    self.station.requests.handle_result(id, Teller::Peer(from), result, now);
                }
            }
            PeerMessage::Transfer { wish, to } => self.hand_over(wish, Some(from), to)?,
            PeerMessage::TransferRefused { wish, why } => {
                let why = why.chars().take(REASON_CHARS_MAX).collect();
                self.station.transfers.handle_refusal(wish, Leader::Peer(from), why);
            }
            PeerMessage::Body(message) => self.handle_body(from, message),
            PeerMessage::Checkpoint(checkpoint) => {
                self.station.metrics.handle_checkpoint(checkpoint, self.replica.history_at(checkpoint.0.index));
                self.step(Input::Checkpoint { from, checkpoint })?;
            }
        }
        // After the step: a message of a new term makes all earlier samples old, but not its own.
        let at = self.station.inputs.clock.elapsed();
        self.station.time.handle_term(self.replica.term(), at);
        self.station.time.sample(from, wall, at);
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
        self.station.time.handle_term(view.term, self.station.inputs.clock.elapsed());
        self.station.requests.handle_time(self.replica.machine().now());
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
        self.handle_asks([Ask::Read {
            query: Query::Pool(PoolId::default_pool()),
            consistency: Consistency::Linearizable,
            deadline: tokio::time::Instant::now() + TIMEOUT_MAX,
            reply: reply.into(),
        }])
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
        let now = self.station.read_clock();
        let mut requests = Vec::new();
        while self.station.requests.peek_forward(now).is_some() {
            let id = self.station.numbers.next();
            requests.push((id, self.station.requests.forward(id, leader, now).command));
        }
        for frame in in_frames(requests) {
            let ids: Vec<_> = frame.iter().map(|(id, _)| *id).collect();
            if !self.station.send(leader, PeerMessage::Forward(frame)) {
                ids.into_iter().for_each(|id| self.station.requests.handle_dropped(id, now.tick));
            }
        }
    }

    /// Proposes what waits, or a tick if one is due, if this node leads and its store is idle.
    fn propose(&mut self) -> Result<(), Stopped> {
        if self.replica.is_persisting() || !self.replica.can_propose() {
            return Ok(());
        }
        let (own, turn, me) = (self.station.environment.wall(), self.station.read_clock(), self.station.me());
        let peers = self.replica.founders().disks.keys().filter(|voter| **voter != me);
        let Some(time) = self.station.time.median(own, turn.at, peers) else { return Ok(()) };
        let now = self.replica.machine().now();
        // A cluster's first batch is a tick: the keys of all others hold cluster time, so there must be one.
        let waits = now > Millis(0)
            && match self.catalog.comes_first() {
                true => self.catalog.import().is_some(),
                false => self.station.requests.peek(turn).is_some() || self.forwards.peek().is_some(),
            };
        if !waits && !self.station.time.is_tick_due(now, time) {
            return Ok(());
        }
        let Some(entropy) = self.draw_entropy() else { return Ok(()) };
        let Gathered { commands, bytes } = match self.catalog.import() {
            _ if !waits => Gathered::default(),
            Some(action) => Gathered { commands: vec![self.import(action)], bytes: BATCH_BYTES_MAX },
            None => {
                let Station { requests, numbers, config, .. } = &mut *self.station;
                gather(requests, &mut self.forwards, numbers, &config.flow, self.laggards.is_far(), turn)
            }
        };
        self.station.metrics.batch_commands.observe(commands.len() as u64);
        self.laggards.handle_proposed(bytes);
        self.station.time.handle_stamped(time);
        self.step(Input::Propose { time, entropy, commands })
    }

    /// The catalog's import as a proposal.
    fn import(&mut self, action: Action) -> (ProposalId, Command) {
        let id = self.station.numbers.next();
        self.catalog.handle_proposed(id);
        let key = self.station.requests.make_key();
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
        self.forwards.handle_stop();
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
        let Some(to) = self.replica.successor() else {
            self.drain = Some(Drain { succession: Succession::Seeking { until }, ..drain });
            return Ok(now >= until);
        };
        self.drain = Some(Drain { succession: Succession::Named, ..drain });
        self.step(Input::Transfer { to })?;
        Ok(false)
    }
}
