//! One real node in this process, without a network and with a store in memory: what adapters are tested against.

use std::{
    future::pending,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tombola::{
    api::Consistency,
    durable::{Identity, Recovered, RecoveredState, WriteSet},
    pool::{Answer, CatalogItem, Limits, PoolId, Query, Stock, Weight},
    runtime::{Environment, NoEntropy, Node, NodeConfig, Persist, PersistError},
    transport::{Dropped, Event, Transport},
    types::{ClusterId, DiskId, Millis, ReplicaId, ShardId},
};

/// A node that is a whole cluster, once this catalog is in pool `default`.
pub async fn alone(catalog: &[(&str, Stock, u32)]) -> Node {
    let node = start(vec![ReplicaId(1)], catalog);
    let stocked = async {
        loop {
            let query = Query::Pool(PoolId::default_pool());
            let read = node.handle.read(query, Consistency::Linearizable, Duration::from_secs(10)).await;
            match read.expect("a cluster of one answers").answer {
                Answer::Pool(pool) if pool.items.len() == catalog.len() => return,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stocked).await.expect("the catalog comes in");
    node
}

/// A node whose only fellow founder never comes: it can do nothing, and has to say so.
pub fn without_quorum() -> Node {
    start(vec![ReplicaId(1), ReplicaId(2)], &[])
}

fn start(founders: Vec<ReplicaId>, catalog: &[(&str, Stock, u32)]) -> Node {
    let identity =
        Identity { cluster: ClusterId([7; 16]), shard: ShardId::FIRST, replica: ReplicaId(1), disk: DiskId([9; 16]) };
    let catalog = catalog.iter().map(|&(item, stock, weight)| {
        let item = item.parse().expect("the test's item ids are legal");
        CatalogItem { item, stock, weight: Weight(weight) }
    });
    let config = NodeConfig {
        founders,
        heartbeat_ticks: 1,
        election_ticks: 5,
        limits: Limits::default(),
        catalog: catalog.collect(),
    };
    let recovered = Recovered { identity, state: RecoveredState::Unfounded { prepared: None } };
    Node::start(config, recovered, Nobody, Memory, ThisMachine)
}

/// A network with nobody on it.
struct Nobody;

impl Transport for Nobody {
    fn send(&mut self, _to: ReplicaId, _frame: Bytes) -> Result<(), Dropped> {
        Err(Dropped)
    }

    async fn receive(&mut self) -> Option<Event> {
        pending().await
    }
}

/// A store that is never read again, so it keeps nothing.
struct Memory;

impl Persist for Memory {
    async fn commit(&mut self, _writes: Vec<WriteSet>) -> Result<(), PersistError> {
        Ok(())
    }
}

/// Real entropy and time, with short ticks.
struct ThisMachine;

impl Environment for ThisMachine {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        rand::fill(bytes);
        Ok(())
    }

    fn wall(&mut self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        Millis(since.as_millis().try_into().expect("it is before the year 584942417"))
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(10)
    }
}
