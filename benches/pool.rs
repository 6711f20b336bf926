//! What the pool costs at the sizes that it promises to bear: 10^7 request keys, and a state of 256 MiB with a million
//! items. Bytes are the growth of the process's resident memory, so every scenario runs in a process of its own.
//!
//! `cargo bench --bench pool`, or with the name of a scenario. Entries, and what takes longer, are measured by the
//! processor's time; chunks and less by the clock, so that on a busy machine their medians tell more than their maxima.

use std::{
    process::Command as Process,
    time::{Duration, Instant},
};

use tombola::{
    durable::CHUNK_BYTES,
    pool::{
        Action, Actor, Batch, CatalogItem, Command, KeyOrigin, Limits, Policy, PoolId, RequestKey, Restorer,
        StateMachine, Stock, Weight,
    },
    types::{Entropy, Millis},
};

/// Keys of the scenarios that are about them.
const KEYS: u64 = 10_000_000;
/// Commands of a full batch.
const BATCH: u64 = 4_096;
const BUCKET_MS: u64 = 5_000;
/// How long keys are remembered: so long that time takes none of them while they are made.
const AGE_MS: u64 = 365 * 24 * 3_600_000;
const START: u64 = 1_735_689_600_000;

type Scenario = (&'static str, fn());

/// Buckets as a flood fills them, as a busy day does, and as many small pools do.
const SCENARIOS: [Scenario; 4] = [
    ("500 000 keys a bucket", || keys(500_000)),
    ("5 000 keys a bucket", || keys(5_000)),
    ("50 keys a bucket", || keys(50)),
    ("a million items, 2 million keys", items),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some((_, run)) = SCENARIOS.iter().find(|(name, _)| wanted == [*name]) {
        return run();
    }
    for (name, _) in SCENARIOS {
        println!("\n{name}");
        let this = std::env::current_exe().expect("this program is a file");
        let status = Process::new(this).arg(name).status().expect("it can be started again");
        assert!(status.success(), "{name}: {status}");
    }
}

fn keys(per_bucket: u64) {
    let mut bench = Bench::new();
    let before = resident_bytes();
    let (took, entries) = spent(|| {
        let (mut sent, mut entries) = (0, 0);
        while sent < KEYS {
            let count = BATCH.min(per_bucket - sent % per_bucket);
            let batch = bench.draws(sent..sent + count, START + sent / per_bucket * BUCKET_MS);
            bench.apply(&batch);
            (sent, entries) = (sent + count, entries + 1);
        }
        entries
    });
    let stats = bench.machine.key_stats();
    assert_eq!(stats.keys, KEYS + 1, "the import has one too");
    let bytes = (resident_bytes() - before) as f64 / KEYS as f64;
    println!("  {bytes:.1} bytes a key, counted as {:.1}", stats.bytes_used as f64 / KEYS as f64);
    println!("  {:.1?} a new key, its request's making included; {entries} entries", took / KEYS as u32);

    // Draws that were made: each is looked up, found, and told again.
    let again: Vec<Vec<u8>> = (0..250).map(|part| bench.known(part, per_bucket)).collect();
    let (took, ()) = spent(|| again.iter().for_each(|entry| bench.apply(entry)));
    println!("  {:.1?} a key told again", took / (250 * BATCH as u32));
    assert_eq!(bench.machine.key_stats().keys, KEYS + 1, "all of them were known");

    snapshot(&mut bench);
    // The first bucket has just become too old.
    let keys = bench.machine.key_stats().keys;
    let (took, ()) = timed(|| bench.tick(START + BUCKET_MS + AGE_MS));
    let gone = keys - bench.machine.key_stats().keys;
    let garbage = bench.machine.take_garbage().expect("a bucket was dropped");
    let (freeing, ()) = timed(|| drop(garbage));
    println!("  {took:.1?} to forget {gone} keys, {freeing:.1?} to free them elsewhere");
}

fn items() {
    let mut bench = Bench::new();
    let before = resident_bytes();
    for number in 0..40 {
        bench.create(&format!("pool-{number}"), 24_999);
    }
    let (of_items, before) = (resident_bytes() - before, resident_bytes());
    for sent in (0..2_000_000).step_by(BATCH as usize) {
        let batch = bench.draws(sent..sent + BATCH, START + sent / 10);
        bench.apply(&batch);
    }
    println!("  {} MiB of items, {} MiB of keys", of_items >> 20, (resident_bytes() - before) >> 20);
    snapshot(&mut bench);
}

/// Takes snapshots, each with a full entry of draws before it and one beside it; then encodes one and restores it.
fn snapshot(bench: &mut Bench) {
    let now = bench.machine.now().0;
    let (mut alone, mut beside, mut taking) = (Vec::new(), Vec::new(), Vec::new());
    let mut part = KEYS * 2;
    let mut apply = |bench: &mut Bench| {
        let batch = bench.draws(part..part + BATCH, now);
        part += BATCH;
        spent(|| bench.apply(&batch)).0
    };
    for _ in 0..11 {
        alone.push(apply(bench));
        let (took, _handle) = timed(|| bench.machine.snapshot());
        taking.push(took);
        beside.push(apply(bench));
    }
    println!("  a snapshot takes {}", spread(taking));
    println!("  a full entry of draws takes {}", spread(alone));
    println!("  the first one beside a snapshot {}", spread(beside));

    let handle = bench.machine.snapshot();
    let mut each = Vec::new();
    let (took, body) = spent(|| {
        let mut chunks = handle.chunks(CHUNK_BYTES);
        let next = || {
            let (took, chunk) = timed(|| chunks.next());
            each.push(took);
            chunk
        };
        std::iter::from_fn(next).collect::<Vec<_>>()
    });
    let bytes: usize = body.iter().map(|chunk| chunk.len()).sum();
    let speed = |took: Duration| (bytes as f64 / took.as_secs_f64()) as u64 >> 20;
    println!("  encoded {} MiB at {} MiB/s; a chunk in {}", bytes >> 20, speed(took), spread(each));
    let (took, verification) = spent(|| handle.verify());
    assert!(verification.violations.is_empty());
    println!("  verified in {took:.1?}");
    drop(handle);

    let mut restorer = Restorer::default();
    let mut each = Vec::new();
    let (took, ()) = spent(|| {
        for chunk in &body {
            let (took, pushed) = timed(|| restorer.push(chunk));
            pushed.expect("a snapshot can be restored");
            each.push(took);
        }
    });
    let (finishing, machine) = spent(|| restorer.finish().expect("a snapshot can be restored"));
    println!("  restored at {} MiB/s; a chunk in {}; {finishing:.1?} of checks", speed(took), spread(each));
    drop(machine);
}

/// A state machine with pool `default`, and pools to draw from.
struct Bench {
    machine: StateMachine,
    pools: Vec<PoolId>,
}

impl Bench {
    fn new() -> Self {
        let limits = Limits { keys_bytes_max: 16 << 30, keys_age_ms_max: AGE_MS };
        let mut bench = Self { machine: StateMachine::founding(limits), pools: vec![PoolId::default_pool()] };
        let items = catalog(6);
        let action = Action::ImportCatalog { items, draw_seq: Default::default() };
        bench.apply(&batch(START, vec![command(&bench.pools[0], key(u64::MAX, START), action)]));
        bench
    }

    fn create(&mut self, name: &str, items: u32) {
        let pool: PoolId = name.parse().expect("a legal name");
        let create = Action::CreatePool { policy: Policy::Renormalize, items: catalog(items), require_key: false };
        self.apply(&batch(START, vec![command(&pool, key(u64::MAX, START), create)]));
        if self.pools[0] == PoolId::default_pool() {
            self.pools.clear();
        }
        self.pools.push(pool);
    }

    /// Single draws under the keys of these numbers, made at that time, from one pool after the other.
    fn draws(&self, numbers: std::ops::Range<u64>, at: u64) -> Vec<u8> {
        let draw = |number: u64| {
            let pool = &self.pools[number as usize % self.pools.len()];
            command(pool, key(number, at), Action::Draw { count: 1 })
        };
        batch(at, numbers.map(draw).collect())
    }

    /// A full batch of draws that were made, spread over all there are.
    fn known(&self, part: u64, per_bucket: u64) -> Vec<u8> {
        let draw = |at: u64| {
            // A step that has no divisor in common with the number of keys visits them in no order of theirs.
            let number = (part * BATCH + at) * 6_180_339 % KEYS;
            let made = START + number / per_bucket * BUCKET_MS;
            command(&self.pools[0], key(number, made), Action::Draw { count: 1 })
        };
        batch(START, (0..BATCH).map(draw).collect())
    }

    fn tick(&mut self, at: u64) {
        self.apply(&batch(at, Vec::new()));
    }

    fn apply(&mut self, entry: &[u8]) {
        let outcomes = self.machine.apply(self.machine.applied().next(), entry);
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    }
}

fn catalog(items: u32) -> Vec<CatalogItem> {
    let item = |number: u32| CatalogItem {
        item: format!("item-{number}").parse().expect("a legal name"),
        stock: Stock::Finite(1_000_000_000),
        weight: Weight(1 + number % 7),
    };
    (0..items).map(item).collect()
}

fn command(pool: &PoolId, key: RequestKey, action: Action) -> Command {
    Command { pool: pool.clone(), key, origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

/// A key with that number, which is spread over its random bits.
fn key(number: u64, at: u64) -> RequestKey {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&spread.to_be_bytes());
    unique[..2].copy_from_slice(&spread.to_le_bytes()[..2]);
    RequestKey::new(Millis(at), unique)
}

fn batch(at: u64, commands: Vec<Command>) -> Vec<u8> {
    Batch { version: Batch::VERSION, time: Millis(at), entropy: Entropy([7; 32]), commands }.encode()
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: u64 =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second is the resident set");
    pages * 4_096
}

fn timed<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let made = what();
    (start.elapsed(), made)
}

/// The processor's time that something long took: the machine may be busy with other things meanwhile.
fn spent<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let now = || {
        // The scheduler brings its books up to date when it is asked for another turn.
        std::thread::yield_now();
        let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
        let spent = schedstat.split(' ').next().and_then(|spent| spent.parse().ok());
        Duration::from_nanos(spent.expect("the first is the time on a processor, in nanoseconds"))
    };
    let start = now();
    let made = what();
    (now() - start, made)
}

/// Median and extremes.
fn spread(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let (least, median, most) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    format!("{median:.1?} ({least:.1?} to {most:.1?})")
}
