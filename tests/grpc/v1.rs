//! `tombola.v1`: keys, outcomes, refusals, pages.

use std::time::Duration;

use tombola::{
    pool::Stock,
    server::proto::v1::{
        AdjustItemRequest, CatalogItem, ClaimCode, ClaimRequest, CreatePoolRequest, DrawCode, DrawRequest, Expired,
        GetDigestRequest, GetOutcomeRequest, GetPoolRequest, GetStatusRequest, ImportCatalogRequest, ListItemsRequest,
        ListPoolsRequest, PausePoolRequest, Policy, Receipt, RemoveItemRequest, ResumePoolRequest, Role,
        SetItemRequest, TransferLeadershipRequest, UpdateItemRequest, UpdatePoolRequest, VerifyRequest,
        cluster_client::ClusterClient, get_outcome_response::Found, reward_pool_client::RewardPoolClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt;

use super::{Server, error_info, soon, support};

const GOLD: (&str, Stock, u32) = ("gold", Stock::Finite(1_000), 20);
const MUD: (&str, Stock, u32) = ("mud", Stock::Unlimited, 70);

async fn client(server: &Server) -> RewardPoolClient<Channel> {
    RewardPoolClient::new(server.channel().await)
}

/// A key of the cluster's present.
fn key() -> String {
    use tombola::{pool::RequestKey, types::Millis};
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut entropy = [0; 10];
    rand::fill(&mut entropy);
    RequestKey::new(Millis(now.as_millis() as u64), entropy).to_string()
}

fn draw(key: &str, count: u32) -> DrawRequest {
    DrawRequest { pool: String::new(), key: key.to_owned(), count }
}

/// Code and reason of a refusal.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("it is refused");
    (status.code(), error_info(&status).reason)
}

#[tokio::test]
async fn a_key_sent_again_tells_the_same_awards() {
    let server = Server::with_catalog(&[GOLD, MUD]).await;
    let (mut client, key) = (client(&server).await, key());
    let first = client.draw(draw(&key, 5)).await.unwrap().into_inner();
    let receipt = first.receipt.clone().unwrap();
    assert_eq!((receipt.key.as_str(), receipt.replayed), (key.as_str(), false));
    assert!(receipt.index > 1 && receipt.now_ms > 0);
    assert_eq!(first.results.iter().map(|result| result.request_id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(first.results.iter().all(|result| result.code() == DrawCode::Awarded && !result.item_id.is_empty()));

    let again = client.draw(draw(&key, 5)).await.unwrap().into_inner();
    assert_eq!(again.results, first.results);
    assert_eq!(again.receipt.clone().unwrap(), Receipt { replayed: true, ..receipt });

    let asked = GetOutcomeRequest { pool: "default".to_owned(), key: key.clone(), stale: false };
    let outcome = client.get_outcome(asked).await.unwrap().into_inner();
    assert_eq!(outcome.found, Some(Found::Draw(again)));

    let status = client.draw(draw(&key, 6)).await.expect_err("another request under the same key");
    assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::InvalidArgument, "KEY_REUSED"));
    assert_eq!(error_info(&status).metadata["key"], key);
}

#[tokio::test]
async fn without_a_key_the_node_makes_one_and_tells_it() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut client = client(&server).await;
    let told = client.draw(draw("", 0)).await.unwrap().into_inner();
    assert_eq!(told.results.len(), 1, "no count is one draw");
    let key = told.receipt.unwrap().key;
    let asked = GetOutcomeRequest { pool: String::new(), key, stale: true };
    assert!(matches!(client.get_outcome(asked).await.unwrap().into_inner().found, Some(Found::Draw(_))));
}

#[tokio::test]
async fn a_key_is_not_seen_until_it_is_and_expired_when_it_is_old() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut client = client(&server).await;
    // Time begins with the first decision.
    client.draw(draw("", 1)).await.unwrap();
    let mut outcome = async |key: &str| {
        let asked = GetOutcomeRequest { pool: String::new(), key: key.to_owned(), stale: false };
        client.get_outcome(asked).await.map(|told| told.into_inner().found.expect("something is found"))
    };
    assert!(matches!(outcome(&key()).await.unwrap(), Found::NotSeen(_)));
    let ancient = "00000000-0001-7000-8000-000000000000";
    assert!(matches!(outcome(ancient).await.unwrap(), Found::Expired(Expired { floor_ms: 1.. })));
    assert_eq!(refused(outcome("order-17").await), (Code::InvalidArgument, "MALFORMED".to_owned()));
    let status = self::client(&server).await.draw(draw(ancient, 1)).await.expect_err("it is never executed");
    assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::FailedPrecondition, "KEY_EXPIRED"));
    assert!(error_info(&status).metadata.contains_key("floor_ms"));
}

#[tokio::test]
async fn what_breaks_a_rule_of_form_is_malformed() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut client = client(&server).await;
    let malformed = (Code::InvalidArgument, "MALFORMED".to_owned());
    assert_eq!(refused(client.draw(draw("", 1_001)).await), malformed);
    assert_eq!(refused(client.draw(draw("no-key", 1)).await), malformed);
    let pool = DrawRequest { pool: "No Pool".to_owned(), ..draw("", 1) };
    assert_eq!(refused(client.draw(pool).await), malformed);
    let nothing = ClaimRequest { item_id: "mud".to_owned(), quantity: 0, ..ClaimRequest::default() };
    assert_eq!(refused(client.claim(nothing).await), malformed);
    let nameless = ClaimRequest { quantity: 1, ..ClaimRequest::default() };
    assert_eq!(refused(client.claim(nameless).await), malformed);
    let nothing = AdjustItemRequest { item_id: "mud".to_owned(), ..AdjustItemRequest::default() };
    assert_eq!(refused(client.adjust_item(nothing).await), malformed);
    let both =
        UpdateItemRequest { item_id: "mud".to_owned(), unlimited: true, quantity: 1, ..UpdateItemRequest::default() };
    assert_eq!(refused(client.update_item(both).await), malformed);
    let page = GetPoolRequest { page_token: "gone".to_owned(), ..GetPoolRequest::default() };
    assert_eq!(refused(client.get_pool(page).await), malformed);
    let long = GetPoolRequest { page_size: 1_001, ..GetPoolRequest::default() };
    assert_eq!(refused(client.get_pool(long).await), malformed);
}

#[tokio::test]
async fn an_item_is_claimed_adjusted_updated_and_removed() {
    let server = Server::with_catalog(&[("gold", Stock::Finite(5), 20)]).await;
    let mut client = client(&server).await;
    let claim = |quantity| ClaimRequest { item_id: "gold".to_owned(), quantity, ..ClaimRequest::default() };
    let told = client.claim(claim(3)).await.unwrap().into_inner();
    assert_eq!((told.request_id, told.code()), (1, ClaimCode::Awarded));
    let told = client.claim(claim(3)).await.unwrap().into_inner();
    assert_eq!((told.request_id, told.code(), told.remaining), (2, ClaimCode::OutOfStock, 2));

    let adjust = |delta| AdjustItemRequest { item_id: "gold".to_owned(), delta, ..AdjustItemRequest::default() };
    assert_eq!(client.adjust_item(adjust(10)).await.unwrap().into_inner().remaining, 12);
    let status = client.adjust_item(adjust(-13)).await.expect_err("stock is never below zero");
    assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::FailedPrecondition, "INSUFFICIENT_STOCK"));
    assert_eq!(error_info(&status).metadata["remaining"], "12");

    let update = |item: &str, create| UpdateItemRequest {
        item_id: item.to_owned(),
        unlimited: true,
        weight: 9,
        create,
        ..UpdateItemRequest::default()
    };
    assert_eq!(refused(client.update_item(update("silver", false)).await).0, Code::NotFound);
    let silver = client.update_item(update("silver", true)).await.unwrap().into_inner().item.unwrap();
    assert_eq!((silver.item_id.as_str(), silver.unlimited, silver.remaining, silver.weight), ("silver", true, 0, 9));

    let remove = |etag| RemoveItemRequest { item_id: "silver".to_owned(), etag, ..RemoveItemRequest::default() };
    let status = client.remove_item(remove(Some(silver.rev + 1))).await.expect_err("the etag is wrong");
    assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(error_info(&status).metadata["current"], silver.rev.to_string());
    client.remove_item(remove(Some(silver.rev))).await.unwrap();
    let items = client.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().items;
    assert_eq!(items.iter().map(|item| item.item_id.as_str()).collect::<Vec<_>>(), ["gold"]);
    let gold = &items[0];
    assert_eq!(gold.added, gold.remaining + gold.reserved + gold.awarded - gold.returned);
    assert_eq!((gold.added, gold.awarded), (15, 3));
}

#[tokio::test]
async fn pools_are_created_listed_and_read_in_pages() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut client = client(&server).await;
    let item = |n| CatalogItem { item_id: format!("item-{n:04}"), quantity: n, weight: 1, unlimited: false };
    let create = |policy: Policy, fallback: &str| CreatePoolRequest {
        pool: "summer".to_owned(),
        policy: policy.into(),
        fallback_item_id: fallback.to_owned(),
        items: (0..2_345).map(item).collect(),
        require_key: true,
        ..CreatePoolRequest::default()
    };
    assert_eq!(refused(client.create_pool(create(Policy::Miss, "item-0000")).await).0, Code::InvalidArgument);
    client.create_pool(create(Policy::Miss, "")).await.unwrap();
    assert_eq!(
        refused(client.create_pool(create(Policy::Miss, "")).await),
        (Code::AlreadyExists, "POOL_EXISTS".to_owned())
    );
    let pools = client.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools;
    let listed: Vec<_> = pools.iter().map(|pool| (pool.id.as_str(), pool.policy(), pool.items)).collect();
    assert_eq!(listed, [("default", Policy::Renormalize, 1), ("summer", Policy::Miss, 2_345)]);

    let (mut seen, mut page_token) = (vec![], String::new());
    loop {
        let request = GetPoolRequest { pool: "summer".to_owned(), page_token, ..GetPoolRequest::default() };
        let page = client.get_pool(request).await.unwrap().into_inner();
        assert!(page.items.len() <= 1_000 && page.index > 1);
        seen.extend(page.items.into_iter().map(|item| item.remaining));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..2_345).collect::<Vec<_>>());

    let page = |page_size, page_token: &str| ListItemsRequest {
        pool: "summer".to_owned(),
        stale: false,
        page_size,
        page_token: page_token.to_owned(),
    };
    let listed = client.list_items(page(0, "")).await.unwrap().into_inner();
    assert_eq!((listed.items.len(), listed.next_page_token.as_str()), (100, "item-0099"));
    let last = client.list_items(page(1_000, "item-2000")).await.unwrap().into_inner();
    assert_eq!((last.items.len(), last.next_page_token.as_str()), (344, ""));
    let first = ListPoolsRequest { page_size: 1, ..ListPoolsRequest::default() };
    let first = client.list_pools(first).await.unwrap().into_inner();
    assert_eq!((first.pools[0].id.as_str(), first.next_page_token.as_str()), ("default", "default"));
    let second = ListPoolsRequest { page_size: 1, page_token: first.next_page_token, stale: true };
    let second = client.list_pools(second).await.unwrap().into_inner();
    assert_eq!((second.pools[0].id.as_str(), second.next_page_token.as_str()), ("summer", ""));
    let wrong = ListPoolsRequest { page_token: "No Pool".to_owned(), ..ListPoolsRequest::default() };
    assert_eq!(refused(client.list_pools(wrong).await), (Code::InvalidArgument, "MALFORMED".to_owned()));

    let keyless = DrawRequest { pool: "summer".to_owned(), ..draw("", 1) };
    assert_eq!(refused(client.draw(keyless).await), (Code::InvalidArgument, "KEY_REQUIRED".to_owned()));
    let nowhere = GetPoolRequest { pool: "winter".to_owned(), ..GetPoolRequest::default() };
    assert_eq!(refused(client.get_pool(nowhere).await), (Code::NotFound, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_pool_is_paused_resumed_and_changed_under_its_etag() {
    let server = Server::with_catalog(&[GOLD, MUD]).await;
    let mut client = client(&server).await;
    let first = client.pause_pool(PausePoolRequest { pool: String::new(), key: key() }).await.unwrap().into_inner();
    assert_eq!((first.version, first.receipt.is_some()), (1, true));
    assert_eq!(refused(client.draw(draw("", 1)).await), (Code::FailedPrecondition, "POOL_PAUSED".to_owned()));
    assert!(client.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap().paused);
    client.resume_pool(ResumePoolRequest::default()).await.unwrap();
    client.draw(draw("", 1)).await.unwrap();

    let update = |etag, policy: Option<Policy>, fallback: &str, require_key| UpdatePoolRequest {
        etag,
        policy: policy.map(Into::into),
        fallback_item_id: fallback.to_owned(),
        require_key,
        ..UpdatePoolRequest::default()
    };
    let malformed = (Code::InvalidArgument, "MALFORMED".to_owned());
    assert_eq!(refused(client.update_pool(update(1, None, "", None)).await), malformed);
    assert_eq!(refused(client.update_pool(update(1, None, "mud", Some(true))).await), malformed);
    let stale = client.update_pool(update(9, Some(Policy::Miss), "", None)).await;
    assert_eq!(refused(stale), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let finite = client.update_pool(update(1, Some(Policy::Fallback), "gold", None)).await;
    assert_eq!(refused(finite), (Code::FailedPrecondition, "FALLBACK_FINITE".to_owned()));
    let changed = client.update_pool(update(1, Some(Policy::Fallback), "mud", Some(true))).await.unwrap().into_inner();
    assert_eq!(changed.version, 2);
    let pool = client.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap();
    assert_eq!((pool.policy(), pool.fallback_item_id.as_str(), pool.require_key), (Policy::Fallback, "mud", true));
    assert_eq!(refused(client.draw(draw("", 1)).await), (Code::InvalidArgument, "KEY_REQUIRED".to_owned()));
    client.draw(draw(&key(), 1)).await.unwrap();
}

#[tokio::test]
async fn an_item_s_definition_is_set_and_a_catalog_is_imported() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut client = client(&server).await;
    let set = |quantity, weight, etag| SetItemRequest {
        item_id: "gold".to_owned(),
        quantity,
        weight,
        etag,
        ..SetItemRequest::default()
    };
    let gold = client.set_item(set(7, 3, None)).await.unwrap().into_inner().item.unwrap();
    assert_eq!((gold.remaining, gold.weight, gold.rev), (7, 3, 2));
    assert_eq!(refused(client.set_item(set(7, 3, None)).await), (Code::AlreadyExists, "ITEM_EXISTS".to_owned()));
    assert_eq!(refused(client.set_item(set(0, 4, Some(1))).await), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let restocked = client.set_item(set(9, 4, Some(2))).await;
    assert_eq!(refused(restocked), (Code::InvalidArgument, "MALFORMED".to_owned()), "stock is not its business");
    let gold = client.set_item(set(0, 4, Some(2))).await.unwrap().into_inner().item.unwrap();
    assert_eq!((gold.remaining, gold.weight, gold.rev), (7, 4, 3));

    let item = CatalogItem { item_id: "car".to_owned(), quantity: 1, weight: 1, unlimited: false };
    let import = ImportCatalogRequest { pool: "old".to_owned(), key: key(), items: vec![item], last_request_id: 41 };
    let first = client.import_catalog(import.clone()).await.unwrap().into_inner();
    assert_eq!((first.items, first.version), (1, 1));
    let again = client.import_catalog(import.clone()).await.unwrap().into_inner();
    assert!(again.receipt.unwrap().replayed);
    let other = ImportCatalogRequest { key: key(), ..import };
    assert_eq!(refused(client.import_catalog(other).await), (Code::FailedPrecondition, "POOL_NOT_EMPTY".to_owned()));
    let drawn = client.draw(DrawRequest { pool: "old".to_owned(), ..draw(&key(), 1) }).await.unwrap().into_inner();
    assert_eq!((drawn.results[0].request_id, drawn.results[0].item_id.as_str()), (42, "car"));
}

#[tokio::test]
async fn a_node_tells_its_digests_and_checks_its_state() {
    let server = Server::with_catalog(&[GOLD, MUD]).await;
    client(&server).await.draw(draw(&key(), 3)).await.unwrap();
    let mut cluster = ClusterClient::new(server.channel().await);
    let status = cluster.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.first_index > status.snapshot_index && status.first_index <= status.last_index + 1);
    let at = |index| GetDigestRequest { index };
    let told = cluster.get_digest(at(status.applied_index)).await.unwrap().into_inner();
    assert_eq!(told.history_digest, status.history_digest);
    for index in [0, status.applied_index + 1_000, u64::MAX] {
        let refused = refused(cluster.get_digest(at(index)).await);
        assert_eq!(refused, (Code::OutOfRange, "INDEX_OUT_OF_RANGE".to_owned()), "{index}");
    }
    let found = cluster.verify(VerifyRequest {}).await.unwrap().into_inner();
    assert_eq!((found.pools, found.items, found.violations.as_slice()), (1, 2, [].as_slice()));
    assert!(found.keys >= 1 && found.index >= status.applied_index);
}

#[tokio::test]
async fn the_status_is_of_a_leader_and_leadership_stays_where_nobody_else_is() {
    let server = Server::with_catalog(&[MUD]).await;
    client(&server).await.draw(draw("", 1)).await.unwrap();
    let mut cluster = ClusterClient::new(server.channel().await);
    let told = cluster.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((told.node_id, told.role(), told.leader, told.voters.as_slice()), (1, Role::Leader, 1, [1].as_slice()));
    assert_eq!(told.cluster_id, "07070707-0707-0707-0707-070707070707");
    assert!(told.applied_index > 1 && told.commit_index >= told.applied_index);
    assert_eq!((told.history_digest.len(), told.state_digest.len()), (64, 32));
    let transfer = TransferLeadershipRequest { node_id: 99 };
    let (code, reason) = refused(cluster.transfer_leadership(transfer).await);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "TRANSFER_REFUSED"));
}

#[tokio::test]
async fn a_node_without_a_quorum_says_so_in_time() {
    let server = Server::start(support::without_quorum(), Default::default()).await;
    let mut client = client(&server).await;
    for deadline in [Duration::from_millis(300), Duration::from_secs(1)] {
        let mut request = Request::new(draw("", 1));
        request.set_timeout(deadline);
        let status = soon(client.draw(request)).await.expect_err("nobody can decide");
        assert_eq!((status.code(), error_info(&status).reason.as_str()), (Code::Unavailable, "NO_LEADER"));
        assert!(status.get_details_retry_info().is_some(), "it may be sent again");
    }
    let mut request = Request::new(GetPoolRequest::default());
    request.set_timeout(Duration::from_millis(300));
    let status = soon(client.get_pool(request)).await.expect_err("nobody confirms the read");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(["NO_QUORUM", "NO_LEADER"].contains(&error_info(&status).reason.as_str()));
}
