//! The one loop.

use tokio::task::JoinHandle;

use super::{Environment, NodeHandle, Persist, PersistError};
use crate::{
    durable::Recovered,
    pool::{CatalogItem, Limits},
    replica::{BrokenInvariant, founding::FoundingRefused},
    transport::Transport,
    types::ReplicaId,
};

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The founding voters, sorted, this node included. Only looked at until the cluster is founded.
    pub founders: Vec<ReplicaId>,
    /// Leader's heartbeat interval in ticks.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout in ticks; the longest is one tick less than twice this.
    pub election_ticks: usize,
    /// Replicated limits.
    pub limits: Limits,
    /// Imported into pool `default` once, by the first leader, while that pool is new.
    pub catalog: Vec<CatalogItem>,
}

/// Why a node ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It was asked to, and has answered what it had proposed.
    #[error("stopped")]
    Asked,
    /// It cannot be a founder.
    #[error(transparent)]
    Founding(#[from] FoundingRefused),
    /// An invariant broke.
    #[error(transparent)]
    Invariant(#[from] BrokenInvariant),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] PersistError),
}

/// A node that runs.
pub struct Node {
    /// Its API.
    pub handle: NodeHandle,
    /// Ends when the node does, and says why.
    pub task: JoinHandle<Stopped>,
}

impl Node {
    /// Starts a node on what its store held. Returns at once: founding, election and catching up go on in the task, and
    /// requests wait for them within their own deadlines.
    pub fn start<T: Transport, P: Persist, E: Environment>(
        _config: NodeConfig,
        _recovered: Recovered,
        _transport: T,
        _store: P,
        _environment: E,
    ) -> Self {
        todo!()
    }
}
