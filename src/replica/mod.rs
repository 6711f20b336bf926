//! The sans-I/O core.

pub mod founding;
mod input;
mod message;
mod output;
mod proposal;
mod read;

pub use input::Input;
pub use message::{RaftBody, RaftMessage};
pub use output::Output;
pub use proposal::{ProposalId, ProposalResult};
pub use read::ReadId;

use crate::{
    durable::{Identity, RecoveredLog},
    pool::{Digests, Limits, StateMachine},
    types::{Genesis, HistoryDigest, Index, ReplicaId, Term},
};

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
    /// Replicated limits of the pools.
    pub limits: Limits,
}

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
pub struct Replica {}

impl Replica {
    /// A replica that goes on from what its store held.
    pub fn new(_config: Config, _identity: Identity, _recovered: RecoveredLog) -> Result<Self, BrokenInvariant> {
        todo!()
    }
    /// Takes one input. An error is final: nothing but stopping is right after it.
    pub fn handle(&mut self, _input: Input) -> Result<(), BrokenInvariant> {
        todo!()
    }
    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// The replica as it is.
    pub fn status(&self) -> Status {
        todo!()
    }
    /// Its part; cheap.
    pub fn role(&self) -> Role {
        todo!()
    }
    /// Its term; cheap.
    pub fn term(&self) -> Term {
        todo!()
    }
    /// Whom it takes for the leader; cheap.
    pub fn leader(&self) -> Option<ReplicaId> {
        todo!()
    }
    /// May commands be proposed here now: it leads, hands nothing over, and has room?
    pub fn can_propose(&self) -> bool {
        todo!()
    }
    /// Is a WriteSet given out that is not yet told durable?
    pub fn is_persisting(&self) -> bool {
        todo!()
    }
    /// Could leadership be handed to this replica?
    pub fn check_transfer(&self, _to: ReplicaId) -> Result<(), TransferRefused> {
        todo!()
    }
    /// The state, for reads.
    pub fn machine(&self) -> &StateMachine {
        todo!()
    }
    /// The cluster's founding hash.
    pub fn genesis(&self) -> Genesis {
        todo!()
    }
    /// The founders and their disks.
    pub fn founders(&self) -> &crate::durable::Founders {
        todo!()
    }
    /// The history digest at a recent index (the last 4 096 are kept).
    pub fn history_at(&self, _index: Index) -> Option<HistoryDigest> {
        todo!()
    }
}
