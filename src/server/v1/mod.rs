//! The services of package `tombola.v1`: unary, keyed, hence safe to retry.
//!
//! Each handler reads a message into the words of [`crate::pool`], submits or reads, and writes the answer back; the
//! translations are in `words`. The answer to a mutation is written by one function, `words::found`, for the call
//! itself and for GetOutcome alike, so that an outcome asked for later reads exactly as it was told.

mod cluster;
mod words;

use std::time::Duration;

use tonic::{Request, Response, Status};

pub use cluster::Cluster;
pub(super) use words::receipt;

use self::words::{found, next_page, page_after, page_len, pool_id, request_key};
use super::{
    caller, deadline,
    proto::v1::{
        AdjustItemRequest, AdjustItemResponse, ClaimRequest, ClaimResponse, CreatePoolRequest, DrawRequest,
        DrawResponse, Expired, GetOutcomeRequest, GetOutcomeResponse, GetPoolRequest, GetPoolResponse,
        ImportCatalogRequest, ImportCatalogResponse, ItemResponse, ListItemsRequest, ListItemsResponse,
        ListPoolsRequest, ListPoolsResponse, NotSeen, PausePoolRequest, PoolResponse, RemoveItemRequest,
        RemoveItemResponse, ResumePoolRequest, SetItemRequest, UpdateItemRequest, UpdatePoolRequest,
        get_outcome_response::Found, reward_pool_server,
    },
    status,
};
use crate::{
    api::{Answered, Consistency, Read, Request as Mutation},
    pool::{
        Action, Actor, Answer, DRAWS_PER_COMMAND_MAX, DrawSeq, ItemState, PAGE_LEN_MAX, PoolSummary, Query, Refusal,
        Remembered, Stock, Version, Weight,
    },
    runtime::NodeHandle,
};

/// What a request says beside its message.
struct Asked {
    actor: Actor,
    timeout: Duration,
}

impl Asked {
    fn split<T>(request: Request<T>) -> (Self, T) {
        let actor = caller::actor_of(&request);
        let timeout = deadline::of_metadata(request.metadata());
        (Self { actor, timeout }, request.into_inner())
    }
}

/// `tombola.v1.RewardPool`.
pub struct RewardPool {
    node: NodeHandle,
}

impl RewardPool {
    /// The service on a node.
    pub fn new(node: NodeHandle) -> Self {
        Self { node }
    }

    /// Has a mutation decided. A refusal is a status here; an effect comes back as the message that it is told in.
    async fn submit(&self, asked: Asked, pool: String, key: &str, action: Action) -> Result<Found, Status> {
        let pool = pool_id(pool)?;
        let key = (!key.is_empty()).then(|| request_key(key)).transpose()?;
        let mutation = Mutation { pool, key, actor: asked.actor, action };
        let answered = self.node.submit(mutation, asked.timeout).await;
        let answered = answered.map_err(|failure| status::of_failure(&failure, key))?;
        match &answered.outcome.result {
            Ok(_) => Ok(found(&answered)),
            Err(refusal) => Err(status::of_refusal(refusal, &receipt(&answered))),
        }
    }

    async fn read(&self, asked: Asked, query: Query, stale: bool) -> Result<Read, Status> {
        let consistency = if stale { Consistency::Stale } else { Consistency::Linearizable };
        let read = self.node.read(query, consistency, asked.timeout).await;
        read.map_err(|failure| status::of_failure(&failure, None))
    }

    async fn page(
        &self,
        asked: Asked,
        pool: String,
        stale: bool,
        limit: u16,
        page_token: String,
    ) -> Result<Page, Status> {
        let query = Query::Items { pool: pool_id(pool)?, after: page_after(page_token)?, limit };
        let read = self.read(asked, query, stale).await?;
        match read.answer {
            Answer::Items { summary, items, more } => {
                let next = next_page(items.last().map(|item| item.id.as_str()), more);
                Ok(Page { index: read.index.0, now_ms: read.now.0, summary, items, next })
            }
            Answer::Refused(Refusal::ItemNotFound) => {
                Err(status::malformed("page_token is of no item of the pool: start over"))
            }
            Answer::Refused(refusal) => Err(status::of_read_refusal(&refusal)),
            _ => Err(status::unexpected_answer()),
        }
    }
}

/// Pools or items on a page, if the caller does not say.
const LISTED_DEFAULT: u16 = 100;

/// A page of a pool's items.
struct Page {
    index: u64,
    now_ms: u64,
    summary: PoolSummary,
    items: Vec<ItemState>,
    /// The next page's token.
    next: String,
}

/// Takes the message that `$kind` of [`Found`] holds.
macro_rules! expect {
    ($found:expr, $kind:ident) => {
        match $found {
            Found::$kind(message) => Ok(Response::new(message)),
            _ => Err(status::unexpected_answer()),
        }
    };
}

/// A number that must be in 1 to `max`. Only for what no type of the node's could hold otherwise: the node checks the
/// rest.
fn in_range<N: TryFrom<u32>>(name: &str, value: u32, max: u32) -> Result<N, Status> {
    let legal = (1..=max).contains(&value).then(|| N::try_from(value).ok()).flatten();
    legal.ok_or_else(|| status::malformed(format!("{name} is {value}: it must be 1 to {max}")))
}

#[tonic::async_trait]
impl reward_pool_server::RewardPool for RewardPool {
    async fn draw(&self, request: Request<DrawRequest>) -> Result<Response<DrawResponse>, Status> {
        let (asked, DrawRequest { pool, key, count }) = Asked::split(request);
        let count = in_range("count", count.max(1), DRAWS_PER_COMMAND_MAX.into())?;
        expect!(self.submit(asked, pool, &key, Action::Draw { count }).await?, Draw)
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimResponse>, Status> {
        let (asked, ClaimRequest { pool, key, item_id, quantity }) = Asked::split(request);
        let item = item_id.try_into().map_err(status::of_invalid_name)?;
        expect!(self.submit(asked, pool, &key, Action::Claim { item, quantity }).await?, Claim)
    }

    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<GetPoolResponse>, Status> {
        let (asked, GetPoolRequest { pool, stale, page_size, page_token }) = Asked::split(request);
        let limit = page_len(page_size, PAGE_LEN_MAX)?;
        let Page { index, now_ms, summary, items, next } = self.page(asked, pool, stale, limit, page_token).await?;
        let (pool, items) = (Some(words::pool(&summary)), items.iter().map(words::item).collect());
        Ok(Response::new(GetPoolResponse { index, now_ms, pool, items, next_page_token: next }))
    }

    async fn list_items(&self, request: Request<ListItemsRequest>) -> Result<Response<ListItemsResponse>, Status> {
        let (asked, ListItemsRequest { pool, stale, page_size, page_token }) = Asked::split(request);
        let limit = page_len(page_size, LISTED_DEFAULT)?;
        let Page { index, now_ms, items, next, .. } = self.page(asked, pool, stale, limit, page_token).await?;
        let items = items.iter().map(words::item).collect();
        Ok(Response::new(ListItemsResponse { index, now_ms, items, next_page_token: next }))
    }

    async fn list_pools(&self, request: Request<ListPoolsRequest>) -> Result<Response<ListPoolsResponse>, Status> {
        let (asked, ListPoolsRequest { stale, page_size, page_token }) = Asked::split(request);
        let (after, limit) = (page_after(page_token)?, page_len(page_size, LISTED_DEFAULT)?);
        let read = self.read(asked, Query::Pools { after, limit }, stale).await?;
        let Answer::Pools { pools, more } = read.answer else { return Err(status::unexpected_answer()) };
        let next_page_token = next_page(pools.last().map(|pool| pool.id.as_str()), more);
        let pools = pools.iter().map(words::pool).collect();
        Ok(Response::new(ListPoolsResponse { index: read.index.0, now_ms: read.now.0, pools, next_page_token }))
    }

    async fn create_pool(&self, request: Request<CreatePoolRequest>) -> Result<Response<PoolResponse>, Status> {
        let (asked, request) = Asked::split(request);
        let policy = words::policy(request.policy, request.fallback_item_id)?;
        let items = request.items.into_iter().map(words::catalog_item).collect::<Result<_, _>>()?;
        let action = Action::CreatePool { policy, items, require_key: request.require_key };
        expect!(self.submit(asked, request.pool, &request.key, action).await?, Pool)
    }

    async fn update_pool(&self, request: Request<UpdatePoolRequest>) -> Result<Response<PoolResponse>, Status> {
        let (asked, request) = Asked::split(request);
        let policy = match request.policy {
            Some(policy) => Some(words::policy(policy, request.fallback_item_id)?),
            None if request.fallback_item_id.is_empty() => None,
            None => return Err(status::malformed("fallback_item_id is for a policy, and there is none")),
        };
        let etag = Version(request.etag);
        let action = Action::UpdatePool { policy, require_key: request.require_key, etag };
        expect!(self.submit(asked, request.pool, &request.key, action).await?, Pool)
    }

    async fn pause_pool(&self, request: Request<PausePoolRequest>) -> Result<Response<PoolResponse>, Status> {
        let (asked, PausePoolRequest { pool, key }) = Asked::split(request);
        expect!(self.submit(asked, pool, &key, Action::PausePool).await?, Pool)
    }

    async fn resume_pool(&self, request: Request<ResumePoolRequest>) -> Result<Response<PoolResponse>, Status> {
        let (asked, ResumePoolRequest { pool, key }) = Asked::split(request);
        expect!(self.submit(asked, pool, &key, Action::ResumePool).await?, Pool)
    }

    async fn import_catalog(
        &self,
        request: Request<ImportCatalogRequest>,
    ) -> Result<Response<ImportCatalogResponse>, Status> {
        let (asked, ImportCatalogRequest { pool, key, items, last_request_id }) = Asked::split(request);
        let items = items.into_iter().map(words::catalog_item).collect::<Result<_, _>>()?;
        let action = Action::ImportCatalog { items, draw_seq: DrawSeq(last_request_id) };
        expect!(self.submit(asked, pool, &key, action).await?, Imported)
    }

    async fn set_item(&self, request: Request<SetItemRequest>) -> Result<Response<ItemResponse>, Status> {
        let (asked, request) = Asked::split(request);
        let item = request.item_id.try_into().map_err(status::of_invalid_name)?;
        let stock = words::stock(request.unlimited, request.quantity)?;
        if request.etag.is_some() && !matches!(stock, Stock::Unlimited | Stock::Finite(0)) {
            return Err(status::malformed(
                "the stock of an item that is there is not set: leave quantity 0, or AdjustItem",
            ));
        }
        let etag = request.etag.map(Version);
        let action = Action::SetItem { item, weight: Weight(request.weight), stock, etag };
        expect!(self.submit(asked, request.pool, &request.key, action).await?, Item)
    }

    async fn update_item(&self, request: Request<UpdateItemRequest>) -> Result<Response<ItemResponse>, Status> {
        let (asked, request) = Asked::split(request);
        let item = request.item_id.try_into().map_err(status::of_invalid_name)?;
        let stock = words::stock(request.unlimited, request.quantity)?;
        let action = Action::UpdateItem { item, stock, weight: Weight(request.weight), create: request.create };
        expect!(self.submit(asked, request.pool, &request.key, action).await?, Item)
    }

    async fn adjust_item(&self, request: Request<AdjustItemRequest>) -> Result<Response<AdjustItemResponse>, Status> {
        let (asked, AdjustItemRequest { pool, key, item_id, delta }) = Asked::split(request);
        let item = item_id.try_into().map_err(status::of_invalid_name)?;
        expect!(self.submit(asked, pool, &key, Action::AdjustStock { item, delta }).await?, Adjusted)
    }

    async fn remove_item(&self, request: Request<RemoveItemRequest>) -> Result<Response<RemoveItemResponse>, Status> {
        let (asked, RemoveItemRequest { pool, key, item_id, etag }) = Asked::split(request);
        let item = item_id.try_into().map_err(status::of_invalid_name)?;
        let action = Action::RemoveItem { item, etag: etag.map(Version) };
        expect!(self.submit(asked, pool, &key, action).await?, Removed)
    }

    async fn get_outcome(&self, request: Request<GetOutcomeRequest>) -> Result<Response<GetOutcomeResponse>, Status> {
        let (asked, GetOutcomeRequest { pool, key, stale }) = Asked::split(request);
        let key = request_key(&key)?;
        let read = self.read(asked, Query::Outcome(pool_id(pool)?, key), stale).await?;
        let found = match read.answer {
            Answer::Outcome(Remembered::Outcome(outcome)) => found(&Answered { key, outcome }),
            Answer::Outcome(Remembered::NotSeen) => Found::NotSeen(NotSeen {}),
            Answer::Outcome(Remembered::Expired { floor }) => Found::Expired(Expired { floor_ms: floor.0 }),
            Answer::Refused(refusal) => return Err(status::of_read_refusal(&refusal)),
            _ => return Err(status::unexpected_answer()),
        };
        Ok(Response::new(GetOutcomeResponse { index: read.index.0, now_ms: read.now.0, found: Some(found) }))
    }
}
