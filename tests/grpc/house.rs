//! What stands around the services: health, reflection, bounds, the stop.

use tombola::{pool::Stock, server::grpc::GrpcConfig, transport::seats::ConnectionLimits};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    Server, soon, support,
    upstream::{GetStateRequest, UpdateItemRequest},
};

const MUD: (&str, Stock, u32) = ("mud", Stock::Unlimited, 70);

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_serving_once_a_read_succeeds_and_no_longer_after_the_stop() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut health = HealthClient::new(server.channel().await);
    let process = health.check(health_of("")).await.unwrap().into_inner();
    assert_eq!(process.status(), ServingStatus::Serving);
    for service in ["tombola.v1.RewardPool", "rewardpool.RewardPoolService"] {
        let mut told = health.watch(health_of(service)).await.unwrap().into_inner();
        let serving = async { while told.message().await.unwrap().unwrap().status() != ServingStatus::Serving {} };
        soon(serving).await;
    }
    let mut told = health.watch(health_of("tombola.v1.RewardPool")).await.unwrap().into_inner();
    assert_eq!(soon(told.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop.send(()).unwrap();
    assert_eq!(soon(told.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn health_is_not_serving_without_a_quorum() {
    let server = Server::start(support::without_quorum(), GrpcConfig::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    let told = health.check(health_of("")).await.unwrap().into_inner();
    assert_eq!(told.status(), ServingStatus::Serving, "the process is up");
    // Asked for longer than the first try of a read may take.
    for _ in 0..15 {
        let told = health.check(health_of("tombola.v1.RewardPool")).await.unwrap().into_inner();
        assert_eq!(told.status(), ServingStatus::NotServing);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Names of the services that reflection lists, by either version of it.
macro_rules! reflected {
    ($server:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new($server.channel().await);
        match client.server_reflection_info(tokio_stream::once(request)).await {
            Err(status) => Err(status),
            Ok(told) => match told.into_inner().message().await.unwrap().unwrap().message_response {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    Ok(list.service.into_iter().map(|service| service.name).collect::<Vec<_>>())
                }
                other => panic!("services were asked for, not {other:?}"),
            },
        }
    }};
}

#[tokio::test]
async fn reflection_tells_the_services_in_both_versions() {
    let server = Server::with_catalog(&[MUD]).await;
    for services in [reflected!(server, v1).unwrap(), reflected!(server, v1alpha).unwrap()] {
        for service in ["rewardpool.RewardPoolService", "tombola.v1.RewardPool", "tombola.v1.Cluster"] {
            assert!(services.iter().any(|name| name == service), "{service} is not in {services:?}");
        }
    }
}

#[tokio::test]
async fn reflection_is_a_switch() {
    let server = Server::start(support::alone(&[MUD]).await, GrpcConfig::default()).await;
    assert_eq!(reflected!(server, v1).unwrap_err().code(), Code::Unimplemented);
    assert_eq!(reflected!(server, v1alpha).unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_message_over_the_bound_is_refused_and_nothing_else_suffers() {
    let server = Server::with_catalog(&[MUD]).await;
    let mut client = server.old_client().await;
    let long = UpdateItemRequest { item_id: "x".repeat(65 << 10), quantity: 1, probability: 1 };
    let status = client.update_item(long).await.expect_err("it is too long");
    assert_eq!(status.code(), Code::OutOfRange);
    client.get_state(GetStateRequest {}).await.expect("the connection goes on");
}

#[tokio::test]
async fn connections_over_the_bound_are_turned_away_until_one_leaves() {
    let connections = ConnectionLimits { total_max: 8, per_address_max: 2 };
    let config = GrpcConfig { connections, ..GrpcConfig::default() };
    let server = Server::start(support::alone(&[MUD]).await, config).await;
    let (mut first, mut second) = (server.old_client().await, server.old_client().await);
    first.get_state(GetStateRequest {}).await.expect("one is served");
    second.get_state(GetStateRequest {}).await.expect("two are served");
    let third = async {
        let mut third = upstream_client(server.endpoint().connect().await.ok()?);
        third.get_state(GetStateRequest {}).await.ok()
    };
    assert!(soon(third).await.is_none(), "three are not");
    first.get_state(GetStateRequest {}).await.expect("who is served stays served");
    drop(second);
    soon(async {
        loop {
            let Ok(channel) = server.endpoint().connect().await else { continue };
            if upstream_client(channel).get_state(GetStateRequest {}).await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn upstream_client(
    channel: tonic::transport::Channel,
) -> super::upstream::reward_pool_service_client::RewardPoolServiceClient<tonic::transport::Channel> {
    super::upstream::reward_pool_service_client::RewardPoolServiceClient::new(channel)
}

#[tokio::test]
async fn a_stop_closes_the_port_and_ends() {
    let server = Server::with_catalog(&[MUD]).await;
    let endpoint = server.endpoint();
    server.old_client().await.get_state(GetStateRequest {}).await.expect("it serves");
    server.stop.send(()).unwrap();
    soon(server.stopped).await.unwrap().expect("it stops well");
    assert!(endpoint.connect().await.is_err(), "nobody listens any more");
}
