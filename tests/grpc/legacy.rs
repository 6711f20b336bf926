//! `rewardpool.RewardPoolService`, as its users know it.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tombola::pool::{Action, Stock};
use tonic::{Code, Status, Streaming};

use super::{
    Server, error_info, soon,
    upstream::{
        DrawRequest, DrawResponse, GetStateRequest, UpdateItemRequest,
        reward_pool_service_client::RewardPoolServiceClient,
    },
};

const GOLD: (&str, Stock, u32) = ("gold", Stock::Finite(1_000_000), 20);
const MUD: (&str, Stock, u32) = ("mud", Stock::Unlimited, 70);

/// One request, half-close: every response until the end, and how it ended.
async fn draw(server: &Server, count: i32) -> (Vec<DrawResponse>, Result<(), Status>) {
    let requests = tokio_stream::once(DrawRequest { count });
    let responses = server.old_client().await.draw(requests).await.expect("the stream opens").into_inner();
    soon(rest(responses)).await
}

/// Every response until the end, and how it ended.
async fn rest(mut responses: Streaming<DrawResponse>) -> (Vec<DrawResponse>, Result<(), Status>) {
    let mut seen = vec![];
    loop {
        match responses.message().await {
            Ok(Some(response)) => seen.push(response),
            Ok(None) => return (seen, Ok(())),
            Err(status) => return (seen, Err(status)),
        }
    }
}

/// Stocks as an old client sees them.
async fn state(server: &Server) -> Vec<(String, i32, i64)> {
    let state = server.old_client().await.get_state(GetStateRequest {}).await.expect("the state can be read");
    state.into_inner().items.into_iter().map(|item| (item.item_id, item.quantity, item.probability)).collect()
}

#[tokio::test]
async fn ten_draws_are_ten_responses_in_order() {
    let server = Server::with_catalog(&[GOLD, MUD]).await;
    let (responses, end) = draw(&server, 10).await;
    end.expect("a half-closed stream ends well");
    let ids: Vec<_> = responses.iter().map(|response| response.request_id).collect();
    assert_eq!(ids, (1..=10).collect::<Vec<_>>());
    for response in responses {
        assert!(["gold", "mud"].contains(&response.item_id.as_str()) && response.error.is_empty(), "{response:?}");
    }
}

#[tokio::test]
async fn no_count_or_less_is_one_draw() {
    let server = Server::with_catalog(&[MUD]).await;
    for count in [0, -1, i32::MIN, 1] {
        let (responses, end) = draw(&server, count).await;
        end.expect("a half-closed stream ends well");
        assert_eq!(responses.len(), 1, "count {count}");
    }
}

#[tokio::test]
async fn requests_of_a_stream_are_served_one_after_another() {
    let server = Server::with_catalog(&[MUD]).await;
    let requests = tokio_stream::iter([3, 0, 5]).map(|count| DrawRequest { count });
    let responses = server.old_client().await.draw(requests).await.unwrap().into_inner();
    let (responses, end) = soon(rest(responses)).await;
    end.expect("a half-closed stream ends well");
    let ids: Vec<_> = responses.iter().map(|response| response.request_id).collect();
    assert_eq!(ids, (1..=9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_conversation_goes_on_until_the_client_closes_it() {
    let server = Server::with_catalog(&[MUD]).await;
    let (requests, stream) = mpsc::channel(1);
    let mut responses =
        server.old_client().await.draw(ReceiverStream::new(stream)).await.expect("the stream opens").into_inner();
    for id in 1..=3 {
        requests.send(DrawRequest { count: 1 }).await.unwrap();
        let response = soon(responses.message()).await.unwrap().expect("an answer before the next question");
        assert_eq!(response.request_id, id);
    }
    drop(requests);
    assert!(soon(responses.message()).await.expect("it ends well").is_none());
}

#[tokio::test]
async fn more_than_a_command_holds_is_split_and_answered_in_full() {
    let server = Server::with_catalog(&[GOLD]).await;
    let (responses, end) = draw(&server, 2_500).await;
    end.expect("a half-closed stream ends well");
    let ids: Vec<_> = responses.iter().map(|response| response.request_id).collect();
    assert_eq!(ids, (1..=2_500).collect::<Vec<_>>());
    assert_eq!(state(&server).await, [("gold".to_owned(), 997_500, 20)]);
}

#[tokio::test]
async fn streams_beside_each_other_never_share_a_number() {
    let server = Server::with_catalog(&[MUD]).await;
    let drawing: Vec<_> = (0..8)
        .map(|_| {
            let client = server.endpoint().connect_lazy();
            tokio::spawn(async move {
                let requests = tokio_stream::once(DrawRequest { count: 100 });
                let responses = RewardPoolServiceClient::new(client).draw(requests).await.unwrap();
                rest(responses.into_inner()).await.0
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for responses in drawing {
        let responses = soon(responses).await.unwrap();
        assert!(responses.is_sorted_by_key(|response| response.request_id));
        ids.extend(responses.into_iter().map(|response| response.request_id));
    }
    assert_eq!(ids, (1..=800).collect());
}

#[tokio::test]
async fn a_hundred_connections_at_once_draw_ten_each_as_the_load_script_does() {
    let server = Server::with_catalog(&[GOLD, MUD]).await;
    // All are open before the first one draws.
    let mut clients = vec![];
    for _ in 0..100 {
        let mut client = server.old_client().await;
        client.get_state(GetStateRequest {}).await.expect("each connection is served");
        clients.push(client);
    }
    let drawing: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let requests = tokio_stream::once(DrawRequest { count: 10 });
                rest(client.draw(requests).await.unwrap().into_inner()).await
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for drawn in drawing {
        let (responses, end) = soon(drawn).await.unwrap();
        end.expect("no stream ends in an error");
        ids.extend(responses.into_iter().map(|response| response.request_id));
    }
    assert_eq!(ids, (1..=1_000).collect());
}

#[tokio::test]
async fn an_empty_pool_is_told_in_band_and_the_stream_goes_on() {
    let server = Server::with_catalog(&[("gold", Stock::Finite(2), 1)]).await;
    let requests = tokio_stream::iter([3, 1]).map(|count| DrawRequest { count });
    let responses = server.old_client().await.draw(requests).await.unwrap().into_inner();
    let (responses, end) = soon(rest(responses)).await;
    end.expect("an empty pool is no failure");
    let told: Vec<_> =
        responses.iter().map(|told| (told.request_id, told.item_id.as_str(), told.error.as_str())).collect();
    let empty = "reward pool is empty";
    assert_eq!(told, [(1, "gold", ""), (2, "gold", ""), (3, "", empty), (4, "", empty)]);
    assert_eq!(state(&server).await, [("gold".to_owned(), 0, 1)], "exhausted items stay listed");
}

#[tokio::test]
async fn a_paused_pool_is_told_in_band_once_a_draw() {
    let server = Server::with_catalog(&[MUD]).await;
    server.act(Action::PausePool).await;
    let (responses, end) = draw(&server, 3).await;
    end.expect("a paused pool is no failure");
    let paused = DrawResponse { request_id: 0, item_id: String::new(), error: "pool is paused".to_owned() };
    assert_eq!(responses, vec![paused; 3]);
    server.act(Action::ResumePool).await;
    assert_eq!(draw(&server, 1).await.0[0].request_id, 1, "a refused draw has no number");
}

#[tokio::test]
async fn the_state_is_in_catalog_order_with_the_old_numbers() {
    let server = Server::with_catalog(&[
        ("zinc", Stock::Finite(0), 3),
        ("mud", Stock::Unlimited, 70),
        ("atoms", Stock::Finite(1 << 40), u32::MAX),
        ("gold", Stock::Finite(5), 0),
    ])
    .await;
    let expected = [("zinc", 0, 3), ("mud", -1, 70), ("atoms", i32::MAX, 4_294_967_295), ("gold", 5, 0)];
    assert_eq!(state(&server).await, expected.map(|(id, quantity, weight)| (id.to_owned(), quantity, weight)));
}

#[tokio::test]
async fn an_update_sets_both_and_is_told_back() {
    let server = Server::with_catalog(&[GOLD, MUD]).await;
    let mut client = server.old_client().await;
    let mut update = async |item_id: &str, quantity, probability| {
        let request = UpdateItemRequest { item_id: item_id.to_owned(), quantity, probability };
        let item = client.update_item(request).await?.into_inner().item.expect("the item is told");
        Ok::<_, Status>((item.item_id, item.quantity, item.probability))
    };
    assert_eq!(update("gold", 7, 0).await.unwrap(), ("gold".to_owned(), 7, 0));
    assert_eq!(update("gold", -1, 9).await.unwrap(), ("gold".to_owned(), -1, 9));
    assert_eq!(update("mud", 3, 4_294_967_295).await.unwrap(), ("mud".to_owned(), 3, 4_294_967_295));
    let before = state(&server).await;
    for (item, quantity, probability, code, reason) in [
        ("silver", 1, 1, Code::NotFound, "NOT_FOUND"),
        ("gold", -2, 1, Code::InvalidArgument, "MALFORMED"),
        ("gold", 1, -1, Code::InvalidArgument, "MALFORMED"),
        ("gold", 1, 1 << 32, Code::InvalidArgument, "MALFORMED"),
        ("", 1, 1, Code::InvalidArgument, "MALFORMED"),
    ] {
        let status = update(item, quantity, probability).await.expect_err("it is refused");
        assert_eq!((status.code(), error_info(&status).reason.as_str()), (code, reason), "{item} {quantity}");
    }
    assert_eq!(state(&server).await, before, "what is refused changes nothing");
}

/// The number of the newest draw, once it stands still: two looks apart see the same.
async fn settled_draw_seq(server: &Server) -> u64 {
    use tombola::{
        api::Consistency,
        pool::{Answer, PoolId, Query},
    };
    let mut last = None;
    soon(async {
        loop {
            let timeout = std::time::Duration::from_secs(5);
            let query = Query::Pool(PoolId::default_pool());
            let read = server.node.read(query, Consistency::Linearizable, timeout).await.expect("the node answers");
            let Answer::Pool(pool) = read.answer else { panic!("a pool was asked for") };
            let now = pool.summary.draw_seq.0;
            if now > 0 && last == Some(now) {
                return now;
            }
            last = Some(now);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await
}

/// A client that takes little before it looks again.
async fn slow_client(server: &Server) -> RewardPoolServiceClient<tonic::transport::Channel> {
    let endpoint = server.endpoint().initial_stream_window_size(16 << 10).initial_connection_window_size(64 << 10);
    RewardPoolServiceClient::new(endpoint.connect().await.expect("the server accepts"))
}

#[tokio::test]
async fn draws_are_made_only_as_the_client_takes_them() {
    let server = Server::with_catalog(&[MUD]).await;
    let requests = tokio_stream::once(DrawRequest { count: i32::MAX });
    let mut responses = slow_client(&server).await.draw(requests).await.unwrap().into_inner();
    // Without taking anything, draws stop by themselves: if they did not, the number would never settle.
    let ahead = settled_draw_seq(&server).await;
    for id in 1..=ahead {
        assert_eq!(soon(responses.message()).await.unwrap().expect("the stream goes on").request_id, id);
    }
    let response = soon(responses.message()).await.unwrap().expect("more draws are made as these are taken");
    assert_eq!(response.request_id, ahead + 1);
    drop(responses);
    settled_draw_seq(&server).await;
}

#[tokio::test]
async fn a_stop_cancels_what_was_not_drawn_and_answers_what_was() {
    const COUNT: i32 = 60_000;
    let server = Server::with_catalog(&[MUD]).await;
    let requests = tokio_stream::once(DrawRequest { count: COUNT });
    let responses = slow_client(&server).await.draw(requests).await.unwrap().into_inner();
    let made = settled_draw_seq(&server).await;
    assert!(made < COUNT as u64, "the client is not slow enough");
    server.stop.send(()).unwrap();
    let (responses, end) = soon(rest(responses)).await;
    assert_eq!(responses.len(), COUNT as usize, "each draw has its response");
    let (drawn, cancelled) = responses.split_at(made as usize);
    assert!(drawn.iter().zip(1..).all(|(told, id)| told.request_id == id && told.item_id == "mud"));
    let expected = "request cancelled: processor shutting down";
    assert!(cancelled.iter().all(|told| told.request_id == 0 && told.item_id.is_empty() && told.error == expected));
    let status = end.expect_err("the stream does not end well");
    assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::Unavailable, "DRAINING"));
    soon(server.stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_ends_a_silent_stream() {
    let server = Server::with_catalog(&[MUD]).await;
    let (requests, stream) = mpsc::channel::<DrawRequest>(1);
    let mut client = server.old_client().await;
    let mut responses = client.draw(ReceiverStream::new(stream)).await.unwrap().into_inner();
    requests.send(DrawRequest { count: 1 }).await.unwrap();
    soon(responses.message()).await.unwrap().expect("the stream works");
    server.stop.send(()).unwrap();
    let status = soon(responses.message()).await.expect_err("the stream does not end well");
    assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::Unavailable, "DRAINING"));
    soon(server.stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_stops_is_told_like_a_server_that_stops() {
    let server = Server::with_catalog(&[MUD]).await;
    assert_eq!(draw(&server, 1).await.0.len(), 1);
    server.node.stop().await;
    let (responses, end) = draw(&server, 2).await;
    assert!(responses.iter().all(|told| told.request_id == 0 && told.error.starts_with("request cancelled")));
    assert_eq!((responses.len(), end.expect_err("it has stopped").code()), (2, Code::Unavailable));
}
