//! Waiting until a cluster is what a user would call ready: every node answers a linearizable read that shows the catalog.

use std::{collections::BTreeMap, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    api::Consistency,
    cli::{CliError, Exit, discovery::DevFile},
    client::{Client, ClientConfig, ClientError},
    pool::{Answer, PoolId, Query, Version},
    replica::Role,
    types::ReplicaId,
};

/// One read may take so long; the nodes may have to found a cluster and elect a leader first.
const READ_MAX: Duration = Duration::from_secs(2);
/// Between two questions to a node.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until every node of `cluster` answers, and, if it is to be stocked, pool `default` is. Gives each node's role
/// at about that moment. Waits for ever: the caller knows when to give up.
///
/// # Errors
/// The client cannot be started.
pub async fn wait(cluster: &DevFile, stocked: bool) -> Result<BTreeMap<ReplicaId, Role>, CliError> {
    let config = ClientConfig {
        endpoints: cluster.nodes.iter().map(|node| node.quic.clone()).collect(),
        ca: cluster.ca.clone(),
        cert: cluster.cert.clone(),
        key: cluster.key.clone(),
        timeout: READ_MAX,
        attempt_timeout: READ_MAX,
    };
    let client = Client::connect(&config)
        .map_err(|error: ClientError| CliError::new(Exit::Other, error.code(), error.to_string()))?;
    let mut waiting = JoinSet::new();
    for (endpoint, node) in cluster.nodes.iter().enumerate() {
        let (client, id) = (client.clone(), ReplicaId(node.id));
        waiting.spawn(async move {
            loop {
                if let Some(role) = role_when_ready(&client, endpoint, stocked).await {
                    return (id, role);
                }
                sleep(PAUSE).await;
            }
        });
    }
    let mut roles = BTreeMap::new();
    while let Some(answered) = waiting.join_next().await {
        let (id, role) = answered.map_err(|error| CliError::new(Exit::Other, "DEFECT", error.to_string()))?;
        roles.insert(id, role);
    }
    client.close().await;
    Ok(roles)
}

async fn role_when_ready(client: &Client, endpoint: usize, stocked: bool) -> Option<Role> {
    let read = client.read_at(endpoint, Query::first_pools(), Consistency::Linearizable).await.ok()?;
    let Answer::Pools { pools, .. } = read.value.answer else { return None };
    let default = pools.iter().find(|pool| pool.id == PoolId::default_pool())?;
    if stocked && default.version == Version::default() {
        return None;
    }
    Some(client.status_of(endpoint).await.ok()?.value.replica.role)
}

/// A role in a table.
pub fn in_words(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate | Role::PreCandidate => "candidate",
    }
}
