//! The node as its callers see it: an async API, cheap to clone.

use std::time::Duration;

use crate::{
    api::{Answered, Consistency, Failure, NodeStatus, Read, Request},
    pool::{Action, Actor, ItemId, PoolId, Query, RequestKey, Stock, Weight},
    types::{HistoryDigest, Index, ReplicaId},
};

/// The async API of a running node.
#[derive(Clone)]
pub struct NodeHandle {}

impl NodeHandle {
    /// Has a mutation decided; answers within `timeout`.
    pub async fn submit(&self, _request: Request, _timeout: Duration) -> Result<Answered, Failure> {
        todo!()
    }
    /// Draws `count` times from a pool.
    pub async fn draw(
        &self,
        pool: PoolId,
        key: Option<RequestKey>,
        count: u16,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        self.submit(Request { pool, key, actor: Actor::default(), action: Action::Draw { count } }, timeout).await
    }
    /// Takes `quantity` units of a named item.
    pub async fn claim(
        &self,
        pool: PoolId,
        key: Option<RequestKey>,
        item: ItemId,
        quantity: u32,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        self.submit(Request { pool, key, actor: Actor::default(), action: Action::Claim { item, quantity } }, timeout)
            .await
    }
    /// Sets an existing item's stock and weight.
    pub async fn update(
        &self,
        pool: PoolId,
        key: Option<RequestKey>,
        item: ItemId,
        stock: Stock,
        weight: Weight,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        let action = Action::UpdateItem { item, stock, weight, create: false };
        self.submit(Request { pool, key, actor: Actor::default(), action }, timeout).await
    }
    /// Reads.
    pub async fn read(&self, _query: Query, _consistency: Consistency, _timeout: Duration) -> Result<Read, Failure> {
        todo!()
    }
    /// The node as it is.
    pub async fn status(&self) -> Result<NodeStatus, Failure> {
        todo!()
    }
    /// The history digest at a recent index that this node has applied.
    pub async fn history_at(&self, _index: Index) -> Result<Option<HistoryDigest>, Failure> {
        todo!()
    }
    /// Hands leadership to another voter, and waits until it leads; asks the leader to if this node is not it.
    pub async fn transfer(&self, _to: ReplicaId, _timeout: Duration) -> Result<(), Failure> {
        todo!()
    }
    /// Stops accepting, answers what was proposed, and ends the node.
    pub async fn stop(&self) {}
}
