//! Lists that come in pages, read to their end.
//!
//! Each page is a read of its own, so a list is of several moments if it has several pages: what was there throughout is
//! in it once, and the indexes of the first and the last page say how far they lie apart.

use super::{CliError, state};
use crate::{
    api::{Consistency, Read},
    client::Client,
    pool::{Answer, PAGE_LEN_MAX, PoolId, PoolState, PoolSummary, Query},
    types::{Index, Millis},
};

/// Something that was read in one page or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T> {
    /// What was read.
    pub value: T,
    /// The index of the first page.
    pub first: Index,
    /// The index of the last one.
    pub last: Index,
    /// Cluster time at the last one.
    pub now: Millis,
}

impl<T> Paged<T> {
    /// One page is all.
    pub fn whole(value: T, index: Index, now: Millis) -> Self {
        Self { value, first: index, last: index, now }
    }
}

/// Every pool, linearizably.
pub async fn pools(client: &Client) -> Result<Paged<Vec<PoolSummary>>, CliError> {
    let mut all: Option<Paged<Vec<PoolSummary>>> = None;
    loop {
        let after = all.as_ref().and_then(|all| Some(all.value.last()?.id.clone()));
        let query = Query::Pools { after, limit: PAGE_LEN_MAX };
        let read = state::read(client, query, Consistency::Linearizable).await?;
        let Read { index, now, answer: Answer::Pools { pools, more } } = read else {
            return Err(state::unexpected(&read.answer));
        };
        let paged = match all.take() {
            None => Paged::whole(pools, index, now),
            Some(Paged { mut value, first, .. }) => {
                value.extend(pools);
                Paged { value, first, last: index, now }
            }
        };
        if !more {
            return Ok(paged);
        }
        all = Some(paged);
    }
}

/// A pool and all of its items. The pool is as of the last page.
pub async fn items(client: &Client, pool: &PoolId, consistency: Consistency) -> Result<Paged<PoolState>, CliError> {
    let mut all: Option<Paged<PoolState>> = None;
    loop {
        let after = all.as_ref().and_then(|all| Some(all.value.items.last()?.id.clone()));
        let query = Query::Items { pool: pool.clone(), after, limit: PAGE_LEN_MAX };
        let read = state::read(client, query, consistency).await?;
        let Read { index, now, answer: Answer::Items { summary, items, more } } = read else {
            return Err(state::unexpected(&read.answer));
        };
        let page = PoolState { summary, items };
        let paged = match all.take() {
            None => Paged::whole(page, index, now),
            Some(Paged { mut value, first, .. }) => {
                value.summary = page.summary;
                value.items.extend(page.items);
                Paged { value, first, last: index, now }
            }
        };
        if !more {
            return Ok(paged);
        }
        all = Some(paged);
    }
}
