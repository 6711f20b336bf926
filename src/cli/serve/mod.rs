//! `serve`: one node, from its configuration to its end.
//!
//! **Start.** Whatever can be refused is refused before anything is promised: configuration, certificates, the store, the
//! sockets. Then the node starts, founding or rejoining by itself, and clients are let in at once: a request that comes
//! early waits within its own deadline. The line `ready` means that a linearizable read has succeeded here.
//!
//! **End.** SIGTERM, Ctrl-C or the end of the terminal: no more is accepted, what was proposed is answered, the rest is
//! refused as surely not applied, leadership is handed over, the node stops; exit 0. A second signal does not wait. What the node stops for by itself is an error: exit 5 for a broken
//! invariant, as it tells of the cluster and not of this process, and 1 for everything else.
//!
//! **Threads.** One thread has the loop, the network and the timers: between them a request takes function calls, not
//! wake-ups, which cost more than all else that is done for it. The store has a thread of its own; snapshots and checks happen
//! on threads for blocking work. `--threads` adds more, for nodes whose clients' encryption fills a core.

mod predecessor;
mod sockets;

use std::{
    cell::Cell,
    convert::Infallible,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args as _;
use rustix::{fs::Mode, process::umask};
use tokio::{
    net::TcpListener,
    sync::mpsc::Receiver,
    task::{JoinError, JoinHandle, JoinSet, spawn_blocking},
    time::timeout,
};

use super::{
    CliError, Exit, Format, Globals,
    config::{self, ClusterSource, Listen, Overrides, Plaintext, Settings, memory},
    output,
    signals::StopSignals,
};
use crate::{
    durable::{Recovered, RecoveredState},
    runtime::{FlowLimits, Node, NodeConfig, NodeHandle, Stopped, StoreThread},
    server::{
        admin::{self, AdminConfig},
        drain::{self, Draining},
        grpc::{self, ClientCertificates, GrpcConfig, GrpcTls},
        health, native,
    },
    storage::{self, OpenError, Store, Wanted},
    system::SystemEnvironment,
    transport::{
        quic::{ClientConnection, Quic, QuicTransport},
        tls::NodeTls,
    },
    types::{ClusterId, DiskId, ShardId},
};

/// How often a long start says how far it has come.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How long clients may take to hear their answers at the end; the gRPC side has the same bound of its own.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long the node may take to stop: what was proposed is answered for 2 s, and its store is given 2 s more.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's configuration, or the predecessor's config.yaml
    #[arg(long, env = "TOMBOLA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Threads for requests and network, besides those for the disk; more than 1 if one core is too little for them
    #[arg(long, env = "TOMBOLA_THREADS", value_name = "N", default_value = "1", hide_env_values = true,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Instead of the file's values.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Runs a node until a signal ends it.
///
/// # Errors
/// It cannot start, or stopped by itself.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let Some(file) = args.config else { return no_config(globals.output) };
    // Keys, draws and logs are nobody else's.
    umask(Mode::RWXG | Mode::RWXO);
    let mut signals = StopSignals::listen()
        .map_err(|error| CliError::new(Exit::Other, "SIGNALS", format!("cannot listen to signals: {error}")))?;
    let settings = config::load(&file, &args.overrides)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let running = tokio::select! {
        biased;
        _ = signals.next() => return Ok(Exit::Ok),
        running = Running::start(settings) => running?,
    };
    running.until_stopped(&mut signals).await
}

/// The predecessor's words, and how it is used.
fn no_config(format: Format) -> Result<Exit, CliError> {
    let message = "config file path is required.";
    if format == Format::Json {
        return Err(CliError::usage(message).hint("tombola serve --config FILE"));
    }
    let usage = Args::augment_args(clap::Command::new("tombola serve")).render_help();
    output::stderr(&format!("Error: {message}\n\n{usage}"));
    Ok(Exit::Usage)
}

/// A node with all its doors open.
struct Running {
    node: NodeHandle,
    ended: JoinHandle<Stopped>,
    drain: drain::Drain,
    /// The gRPC server and the native one.
    servers: JoinSet<Result<(), CliError>>,
    /// The admin side, which is served to the end, so that probes see it coming.
    _admin: JoinSet<Infallible>,
    quic: Quic,
}

impl Running {
    async fn start(settings: Settings) -> Result<Self, CliError> {
        let cluster = match &settings.cluster {
            ClusterSource::Given(id) => *id,
            ClusterSource::MadeIn(dir) => predecessor::found_or_find(dir)?,
        };
        let tls = NodeTls::load(&settings.tls, cluster, settings.node)?;
        let grpc_config = settings.grpc.map(|grpc| grpc_config(&grpc, &tls));
        let (store, recovered) = open_store(&settings, cluster).await?;
        check_memory(&recovered, &settings)?;
        let grpc = match settings.grpc {
            Some(grpc) => Some(sockets::bind_grpc(grpc.listen).await?),
            None => None,
        };
        let admin_listener = match settings.admin_listen {
            Some(listen) => Some((sockets::bind_admin(listen).await?, admin_config(&settings, listen))),
            None => None,
        };
        let (transport, clients, quic) = sockets::bind_quic(&settings, tls)?;
        announce(&settings, cluster, &recovered);
        let store = StoreThread::start(store)
            .map_err(|error| CliError::new(Exit::Other, "RUNTIME", format!("cannot start a thread: {error}")))?;
        let Node { handle, task } = start_node(&settings, recovered, transport, store);

        let (drain, draining) = drain::channel();
        let mut servers = JoinSet::new();
        servers.spawn(serve_clients(clients, handle.clone(), draining.clone()));
        if let (Some(listener), Some(config)) = (grpc, grpc_config) {
            servers.spawn(serve_grpc(listener, config, handle.clone(), draining.clone()));
        }
        let mut admin = JoinSet::new();
        if let Some((listener, config)) = admin_listener {
            admin.spawn(admin::serve(listener, config, handle.clone(), draining.clone()));
        }
        tokio::spawn(tell_readiness(handle.clone(), draining));
        Ok(Self { node: handle, ended: task, drain, servers, _admin: admin, quic })
    }

    async fn until_stopped(mut self, signals: &mut StopSignals) -> Result<Exit, CliError> {
        let signal = tokio::select! {
            biased;
            stopped = &mut self.ended => {
                self.quic.close().await;
                return ended(stopped);
            }
            Some(failed) = self.servers.join_next() => {
                let failed = failed.map_err(defect).and_then(|served| served);
                return Err(failed.err().unwrap_or_else(|| CliError::new(Exit::Other, "DEFECT", "a server ended unasked")));
            }
            signal = signals.next() => signal,
        };
        tracing::info!("stopping after {signal}");
        tokio::select! {
            biased;
            signal = signals.next() => {
                tracing::warn!("not waiting any longer after {signal}");
                Ok(Exit::Interrupted)
            }
            stopped = self.stop() => stopped,
        }
    }

    /// Stops the node, and the servers once they have passed on what it answers. Both at once: were the node to go on until
    /// nobody waits, it would go on proposing, and behind a disk that stalls the servers would leave before they know what
    /// became of anything. Peers are left last, since the node hands leadership over.
    async fn stop(self) -> Result<Exit, CliError> {
        let Self { node, ended: mut task, drain, mut servers, quic, _admin } = self;
        drain.begin();
        let stopped = timeout(STOP_MAX, async {
            node.stop().await;
            (&mut task).await
        });
        let drained = timeout(DRAIN_MAX, async { while servers.join_next().await.is_some() {} });
        let (stopped, drained) = tokio::join!(stopped, drained);
        if drained.is_err() {
            tracing::warn!("clients were still waiting after {} s", DRAIN_MAX.as_secs());
        }
        quic.close().await;
        match stopped {
            Ok(stopped) => ended(stopped),
            Err(_) => Err(CliError::new(Exit::Other, "NOT_STOPPED", "the node did not stop in time and was left")),
        }
    }
}

fn grpc_config(grpc: &config::Grpc, tls: &NodeTls) -> GrpcConfig {
    let pem = tls.grpc_pem();
    let with_tls = grpc.plaintext == Plaintext::No;
    let tls = with_tls.then(|| GrpcTls {
        certificate_chain: pem.cert.clone(),
        private_key: pem.key.clone(),
        clients: Some(ClientCertificates { roots: pem.caller_cas.clone(), required: true }),
    });
    GrpcConfig { tls, reflection: grpc.reflection, ..GrpcConfig::default() }
}

fn admin_config(settings: &Settings, Listen(listen): Listen) -> AdminConfig {
    AdminConfig { listen, store_file: Some(storage::file(&settings.data_dir, settings.node)) }
}

/// Reading the log back may take long, and blocks.
async fn open_store(settings: &Settings, cluster: ClusterId) -> Result<(Store, Recovered), CliError> {
    let data_dir = settings.data_dir.clone();
    let wanted = Wanted { cluster, shard: ShardId::FIRST, replica: settings.node };
    let opened = spawn_blocking(move || storage::open(&data_dir, wanted, DiskId(rand::random()), log_progress()));
    Ok(opened.await.map_err(defect)??)
}

/// Logs how far the store has been read: about once a second, hence never when that takes less.
fn log_progress() -> impl Fn(storage::Progress) + Send + 'static {
    let last = Cell::new(Instant::now());
    move |storage::Progress { phase, read_bytes, file_bytes }| {
        if last.get().elapsed() >= PROGRESS_INTERVAL {
            last.set(Instant::now());
            let percent = read_bytes.saturating_mul(100) / file_bytes.max(1);
            tracing::info!(percent = percent.min(100), read_bytes, file_bytes, "{phase}");
        }
    }
}

/// A cluster keeps the limits that it was founded with, whatever the file says by now.
fn check_memory(recovered: &Recovered, settings: &Settings) -> Result<(), CliError> {
    let RecoveredState::Founded(log) = &recovered.state else { return Ok(()) };
    memory::check(&log.snapshot.meta.founders.limits, &settings.snapshots, memory::of_machine())
        .map_err(|small| CliError::new(Exit::Usage, "MEMORY_TOO_SMALL", small.to_string()).hint(small.help()))
}

fn start_node(settings: &Settings, recovered: Recovered, transport: QuicTransport, store: StoreThread) -> Node {
    let config = NodeConfig {
        founders: settings.members.iter().map(|member| member.id).collect(),
        heartbeat_ticks: settings.timing.heartbeat_ticks,
        election_ticks: settings.timing.election_ticks,
        snapshots: settings.snapshots,
        snapshot_bytes_per_s: settings.snapshot_bytes_per_s,
        flow: FlowLimits::default(),
        limits: settings.limits,
        catalog: settings.catalog.clone(),
        accept_clock: settings.accept_clock,
    };
    let environment = SystemEnvironment::new(settings.timing.tick);
    Node::start(config, recovered, transport, store, environment)
}

/// Says who this is, where it listens, and what its store held.
fn announce(settings: &Settings, cluster: ClusterId, recovered: &Recovered) {
    let recovered_index = match &recovered.state {
        RecoveredState::Unfounded { .. } => 0,
        RecoveredState::Founded(log) => log.entries.last().map_or(log.snapshot.meta.index, |entry| entry.index).0,
    };
    let grpc = settings.grpc.map_or("off".to_owned(), |grpc| match grpc.plaintext {
        Plaintext::No => grpc.listen.to_string(),
        Plaintext::OnLoopback | Plaintext::Anywhere => format!("{} (plaintext)", grpc.listen),
    });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %cluster,
        node = settings.node.0,
        quic = %settings.quic_listen,
        grpc,
        admin = settings.admin_listen.map_or("off".to_owned(), |listen| listen.to_string()),
        data_dir = %settings.data_dir.display(),
        recovered_index,
        "starting"
    );
}

/// Says `ready` once a linearizable read has succeeded.
async fn tell_readiness(node: NodeHandle, mut draining: Draining) {
    let ready = async {
        loop {
            if let Ok(index) = health::can_read(&node).await {
                return index;
            }
            // Refusals may come at once, while the cluster is not founded.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        biased;
        () = draining.begun() => {}
        index = ready => tracing::info!(index = index.0, "ready"),
    }
}

async fn serve_grpc(
    listener: TcpListener,
    config: GrpcConfig,
    node: NodeHandle,
    mut draining: Draining,
) -> Result<(), CliError> {
    let shutdown = async move { draining.begun().await };
    grpc::serve(listener, config, node, shutdown)
        .await
        .map_err(|error| CliError::new(Exit::Other, "GRPC", error.to_string()))
}

/// Serves native clients until told to drain and all are answered.
async fn serve_clients(
    clients: Receiver<ClientConnection>,
    node: NodeHandle,
    mut draining: Draining,
) -> Result<(), CliError> {
    native::serve(clients, node, async move { draining.begun().await }).await;
    Ok(())
}

/// How the process ends when the node has ended.
fn ended(stopped: Result<Stopped, JoinError>) -> Result<Exit, CliError> {
    let stopped = stopped.map_err(defect)?;
    let (exit, code, hint) = match &stopped {
        Stopped::Asked => {
            tracing::info!("stopped");
            return Ok(Exit::Ok);
        }
        Stopped::Founding(_) => {
            (Exit::Other, "FOUNDING_REFUSED", "nothing was decided by this node; correct what the message says")
        }
        Stopped::Invariant(_) => (
            Exit::Unhealthy,
            "INVARIANT_BROKEN",
            "keep the data directory and the log as they are; the other nodes go on if they are a majority",
        ),
        Stopped::Store(_) => (
            Exit::Other,
            "STORE_FAILED",
            "what was acknowledged is on the other nodes; check the disk before starting again",
        ),
        Stopped::Clock(_) => (
            Exit::Usage,
            "CLOCK_IMPLAUSIBLE",
            "nothing was done. Set the clock right; or, if it is right, start once with --accept-clock",
        ),
        Stopped::Entropy(_) => (Exit::Other, "NO_ENTROPY", "the node did not start; nothing was done"),
    };
    Err(CliError::new(exit, code, stopped.to_string()).hint(hint))
}

/// A task was lost, which only a panic does.
fn defect(error: JoinError) -> CliError {
    CliError::new(Exit::Other, "DEFECT", format!("this is a defect of tombola: {error}"))
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        Self::new(Exit::Other, error.code(), error.to_string())
    }
}
