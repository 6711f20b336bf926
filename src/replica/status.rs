//! A replica seen from outside, and what it may refuse or stop at.

use crate::{
    pool::Digests,
    types::{Index, ReplicaId, Term},
};

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
