//! One real node in this process, without a network and with a store in memory: what adapters are tested against.

mod nobody;

use std::time::Duration;

use bytes::Bytes;
use tombola::{
    api::Consistency,
    durable::{Identity, Recovered, RecoveredState, Staging, WriteSet},
    pool::{Answer, CatalogItem, Limits, PoolId, Query, Stock, Weight},
    runtime::{Node, NodeConfig, Persist, PersistError},
    system::SystemEnvironment,
    types::{ClusterId, DiskId, Index, ReplicaId, ShardId},
};

use nobody::Nobody;

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
        snapshots: Default::default(),
        snapshot_bytes_per_s: tombola::runtime::SNAPSHOT_BYTES_PER_S,
        flow: tombola::runtime::FlowLimits::default(),
        limits: Limits::default(),
        catalog: catalog.collect(),
        accept_clock: false,
    };
    let recovered = Recovered { identity, state: RecoveredState::Unfounded { prepared: None } };
    Node::start(config, recovered, Nobody, Memory, SystemEnvironment::new(Duration::from_millis(10)))
}

/// A store that is never read again, so it keeps nothing.
struct Memory;

impl Persist for Memory {
    async fn commit(&mut self, _writes: Vec<WriteSet>) -> Result<(), PersistError> {
        Ok(())
    }

    async fn begin(&mut self, _staging: Staging) -> Result<u32, PersistError> {
        Ok(0)
    }

    async fn stage(&mut self, _number: u32, _chunk: Bytes) -> Result<(), PersistError> {
        Ok(())
    }

    async fn chunk(&mut self, _snapshot: Index, _number: u32) -> Result<Option<Bytes>, PersistError> {
        Ok(None)
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        Ok(false)
    }
}
