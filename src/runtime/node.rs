//! A node from its start to its end.

use std::time::Duration;

use tokio::{task::JoinHandle, time::timeout};

use super::{
    Environment, FlowLimits, NodeHandle, Persist, PersistError,
    clock::ImplausibleClock,
    environment::NoEntropy,
    founding::found,
    handle::Desk,
    serving::Serving,
    station::{Remains, Station},
};
use crate::{
    durable::{Recovered, RecoveredState},
    pool::{CatalogItem, Limits},
    replica::{BrokenInvariant, SnapshotPolicy, founding::FoundingRefused},
    transport::Transport,
    types::ReplicaId,
};

/// How long an ended node waits for its store to finish what it is writing.
const CLOSE_STORE_MAX: Duration = Duration::from_secs(2);

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The founding voters, sorted, this node included. Only looked at until the cluster is founded.
    pub founders: Vec<ReplicaId>,
    /// Leader's heartbeat interval in ticks.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout in ticks; the longest is one tick less than twice this.
    pub election_ticks: usize,
    /// When snapshots are taken.
    pub snapshots: SnapshotPolicy,
    /// Most bytes of a snapshot's body that are sent in a second; usually [`super::SNAPSHOT_BYTES_PER_S`].
    pub snapshot_bytes_per_s: u64,
    /// How much may be under way at once.
    pub flow: FlowLimits,
    /// Replicated limits.
    pub limits: Limits,
    /// Imported into pool `default` once, by the first leader, while that pool is new.
    pub catalog: Vec<CatalogItem>,
    /// A sole voter starts whatever its wall clock says: see [`Stopped::Clock`].
    pub accept_clock: bool,
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
    /// It is the only voter, so no other clock puts its own right, and that contradicts what the cluster has seen.
    #[error(transparent)]
    Clock(#[from] ImplausibleClock),
    /// It could not start: its incarnation needs numbers that nobody else has.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
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
    /// requests wait for them within their own deadlines. To be called within a tokio runtime.
    pub fn start<T: Transport, P: Persist, E: Environment>(
        config: NodeConfig,
        recovered: Recovered,
        transport: T,
        store: P,
        environment: E,
    ) -> Self {
        let (handle, desk) = NodeHandle::new(config.flow.pending_commands_max);
        let task = tokio::spawn(run(config, recovered, transport, store, environment, desk));
        Self { handle, task }
    }
}

async fn run<T: Transport, P: Persist, E: Environment>(
    config: NodeConfig,
    recovered: Recovered,
    transport: T,
    store: P,
    environment: E,
    desk: Desk,
) -> Stopped {
    let node = recovered.identity.replica.0;
    let (station, remains) = Station::new(config, recovered.identity, transport, store, environment, desk);
    // With the station goes everybody who waits: each is told that the node ended.
    let why = match station {
        Ok(mut station) => live(&mut station, recovered.state).await,
        Err(none) => none.into(),
    };
    match &why {
        Stopped::Asked => tracing::info!(node, "stopped"),
        why => tracing::error!(node, %why, "stopped"),
    }
    let Remains { writer, alive } = remains;
    if timeout(CLOSE_STORE_MAX, writer).await.is_err() {
        tracing::warn!(node, "the store did not finish its last write in time");
    }
    drop(alive);
    why
}

/// Founds if need be, then serves.
async fn live<T: Transport, E: Environment>(station: &mut Station<T, E>, state: RecoveredState) -> Stopped {
    let log = match state {
        RecoveredState::Founded(log) => log,
        RecoveredState::Unfounded { prepared } => match found(station, prepared).await {
            Ok(log) => log,
            Err(stopped) => return stopped,
        },
    };
    match Serving::start(station, log) {
        Ok(serving) => serving.run().await,
        Err(stopped) => stopped,
    }
}
