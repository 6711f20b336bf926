//! The gRPC server: both services, health and reflection on one port, plaintext or TLS.
//!
//! **Bounds**, so that no client can hold more than its share: connections ([`ConnectionLimits`]), 64 streams each, 64
//! KiB a message (1 MiB for `tombola.v1`, whose CreatePool carries a catalog) and of unread bytes a connection, 8 KiB of
//! headers, keep-alive after 20 s of silence with 10 s to answer, a connection for an hour. Who says nothing at all has
//! 5 s.
//!
//! **Health** (`grpc.health.v1`): "" is the process. The names of the services are SERVING when a linearizable read
//! would succeed now; one small read a second finds that out, however many ask.
//!
//! **Stopping**: when the shutdown signal comes, health says NOT_SERVING, the listener closes, streams are told, and
//! what was accepted is answered, for [`GRACE`] at most. Clients that hold a connection longer lose it with the
//! process.
//!
//! **Reflection** (v1 and v1alpha, as different versions of grpcurl ask for either) is a switch: it tells strangers
//! what they can ask.

use std::{convert::Infallible, fmt, future::Future, time::Duration};

use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    service::Routes,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    accept,
    drain::{self, Draining},
    health,
    legacy::Legacy,
    proto::{
        DESCRIPTORS,
        rewardpool::reward_pool_service_server::{self, RewardPoolServiceServer},
        v1::{
            cluster_server::ClusterServer,
            reward_pool_server::{self, RewardPoolServer},
        },
    },
    v1,
};
use crate::{runtime::NodeHandle, transport::seats::ConnectionLimits};

/// Name of the service, as health knows it.
const SERVICE_V1: &str = reward_pool_server::SERVICE_NAME;
/// Name of the predecessor's service.
const SERVICE_LEGACY: &str = reward_pool_service_server::SERVICE_NAME;
/// Streams a client may have open on one connection.
const STREAMS_MAX: u32 = 64;
/// Bytes of one connection, and of each of its streams, that wait to be read. HTTP/2 knows no smaller window.
const WINDOW_BYTES: u32 = 64 << 10;
/// Longest message from a client in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Longest message to `tombola.v1.RewardPool` in bytes: CreatePool carries a catalog.
const CATALOG_BYTES_MAX: usize = 1 << 20;
/// Longest header list in bytes.
const HEADER_BYTES_MAX: u32 = 8 << 10;
/// A silent connection is asked for a sign of life after this long,
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// and closed if none comes for this long.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is asked to go after this long, so that clients spread out again.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// A TLS handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was accepted may take to be answered when the server stops.
pub const GRACE: Duration = Duration::from_secs(5);
/// Between two tries whether a linearizable read succeeds.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Connections at a time. 256 from one address: the predecessor's load script alone comes with 100 from loopback.
const CONNECTIONS: ConnectionLimits = ConnectionLimits { total_max: 1_024, per_address_max: 256 };

/// What the server is told once.
#[derive(Clone, Debug)]
pub struct GrpcConfig {
    /// TLS; plaintext without it.
    pub tls: Option<GrpcTls>,
    /// Serve reflection.
    pub reflection: bool,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
}

impl Default for GrpcConfig {
    /// Plaintext, no reflection, 1,024 connections, 256 of them from one address.
    fn default() -> Self {
        Self { tls: None, reflection: false, connections: CONNECTIONS }
    }
}

/// The server's certificate, and what it wants of its clients. Texts in PEM.
#[derive(Clone)]
pub struct GrpcTls {
    /// Its certificate, then those that lead to a root.
    pub certificate_chain: Vec<u8>,
    /// The certificate's private key.
    pub private_key: Vec<u8>,
    /// Which certificates of clients are believed; none are asked for without it.
    pub clients: Option<ClientCertificates>,
}

/// Which certificates of clients are believed.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// The roots that sign them, in PEM.
    pub roots: Vec<u8>,
    /// Clients without one are turned away.
    pub required: bool,
}

impl fmt::Debug for GrpcTls {
    /// Leaves the private key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTls").field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// The server could not start, or broke down.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// Certificate, key or roots cannot be used.
    #[error("the gRPC certificate, key or client roots cannot be used: {}", causes(.0))]
    Tls(#[source] tonic::transport::Error),
    /// The descriptors in the build cannot be reflected.
    #[error("gRPC reflection cannot be served: {0}")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// Serving failed.
    #[error("the gRPC server failed: {}", causes(.0))]
    Serve(#[source] tonic::transport::Error),
}

/// tonic's errors name only their kind; what happened is in their sources.
fn causes(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Serves until `shutdown` is over and what was accepted is answered.
///
/// # Errors
/// TLS material that cannot be used is told before anything is accepted.
pub async fn serve(
    listener: TcpListener,
    config: GrpcConfig,
    node: NodeHandle,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), GrpcError> {
    let (drain, draining) = drain::channel();
    let (reporter, health_server) = tonic_health::server::health_reporter();
    let routes = routes(&config, &node, &draining)?.add_service(health_server);
    let server = builder(config.tls.as_ref())?.add_routes(routes);

    let (accepted, incoming) = accept::channel();
    tokio::spawn(accept::accept(listener, config.connections, accepted));
    let serving = server.serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
        let mut draining = draining;
        draining.begun().await;
    });
    let stopping = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            never = probe(&node, &reporter) => match never {}
        }
        tell(&reporter, ["", SERVICE_V1, SERVICE_LEGACY], ServingStatus::NotServing).await;
        drain.begin();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        served = serving => served.map_err(GrpcError::Serve),
        () = stopping => {
            tracing::warn!("gRPC clients still hold connections {} s after the stop: leaving them", GRACE.as_secs());
            Ok(())
        }
    }
}

/// Every service but health.
fn routes(config: &GrpcConfig, node: &NodeHandle, draining: &Draining) -> Result<Routes, GrpcError> {
    let legacy = Legacy::new(node.clone(), draining.clone());
    let mut routes = Routes::new(RewardPoolServiceServer::new(legacy).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            RewardPoolServer::new(v1::RewardPool::new(node.clone())).max_decoding_message_size(CATALOG_BYTES_MAX),
        )
        .add_service(ClusterServer::new(v1::Cluster::new(node.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX));
    if config.reflection {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = builder().build_v1().map_err(GrpcError::Reflection)?;
        let v1alpha = builder().build_v1alpha().map_err(GrpcError::Reflection)?;
        routes = routes
            .add_service(v1.max_decoding_message_size(MESSAGE_BYTES_MAX))
            .add_service(v1alpha.max_decoding_message_size(MESSAGE_BYTES_MAX));
    }
    Ok(routes)
}

/// A server with its bounds and its TLS.
fn builder(tls: Option<&GrpcTls>) -> Result<Server, GrpcError> {
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .concurrency_limit_per_connection(STREAMS_MAX as usize)
        .load_shed(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX);
    match tls {
        None => Ok(server),
        Some(tls) => server.tls_config(tls_config(tls)).map_err(GrpcError::Tls),
    }
}

fn tls_config(tls: &GrpcTls) -> ServerTlsConfig {
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(&tls.certificate_chain, &tls.private_key))
        .timeout(HANDSHAKE_TIMEOUT);
    match &tls.clients {
        None => config,
        Some(clients) => {
            config.client_ca_root(Certificate::from_pem(&clients.roots)).client_auth_optional(!clients.required)
        }
    }
}

/// Tries again and again whether a linearizable read succeeds, and tells health; one read at a time.
async fn probe(node: &NodeHandle, reporter: &HealthReporter) -> Infallible {
    let mut told = None;
    tell(reporter, [SERVICE_V1, SERVICE_LEGACY], ServingStatus::NotServing).await;
    loop {
        let serving = match health::can_read(node).await {
            Ok(_) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        // Whoever watches is told of changes only.
        if told != Some(serving) {
            tell(reporter, [SERVICE_V1, SERVICE_LEGACY], serving).await;
            told = Some(serving);
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

async fn tell<const N: usize>(reporter: &HealthReporter, services: [&str; N], status: ServingStatus) {
    for service in services {
        reporter.set_service_status(service, status).await;
    }
}
