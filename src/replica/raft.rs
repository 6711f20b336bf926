//! The one place that touches raft-rs's `RawNode` and `Ready`.
//!
//! Every call that may reset the election timeout goes through [`Raft::call`], which overrides it afterwards.

use raft::{Config as RaftConfig, ProgressState, RawNode, Ready, SnapshotStatus, StateRole, eraftpb::Message};

use super::{BrokenInvariant, Config, Role, TransferRefused, election, log::Log, logger::logger};
use crate::{
    durable::{HardState, Identity, RecoveredLog},
    hooks,
    types::{Index, ReplicaId, Term},
};

/// Most bytes applied in one turn.
const APPLY_BYTES_MAX: u64 = 4 << 20;
/// A voter this many entries behind, or more, is not handed leadership.
const TRANSFER_LAG_MAX: u64 = 512;

/// raft-rs, with the election timeout overridden.
pub(super) struct Raft {
    node: RawNode<Log>,
    me: ReplicaId,
    election_seed: u64,
    election_ticks: usize,
    uncommitted_bytes_max: u64,
    /// What was committed when, as leader, it last told its peers.
    announced: Index,
}

impl Raft {
    /// Goes on from what the store held; `applied` is its snapshot's index.
    pub fn new(config: &Config, identity: &Identity, recovered: &RecoveredLog) -> Result<Self, BrokenInvariant> {
        let raft_config = RaftConfig {
            id: identity.replica.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: recovered.snapshot.meta.index.0,
            max_size_per_msg: config.message_bytes_max,
            max_inflight_msgs: config.messages_max,
            // It wants no less; `has_room` is asked before.
            max_uncommitted_size: config.uncommitted_bytes_max.max(config.message_bytes_max),
            max_committed_size_per_ready: APPLY_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            // The entries behind a commit tell of it, or else `announce` does: told by itself, each would take a message to
            // every peer, and one back, while somebody waits for the answer.
            skip_bcast_commit: true,
            ..RaftConfig::default()
        };
        let node = RawNode::new(&raft_config, Log::new(recovered), &logger(identity.replica))
            .map_err(|error| BrokenInvariant { name: "durable", detail: format!("raft cannot start: {error}") })?;
        let mut raft = Self {
            node,
            me: identity.replica,
            election_seed: config.election_seed,
            election_ticks: config.election_ticks,
            uncommitted_bytes_max: config.uncommitted_bytes_max,
            announced: Index(0),
        };
        raft.override_election_timeout();
        Ok(raft)
    }

    /// Calls into raft-rs, then overrides the election timeout, whether it was reset or not.
    fn call<T>(&mut self, with: impl FnOnce(&mut RawNode<Log>) -> T) -> T {
        let result = with(&mut self.node);
        self.override_election_timeout();
        result
    }

    fn override_election_timeout(&mut self) {
        let ticks = election::timeout_ticks(self.election_seed, self.me, self.term(), self.role(), self.election_ticks);
        self.node.raft.set_randomized_election_timeout(ticks);
    }

    /// One tick. A sole voter with entries on their way to the disk waits: it would lead at once, and raft-rs panics at a
    /// new leader whose log is not persisted (line 8).
    pub fn tick(&mut self) {
        let raft = &self.node.raft;
        let sole_voter = raft.prs().is_singleton() && raft.state != StateRole::Leader;
        if !(sole_voter && raft.raft_log.persisted < raft.raft_log.last_index()) {
            self.call(|node| node.tick());
            // Last: should this tick make it a follower, nothing that it said as leader may wait to be sent (line 3).
            self.announce();
        }
    }

    /// A peer's message, through the gate. An error is raft-rs's way to ignore one.
    pub fn step(&mut self, message: Message) {
        if let Err(error) = self.call(|node| node.step(message)) {
            tracing::debug!(node = self.me.0, %error, "raft ignored a message");
        }
    }

    /// Proposes an entry; its index, or `None` if raft dropped it. Only a leader may be asked to: raft-rs forwards a
    /// follower's proposals, which would hide what became of them.
    pub fn propose(&mut self, data: Vec<u8>) -> Option<Index> {
        assert_eq!(self.role(), Role::Leader, "only a leader proposes");
        self.call(|node| node.propose(Vec::new(), data)).ok()?;
        self.announced = self.commit();
        Some(self.last())
    }

    /// Tells peers what is committed, if no entries have told them.
    fn announce(&mut self) {
        if self.role() == Role::Leader && self.commit() > self.announced {
            self.announced = self.commit();
            self.call(|node| node.raft.bcast_append());
        }
    }

    /// Asks at which index reads may be served now.
    pub fn read_index(&mut self, context: &[u8]) {
        self.call(|node| node.read_index(context.to_vec()));
    }

    /// Starts to hand leadership over.
    pub fn transfer(&mut self, to: ReplicaId) {
        self.call(|node| node.transfer_leader(to.0));
    }

    /// Leads no more, in the same term: its vote and its log stay what they are. Before a tick, with nothing to be sent: what
    /// it said as leader must not leave as a follower's (line 3).
    pub fn step_down(&mut self) {
        let term = self.node.raft.term;
        self.call(|node| node.raft.become_follower(term, 0));
    }

    /// What was sent to a peer was dropped.
    pub fn report_unreachable(&mut self, peer: ReplicaId) {
        self.call(|node| node.report_unreachable(peer.0));
    }

    /// The snapshot that was sent to a peer is there, or will not be; once for each (line 42).
    pub fn report_snapshot(&mut self, peer: ReplicaId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.call(|node| node.report_snapshot(peer.0, status));
    }

    /// Does raft want the snapshot restored that it was just handed? Otherwise it ignored it.
    pub fn is_restoring(&self) -> bool {
        self.node.snap().is_some()
    }

    /// What is to be done, if anything. To be followed by [`Raft::advance`] before any other call.
    pub fn ready(&mut self) -> Option<Ready> {
        if hooks::is_planted("m04") {
            self.commit_at_half();
        }
        self.node.has_ready().then(|| self.node.ready())
    }

    /// A planted bug: what half of the voters have is committed.
    fn commit_at_half(&mut self) {
        let matched = self.matched();
        let mut indexes: Vec<u64> = matched.iter().map(|(_, index)| index.0).collect();
        indexes.sort_unstable();
        if let Some(index) = indexes.get(indexes.len() - indexes.len() / 2) {
            let raft = &mut self.node.raft;
            let term = raft.term;
            raft.raft_log.maybe_commit(*index, term);
        }
    }

    /// The Ready was taken: its entries are in the mirror.
    pub fn advance(&mut self, ready: Ready) {
        self.call(|node| node.advance_append_async(ready));
    }

    /// Everything up to this Ready's number is durable.
    pub fn on_persisted(&mut self, number: u64) {
        self.call(|node| node.on_persist_ready(number));
    }

    /// Entries up to here are applied.
    pub fn on_applied(&mut self, index: Index) {
        self.call(|node| node.advance_apply_to(index.0));
    }

    /// The mirror.
    pub fn log(&self) -> &Log {
        self.node.store()
    }

    /// The mirror, to append what a Ready brings.
    pub fn log_mut(&mut self) -> &mut Log {
        self.node.mut_store()
    }

    /// The part it plays.
    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// Its term.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Whom it takes for the leader.
    pub fn leader(&self) -> Option<ReplicaId> {
        Some(ReplicaId(self.node.raft.leader_id)).filter(|leader| leader.0 != 0)
    }

    /// What it promises.
    pub fn hard_state(&self) -> HardState {
        let raft = &self.node.raft;
        HardState { term: Term(raft.term), vote: ReplicaId(raft.vote), commit: Index(raft.raft_log.committed) }
    }

    /// Known to be committed.
    pub fn commit(&self) -> Index {
        Index(self.node.raft.raft_log.committed)
    }

    /// The last entry, durable or not.
    pub fn last(&self) -> Index {
        Index(self.node.raft.raft_log.last_index())
    }

    /// Would a question for a read index be answered? A leader that has not committed in its term drops it (line 36).
    pub fn can_read(&self) -> bool {
        self.role() != Role::Leader || self.node.raft.commit_to_current_term()
    }

    /// Leadership is being handed over.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Is there room for another batch of this length? Like raft-rs, for one of any length when nothing is uncommitted.
    pub fn has_room(&self, bytes: usize) -> bool {
        let uncommitted = self.node.raft.uncommitted_size();
        uncommitted == 0 || (uncommitted + bytes) as u64 <= self.uncommitted_bytes_max
    }

    /// On the leader: how far each voter's log is known to match.
    pub fn matched(&self) -> Vec<(ReplicaId, Index)> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let progress = self.node.raft.prs().iter();
        let mut matched: Vec<_> = progress.map(|(id, peer)| (ReplicaId(*id), Index(peer.matched))).collect();
        matched.sort_unstable();
        matched
    }

    /// On the leader: how far the log of the slowest peer that was heard of lately is known to match.
    pub fn slowest(&self) -> Option<Index> {
        let peers = self.node.raft.prs().iter().filter(|(id, peer)| ReplicaId(**id) != self.me && peer.recent_active);
        let slowest = peers.map(|(_, peer)| Index(peer.matched)).min();
        slowest.filter(|_| self.role() == Role::Leader)
    }

    /// Who votes, as of the applied index; sorted.
    pub fn voters(&self) -> Vec<ReplicaId> {
        let voters = self.node.raft.prs().conf().voters();
        let mut voters: Vec<_> = voters.ids().iter().map(ReplicaId).collect();
        voters.sort_unstable();
        voters
    }

    /// On the leader: who would lead best, the voter with the longest log that can take over now.
    pub fn successor(&self) -> Option<ReplicaId> {
        let matched = self.matched().into_iter().filter(|(voter, _)| self.check_transfer(*voter).is_ok());
        matched.max_by_key(|(_, index)| *index).map(|(voter, _)| voter)
    }

    /// Could leadership be handed to this replica (line 54)?
    pub fn check_transfer(&self, to: ReplicaId) -> Result<(), TransferRefused> {
        let raft = &self.node.raft;
        if self.role() != Role::Leader {
            return Err(TransferRefused::NotLeader);
        }
        if self.is_transferring() {
            return Err(TransferRefused::UnderWay);
        }
        let peer = raft.prs().get(to.0).filter(|_| to != self.me).ok_or(TransferRefused::NotVoter(to))?;
        let lag = raft.raft_log.last_index().saturating_sub(peer.matched);
        let keeps_up = peer.recent_active && peer.state == ProgressState::Replicate && lag < TRANSFER_LAG_MAX;
        if keeps_up { Ok(()) } else { Err(TransferRefused::Behind(to)) }
    }
}
