//! `dev`: a cluster on this machine, of real processes, real QUIC and real files, to try things out.
//!
//! Each node is `serve` of this very program, on loopback, with a configuration that anybody could have written: what
//! works here works anywhere. `dev` makes certificates and configurations, starts the nodes, waits until every one of them
//! answers, says where they are, and stays to tell what becomes of them.
//!
//! **It never restarts a node.** Killing one is what a development cluster is for; the command that brings it back is
//! printed. A node that was brought back by hand is noticed, and `dev.json` then names its process; it belongs to whoever
//! started it, so `dev` does not stop it, and keeps a temporary directory that such a node still uses.
//!
//! **It ends** on SIGTERM, Ctrl-C or the end of its terminal: the nodes it started are stopped cleanly, those that do not
//! stop in time are killed, its files are withdrawn and its temporary directory is removed. If `dev` itself is killed,
//! nothing of this happens and the nodes live on: stop them by their numbers in `dev.json`.

mod detach;
mod place;
mod processes;
mod ready;
mod supervise;

use std::path::PathBuf;

use self::{
    place::{Place, Plan},
    supervise::Supervisor,
};
use super::{
    CliError, Exit, Globals,
    config::{read_catalog, sample_catalog},
    output,
    ports::{self, GRPC_PORT_BASE},
    signals::StopSignals,
};
use crate::{pool::CatalogItem, types::ReplicaId};

/// Flag that moves all ports.
const PORT_FLAG: &str = "--grpc-port";

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many nodes: 1, 3 or 5, say [default: 3, or as many as DIR has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: Option<u64>,
    /// Where everything is kept, to go on with later [default: a temporary directory, deleted at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What pool `default` is first stocked with: YAML or JSON, the predecessor's files too [default: a sample]
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,
    /// Port of node 1's gRPC side; every other port moves along [default: 50051, or as in DIR]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub grpc_port: Option<u16>,
    /// Return once every node answers, and leave the cluster running
    #[arg(long)]
    pub detach: bool,
    /// Set by `--detach` for the process that stays.
    #[arg(long, hide = true, requires = "data_dir", conflicts_with = "detach")]
    pub detached: bool,
    /// Set by `--detach`: the data directory is to be deleted at the end.
    #[arg(long, hide = true, requires = "detached")]
    pub temporary: bool,
}

/// Runs the verb, until a signal ends it.
///
/// # Errors
/// The cluster did not come up; what had been started is stopped again.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    if args.detach {
        return detach::run(args, globals).await;
    }
    if args.detached {
        // The end of the terminal that `--detach` was typed at must not reach the process that stays.
        let _ = rustix::process::setsid();
    }
    let mut signals = StopSignals::listen()
        .map_err(|error| CliError::new(Exit::Other, "SIGNALS", format!("cannot listen to signals: {error}")))?;
    let catalog = args.catalog.as_deref().map(read_catalog).transpose()?;
    let (dir, temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), args.temporary),
        None => (place::make_temporary()?, true),
    };
    let place = Place::take(&dir, temporary)?;
    let (ended, left) = match plan(&args, catalog, &place) {
        Ok(plan) => Supervisor::new(&place, &plan, args.detached, globals).run(&mut signals).await,
        Err(error) => (Err(error), Vec::new()),
    };
    if left.is_empty() {
        // Whatever went wrong before is what there is to tell.
        return ended.and(place.remove_if_temporary()).map(|()| Exit::Ok);
    }
    let left: Vec<_> = left.iter().map(|(node, pid)| format!("{node} (pid {pid})")).collect();
    output::stderr(&format!("started by hand and still running, on {}: node {}", place.dir.display(), left.join(", ")));
    ended.map(|()| Exit::Ok)
}

/// What the nodes are to be told, from what was asked and what the directory holds. Makes certificates if there are none.
fn plan(args: &Args, catalog: Option<Vec<CatalogItem>>, place: &Place) -> Result<Plan, CliError> {
    let existing = place.existing()?;
    let nodes = args.nodes.or(existing.as_ref().map(|existing| existing.nodes)).unwrap_or(3);
    let grpc_port = args.grpc_port.or(existing.as_ref().map(|existing| existing.grpc_port)).unwrap_or(GRPC_PORT_BASE);
    if let Some(existing) = existing.as_ref().filter(|existing| existing.nodes != nodes) {
        let message = format!("{} holds a cluster of {} nodes, not of {nodes}", place.dir.display(), existing.nodes);
        return Err(CliError::usage(message).hint("leave out --nodes, or name another --data-dir"));
    }
    ports::check_free(nodes, grpc_port, PORT_FLAG).map_err(|error| match left_behind(place, nodes) {
        Some(pids) => {
            error.hint(format!("nodes of a `dev` that was killed may still run here; to stop them: kill {pids}"))
        }
        None => error,
    })?;
    let (cluster, before) = match existing {
        Some(existing) => (existing.cluster, existing.catalog),
        None => (place.found(nodes)?, sample_catalog()),
    };
    let plan = Plan { cluster, nodes, grpc_port, catalog: catalog.unwrap_or(before) };
    place.configure(&plan)?;
    Ok(plan)
}

/// The processes that hold nodes' data in this directory, although no `dev` does.
fn left_behind(place: &Place, nodes: u64) -> Option<String> {
    let pids = (1..=nodes).filter_map(|node| place.holder(ReplicaId(node)));
    let pids: Vec<_> = pids.filter(|&pid| processes::exists(pid)).map(|pid| pid.to_string()).collect();
    (!pids.is_empty()).then(|| pids.join(" "))
}
