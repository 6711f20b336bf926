//! The sans-I/O core: one replica of a shard, raft and the pools.
//!
//! **Contract.** Hand it one [`Input`] with [`Replica::handle`], then take [`Output`]s with [`Replica::poll_output`] until
//! there is none; nothing else changes it. Each output says which I/O it is and when it may run. What was given out with
//! [`Output::Persist`] comes back as [`Input::Persisted`] once it is durable: replication goes on meanwhile, but no vote, no
//! acknowledgement and no answer leaves before what it promises is on the disk.
//!
//! **How.** `raft` alone touches raft-rs, and overrides its election timeout (`election`); `log` is the log in memory, so
//! that no read of it can fail; `unpersisted` holds promises back; `gate` checks what peers say before raft sees it;
//! `proposals` and `reads` know who waits for what. [`founding`] is how replicas that never met agree on who they are.
//!
//! **Time** is [`Input::Tick`], and every random number came with the [`Config`]: the same inputs give the same outputs.
//!
//! **Absent on purpose**: snapshots, compaction and changes of membership (the log is kept from the founding on), leases,
//! and forwarding, which belongs to whoever accepted the request.

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
mod unpersisted;

pub use input::Input;
pub use message::{RaftBody, RaftMessage};
pub use output::{Output, TakeSnapshot};
pub use proposals::{ProposalId, ProposalResult};
pub use reads::ReadId;

use std::collections::VecDeque;

use ::raft::{Ready, eraftpb::EntryType};

use self::{
    gate::{Gate, Rejected},
    message::our_entry,
    proposals::Proposals,
    raft::Raft,
    reads::Reads,
    unpersisted::Unpersisted,
};
use crate::{
    durable::{Founders, HardState, Identity, RecoveredLog, WriteSet},
    pool::{Batch, Command, Digests, Restorer, StateMachine},
    types::{Entropy, HistoryDigest, Index, Millis, ReplicaId, Term},
};

/// How many heartbeats the answer to a question for a read index is awaited.
const READ_ATTEMPT_HEARTBEATS: usize = 3;
/// How many recent history digests are kept.
const HISTORY_KEPT_MAX: usize = 4_096;

/// What a replica is told once. Times are in ticks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Leader's heartbeat interval; at least 1.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout; the longest is one tick less than twice this.
    pub election_ticks: usize,
    /// Seeds the election timeouts: random in production, drawn from the seed in simulation.
    pub election_seed: u64,
    /// Random number of this incarnation: read contexts of an earlier one are not mistaken for ours.
    pub boot_nonce: u64,
    /// When snapshots are taken, and what of the log is kept beside them.
    pub snapshots: SnapshotPolicy,
    /// Digests are compared with the peers' at every index that is a multiple of this.
    pub checkpoint_every: u64,
}

/// When snapshots are taken, and what of the log is kept beside them. Lengths are those of entries' data, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// A snapshot is due when the entries applied since the last one have this length, or half that of its body, whichever
    /// is more.
    pub log_bytes_min: u64,
    /// The newest entries at or below a snapshot that stay in the log, for peers that are a little behind: so many...
    pub trailing_entries: u64,
    /// ... or so many as have this length, whichever is fewer.
    pub trailing_bytes: u64,
    /// A log of this length is cut whatever peer that was heard of lately still needs it: it gets the snapshot.
    pub log_bytes_max: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { log_bytes_min: 64 << 20, trailing_entries: 10_000, trailing_bytes: 64 << 20, log_bytes_max: 256 << 20 }
    }
}

/// How often digests are compared, in entries.
pub const CHECKPOINT_EVERY: u64 = 1_024;

/// The digests at an index, as a replica tells its peers: whoever differs from a majority stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint(pub Digests);

/// The part a replica plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// A replica seen from outside; serves operators and tests alike.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Who it is.
    pub replica: ReplicaId,
    /// Its part.
    pub role: Role,
    /// The newest term it has seen.
    pub term: Term,
    /// Whom it takes for the leader.
    pub leader: Option<ReplicaId>,
    /// Known to be committed.
    pub commit: Index,
    /// Applied, with the digests there.
    pub digests: Digests,
    /// The newest snapshot: what came before may be missing from the log.
    pub snapshot_index: Index,
    /// First entry of its log; the one after the last, if it has none.
    pub first_index: Index,
    /// Last entry of its log.
    pub last_index: Index,
    /// On the leader: how far each voter's log is known to match, sorted by id. Empty elsewhere.
    pub matched: Vec<(ReplicaId, Index)>,
    /// Leadership is being handed over: proposals wait.
    pub transferring: bool,
}

/// Leadership cannot be handed over as asked. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefused {
    /// Ask the leader.
    #[error("this replica does not lead")]
    NotLeader,
    /// Not one of the voters.
    #[error("replica {0} is no voter")]
    NotVoter(ReplicaId),
    /// Its log is too far behind, or it was not heard of lately.
    #[error("replica {0} is too far behind, or does not answer")]
    Behind(ReplicaId),
    /// One is under way.
    #[error("leadership is being handed over already")]
    UnderWay,
}

/// A broken invariant (DESIGN section 3): the node must stop and say so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {name} is broken: {detail}")]
pub struct BrokenInvariant {
    /// Its name in DESIGN section 3.
    pub name: &'static str,
    /// What was seen.
    pub detail: String,
}

/// raft and the pools. One [`Replica::handle`], then [`Replica::poll_output`] until `None`; nothing else changes it.
pub struct Replica {
    /// Who it is.
    me: ReplicaId,
    /// The founders and their disks.
    founders: Founders,
    /// raft.
    raft: Raft,
    /// The pools, as of the last applied entry.
    machine: StateMachine,
    /// History digests of the newest entries; the last one is that of the applied index.
    history: VecDeque<HistoryDigest>,
    /// Who waits for an entry.
    proposals: Proposals,
    /// Who waits for a read.
    reads: Reads,
    /// What waits for the disk.
    unpersisted: Unpersisted,
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
            raft: Raft::new(&config, &identity, &recovered)?,
            history: VecDeque::from([machine.digests().history]),
            machine,
            proposals: Proposals::default(),
            reads: Reads::new(identity.replica, config.boot_nonce, attempt_ticks),
            unpersisted: Unpersisted::default(),
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
        match input {
            Input::Tick => {
                self.reads.tick();
                self.raft.tick();
            }
            Input::Message { from, message } => self.step(from, message)?,
            Input::Propose { time, entropy, commands } => self.propose(time, entropy, commands),
            Input::Read(read) => self.reads.add(read),
            Input::ForgetRead(read) => self.reads.forget(read),
            Input::Persisted { number } => self.unpersisted.mark_durable(number),
            Input::Transfer { to } => self.raft.transfer(to),
            Input::Unreachable { peer } => self.raft.report_unreachable(peer),
            Input::SnapshotTaken { .. }
            | Input::SnapshotGivenUp
            | Input::Snapshot { .. }
            | Input::SnapshotReport { .. }
            | Input::Checkpoint { .. } => {}
        }
        self.drain()
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn step(&mut self, from: ReplicaId, message: RaftMessage) -> Result<(), BrokenInvariant> {
        let gate = Gate {
            me: self.me,
            role: self.raft.role(),
            term: self.raft.term(),
            leader: self.raft.leader(),
            commit: self.raft.commit(),
            last: self.raft.last(),
            is_persisting: self.is_persisting(),
            log: self.raft.log(),
        };
        match gate.check(from, &message) {
            Ok(()) => self.raft.step(message.into_raft()),
            Err(Rejected::Broken(invariant)) => return Err(invariant),
            Err(Rejected::Dropped(reason)) => {
                tracing::debug!(node = self.me.0, from = from.0, reason, "dropped a message");
            }
        }
        Ok(())
    }

    fn propose(&mut self, time: Millis, entropy: Entropy, commands: Vec<(ProposalId, Command)>) {
        let (ids, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let data = Batch { version: Batch::VERSION, time, entropy, commands }.encode();
        let proposed = if self.can_propose() { self.raft.propose(data) } else { None };
        let (result, ids) = match proposed {
            Some(index) => (ProposalResult::Superseded, self.proposals.accepted(index, self.raft.term(), ids)),
            None => (ProposalResult::NotProposed { leader: self.raft.leader() }, ids),
        };
        self.outputs.extend(ids.into_iter().map(|id| Output::Proposal { id, result: result.clone() }));
    }

    /// Takes everything that raft wants done, after every single input (lines 2 and 3), and puts questions for reads.
    fn drain(&mut self) -> Result<(), BrokenInvariant> {
        loop {
            self.release_durable();
            let leader = self.raft.leader().filter(|_| self.raft.can_read());
            if let Some(context) = self.reads.ask(leader, self.raft.term()) {
                self.raft.read_index(&context);
            }
            match self.raft.ready() {
                Some(ready) => self.take_ready(ready)?,
                None => break,
            }
        }
        let ready = self.reads.take_ready(self.machine.applied());
        self.outputs.extend(ready.into_iter().map(Output::ReadReady));
        Ok(())
    }

    /// Tells raft what is durable, *then* lets go of what waited for it (line 6).
    fn release_durable(&mut self) {
        while let Some((number, messages)) = self.unpersisted.take_durable() {
            self.raft.on_persisted(number);
            self.send(messages);
        }
    }

    fn send(&mut self, messages: Vec<RaftMessage>) {
        self.outputs.extend(messages.into_iter().map(|message| Output::Send { to: message.to, message }));
    }

    /// One Ready, in the order of raft-rs.md, section 1.
    fn take_ready(&mut self, mut ready: Ready) -> Result<(), BrokenInvariant> {
        let number = ready.number();
        let ours = |messages: Vec<_>| messages.into_iter().filter_map(RaftMessage::from_raft).collect::<Vec<_>>();
        let (at_once, mut held) = (ours(ready.take_messages()), ours(ready.take_persisted_messages()));
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
        self.raft.log_mut().append(&entries);
        if is_written {
            self.outputs.push_back(Output::Persist(WriteSet {
                number,
                entries: entries.iter().map(our_entry).collect(),
                hard_state: (hard_state != self.written).then_some(hard_state),
                promise,
                founding: None,
                snapshot: None,
            }));
            self.written = hard_state;
        }
        let free = self.unpersisted.hold(number, is_written, promise, held);
        self.send(free);

        for read in ready.take_read_states() {
            self.reads.answered(&read.request_ctx, Index(read.index));
        }
        let committed = ready.take_committed_entries();
        self.raft.advance(ready);
        for entry in &committed {
            self.apply(entry)?;
        }
        if !committed.is_empty() {
            self.raft.on_applied(self.machine.applied());
        }
        Ok(())
    }

    /// Applies one committed entry, which must be the next: raft-rs can skip silently (line 12).
    fn apply(&mut self, entry: &::raft::eraftpb::Entry) -> Result<(), BrokenInvariant> {
        let (index, term) = (Index(entry.index), Term(entry.term));
        let applied = self.machine.applied();
        if index != applied.next() {
            return Err(BrokenInvariant { name: "contiguous", detail: format!("entry {index} follows on {applied}") });
        }
        if entry.entry_type != EntryType::EntryNormal {
            let detail = format!("entry {index} changes membership, which this build cannot do");
            return Err(BrokenInvariant { name: "one history", detail });
        }
        let outcomes = self.machine.apply(index, &entry.data);
        if self.history.len() == HISTORY_KEPT_MAX {
            self.history.pop_front();
        }
        self.history.push_back(self.machine.digests().history);
        let answers = self.proposals.applied(index, term, outcomes);
        self.outputs.extend(answers.into_iter().map(|(id, result)| Output::Proposal { id, result }));
        Ok(())
    }

    /// The replica as it is.
    pub fn status(&self) -> Status {
        Status {
            replica: self.me,
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            commit: self.raft.commit(),
            digests: self.machine.digests(),
            snapshot_index: self.raft.log().snapshot_index(),
            first_index: self.raft.log().first(),
            last_index: self.raft.last(),
            matched: self.raft.matched(),
            transferring: self.raft.is_transferring(),
        }
    }

    /// The part it plays.
    pub fn role(&self) -> Role {
        self.raft.role()
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.raft.term()
    }

    /// Whom it takes for the leader.
    pub fn leader(&self) -> Option<ReplicaId> {
        self.raft.leader()
    }

    /// May commands be proposed here now: it leads, hands nothing over, and has room for a batch of any legal length?
    pub fn can_propose(&self) -> bool {
        self.role() == Role::Leader && !self.raft.is_transferring() && self.raft.has_room(crate::pool::BATCH_BYTES_MAX)
    }

    /// Is a WriteSet given out that is not told durable yet?
    pub fn is_persisting(&self) -> bool {
        self.unpersisted.is_writing()
    }

    /// Could leadership be handed to this replica now?
    pub fn check_transfer(&self, to: ReplicaId) -> Result<(), TransferRefused> {
        self.raft.check_transfer(to)
    }

    /// The state as of the last applied entry.
    pub fn machine(&self) -> &StateMachine {
        &self.machine
    }

    /// The founders and their disks.
    pub fn founders(&self) -> &Founders {
        &self.founders
    }

    /// The history digest at an applied index, one of the newest 4 096.
    pub fn history_at(&self, index: Index) -> Option<HistoryDigest> {
        let back = self.machine.applied().0.checked_sub(index.0)?;
        let position = self.history.len().checked_sub(1 + usize::try_from(back).ok()?)?;
        self.history.get(position).copied()
    }
}
