//! `tombola bench`: a closed loop of draws, or of linearizable reads, and what came of it.
//!
//! Every one of `--connections` × `--in-flight` workers sends its next request when the last is answered, each under a key
//! of its own. Latency is a call's, retries included. A closed loop offers less when the cluster is slow; read its tail
//! accordingly.
//!
//! Nothing is printed before the books are balanced: what the workers were awarded, item by item, is what the pool says
//! it awarded meanwhile. A request whose outcome stayed unknown is settled first, by sending it again under its key.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{CliError, Exit, Format, Globals, args::parse_duration, output, session, state};
use crate::{
    api::{Consistency, Failure},
    client::{Client, ClientError},
    pool::{
        Action, Answer, CatalogItem, DRAWS_PER_COMMAND_MAX, Effect, ItemId, ItemState, Policy, PoolId, Query, Refusal,
        RequestKey, Stock, Weight,
    },
};

/// The pool that is made and used unless another is named.
const POOL: &str = "bench";
/// Its items: weights of six orders of rarity, and more of each than any run can draw.
const WEIGHTS: [(&str, u32); 6] =
    [("common", 60_000), ("uncommon", 25_000), ("rare", 10_000), ("epic", 4_000), ("legendary", 990), ("unique", 10)];
const STOCK: u64 = 1 << 50;
/// The histogram's range; longer calls count as this long.
const LATENCY_US_MAX: u64 = 120_000_000;
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
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256), value_name = "C")]
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

/// What one worker, or all of them together, did.
#[derive(Clone, Debug)]
struct Tally {
    latency_us: Histogram<u64>,
    /// Calls answered.
    calls: u64,
    /// Draw steps answered.
    draws: u64,
    /// Steps that gave nothing.
    empty: u64,
    retries: u64,
    /// Calls that failed, or were refused.
    errors: u64,
    leader_changes: u64,
    /// Units awarded.
    awards: BTreeMap<ItemId, u64>,
    /// Requests whose outcome is not known.
    unknown: Vec<RequestKey>,
    /// The last thing that went wrong.
    last_error: Option<String>,
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
    let conserved = tally.unknown.is_empty() && is_balanced(&before, &after, &tally.awards);
    output::data(globals.output, &json(&args, &tally, elapsed, conserved), || text(&args, &tally, elapsed, conserved));
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
    let key = client.new_key().await.map_err(|error| session::failed(error, None))?;
    let called = client.submit(pool.clone(), key, action).await;
    match called.map_err(|error| session::failed(error, Some(key)))?.value.outcome.result {
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
        tally.leader_changes += u64::from(called.leader_change.is_some());
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

/// Is what each item lost and awarded exactly what was received of it?
fn is_balanced(before: &[ItemState], after: &[ItemState], awards: &BTreeMap<ItemId, u64>) -> bool {
    let known = |item: &&ItemId| before.iter().any(|state| state.id == **item);
    let same = |before: &ItemState| {
        let received = awards.get(&before.id).copied().unwrap_or(0);
        let Some(after) = after.iter().find(|after| after.id == before.id) else { return false };
        let taken = match (before.stock, after.stock) {
            (Stock::Finite(before), Stock::Finite(after)) => before.checked_sub(after),
            (Stock::Unlimited, Stock::Unlimited) => Some(received),
            _ => None,
        };
        taken == Some(received) && after.awarded.checked_sub(before.awarded) == Some(received)
    };
    awards.keys().all(|item| known(&item)) && before.iter().all(same)
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are legal");
        Self {
            latency_us,
            calls: 0,
            draws: 0,
            empty: 0,
            retries: 0,
            errors: 0,
            leader_changes: 0,
            awards: BTreeMap::new(),
            unknown: Vec::new(),
            last_error: None,
        }
    }
}

impl Tally {
    fn answered(&mut self, start: Instant, retries: u32) {
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(micros.min(LATENCY_US_MAX));
        self.calls += 1;
        self.retries += u64::from(retries);
    }

    fn error(&mut self, why: String) {
        self.errors += 1;
        self.last_error = Some(why);
    }

    fn outcome(&mut self, result: &Result<Effect, Refusal>) {
        match result {
            Ok(Effect::Drawn { steps, .. }) => {
                self.draws += steps.len() as u64;
                for step in steps {
                    match step.item() {
                        Some(item) => *self.awards.entry(item.clone()).or_default() += 1,
                        None => self.empty += 1,
                    }
                }
            }
            Ok(other) => self.error(format!("the cluster answered something else: {other:?}")),
            Err(refusal) => self.error(format!("{}: {refusal}", refusal.code())),
        }
    }

    fn add(&mut self, other: Self) {
        self.latency_us.add(&other.latency_us).expect("all histograms have the same bounds");
        self.calls += other.calls;
        self.draws += other.draws;
        self.empty += other.empty;
        self.retries += other.retries;
        self.errors += other.errors;
        self.leader_changes += other.leader_changes;
        for (item, units) in other.awards {
            *self.awards.entry(item).or_default() += units;
        }
        self.unknown.extend(other.unknown);
        self.last_error = other.last_error.or(self.last_error.take());
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

fn per_s(count: u64, elapsed: Duration) -> f64 {
    (count as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0
}

fn json(args: &Args, tally: &Tally, elapsed: Duration, conserved: bool) -> Value {
    let at = |quantile| tally.latency_us.value_at_quantile(quantile);
    json!({
        "mode": if args.reads { "reads" } else { "draws" },
        "duration_s": elapsed.as_secs_f64(),
        "connections": args.connections,
        "in_flight": args.in_flight,
        "draws_per_key": args.draws_per_key,
        "calls": tally.calls,
        "calls_per_s": per_s(tally.calls, elapsed),
        "draws": tally.draws,
        "draws_per_s": per_s(tally.draws, elapsed),
        "empty": tally.empty,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": tally.latency_us.max(),
        "errors": tally.errors,
        "last_error": tally.last_error,
        "retries": tally.retries,
        "leader_changes": tally.leader_changes,
        "unknown": tally.unknown.len(),
        "conserved": conserved,
    })
}

fn text(args: &Args, tally: &Tally, elapsed: Duration, conserved: bool) -> String {
    let at = |quantile| tally.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let rate = if args.reads {
        format!("reads      {:.0}/s", per_s(tally.calls, elapsed))
    } else {
        let (draws, calls) = (per_s(tally.draws, elapsed), per_s(tally.calls, elapsed));
        format!("draws      {draws:.0}/s, {} a key, {calls:.0} keys/s", args.draws_per_key)
    };
    let books = match (conserved, args.reads) {
        (true, true) => "stock unchanged",
        (true, false) => "conserved: every award received is an award given, item by item",
        (false, _) => "NOT CONSERVED",
    };
    let error = tally.last_error.as_ref().map(|why| format!(" (last: {why})")).unwrap_or_default();
    format!(
        "{rate}\nlatency    p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms\nload       {:.1} s, {} connections, {} in flight each\ntrouble    {} errors{error}, {} retries, {} draws without an award\nbooks      {books}\n",
        at(0.5),
        at(0.99),
        at(0.999),
        tally.latency_us.max() as f64 / 1_000.0,
        elapsed.as_secs_f64(),
        args.connections,
        args.in_flight,
        tally.errors,
        tally.retries,
        tally.empty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{DrawSeq, Step, Version};

    fn item(id: &str, stock: Stock, awarded: u64) -> ItemState {
        ItemState {
            id: id.parse().unwrap(),
            weight: Weight(1),
            stock,
            reserved: 0,
            awarded,
            returned: 0,
            added: 100,
            rev: Version(1),
        }
    }

    fn drawn(ids: &[&str]) -> Result<Effect, Refusal> {
        let mut steps: Vec<_> = ids.iter().map(|id| Step::Awarded(id.parse().unwrap())).collect();
        steps.push(Step::PoolEmpty);
        Ok(Effect::Drawn { first_seq: DrawSeq(1), version: Version(1), steps })
    }

    fn args() -> Args {
        Args {
            duration: Duration::from_secs(2),
            connections: 1,
            in_flight: 1,
            draws_per_key: 3,
            reads: false,
            pool: None,
        }
    }

    #[test]
    fn books_are_balanced_item_by_item() {
        let before = [item("gold", Stock::Finite(10), 0), item("air", Stock::Unlimited, 5)];
        let after = [item("gold", Stock::Finite(8), 2), item("air", Stock::Unlimited, 6)];
        let mut tally = Tally::default();
        tally.outcome(&drawn(&["gold", "air", "gold"]));
        assert!(is_balanced(&before, &after, &tally.awards));

        assert!(!is_balanced(&before, &before, &tally.awards), "received and never given");
        assert!(!is_balanced(&before, &after, &BTreeMap::new()), "given and never received");
        tally.outcome(&drawn(&["ghost"]));
        assert!(!is_balanced(&before, &after, &tally.awards), "an item that is not in the pool");
        let moved = [item("gold", Stock::Finite(8), 3), item("air", Stock::Unlimited, 6)];
        assert!(!is_balanced(
            &before,
            &moved,
            &BTreeMap::from([("gold".parse().unwrap(), 2), ("air".parse().unwrap(), 1)])
        ));
    }

    #[test]
    fn json_has_the_documented_keys() {
        let mut tally = Tally::default();
        tally.answered(Instant::now(), 2);
        tally.outcome(&drawn(&["gold", "gold"]));
        tally.outcome(&Err(Refusal::PoolPaused));
        let mut all = Tally::default();
        all.add(tally.clone());
        all.add(tally);
        let json = json(&args(), &all, Duration::from_secs(2), true);
        for key in ["draws_per_s", "p50_us", "p99_us", "p999_us", "max_us", "errors", "retries", "conserved"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!((&json["draws"], &json["draws_per_s"], &json["empty"]), (&json!(6), &json!(3.0), &json!(2)));
        assert_eq!((&json["errors"], &json["retries"], &json["calls"]), (&json!(2), &json!(4), &json!(2)));
        assert!(text(&args(), &all, Duration::from_secs(2), true).contains("conserved"));
        assert!(text(&args(), &all, Duration::from_secs(2), false).contains("NOT CONSERVED"));
    }
}
