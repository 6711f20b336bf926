//! The predecessor's service, `rewardpool.RewardPoolService`, on pool `default`: wire-compatible, and as they promised
//! it, where their own code did not hold (a read counts everything answered, quantities saturate, an unknown item is an
//! error).
//!
//! **Draw** is a conversation: requests on one stream are served one after another, each by exactly `count` responses
//! in order. A request is split into commands of at most [`DRAWS_PER_COMMAND_MAX`] draws, and the next command is made
//! only when the responses of the last one have left for the client, so a request for two billion draws costs what its
//! client takes off the stream. What the pool says (empty, paused) stands in the response; a gRPC status means that the
//! service failed, and ends the stream. When the service stops, draws that were asked for and not made get
//! [`CANCELLED`] with request id 0, then the stream ends UNAVAILABLE.
//!
//! Callers send no key here, so the node makes one for its own retries: an answer that is lost stays lost.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    caller, deadline,
    drain::Draining,
    proto::rewardpool::{
        DrawRequest, DrawResponse, GetStateRequest, GetStateResponse, RewardItem, UpdateItemRequest,
        UpdateItemResponse, reward_pool_service_server::RewardPoolService,
    },
    status,
};
use crate::{
    api::{Answered, Consistency, Failure, NotApplied, Request as Mutation},
    pool::{
        Action, Actor, Answer, DRAWS_PER_COMMAND_MAX, DrawSeq, Effect, ItemId, ItemState, Outcome, PAGE_LEN_MAX,
        PoolId, Query, Refusal, Step, Stock, Weight,
    },
    runtime::NodeHandle,
};

/// Nothing in the pool can be awarded.
pub const POOL_EMPTY: &str = "reward pool is empty";
/// The pool is paused.
pub const POOL_PAUSED: &str = "pool is paused";
/// The service stopped before the draw was made.
pub const CANCELLED: &str = "request cancelled: processor shutting down";

/// Responses that wait for the client at most, per stream.
const RESPONSES_WAITING_MAX: usize = 64;

/// The service.
pub struct Legacy {
    node: NodeHandle,
    draining: Draining,
}

impl Legacy {
    /// The service on a node, until it drains.
    pub fn new(node: NodeHandle, draining: Draining) -> Self {
        Self { node, draining }
    }

    async fn read(&self, query: Query, timeout: Duration) -> Result<Answer, Status> {
        let read = self.node.read(query, Consistency::Linearizable, timeout).await;
        Ok(read.map_err(|failure| status::of_failure(&failure, None))?.answer)
    }

    /// The items of a pool that is too large to be read at one index.
    async fn all_items(&self, timeout: Duration) -> Result<Vec<ItemState>, Status> {
        let mut all: Vec<ItemState> = Vec::new();
        loop {
            let after = all.last().map(|item| item.id.clone());
            let query = Query::Items { pool: PoolId::default_pool(), after, limit: PAGE_LEN_MAX };
            match self.read(query, timeout).await? {
                Answer::Items { items, more, .. } => {
                    all.extend(items);
                    if !more {
                        return Ok(all);
                    }
                }
                Answer::Refused(refusal) => return Err(status::of_read_refusal(&refusal)),
                _ => return Err(status::unexpected_answer()),
            }
        }
    }
}

#[tonic::async_trait]
impl RewardPoolService for Legacy {
    async fn get_state(&self, request: Request<GetStateRequest>) -> Result<Response<GetStateResponse>, Status> {
        let timeout = deadline::of_metadata(request.metadata());
        let items = match self.read(Query::Pool(PoolId::default_pool()), timeout).await? {
            Answer::Pool(pool) => pool.items,
            Answer::Refused(Refusal::TooLong) => self.all_items(timeout).await?,
            Answer::Refused(refusal) => return Err(status::of_read_refusal(&refusal)),
            _ => return Err(status::unexpected_answer()),
        };
        Ok(Response::new(GetStateResponse { items: items.iter().map(reward_item).collect() }))
    }

    type DrawStream = ReceiverStream<Result<DrawResponse, Status>>;

    async fn draw(&self, request: Request<Streaming<DrawRequest>>) -> Result<Response<Self::DrawStream>, Status> {
        let (responses, stream) = mpsc::channel(RESPONSES_WAITING_MAX);
        let conversation = Conversation {
            node: self.node.clone(),
            draining: self.draining.clone(),
            timeout: deadline::of_metadata(request.metadata()),
            actor: caller::actor_of(&request),
            responses,
        };
        tokio::spawn(conversation.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn update_item(&self, request: Request<UpdateItemRequest>) -> Result<Response<UpdateItemResponse>, Status> {
        let timeout = deadline::of_metadata(request.metadata());
        let actor = caller::actor_of(&request);
        let UpdateItemRequest { item_id, quantity, probability } = request.into_inner();
        let item = ItemId::try_from(item_id).map_err(status::of_invalid_name)?;
        let stock = match quantity {
            -1 => Stock::Unlimited,
            _ => u64::try_from(quantity).map(Stock::Finite).map_err(|_| {
                status::malformed(format!("quantity is {quantity}: it must be 0 or more, or -1 for unlimited"))
            })?,
        };
        let weight = u32::try_from(probability)
            .map(Weight)
            .map_err(|_| status::malformed(format!("probability is {probability}: a weight is 0 to {}", u32::MAX)))?;
        let action = Action::UpdateItem { item, stock, weight, create: false };
        let answered = self.node.submit(mutation(actor, action), timeout).await;
        let answered = answered.map_err(|failure| status::of_failure(&failure, None))?;
        match &answered.outcome.result {
            Ok(Effect::ItemSet(item)) => Ok(Response::new(UpdateItemResponse { item: Some(reward_item(item)) })),
            Ok(_) => Err(status::unexpected_answer()),
            Err(refusal) => Err(status::of_refusal(refusal, &super::v1::receipt(&answered))),
        }
    }
}

/// What an old client asks for: without a key, on the one pool that it knows.
fn mutation(actor: Actor, action: Action) -> Mutation {
    Mutation { pool: PoolId::default_pool(), key: None, actor, action }
}

/// An item as the predecessor shows it.
fn reward_item(item: &ItemState) -> RewardItem {
    let quantity = match item.stock {
        Stock::Finite(units) => i32::try_from(units).unwrap_or(i32::MAX),
        Stock::Unlimited => -1,
    };
    RewardItem { item_id: item.id.to_string(), quantity, probability: item.weight.0.into() }
}

/// Why a conversation ends before its client ends it.
enum Ended {
    /// Nobody listens any more.
    ClientGone,
    /// With this status.
    With(Status),
}

/// One Draw stream.
struct Conversation {
    node: NodeHandle,
    draining: Draining,
    timeout: Duration,
    actor: Actor,
    responses: mpsc::Sender<Result<DrawResponse, Status>>,
}

impl Conversation {
    async fn run(mut self, mut requests: Streaming<DrawRequest>) {
        if let Err(Ended::With(status)) = self.serve(&mut requests).await {
            // A client that has left is told nothing.
            let _ = self.responses.send(Err(status)).await;
        }
    }

    /// Answers requests until the client has no more, or an end of another kind.
    async fn serve(&mut self, requests: &mut Streaming<DrawRequest>) -> Result<(), Ended> {
        while let Some(request) = self.next(requests).await? {
            let count = u32::try_from(request.count).unwrap_or(0).max(1);
            self.answer(count).await?;
        }
        Ok(())
    }

    /// The next request. One that has arrived is taken even while draining: it has an answer to get.
    async fn next(&mut self, requests: &mut Streaming<DrawRequest>) -> Result<Option<DrawRequest>, Ended> {
        tokio::select! {
            biased;
            request = requests.message() => request.map_err(Ended::With),
            () = self.draining.begun() => Err(Ended::With(draining_status())),
            () = self.responses.closed() => Err(Ended::ClientGone),
        }
    }

    /// Makes `count` draws and gives exactly as many responses, or ends the stream.
    async fn answer(&self, mut count: u32) -> Result<(), Ended> {
        while count > 0 {
            let draws = u16::try_from(count).unwrap_or(u16::MAX).min(DRAWS_PER_COMMAND_MAX);
            if self.draining.has_begun() {
                return self.cancel(count).await;
            }
            let answered = match self.draw(draws).await {
                Ok(answered) => answered,
                Err(Failure::NotApplied(NotApplied::Draining)) => return self.cancel(count).await,
                Err(failure) => return Err(Ended::With(status::of_failure(&failure, None))),
            };
            for response in responses(&answered, draws).map_err(Ended::With)? {
                self.send(response).await?;
            }
            count -= u32::from(draws);
        }
        Ok(())
    }

    async fn draw(&self, count: u16) -> Result<Answered, Failure> {
        let mutation = mutation(self.actor.clone(), Action::Draw { count });
        self.node.submit(mutation, self.timeout).await
    }

    /// The service stops: tells it for each of the draws that were not made, and ends the stream.
    async fn cancel(&self, count: u32) -> Result<(), Ended> {
        for _ in 0..count {
            self.send(in_band(DrawSeq(0), CANCELLED)).await?;
        }
        Err(Ended::With(draining_status()))
    }

    async fn send(&self, response: DrawResponse) -> Result<(), Ended> {
        self.responses.send(Ok(response)).await.map_err(|_| Ended::ClientGone)
    }
}

fn draining_status() -> Status {
    status::of_failure(&Failure::NotApplied(NotApplied::Draining), None)
}

fn in_band(seq: DrawSeq, error: &str) -> DrawResponse {
    DrawResponse { request_id: seq.0, item_id: String::new(), error: error.to_owned() }
}

/// The responses of a command of `draws` draws: as many.
fn responses(answered: &Answered, draws: u16) -> Result<Vec<DrawResponse>, Status> {
    let Outcome { result, .. } = &answered.outcome;
    match result {
        Ok(Effect::Drawn { first_seq, steps, .. }) if steps.len() == usize::from(draws) => {
            Ok((first_seq.0..).zip(steps.iter()).map(|(seq, step)| response(DrawSeq(seq), step)).collect())
        }
        Ok(_) => Err(status::unexpected_answer()),
        Err(Refusal::PoolPaused) => Ok(vec![in_band(DrawSeq(0), POOL_PAUSED); draws.into()]),
        Err(refusal) => Err(status::of_refusal(refusal, &super::v1::receipt(answered))),
    }
}

fn response(seq: DrawSeq, step: Step<&ItemId>) -> DrawResponse {
    match step {
        Step::Awarded(item) | Step::Fallback(item) => {
            DrawResponse { request_id: seq.0, item_id: item.to_string(), error: String::new() }
        }
        Step::Miss => in_band(seq, ""),
        Step::PoolEmpty => in_band(seq, POOL_EMPTY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{RequestKey, Version},
        types::{Index, Millis},
    };

    fn answered(result: Result<Effect, Refusal>) -> Answered {
        let key = RequestKey::new(Millis(1), [0; 10]);
        Answered { key, outcome: Outcome { index: Index(2), now: Millis(3), replayed: false, result } }
    }

    fn drawn(steps: Vec<Step>) -> Answered {
        answered(Ok(Effect::Drawn { first_seq: DrawSeq(41), version: Version(1), steps: steps.into_iter().collect() }))
    }

    fn item(stock: Stock) -> ItemState {
        let id = "gold".parse().unwrap();
        let weight = Weight(u32::MAX);
        ItemState { id, weight, stock, reserved: 0, awarded: 0, returned: 0, added: 0, rev: Version(1) }
    }

    #[test]
    fn each_draw_is_one_response_with_its_own_number() {
        let gold: ItemId = "gold".parse().unwrap();
        let steps = vec![Step::Awarded(gold.clone()), Step::PoolEmpty, Step::Miss, Step::Fallback(gold)];
        let told: Vec<_> = responses(&drawn(steps), 4)
            .unwrap()
            .into_iter()
            .map(|response| (response.request_id, response.item_id, response.error))
            .collect();
        let expected = [(41, "gold", ""), (42, "", "reward pool is empty"), (43, "", ""), (44, "gold", "")];
        assert_eq!(told, expected.map(|(id, item, error)| (id, item.to_owned(), error.to_owned())));
    }

    #[test]
    fn a_paused_pool_is_told_once_a_draw_without_a_number() {
        let told = responses(&answered(Err(Refusal::PoolPaused)), 3).unwrap();
        assert_eq!(told, vec![in_band(DrawSeq(0), "pool is paused"); 3]);
    }

    #[test]
    fn other_refusals_end_the_stream() {
        let status = responses(&answered(Err(Refusal::KeyRequired)), 3).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn another_number_of_draws_than_asked_is_never_passed_on() {
        let status = responses(&drawn(vec![Step::Miss]), 2).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
    }

    #[test]
    fn quantities_saturate_and_unlimited_is_minus_one() {
        let quantity = |stock| reward_item(&item(stock)).quantity;
        assert_eq!(quantity(Stock::Finite(0)), 0);
        assert_eq!(quantity(Stock::Finite(2_147_483_647)), 2_147_483_647);
        assert_eq!(quantity(Stock::Finite(2_147_483_648)), 2_147_483_647);
        assert_eq!(quantity(Stock::Unlimited), -1);
        assert_eq!(reward_item(&item(Stock::Unlimited)).probability, 4_294_967_295);
    }
}
