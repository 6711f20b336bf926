//! The sans-I/O core: one replica of a shard, raft and the pools.
//!
//! **Contract.** Hand it one [`Input`] with [`Replica::handle`], then take [`Output`]s with [`Replica::poll_output`] until
//! there is none; nothing else changes it. Each output says which I/O it is and when it may run. What was given out with
//! [`Output::Persist`] comes back as [`Input::Persisted`] once it is durable: replication goes on meanwhile, but no vote, no
//! acknowledgement and no answer leaves before what it promises is on the disk.
//!
//! **How.** `raft` alone touches raft-rs, and overrides its election timeout (`election`); `log` is the log in memory, so
//! that no read of it can fail; `unpersisted` holds promises back; `gate` checks what peers say before raft sees it;
//! `proposals` and `reads` know who waits for what; `applied` is the state that entries made; `snapshots` says when one is
//! taken and where the log is cut behind it; `checkpoints` compares digests. [`founding`] is how replicas that never met
//! agree on who they are.
//!
//! **Snapshots.** raft sees where one is, never what it holds. Bodies are the runtime's: it encodes the view that
//! [`Output::TakeSnapshot`] gives it, sends the newest at [`Output::SendSnapshot`], and brings a peer's, staged on the disk
//! and decoded, with [`Input::Snapshot`]. Installing one is a barrier: until it is durable, whatever else comes is dropped,
//! as if the network had lost it.
//!
//! **A disk that does not answer** bounds what is taken in: behind so many writes or bytes a peer's entries are dropped too,
//! and sent again once it does. A leader's that is silent for two election timeouts makes it hand leadership over, or lay it
//! down; unless it is the only voter.
//!
//! **What is committed**, peers hear with the entries behind it; if there are none, at the next tick; and before that with the
//! answer to one of them that asks for a read.
//!
//! **Time** is [`Input::Tick`], and every random number came with the [`Config`]: the same inputs give the same outputs.
//!
//! **Absent on purpose**: changes of membership, leases, and forwarding, which belongs to whoever accepted the request.

mod applied;
mod checkpoints;
mod config;
mod election;
pub mod founding;
mod gate;
mod input;
mod log;
mod logger;
mod message;
mod output;
mod proposals;
mod raft;
mod reads;
mod snapshots;
mod status;
mod unpersisted;

pub use checkpoints::{CHECKPOINT_EVERY, Checkpoint};
pub use config::{Config, SnapshotPolicy};
pub use input::Input;
pub use message::{RaftBody, RaftMessage};
pub use output::{Output, TakeSnapshot};
pub use proposals::{ProposalId, ProposalResult};
pub use reads::ReadId;
pub use status::{BrokenInvariant, Role, Status, TransferRefused};

use std::collections::VecDeque;

use ::raft::{Ready, eraftpb::Entry};

use self::{
    applied::Applied,
    checkpoints::Checkpoints,
    gate::{Gate, Rejected},
    message::our_entry,
    proposals::Proposals,
    raft::Raft,
    reads::Reads,
    snapshots::Snapshots,
    unpersisted::{Durable, Unpersisted},
};
use crate::{
    durable::{Founders, HardState, Identity, RecoveredLog, SnapshotMeta, SnapshotWrite, WriteSet},
    hooks,
    pool::{Batch, Command, Garbage, Restorer, StateMachine},
    types::{Entropy, Index, Millis, ReplicaId, Term},
};

/// From how many election timeouts on a leader's disk that does not answer is taken for one that will not.
const SILENCE_ELECTIONS: usize = 2;
/// How many heartbeats the answer to a question for a read index is awaited.
const READ_ATTEMPT_HEARTBEATS: usize = 3;

/// raft and the pools. One [`Replica::handle`], then [`Replica::poll_output`] until `None`; nothing else changes it.
pub struct Replica {
    /// Who it is.
    me: ReplicaId,
    /// The shortest election timeout.
    election_ticks: usize,
    /// The founders and their disks.
    founders: Founders,
    /// raft.
    raft: Raft,
    /// What the applied entries made.
    applied: Applied,
    /// Who waits for an entry.
    proposals: Proposals,
    /// Who waits for a read.
    reads: Reads,
    /// What waits for the disk.
    unpersisted: Unpersisted,
    /// When snapshots are taken.
    snapshots: Snapshots,
    /// A peer's snapshot that raft wants, until its Ready is taken.
    received: Option<(SnapshotMeta, Box<StateMachine>)>,
    /// Where this replica and its peers stood.
    checkpoints: Checkpoints,
    /// The hard state last handed to the store.
    written: HardState,
    /// What is to be done.
    outputs: VecDeque<Output>,
}

impl Replica {
    /// A replica that goes on from what its store held; entries known to be committed are applied at once.
    ///
    /// # Errors
    /// If what was recovered contradicts itself: the pool's snapshot cannot be restored, or raft refuses the log.
    pub fn new(config: Config, identity: Identity, recovered: RecoveredLog) -> Result<Self, BrokenInvariant> {
        let mut restorer = Restorer::default();
        let pushed = recovered.snapshot.body.iter().try_for_each(|chunk| restorer.push(chunk));
        let machine = pushed
            .and_then(|()| restorer.finish())
            .map_err(|error| BrokenInvariant { name: "durable", detail: error.to_string() })?;
        assert_eq!(machine.applied(), recovered.snapshot.meta.index, "the snapshot is of another index than it says");
        let attempt_ticks = READ_ATTEMPT_HEARTBEATS * config.heartbeat_ticks;
        let mut replica = Self {
            me: identity.replica,
            election_ticks: config.election_ticks,
            raft: Raft::new(&config, &identity, &recovered)?,
            applied: Applied::new(machine),
            proposals: Proposals::default(),
            reads: Reads::new(identity.replica, config.boot_nonce, attempt_ticks),
            unpersisted: Unpersisted::default(),
            snapshots: Snapshots::new(config.snapshots, config.election_ticks),
            received: None,
            checkpoints: Checkpoints::new(identity.replica, config.checkpoint_every, config.election_ticks),
            written: recovered.hard_state,
            founders: recovered.snapshot.meta.founders,
            outputs: VecDeque::new(),
        };
        replica.drain()?;
        Ok(replica)
    }

    /// Takes one input.
    ///
    /// # Errors
    /// A broken invariant is final: nothing but stopping is right after it. Bad input from a peer is none.
    pub fn handle(&mut self, input: Input) -> Result<(), BrokenInvariant> {
        if self.unpersisted.is_installing() && !hooks::is_planted("m34") {
            self.handle_installing(input);
        } else {
            self.handle_ready(input)?;
        }
        self.drain()
    }

    fn handle_ready(&mut self, input: Input) -> Result<(), BrokenInvariant> {
        match input {
            Input::Tick => self.tick()?,
            Input::Message { from, message } => self.step(from, message)?,
            Input::Propose { time, entropy, commands } => self.propose(time, entropy, commands),
            Input::Reads(reads) => reads.into_iter().for_each(|read| self.reads.add(read)),
            Input::ForgetRead(read) => self.reads.forget(read),
            Input::Persisted { number } => self.unpersisted.mark_durable(number),
            Input::Transfer { to } => self.raft.transfer(to),
            Input::Unreachable { peer } => self.raft.report_unreachable(peer),
            Input::SnapshotTaken { meta } => self.snapshots.staged(meta),
            Input::SnapshotGivenUp => self.snapshots.given_up(),
            Input::Snapshot { from, message, machine } => self.receive(from, message, machine)?,
            Input::SnapshotReport { to, arrived } => {
                if self.end_sending(to) {
                    if !arrived {
                        self.snapshots.sending_failed();
                    }
                    self.raft.report_snapshot(to, arrived);
                }
            }
            Input::Checkpoint { from, checkpoint } => self.checkpoints.heard(from, checkpoint, &self.raft.voters())?,
        }
        Ok(())
    }

    /// While a peer's snapshot is on its way to the disk, raft is told of nothing but that (line 9): what comes is lost, as
    /// on a network. Reads wait.
    fn handle_installing(&mut self, input: Input) {
        match input {
            Input::Persisted { number } => self.unpersisted.mark_durable(number),
            Input::Reads(reads) => reads.into_iter().for_each(|read| self.reads.add(read)),
            Input::ForgetRead(read) => self.reads.forget(read),
            Input::Propose { commands, .. } => self.turn_away(commands.into_iter().map(|(id, _)| id)),
            Input::Snapshot { message, machine, .. } => self.discard(&message, machine),
            Input::SnapshotReport { to, .. } => _ = self.end_sending(to),
            Input::SnapshotGivenUp => self.snapshots.given_up(),
            Input::Tick
            | Input::Message { .. }
            | Input::Transfer { .. }
            | Input::Unreachable { .. }
            | Input::SnapshotTaken { .. }
            | Input::Checkpoint { .. } => {}
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn tick(&mut self) -> Result<(), BrokenInvariant> {
        self.reads.tick();
        self.snapshots.tick();
        let told = self.checkpoints.tick(&self.raft.voters())?;
        self.outputs.extend(told.map(Output::Checkpoint));
        self.unpersisted.tick();
        self.make_way();
        self.raft.tick();
        Ok(())
    }

    /// A leader whose disk does not answer can decide nothing, yet its heartbeats keep all others from leading. So it hands
    /// over, which no disk is needed for, to somebody who needs no vote of it; and if nobody takes over within an election
    /// timeout, it leads no more. It cannot win before its disk answers: a question for votes waits for that.
    fn make_way(&mut self) {
        let silent_elections = self.unpersisted.silent_ticks() / self.election_ticks;
        if self.role() != Role::Leader || silent_elections < SILENCE_ELECTIONS || self.founders.disks.len() == 1 {
            return;
        }
        let is_last_try = silent_elections > SILENCE_ELECTIONS;
        match self.raft.successor().filter(|_| !is_last_try) {
            Some(to) => self.raft.transfer(to),
            None if self.raft.is_transferring() && !is_last_try => {}
            None => self.raft.step_down(),
        }
    }

    fn gate(&self) -> Gate<'_> {
        Gate {
            me: self.me,
            role: self.raft.role(),
            term: self.raft.term(),
            leader: self.raft.leader(),
            commit: self.raft.commit(),
            last: self.raft.last(),
            is_persisting: self.unpersisted.is_raft_writing(),
            founders: &self.founders,
            log: self.raft.log(),
        }
    }

    fn step(&mut self, from: ReplicaId, message: RaftMessage) -> Result<(), BrokenInvariant> {
        match self.gate().check(from, &message) {
            // As if the network had lost it. raft holds no leader back from sending entries, one message after each answer to a
            // heartbeat, and those are answered whatever the disk does (line 5).
            Ok(()) if matches!(message.body, RaftBody::Append { .. }) && self.unpersisted.is_full() => {
                tracing::debug!(node = self.me.0, from = from.0, "dropped entries: the disk is behind");
            }
            Ok(()) => self.raft.step(message.into_raft()),
            Err(Rejected::Broken(invariant)) => return Err(invariant),
            Err(Rejected::Dropped(reason)) => {
                tracing::debug!(node = self.me.0, from = from.0, reason, "dropped a message");
            }
        }
        Ok(())
    }

    /// A peer's snapshot. raft wants it, or has its entries, or knows better.
    fn receive(
        &mut self,
        from: ReplicaId,
        message: RaftMessage,
        machine: Box<StateMachine>,
    ) -> Result<(), BrokenInvariant> {
        let meta = match self.gate().check_snapshot(from, &message, machine.applied()) {
            Ok(meta) => meta.clone(),
            Err(Rejected::Broken(invariant)) => return Err(invariant),
            Err(Rejected::Dropped(reason)) => {
                tracing::debug!(node = self.me.0, from = from.0, reason, "dropped a snapshot");
                self.discard(&message, machine);
                return Ok(());
            }
        };
        self.raft.step(message.clone().into_raft());
        if self.raft.is_restoring() {
            self.received = Some((meta, machine));
        } else {
            if self.raft.log().term_at(meta.index) == Some(meta.term) {
                hooks::sometimes("snapshot_fast_forwarded");
            }
            self.discard(&message, machine);
        }
        Ok(())
    }

    /// A peer's snapshot is of no use.
    fn discard(&mut self, message: &RaftMessage, machine: Box<StateMachine>) {
        let index = machine.applied();
        tracing::debug!(node = self.me.0, from = message.from.0, %index, "a snapshot is of no use");
        self.outputs.push_back(Output::Discard(Garbage::new(machine)));
        self.outputs.push_back(Output::SnapshotSettled { index, installed: false });
    }

    /// A snapshot is sent to this peer no longer; `false` if it was not.
    fn end_sending(&mut self, to: ReplicaId) -> bool {
        let was_sending = self.raft.log().sending_to() == Some(to);
        if was_sending {
            self.raft.log_mut().end_sending();
        }
        was_sending
    }

    fn propose(&mut self, time: Millis, entropy: Entropy, commands: Vec<(ProposalId, Command)>) {
        let commands = if hooks::is_planted("m08") { self.answer_known(commands) } else { commands };
        let (ids, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let data = Batch { version: Batch::VERSION, time, entropy, commands }.encode();
        match if self.can_propose() { self.raft.propose(data) } else { None } {
            Some(index) => {
                let superseded = self.proposals.accepted(index, self.raft.term(), ids);
                self.answer(superseded);
            }
            None => self.turn_away(ids),
        }
    }

    /// A planted bug: keys are looked up here, and no more when an entry is applied.
    fn answer_known(&mut self, mut commands: Vec<(ProposalId, Command)>) -> Vec<(ProposalId, Command)> {
        let machine = self.applied.machine();
        let known = commands.extract_if(.., |(_, command)| machine.recall_outcome(command).is_some());
        let known: Vec<_> = known
            .filter_map(|(id, command)| Some((id, ProposalResult::Applied(machine.recall_outcome(&command)?))))
            .collect();
        self.answer(known);
        commands
    }

    fn turn_away(&mut self, ids: impl IntoIterator<Item = ProposalId>) {
        self.answer(ids.into_iter().map(|id| (id, ProposalResult::NotProposed)).collect());
    }

    fn answer(&mut self, answers: Vec<(ProposalId, ProposalResult)>) {
        if !answers.is_empty() {
            self.outputs.push_back(Output::Proposals(answers));
        }
    }

    /// Takes everything that raft wants done, after every single input (lines 2 and 3), and puts questions for reads.
    fn drain(&mut self) -> Result<(), BrokenInvariant> {
        loop {
            self.release_durable();
            self.ask_for_reads();
            match self.raft.ready() {
                Some(ready) => self.take_ready(ready)?,
                None => break,
            }
        }
        self.take_snapshot();
        let applied = self.applied.machine().applied();
        let ready = self.reads.take_ready(if hooks::is_planted("m27") { Index(u64::MAX) } else { applied });
        self.outputs.extend(ready.into_iter().map(Output::ReadReady));
        Ok(())
    }

    fn ask_for_reads(&mut self) {
        if self.unpersisted.is_installing() {
            return;
        }
        let leader = self.raft.leader().filter(|_| self.raft.can_read());
        if let Some(context) = self.reads.ask(leader, self.raft.term()) {
            if leader == Some(self.me) && hooks::is_planted("m26") {
                return self.reads.answered(&context, self.raft.commit());
            }
            self.raft.read_index(&context);
        }
    }

    /// Tells raft what is durable, *then* lets go of what waited for it (line 6).
    fn release_durable(&mut self) {
        while let Some(durable) = self.unpersisted.take_durable() {
            match durable {
                Durable::Ready { number, messages } => {
                    self.raft.on_persisted(number);
                    self.send(messages);
                }
                Durable::Installed { number, messages, machine } => {
                    self.raft.on_persisted(number);
                    hooks::crash_point("snapshot_installed_before_restore");
                    self.restore(*machine);
                    self.send(messages);
                }
                Durable::Taken { meta, truncated } => {
                    let log = self.raft.log_mut();
                    log.is_replaced_soon = false;
                    // Unless a peer's snapshot has taken the place of the whole log meanwhile.
                    if meta.index > log.newest().index {
                        log.compact(meta, truncated);
                    }
                    self.snapshots.flipped();
                }
            }
        }
    }

    /// The state is that of a peer's snapshot from now on, which is durable.
    fn restore(&mut self, machine: StateMachine) {
        let index = machine.applied();
        hooks::sometimes("snapshot_installed");
        let before = self.applied.restore(machine);
        self.raft.on_applied(index);
        self.snapshots.restored();
        self.checkpoints.restored();
        let superseded = self.proposals.supersede_all();
        self.answer(superseded);
        self.outputs.push_back(Output::Discard(Garbage::new(before)));
        self.outputs.push_back(Output::SnapshotSettled { index, installed: true });
    }

    /// Brings a snapshot of this replica's own further, or asks for one.
    fn take_snapshot(&mut self) {
        if self.unpersisted.is_installing() {
            return;
        }
        if let Some((meta, truncated)) = self.snapshots.flip(self.raft.log(), self.raft.slowest()) {
            // The newest hard state that was queued, not raft's: its commit may pass the entries that were (line 20).
            let hard_state = HardState { commit: self.written.commit.max(meta.index), ..self.written };
            let number = self.persist(WriteSet {
                hard_state: Some(hard_state),
                snapshot: Some(SnapshotWrite::Taken { meta: meta.clone(), truncated }),
                ..WriteSet::default()
            });
            self.raft.log_mut().is_replaced_soon = true;
            self.unpersisted.hold(Some(number), 0, false, Durable::Taken { meta, truncated });
        }
        let applied = self.applied.machine().applied();
        if self.snapshots.ask(self.raft.log(), applied) {
            self.raft.log_mut().forget_wanted();
            self.outputs.push_back(Output::TakeSnapshot(Box::new(TakeSnapshot {
                handle: self.applied.machine().snapshot(),
                term: self.raft.log().term_at(applied).expect("an entry above the newest snapshot is in the log"),
                voters: self.raft.voters(),
                founders: self.founders.clone(),
            })));
        }
    }

    /// Hands out a WriteSet; its number.
    fn persist(&mut self, mut write: WriteSet) -> u64 {
        write.number = self.unpersisted.number_write();
        let before = self.written;
        self.written = write.hard_state.unwrap_or(before);
        if let Some(hard_state) = write.hard_state.as_mut().filter(|_| hooks::is_planted("m02")) {
            (hard_state.term, hard_state.vote) = (before.term, before.vote);
        }
        let number = write.number;
        self.outputs.push_back(Output::Persist(Box::new(write)));
        number
    }

    fn send(&mut self, messages: Vec<RaftMessage>) {
        self.outputs.extend(messages.into_iter().map(|message| match message.body {
            RaftBody::Snapshot { .. } => Output::SendSnapshot { to: message.to, message },
            _ => Output::Send { to: message.to, message },
        }));
    }

    /// One Ready, in the order of raft-rs.md, section 1.
    fn take_ready(&mut self, mut ready: Ready) -> Result<(), BrokenInvariant> {
        let number = ready.number();
        let (at_once, mut held) = self.messages_of(&mut ready);
        let hard_state = self.raft.hard_state();
        let promise = (hard_state.term, hard_state.vote) != (self.written.term, self.written.vote);
        if promise {
            // Only a sole voter leads in the Ready that makes it so: nobody may hear before its vote is durable (line 7).
            held.splice(0..0, at_once);
        } else {
            self.send(at_once);
        }

        let is_written = ready.must_sync();
        let entries = ready.take_entries();
        let installed = if ready.snapshot().is_empty() { None } else { self.received.take() };
        if let Some((meta, _)) = &installed {
            assert_eq!(
                (meta.index.0, 0),
                (ready.snapshot().get_metadata().index, entries.len()),
                "raft restores another"
            );
            self.raft.log_mut().restore(meta.clone());
        }
        self.append(&entries);
        let write = is_written.then(|| {
            self.persist(WriteSet {
                entries: entries.iter().map(our_entry).collect(),
                hard_state: (hard_state != self.written).then_some(hard_state),
                promise,
                snapshot: installed.as_ref().map(|(meta, _)| SnapshotWrite::Installed { meta: meta.clone() }),
                ..WriteSet::default()
            })
        });
        let is_held = installed.is_none() || !hooks::is_planted("m34");
        let free = if is_held { self.unpersisted.take_free(promise, &mut held) } else { std::mem::take(&mut held) };
        self.send(free);
        if write.is_none() && hooks::is_planted("m03") {
            self.send(std::mem::take(&mut held));
        }
        let then = match installed {
            Some((_, machine)) => Durable::Installed { number, messages: held, machine },
            None => Durable::Ready { number, messages: held },
        };
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.unpersisted.hold(write, bytes, promise, then);

        for read in ready.take_read_states() {
            self.reads.answered(&read.request_ctx, Index(read.index));
        }
        let committed = ready.take_committed_entries();
        self.raft.advance(ready);
        for entry in &committed {
            self.apply(entry)?;
        }
        if !committed.is_empty() {
            self.raft.on_applied(self.applied.machine().applied());
        }
        Ok(())
    }

    /// The messages of a Ready: those that may leave now, and those that may once it is durable.
    fn messages_of(&self, ready: &mut Ready) -> (Vec<RaftMessage>, Vec<RaftMessage>) {
        let newest = self.raft.log().newest();
        let ours = |messages: Vec<_>| {
            messages.into_iter().filter_map(|message| RaftMessage::from_raft(message, newest)).collect::<Vec<_>>()
        };
        (ours(ready.take_messages()), ours(ready.take_persisted_messages()))
    }

    /// Appends to the log, and answers whoever waits for an entry that is not there any more.
    fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        if Index(first.index) <= self.raft.log().last() {
            hooks::sometimes("conflicting_suffix_truncated");
        }
        self.raft.log_mut().append(entries);
        let log = self.raft.log();
        let superseded = self.proposals.overwritten(Index(first.index), |index| log.term_at(index));
        self.answer(superseded);
        if hooks::is_planted("m05") {
            self.answer_at_append();
        }
    }

    /// A planted bug: whoever waits for an entry is told what it would make of the state as soon as it is in the log.
    fn answer_at_append(&mut self) {
        let mut state = StateMachine::restore(&self.machine().snapshot().encode()).expect("it was just encoded");
        for index in state.applied().next().0..=self.raft.log().last().0 {
            let entry = self.raft.log().get(Index(index)).expect("what is not applied is in the log").clone();
            let outcomes = state.apply(Index(index), &entry.data);
            let answers = self.proposals.applied(Index(index), Term(entry.term), Some(outcomes));
            self.answer(answers);
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), BrokenInvariant> {
        let (index, term) = (Index(entry.index), Term(entry.term));
        let outcomes = self.applied.apply(entry, self.proposals.awaits(index, term))?;
        hooks::crash_point("after_apply_before_reply");
        self.snapshots.applied(entry.data.len() as u64);
        let answers = self.proposals.applied(index, term, outcomes);
        self.answer(answers);
        self.outputs.extend(self.applied.take_garbage().map(Output::Discard));
        if self.checkpoints.is_at(index) {
            let told = self.checkpoints.applied(self.applied.machine().digests(), &self.raft.voters())?;
            self.outputs.push_back(Output::Checkpoint(told));
        }
        Ok(())
    }
}
