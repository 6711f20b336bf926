//! What reads must show: semantics.md, section 7.

use tombola::pool::{
    Answer, DrawSeq, ItemId, Outcome, PoolId, PoolState, PoolSummary, Query, Refusal, Remembered, RequestKey,
    Verification, Version,
};

use super::{
    Model,
    pool::{Item, Pool},
};

/// Most pools or items of a page.
const PAGE_MAX: usize = 1_000;
/// Most items of a pool that is told whole.
const WHOLE_MAX: usize = 16_384;

impl Model {
    /// What a read at the applied index must be answered.
    pub fn answer_query(&self, query: &Query) -> Answer {
        let answer = match query {
            Query::Pool(id) => self.whole_pool(id),
            Query::Pools { after, limit } => self.list_pools(after.as_ref(), *limit),
            Query::Items { pool, after, limit } => self.list_items(pool, after.as_ref(), *limit),
            Query::Outcome(pool, key) => self.recall(pool, key).map(Answer::Outcome),
            Query::Verify => Ok(Answer::Verified(Verification {
                pools: self.pools.len() as u64,
                items: self.items_len() as u64,
                keys: self.keys.len() as u64,
                violations: Vec::new(),
            })),
        };
        answer.unwrap_or_else(Answer::Refused)
    }

    /// Every pool there is.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        self.pools.keys()
    }

    fn find(&self, id: &PoolId) -> Result<&Pool, Refusal> {
        self.pools.get(id).ok_or(Refusal::PoolNotFound)
    }

    fn whole_pool(&self, id: &PoolId) -> Result<Answer, Refusal> {
        let pool = self.find(id)?;
        let items: Vec<_> = listed(pool).map(Item::state).collect();
        if items.len() > WHOLE_MAX {
            return Err(Refusal::TooLong);
        }
        Ok(Answer::Pool(PoolState { summary: self.summary(id, pool), items }))
    }

    fn list_pools(&self, after: Option<&PoolId>, limit: u16) -> Result<Answer, Refusal> {
        let all = self.pools.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        let (pools, more) = page(all.map(|(id, pool)| self.summary(id, pool)).collect(), limit)?;
        Ok(Answer::Pools { pools, more })
    }

    /// The token may be an item that was removed since.
    fn list_items(&self, id: &PoolId, after: Option<&ItemId>, limit: u16) -> Result<Answer, Refusal> {
        let pool = self.find(id)?;
        let from = match after {
            Some(after) => {
                let at = pool.items.iter().position(|item| item.id == *after);
                at.ok_or(Refusal::ItemNotFound)? + 1
            }
            None => 0,
        };
        let rest = pool.items[from..].iter().filter(|item| !item.removed).map(Item::state);
        let (items, more) = page(rest.collect(), limit)?;
        Ok(Answer::Items { summary: self.summary(id, pool), items, more })
    }

    fn recall(&self, pool: &PoolId, key: &RequestKey) -> Result<Remembered, Refusal> {
        if let Some(record) = self.keys.find(pool, key) {
            return Ok(Remembered::Outcome(Outcome { replayed: true, ..record.outcome.clone() }));
        }
        self.find(pool)?;
        let floor = self.keys.floor(pool, key.is_server_made(), self.now);
        Ok(if key.time() <= floor { Remembered::Expired { floor } } else { Remembered::NotSeen })
    }

    fn summary(&self, id: &PoolId, pool: &Pool) -> PoolSummary {
        PoolSummary {
            id: id.clone(),
            paused: pool.paused,
            policy: pool.policy.clone(),
            require_key: pool.require_key,
            version: Version(pool.version),
            draw_seq: DrawSeq(pool.draw_seq),
            items: listed(pool).count() as u32,
            key_floor: self.keys.floor(id, false, self.now),
        }
    }
}

fn listed(pool: &Pool) -> impl Iterator<Item = &Item> {
    pool.items.iter().filter(|item| !item.removed)
}

/// The first `limit` of what is left of a list, and whether there are more.
fn page<T>(mut rest: Vec<T>, limit: u16) -> Result<(Vec<T>, bool), Refusal> {
    let limit = usize::from(limit);
    if limit == 0 || limit > PAGE_MAX {
        return Err(Refusal::OutOfRange);
    }
    let more = rest.len() > limit;
    rest.truncate(limit);
    Ok((rest, more))
}
