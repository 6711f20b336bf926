//! A replica seen from outside, and what it may refuse or stop at.

use super::Replica;
use crate::{
    durable::Founders,
    pool::{Digests, StateMachine},
    types::{HistoryDigest, Index, ReplicaId, Term},
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

impl Replica {
    /// The replica as it is.
    pub fn status(&self) -> Status {
        Status {
            replica: self.me,
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            commit: self.raft.commit(),
            digests: self.applied.machine().digests(),
            snapshot_index: self.raft.log().newest().index,
            first_index: self.raft.log().truncated().next(),
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

    /// Who could take leadership over best, if this replica leads and anybody can now.
    pub fn successor(&self) -> Option<ReplicaId> {
        self.raft.successor()
    }

    /// The state as of the last applied entry.
    pub fn machine(&self) -> &StateMachine {
        self.applied.machine()
    }

    /// The founders and their disks.
    pub fn founders(&self) -> &Founders {
        &self.founders
    }

    /// The history digest at an applied index, if it is one of the newest 4 096 since the last snapshot was installed.
    pub fn history_at(&self, index: Index) -> Option<HistoryDigest> {
        self.applied.history_at(index)
    }
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
