//! How replicas that have never met found a cluster. Sans-I/O.

use serde::{Deserialize, Serialize};

use crate::{
    durable::{Founders, FoundingWrite, Identity, Snapshot},
    pool::Limits,
    types::{DiskId, ReplicaId},
};

/// What founders say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FoundingMessage {
    /// I am not founded; this is my disk. Sent every few ticks.
    Hello { disk: DiskId },
    /// I am bound to found with these founders, durably, and no others. Answers Hello as well.
    Prepared { founders: Founders },
    /// I am founded, with these founders. Answers both of the others.
    Founded { founders: Founders },
}

/// What founding wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingOutput {
    /// Send to a peer; may be lost.
    Send { to: ReplicaId, message: FoundingMessage },
    /// Make durable; then call [`Founding::handle_persisted`].
    Persist(FoundingWrite),
}

/// Why this node can never be a founder. It stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingRefused {
    /// The cluster knows this replica id with another disk.
    #[error(
        "replica {peer} knows replica {replica} with another disk: an emptied founder cannot come back under its old id; replace it under a new one"
    )]
    OtherDisk { replica: ReplicaId, peer: ReplicaId },
    /// Founders do not agree on who they are.
    #[error(
        "replica {peer} is founding another cluster: the lists of nodes, or a disk, differ; nothing has been decided yet: correct the configuration, empty the data directories of all founders and start again"
    )]
    OtherFounders { peer: ReplicaId },
}

/// A founder until it has founded.
#[derive(Debug)]
pub struct Founding {}

impl Founding {
    /// `founders` are the configured voters, this one included; `prepared` is what the store holds.
    pub fn new(
        _identity: Identity,
        _founders: &[ReplicaId],
        _prepared: Option<Founders>,
        _limits: Limits,
    ) -> Result<Self, FoundingRefused> {
        todo!()
    }
    /// One tick: says hello again now and then.
    pub fn handle_tick(&mut self) {
        todo!()
    }
    /// A peer said something.
    pub fn handle_message(&mut self, _from: ReplicaId, _message: FoundingMessage) -> Result<(), FoundingRefused> {
        todo!()
    }
    /// The last [`FoundingOutput::Persist`] is durable.
    pub fn handle_persisted(&mut self) {
        todo!()
    }
    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<FoundingOutput> {
        todo!()
    }
    /// Founded, durably: the founding snapshot.
    pub fn founded(&self) -> Option<&Snapshot> {
        todo!()
    }
    /// Which founders are still waited for.
    pub fn missing(&self) -> Vec<ReplicaId> {
        todo!()
    }
}

/// How a founded node answers a founder that has not heard yet.
pub fn answer(founders: &Founders, _message: &FoundingMessage) -> Option<FoundingMessage> {
    Some(FoundingMessage::Founded { founders: founders.clone() })
}

/// The founding snapshot: a pure function of the founders.
pub fn founding_snapshot(_founders: &Founders, _limits: Limits) -> Snapshot {
    todo!()
}
