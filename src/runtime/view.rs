//! Who leads, as this node sees it.

use crate::{
    replica::{Replica, Role},
    types::{ReplicaId, Term},
};

/// Whom to bring requests to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leader {
    /// Nobody is known to lead.
    #[default]
    Unknown,
    /// This node leads.
    Here,
    /// A peer does.
    Peer(ReplicaId),
}

/// Who leads in which term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The newest term this node has seen.
    pub term: Term,
    /// Who leads in it.
    pub leader: Leader,
}

impl View {
    /// What a replica sees now; `me` is itself.
    pub fn of(replica: &Replica, me: ReplicaId) -> Self {
        let leader = match replica.leader() {
            _ if replica.role() == Role::Leader => Leader::Here,
            Some(peer) if peer != me => Leader::Peer(peer),
            _ => Leader::Unknown,
        };
        Self { term: replica.term(), leader }
    }
}
