//! The admin port: HTTP for people and probes. It reads and never changes anything.
//!
//! | | |
//! |---|---|
//! | `/livez` | 200 while the loop runs, else 503 |
//! | `/readyz` | 200 while a linearizable read succeeds here, else 503; `?verbose` lists the checks |
//! | `/status` | the node as it sees itself, JSON |
//! | `/metrics` | OpenMetrics text |
//!
//! **What keeps it from strangers.** It has neither TLS nor tokens yet, so the configuration lets it listen on loopback
//! alone. A browser on the same machine is a stranger as well: a name that an attacker made to point here is refused by its
//! `Host`, a page of another origin by its `Origin`; there is no CORS, so no page but ours can read an answer (`guard`).
//! Nothing secret is told, and nothing that a caller chose, as a label, a name or a header, is told again.
//!
//! **What it can hold**: [`CONNECTIONS_MAX`] connections, each with 10 s for the headers of a request and for being idle,
//! 16 KiB of them, and a minute in all; bodies are not read, and one over 64 KiB is refused by its length. Every answer is
//! bounded in time by [`super::health`].
//!
//! Errors are JSON with a stable code. Absent so far: the console, TLS, tokens.

mod guard;
mod status;

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::{encoding::text, metrics::gauge::Gauge, registry::Unit};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use self::guard::{Guard, refusal};
use super::{
    accept::{self, Conn},
    drain::Draining,
    health::{self, CHECK_MAX, Health},
};
use crate::{api::Failure, runtime::NodeHandle, transport::seats::ConnectionLimits};

/// Connections at once; more are closed unread.
pub const CONNECTIONS_MAX: usize = 16;
/// How long a client may take over the headers of a request, and between two.
const HEADERS_TIME_MAX: Duration = Duration::from_secs(10);
/// How long they may be, in bytes.
const HEADERS_BYTES_MAX: usize = 16 << 10;
/// How long a connection lives; then it ends after the answer that is under way,
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// for which there is this much time.
const CONNECTION_END_MAX: Duration = Duration::from_secs(5);
/// What OpenMetrics calls itself.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
const JSON_TYPE: &str = "application/json";

/// What the admin port is told once.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// The address that it listens on: it answers under this address, and under `localhost` if it is a loopback one.
    pub listen: SocketAddr,
    /// The store's file, whose length is a metric.
    pub store_file: Option<PathBuf>,
}

/// What every request sees.
struct Admin {
    node: NodeHandle,
    draining: Draining,
    store_file: Option<PathBuf>,
}

/// Serves until dropped: also while the node stops, so that probes see that it does.
pub async fn serve(listener: TcpListener, config: AdminConfig, node: NodeHandle, draining: Draining) -> Infallible {
    let AdminConfig { listen, store_file } = config;
    let router = router(Arc::new(Admin { node, draining, store_file }), Guard::new(listen));
    let limits = ConnectionLimits { total_max: CONNECTIONS_MAX, per_address_max: CONNECTIONS_MAX };
    let (accepted, mut conns) = accept::channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(accept::accept(listener, limits, accepted));
    loop {
        tokio::select! {
            biased;
            Some(conn) = conns.recv() => if let Ok(conn) = conn {
                tasks.spawn(serve_connection(conn, router.clone()));
            },
            Some(_ended) = tasks.join_next() => {}
        }
    }
}

fn router(admin: Arc<Admin>, guard: Guard) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .fallback(no_such_page)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .with_state(admin)
}

/// Serves one client, within bounds. What it does wrong ends its connection and is nobody else's concern.
async fn serve_connection(conn: Conn, router: Router) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIME_MAX).max_buf_size(HEADERS_BYTES_MAX);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(conn), TowerToHyperService::new(router)));
    if timeout(CONNECTION_AGE_MAX, serving.as_mut()).await.is_err() {
        serving.as_mut().graceful_shutdown();
        let _ = timeout(CONNECTION_END_MAX, serving).await;
    }
}

async fn livez(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    told(health::live(&admin.node), query.as_deref())
}

async fn readyz(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    told(health::ready(&admin.node, &admin.draining).await, query.as_deref())
}

/// Health as probes and people read it. What is not well is always listed.
fn told(health: Health, query: Option<&str>) -> Response {
    let is_verbose =
        query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part == "verbose=true"));
    let (code, verdict) = match health.is_well() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ok\n"),
    };
    let checks = if is_verbose || !health.is_well() { health.to_string() } else { String::new() };
    (code, [(header::CONTENT_TYPE, TEXT_TYPE)], checks + verdict).into_response()
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let asked = async { Ok((admin.node.status().await?, admin.node.vitals().await?)) };
    match timeout(CHECK_MAX, asked).await {
        Ok(Ok((status, vitals))) => {
            let json = status::json(&status, &vitals, admin.node.metrics().uptime());
            ([(header::CONTENT_TYPE, JSON_TYPE)], format!("{json:#}\n")).into_response()
        }
        Ok(Err::<_, Failure>(failure)) => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, failure.code(), &failure.to_string())
        }
        Err(_) => refusal(StatusCode::SERVICE_UNAVAILABLE, "NO_ANSWER", "the node does not say how it is in time"),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut registry = admin.node.metrics().registry();
    let length = async { Some(tokio::fs::metadata(admin.store_file.as_ref()?).await.ok()?.len()) };
    if let Some(length) = length.await {
        let bytes = Gauge::<i64>::default();
        bytes.set(i64::try_from(length).unwrap_or(i64::MAX));
        registry.register_with_unit("store", "Length of the store's file", Unit::Bytes, bytes);
    }
    let mut told = String::new();
    match text::encode(&mut told, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], told).into_response(),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the metrics cannot be written"),
    }
}

async fn no_such_page() -> Response {
    refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "there is /livez, /readyz, /status and /metrics")
}

async fn wrong_method() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this port is read with GET, and changes nothing")
}
