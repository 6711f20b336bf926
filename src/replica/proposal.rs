//! Proposals and who waits for them.

use serde::{Deserialize, Serialize};

use crate::{pool::Outcome, types::ReplicaId};

/// Names a proposal at the replica that it was given to; chosen by the giver, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalId(pub u64);

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposalResult {
    /// Decided, durable on a majority, applied.
    Applied(Outcome),
    /// Not put into the log by this replica: it does not lead, or is handing leadership over.
    /// The proposal is surely not applied; it may be given to the leader.
    NotProposed {
        /// Whom to ask, if anybody is known to lead.
        leader: Option<ReplicaId>,
    },
    /// Its entry was overwritten by another leader's. This entry is surely not applied; another one with the same key may be.
    Superseded,
}
