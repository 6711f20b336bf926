//! What can be read of the pools at an applied index.
//!
//! Lists come in pages of up to [`PAGE_LEN_MAX`], in an order that never changes: pools by name, items by position. The
//! token of the next page is the last id of this one, so a list read page by page at several indexes misses nothing that
//! was there throughout, and shows nothing twice.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{
    Policy, StateMachine, invariants,
    names::{DrawSeq, ItemId, PoolId, RequestKey, Version},
    outcome::{ItemState, Outcome, Refusal},
    state::Pool,
};
use crate::types::Millis;

/// Most pools or items of a page.
pub const PAGE_LEN_MAX: u16 = 1_000;

/// Most items of a pool that is read whole: at most some 2 MiB.
pub const WHOLE_POOL_ITEMS_MAX: usize = 16_384;

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// A pool and its items, all at one index; up to [`WHOLE_POOL_ITEMS_MAX`] of them.
    Pool(PoolId),
    /// Pools, without their items, by name.
    Pools {
        /// Those after this name, whether there is a pool of it or not; from the first one if `None`.
        after: Option<PoolId>,
        /// At most so many: 1 to [`PAGE_LEN_MAX`].
        limit: u16,
    },
    /// What became of a request.
    Outcome(PoolId, RequestKey),
    /// Conservation and digests of everything, recomputed from nothing: slow on a large state.
    Verify,
    /// A pool's items, in the order of their creation, removed ones left out.
    Items {
        /// The pool.
        pool: PoolId,
        /// Those after this one, which may have been removed since; from the first one if `None`.
        after: Option<ItemId>,
        /// At most so many: 1 to [`PAGE_LEN_MAX`].
        limit: u16,
    },
}

impl Query {
    /// The first pools, as many as fit on a page.
    pub fn first_pools() -> Self {
        Self::Pools { after: None, limit: PAGE_LEN_MAX }
    }
}

/// A read's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Query::Pool`].
    Pool(PoolState),
    /// To [`Query::Pools`].
    Pools {
        /// In the order of their names.
        pools: Vec<PoolSummary>,
        /// Are there pools after these?
        more: bool,
    },
    /// To [`Query::Outcome`].
    Outcome(Remembered),
    /// To [`Query::Verify`].
    Verified(Verification),
    /// Whatever was asked: there is no such pool or item, the limit is out of range, or the answer too long.
    Refused(Refusal),
    /// To [`Query::Items`].
    Items {
        /// The pool.
        summary: PoolSummary,
        /// In the order of their creation.
        items: Vec<ItemState>,
        /// Are there items after these?
        more: bool,
    },
}

/// A pool without its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSummary {
    /// Its id.
    pub id: PoolId,
    /// Paused: draws and claims are refused.
    pub paused: bool,
    /// Its policy.
    pub policy: Policy,
    /// Draws and claims are refused whose key was made by a server.
    pub require_key: bool,
    /// Its version.
    pub version: Version,
    /// Number of the newest draw; 0 before the first.
    pub draw_seq: DrawSeq,
    /// Items, removed ones left out.
    pub items: u32,
    /// Keys of this time and earlier are refused.
    pub key_floor: Millis,
}

/// A pool and its items, in creation order, removed ones left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// The pool.
    pub summary: PoolSummary,
    /// Its items.
    pub items: Vec<ItemState>,
}

/// What is remembered of a request key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remembered {
    /// Its outcome, `replayed` set.
    Outcome(Outcome),
    /// Not applied at this index; it may still be in flight.
    NotSeen,
    /// Older than what is remembered.
    Expired {
        /// Keys of this time and earlier are forgotten.
        floor: Millis,
    },
}

/// The state checked against itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Pools looked at.
    pub pools: u64,
    /// Items looked at, removed ones too.
    pub items: u64,
    /// Request keys looked at.
    pub keys: u64,
    /// What does not hold, in words; empty when all is well.
    pub violations: Vec<String>,
}

impl StateMachine {
    /// Answers a read at the applied index.
    pub fn query(&self, query: &Query) -> Answer {
        let answer = match query {
            Query::Pool(id) => self.whole_pool(id),
            Query::Pools { after, limit } => self.list_pools(after.as_ref(), *limit),
            Query::Items { pool, after, limit } => self.list_items(pool, after.as_ref(), *limit),
            Query::Outcome(pool, key) => self.recall(pool, key).map(Answer::Outcome),
            Query::Verify => Ok(Answer::Verified(invariants::verify(self))),
        };
        answer.unwrap_or_else(Answer::Refused)
    }

    fn whole_pool(&self, id: &PoolId) -> Result<Answer, Refusal> {
        let pool = self.pool(id)?;
        if pool.items.listed_len() > WHOLE_POOL_ITEMS_MAX {
            return Err(Refusal::TooLong);
        }
        let items = pool.items.listed(0).collect();
        Ok(Answer::Pool(PoolState { summary: self.summary(id, pool), items }))
    }

    fn list_pools(&self, after: Option<&PoolId>, limit: u16) -> Result<Answer, Refusal> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let pools = self.pools.range::<PoolId, _>((from, Bound::Unbounded));
        let (pools, more) = page(pools.map(|(id, pool)| self.summary(id, pool)), limit)?;
        Ok(Answer::Pools { pools, more })
    }

    fn list_items(&self, id: &PoolId, after: Option<&ItemId>, limit: u16) -> Result<Answer, Refusal> {
        let pool = self.pool(id)?;
        let from = match after {
            Some(after) => pool.items.position(after).ok_or(Refusal::ItemNotFound)? + 1,
            None => 0,
        };
        let (items, more) = page(pool.items.listed(from), limit)?;
        Ok(Answer::Items { summary: self.summary(id, pool), items, more })
    }

    fn recall(&self, pool: &PoolId, key: &RequestKey) -> Result<Remembered, Refusal> {
        if let Some(record) = self.keys.find(pool, key) {
            let told = record.decode().expect("what was stored can be read");
            return Ok(Remembered::Outcome(self.outcome(pool, true, told)));
        }
        self.pool(pool)?;
        let floor = self.keys.floor_of_key(pool, key, self.now);
        Ok(if key.time() <= floor { Remembered::Expired { floor } } else { Remembered::NotSeen })
    }

    fn pool(&self, id: &PoolId) -> Result<&Pool, Refusal> {
        self.pools.get(id).ok_or(Refusal::PoolNotFound)
    }

    fn summary(&self, id: &PoolId, pool: &Pool) -> PoolSummary {
        PoolSummary {
            id: id.clone(),
            paused: pool.facts.paused,
            policy: pool.facts.policy.clone(),
            require_key: pool.facts.require_key,
            version: pool.facts.version,
            draw_seq: pool.facts.draw_seq,
            items: u32::try_from(pool.items.listed_len()).expect("a pool has at most 65 536 items"),
            key_floor: self.keys.floor_of_callers(id, self.now),
        }
    }
}

/// The first `limit` of a list; and whether there are more.
fn page<T>(mut list: impl Iterator<Item = T>, limit: u16) -> Result<(Vec<T>, bool), Refusal> {
    if !(1..=PAGE_LEN_MAX).contains(&limit) {
        return Err(Refusal::OutOfRange);
    }
    let first = list.by_ref().take(limit.into()).collect();
    Ok((first, list.next().is_some()))
}
