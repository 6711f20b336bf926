//! `tombola bench`: draws, claims or reads, in a closed loop or on a schedule, and what came of it.
//!
//! `--connections` × `--in-flight` workers make one request after another (`load`), each under a key of its own
//! (`workload`), natively or over gRPC (`grpc`). Latency is a call's, retries included; in an open loop it counts from
//! when the request was due. A closed loop offers less when the cluster is slow; read its tail accordingly.
//!
//! Nothing is printed before the books are balanced (`books`): what the workers were awarded, item by item, is what the
//! pool says it awarded meanwhile, the warm-up included. A request whose outcome stayed unknown is settled first, by
//! sending it again under its key.
//!
//! The generator shares the machine with whatever it measures, so what it does for a request is part of the figure: one
//! task a worker, two clock reads, one thread, and so one lock that nobody ever waits for, and one tally.

mod args;
mod books;
mod grpc;
mod load;
mod progress;
mod report;
mod svg;
mod tally;
mod workload;

use std::{path::Path, sync::Arc, time::Instant};

use tokio::task::JoinSet;

pub use args::{Args, Grpc};

use self::{
    load::Shared,
    progress::Progress,
    report::Run,
    tally::{Tally, Window},
    workload::{Ask, Keys, Native, Workload},
};
use super::{
    CliError, Exit, Globals,
    mutate::{self, Target},
    output, session,
};
use crate::{
    client::{Client, ClientConfig, Sockets},
    pool::{Action, CatalogItem, ItemState, Policy, PoolId, Refusal, Stock, Weight},
    server::proto::v1::reward_pool_client::RewardPoolClient,
};

/// The pool that is made and used unless another is named.
const POOL: &str = "bench";
/// Its items: weights of six orders of rarity, and more of each than any run can draw.
const WEIGHTS: [(&str, u32); 6] =
    [("common", 60_000), ("uncommon", 25_000), ("rare", 10_000), ("epic", 4_000), ("legendary", 990), ("unique", 10)];
const STOCK: u64 = 1 << 50;

/// Measures.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    args.check()?;
    let bench = Bench::prepare(&args, globals).await?;
    let rates: Vec<_> = match args.rates.as_slice() {
        [] => vec![args.rate],
        rates => rates.iter().copied().map(Some).collect(),
    };
    let mut runs = Vec::new();
    for per_s in rates {
        let run = bench.measure(per_s).await?;
        let conserved = run.conserved;
        runs.push(run);
        if !conserved {
            break;
        }
    }
    bench.control.client.close().await;
    let last = runs.last().expect("there is a run for every rate");
    if let Some(path) = args.svg.as_ref().filter(|_| last.conserved) {
        write_svg(path, &args, &runs)?;
    }
    if args.rates.is_empty() {
        output::data(globals.output, &report::json(&args, last), || report::text(&args, last));
    } else {
        output::data(globals.output, &report::rates_json(&args, &runs), || report::rates_text(&args, &runs));
    }
    match runs.iter().find(|run| run.tally.calls == 0 && run.tally.errors > 0) {
        _ if !last.conserved => Err(books::unbalanced(&bench.control.work.pool, &last.tally)),
        Some(run) => Err(unanswered(&run.tally)),
        None => Ok(Exit::Ok),
    }
}

/// Whatever a run's figures say, it is not how fast requests are answered.
fn unanswered(tally: &Tally) -> CliError {
    let why = tally.last_error.as_deref().unwrap_or_default();
    let message = format!("no request was answered after the warm-up, {} failed; the last: {why}", tally.errors);
    CliError::new(Exit::Other, "NOTHING_MEASURED", message).hint(
        "`tombola status` tells how the nodes are; KEY_TABLE_FULL passes as keys grow old (limits.keys_bytes_max)",
    )
}

/// Everything that does not differ between runs.
struct Bench<'a> {
    args: &'a Args,
    globals: &'a Globals,
    config: ClientConfig,
    /// Who asks for the stock, and settles what is unknown.
    control: Native,
    /// Position of the leader among the endpoints, as it was in the beginning.
    leader: usize,
    /// Voters.
    nodes: usize,
    /// gRPC sides; empty if they are not needed.
    grpc: Vec<String>,
}

impl<'a> Bench<'a> {
    /// Finds the cluster, makes the pool, and looks whether it has what is asked for.
    async fn prepare(args: &'a Args, globals: &'a Globals) -> Result<Self, CliError> {
        let config = session::client_config(globals).await?;
        let grpc = match args.grpc {
            Some(_) => grpc::endpoints(&args.grpc_endpoints, globals).await?,
            None => Vec::new(),
        };
        let client = Client::connect(&config).map_err(|error| session::failed(error, None))?;
        let pool = pool(&client, args.pool.clone()).await?;
        let (leader, nodes) = leader(&client).await?;
        // A key tells the cluster's time.
        let now = client.new_key().await.map_err(|error| session::failed(error, None))?.time();
        let work = Workload { pool, ask: args.ask(), keys: Arc::new(Keys::new(now)) };
        let control = Native { client, work };
        let bench = Self { args, globals, config, control, leader, nodes, grpc };
        match &bench.control.work.ask {
            Ask::Claim(item) if !bench.stock().await?.iter().any(|state| state.id == *item) => {
                Err(session::refused(&Refusal::ItemNotFound, None))
            }
            _ => Ok(bench),
        }
    }

    async fn stock(&self) -> Result<Vec<ItemState>, CliError> {
        books::stock(&self.control.client, &self.control.work.pool).await
    }

    /// One run, in a closed loop or at a rate, and its books.
    async fn measure(&self, per_s: Option<u32>) -> Result<Run, CliError> {
        let before = self.stock().await?;
        let mut run = match self.args.grpc {
            None => self.native(per_s).await?,
            Some(grpc) => self.grpc(grpc, per_s).await?,
        };
        books::settle(&self.control, &mut run.tally).await;
        let after = self.stock().await?;
        run.conserved = books::is_balanced(&before, &after, &run.tally);
        Ok(run)
    }

    async fn native(&self, per_s: Option<u32>) -> Result<Run, CliError> {
        let (sockets, mut clients) = (Sockets::default(), Vec::new());
        for number in 0..self.args.connections as usize {
            // The first endpoint is asked first.
            let mut config = self.config.clone();
            let first = if self.args.spread { number % config.endpoints.len() } else { self.leader };
            config.endpoints.rotate_left(first);
            clients.push(Client::connect_over(&sockets, &config).map_err(|error| session::failed(error, None))?);
        }
        let run = self.load(&clients, per_s, |client, work| Native { client: client.clone(), work }).await;
        let closing: JoinSet<()> = clients.into_iter().map(|client| async move { client.close().await }).collect();
        closing.join_all().await;
        Ok(run)
    }

    async fn grpc(&self, grpc: Grpc, per_s: Option<u32>) -> Result<Run, CliError> {
        let channels = grpc::connect(&self.grpc, self.args.connections, self.args.spread).await?;
        Ok(match grpc {
            Grpc::Stream => {
                let draws = self.args.draws_per_key;
                self.load(&channels, per_s, |channel, _| grpc::Stream::new(channel.clone(), draws)).await
            }
            Grpc::Unary => {
                let caller = |channel: &tonic::transport::Channel, work| {
                    let client = RewardPoolClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
                    grpc::Unary { client, work }
                };
                self.load(&channels, per_s, caller).await
            }
        })
    }

    /// Lets as many workers as were asked for on each connection work to the end of the time.
    async fn load<T, C: workload::Caller>(
        &self,
        connections: &[T],
        per_s: Option<u32>,
        caller: impl Fn(&T, Workload) -> C,
    ) -> Run {
        // Connection by connection: free workers take turns, and so do the connections.
        let workers = (0..self.args.in_flight).flat_map(|_| connections);
        let callers = workers.map(|connection| caller(connection, self.control.work.clone())).collect();
        let window = Window::now(self.args.warmup, self.args.duration);
        let shared = Shared::new(window);
        let progress = Progress::start(shared.clone(), report::mode(self.args), self.globals.output);
        let offered = load::run(callers, window, per_s, &shared).await;
        let elapsed = Instant::now() - window.from;
        drop(progress);
        let (tally, slice) = (shared.take(window), window.slice());
        Run { tally, elapsed, slice, offered, conserved: false, nodes: self.nodes }
    }
}

/// The pool to use; makes `bench` if it is missing.
async fn pool(client: &Client, given: Option<PoolId>) -> Result<PoolId, CliError> {
    if let Some(pool) = given {
        return Ok(pool);
    }
    let pool: PoolId = POOL.parse()?;
    let item = |(id, weight): &(&str, u32)| {
        Ok(CatalogItem { item: id.parse()?, stock: Stock::Finite(STOCK), weight: Weight(*weight) })
    };
    let items = WEIGHTS.iter().map(item).collect::<Result<_, CliError>>()?;
    let action = Action::CreatePool { policy: Policy::Renormalize, items, require_key: false };
    let target = Target { pool: pool.clone(), key: None };
    let (_, key, called) = mutate::decide(client, target, action).await?;
    match called.value.outcome.result {
        Ok(_) | Err(Refusal::PoolExists) => Ok(pool),
        Err(refusal) => Err(session::refused(&refusal, Some(key))),
    }
}

/// The position of the leader among the client's endpoints, the first one if it is none of them; and how many vote.
async fn leader(client: &Client) -> Result<(usize, usize), CliError> {
    let status = client.status().await.map_err(|error| session::failed(error, None))?.value;
    let mut newest = (status.replica.term, status.replica.leader);
    let mut ids = Vec::new();
    for endpoint in 0..client.endpoints() {
        let told = client.status_of(endpoint).await.ok().map(|called| called.value.replica);
        if let Some(told) = &told {
            newest = newest.max((told.term, told.leader));
        }
        ids.push(told.map(|told| told.replica));
    }
    let position = ids.iter().position(|id| id.is_some() && *id == newest.1);
    Ok((position.unwrap_or(0), status.voters.len()))
}

fn write_svg(path: &Path, args: &Args, runs: &[Run]) -> Result<(), CliError> {
    let point = |run: &Run| svg::Point {
        rate: run.offered.map_or(0.0, |offered| offered.per_s.into()),
        answered: run.calls_per_s(),
        latency_us: [0.5, 0.99, 0.999].map(|quantile| run.latency_us(quantile)),
    };
    let what = match report::mode(args) {
        "draws" => format!("requests of {} draws", args.draws_per_key),
        mode => mode.to_owned(),
    };
    let title = format!("Latency of {what}, {} nodes", runs.last().map_or(0, |run| run.nodes));
    let points: Vec<_> = runs.iter().map(point).collect();
    std::fs::write(path, svg::draw(&title, &points))
        .map_err(|error| CliError::new(Exit::Other, "FILE", format!("cannot write {}: {error}", path.display())))
}
