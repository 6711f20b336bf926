//! The gRPC server over a real socket on a real node: the predecessor's clients, our own, health, reflection, bounds,
//! TLS and the stop. The old client is generated from a proto of its own (`tests/upstream.proto`).

mod support;

#[path = "grpc/house.rs"]
mod house;
#[path = "grpc/legacy.rs"]
mod legacy;
#[path = "grpc/tls.rs"]
mod tls;
#[path = "grpc/v1.rs"]
mod v1;

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tombola::{
    api::Request,
    pool::{Action, Actor, PoolId, Stock},
    runtime::{Node, NodeHandle},
    server::grpc::{self, GrpcConfig, GrpcError},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::{ErrorInfo, StatusExt};

/// The old client's code.
#[allow(clippy::all)]
mod upstream {
    include!("gen/rewardpool.rs");
}

/// How long anything may take before a test is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node and its gRPC server on a port of the system's choice.
struct Server {
    node: NodeHandle,
    address: SocketAddr,
    /// Tells it to stop.
    stop: oneshot::Sender<()>,
    /// Ends when it has.
    stopped: JoinHandle<Result<(), GrpcError>>,
}

impl Server {
    /// A server of one node that is a whole cluster.
    async fn with_catalog(catalog: &[(&str, Stock, u32)]) -> Self {
        let config = GrpcConfig { reflection: true, ..GrpcConfig::default() };
        Self::start(support::alone(catalog).await, config).await
    }

    async fn start(node: Node, config: GrpcConfig) -> Self {
        let node = node.handle;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (stop, stopping) = oneshot::channel();
        let shutdown = async {
            let _ = stopping.await;
        };
        let stopped = tokio::spawn(grpc::serve(listener, config, node.clone(), shutdown));
        Self { node, address, stop, stopped }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address makes a URI")
    }

    async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("the server accepts")
    }

    /// The predecessor's client.
    async fn old_client(&self) -> upstream::reward_pool_service_client::RewardPoolServiceClient<Channel> {
        upstream::reward_pool_service_client::RewardPoolServiceClient::new(self.channel().await)
    }

    /// Does something to pool `default` past gRPC.
    async fn act(&self, action: Action) {
        let request = Request { pool: PoolId::default_pool(), key: None, actor: Actor::default(), action };
        let answered = self.node.submit(request, Duration::from_secs(10)).await.expect("the node decides");
        answered.outcome.result.expect("it is not refused");
    }
}

/// What our ErrorInfo says; every status of ours has one.
fn error_info(status: &Status) -> ErrorInfo {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "tombola");
    info
}

/// Fails the test if it does not end.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it ends")
}
