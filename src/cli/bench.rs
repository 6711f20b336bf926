//! `tombola bench`: a closed loop of draws, or of linearizable reads, and what came of it.
//!
//! Every one of `--connections` × `--in-flight` workers sends its next request when the last is answered, each under a key
//! of its own. Latency is a call's, retries included. A closed loop offers less when the cluster is slow; read its tail
//! accordingly.
//!
//! Nothing is printed before the books are balanced: what the workers were awarded, item by item, is what the pool says
//! it awarded meanwhile. A request whose outcome stayed unknown is settled first, by sending it again under its key.

mod tally;

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    CliError, Exit, Format, Globals,
    args::parse_duration,
    mutate::{self, Target},
    output, session, state,
};
use crate::{
    api::{Consistency, Failure},
    client::{Client, ClientError},
    pool::{
        Action, Answer, CatalogItem, DRAWS_PER_COMMAND_MAX, ItemState, Policy, PoolId, Query, Refusal, Stock, Weight,
    },
};
use tally::Tally;

/// The pool that is made and used unless another is named.
const POOL: &str = "bench";
/// Its items: weights of six orders of rarity, and more of each than any run can draw.
const WEIGHTS: [(&str, u32); 6] =
    [("common", 60_000), ("uncommon", 25_000), ("rare", 10_000), ("epic", 4_000), ("legendary", 990), ("unique", 10)];
const STOCK: u64 = 1 << 50;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tombola bench --duration 10s
  tombola bench --draws-per-key 100 -o json")]
pub struct Args {
    /// How long
    #[arg(long, value_parser = parse_duration, default_value = "10s", value_name = "DURATION")]
    duration: Duration,
    /// Connections, each of its own
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=64), value_name = "C")]
    connections: u32,
    /// Requests in flight on each connection
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "I")]
    in_flight: u32,
    /// Draws of one request, under one key
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=i64::from(DRAWS_PER_COMMAND_MAX)), value_name = "N")]
    draws_per_key: u16,
    /// Linearizable reads of the pool instead of draws
    #[arg(long)]
    reads: bool,
    /// The pool, which nobody else may use meanwhile [default: `bench`, which is made if it is missing]
    #[arg(long, value_name = "POOL")]
    pool: Option<PoolId>,
}

/// Measures.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let config = session::client_config(globals).await?;
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(Client::connect(&config).map_err(|error| session::failed(error, None))?);
    }
    let pool = prepare(&clients[0], args.pool.clone()).await?;
    for client in &clients {
        client.find_leader().await;
    }
    let before = stock(&clients[0], &pool).await?;
    let (mut tally, elapsed) = load(&args, &pool, &clients, globals.output).await;
    settle(&clients[0], &pool, args.draws_per_key, &mut tally).await;
    let after = stock(&clients[0], &pool).await?;
    for client in &clients {
        client.close().await;
    }
    let conserved = tally.unknown.is_empty() && tally::is_balanced(&before, &after, &tally.awards);
    output::data(globals.output, &tally::json(&args, &tally, elapsed, conserved), || {
        tally::text(&args, &tally, elapsed, conserved)
    });
    if conserved { Ok(Exit::Ok) } else { Err(unbalanced(&pool, &tally)) }
}

fn unbalanced(pool: &PoolId, tally: &Tally) -> CliError {
    let message = match tally.unknown.len() {
        0 => format!("what pool {pool} awarded meanwhile is not what was received"),
        unknown => format!("{unknown} requests have no known outcome, so that the books cannot be balanced"),
    };
    CliError::new(Exit::Unhealthy, "NOT_CONSERVED", message)
        .hint("did anybody else draw from the pool meanwhile? `tombola verify` checks the cluster itself")
}

/// The pool to use; makes `bench` if it is missing.
async fn prepare(client: &Client, given: Option<PoolId>) -> Result<PoolId, CliError> {
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

/// The pool's items.
async fn stock(client: &Client, pool: &PoolId) -> Result<Vec<ItemState>, CliError> {
    let read = state::read(client, Query::Pool(pool.clone()), Consistency::Linearizable).await?;
    match read.answer {
        Answer::Pool(pool) => Ok(pool.items),
        other => Err(state::unexpected(&other)),
    }
}

/// Runs all workers to the end of the time; the second value is how long it really was.
async fn load(args: &Args, pool: &PoolId, clients: &[Client], format: Format) -> (Tally, Duration) {
    let start = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for client in clients {
        for _ in 0..args.in_flight {
            let worker = Worker { client: client.clone(), pool: pool.clone(), args: args.clone(), done: done.clone() };
            workers.spawn(worker.run(start + args.duration));
        }
    }
    let progress = tokio::spawn(progress(done, start, args.reads, format));
    let mut all = Tally::default();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(tally) => all.add(tally),
            Err(panicked) => all.error(panicked.to_string()),
        }
    }
    progress.abort();
    clear_progress(format);
    (all, start.elapsed())
}

struct Worker {
    client: Client,
    pool: PoolId,
    args: Args,
    /// Draws, or reads, answered so far by all workers.
    done: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self, end: Instant) -> Tally {
        let mut tally = Tally::default();
        while Instant::now() < end {
            let before = tally.draws + tally.calls * u64::from(self.args.reads);
            if self.args.reads {
                self.read(&mut tally).await
            } else {
                self.draw(&mut tally).await
            }
            let now = tally.draws + tally.calls * u64::from(self.args.reads);
            self.done.fetch_add(now - before, Ordering::Relaxed);
        }
        tally
    }

    async fn draw(&self, tally: &mut Tally) {
        let start = Instant::now();
        let key = match self.client.new_key().await {
            Ok(key) => key,
            Err(error) => return tally.error(error.to_string()),
        };
        let called = match self.client.submit(self.pool.clone(), key, action(self.args.draws_per_key)).await {
            Ok(called) => called,
            Err(error) => {
                if matches!(error, ClientError::Failed(Failure::Unknown { .. })) {
                    tally.unknown.push(key);
                }
                return tally.error(error.to_string());
            }
        };
        tally.answered(start, called.retries);
        tally.new_terms.extend(called.leader_change.map(|change| change.term));
        tally.outcome(&called.value.outcome.result);
    }

    async fn read(&self, tally: &mut Tally) {
        let start = Instant::now();
        match self.client.read(Query::Pool(self.pool.clone()), Consistency::Linearizable).await {
            Ok(called) => tally.answered(start, called.retries),
            Err(error) => tally.error(error.to_string()),
        }
    }
}

fn action(draws_per_key: u16) -> Action {
    Action::Draw { count: draws_per_key }
}

/// Sends every request of unknown outcome again, under its key, so that its awards are counted. What cannot be settled
/// stays unknown.
async fn settle(client: &Client, pool: &PoolId, draws_per_key: u16, tally: &mut Tally) {
    for key in std::mem::take(&mut tally.unknown) {
        match client.submit(pool.clone(), key, action(draws_per_key)).await {
            Ok(called) => tally.outcome(&called.value.outcome.result),
            Err(_) => tally.unknown.push(key),
        }
    }
}

/// A line that counts, on a terminal only.
async fn progress(done: Arc<AtomicU64>, start: Instant, reads: bool, format: Format) {
    if format == Format::Json || !io::stderr().is_terminal() {
        return;
    }
    let what = if reads { "reads" } else { "draws" };
    let mut before = 0;
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let now = done.load(Ordering::Relaxed);
        let per_s = (now - before) as f64 / PROGRESS_EVERY.as_secs_f64();
        let _ = write!(io::stderr(), "\r\x1b[K{:>3} s  {per_s:>10.0} {what}/s", start.elapsed().as_secs());
        before = now;
    }
}

fn clear_progress(format: Format) {
    if format == Format::Table && io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
