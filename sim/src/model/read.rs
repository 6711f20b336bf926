//! What reads must show: semantics.md, section 7.

use tombola::pool::{
    Answer, Outcome, PoolId, PoolState, PoolSummary, Query, Refusal, Remembered, Verification, Version,
};

use super::{
    Model,
    pool::{Item, Pool},
};

impl Model {
    /// What a read at the applied index must be answered.
    pub fn answer_query(&self, query: &Query) -> Answer {
        match query {
            Query::Pool(id) => self.pools.get(id).map_or(Answer::Refused(Refusal::PoolNotFound), |pool| {
                let items = listed(pool).map(Item::state).collect();
                Answer::Pool(PoolState { summary: self.summary(id, pool), items })
            }),
            Query::Pools => Answer::Pools(self.pools.iter().map(|(id, pool)| self.summary(id, pool)).collect()),
            Query::Outcome(pool, key) => {
                if let Some(record) = self.keys.find(pool, key) {
                    let outcome = Outcome { replayed: true, ..record.outcome.clone() };
                    return Answer::Outcome(Remembered::Outcome(outcome));
                }
                if !self.pools.contains_key(pool) {
                    return Answer::Refused(Refusal::PoolNotFound);
                }
                let floor = self.keys.floor(pool, key.is_server_made(), self.now);
                let forgotten = key.time() <= floor;
                Answer::Outcome(if forgotten { Remembered::Expired { floor } } else { Remembered::NotSeen })
            }
            Query::Verify => Answer::Verified(Verification {
                pools: self.pools.len() as u64,
                items: self.items_len() as u64,
                keys: self.keys.len() as u64,
                violations: Vec::new(),
            }),
        }
    }

    /// Every pool there is.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        self.pools.keys()
    }

    fn summary(&self, id: &PoolId, pool: &Pool) -> PoolSummary {
        PoolSummary {
            id: id.clone(),
            paused: pool.paused,
            policy: pool.policy.clone(),
            version: Version(pool.version),
            draw_seq: tombola::pool::DrawSeq(pool.draw_seq),
            items: listed(pool).count() as u32,
            key_floor: self.keys.floor(id, false, self.now),
        }
    }
}

fn listed(pool: &Pool) -> impl Iterator<Item = &Item> {
    pool.items.iter().filter(|item| !item.removed)
}
