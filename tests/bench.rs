//! `bench` against three real processes: every kind of load, what it tells of it, and that it is not fooled.

#[path = "support/user.rs"]
mod user;

use std::{fs, process::Output};

use rustix::process::Signal;
use serde_json::Value;

use user::{Running, User, eventually, free_base};

/// Three nodes under `dev`, ready, whose default pool has two items.
struct Cluster {
    dev: Running,
    user: User,
}

impl Cluster {
    fn start() -> Self {
        let user = User::new();
        let catalog = "catalog: [{ item_id: gold, quantity: 1000000, probability: 1 }, { item_id: mud, quantity: -1, probability: 9 }]";
        fs::write(user.path("catalog.yaml"), catalog).unwrap();
        let dev = user.start(&["dev", "--grpc-port", &free_base(3).to_string(), "--catalog", "catalog.yaml"]);
        dev.stdout_until("ready");
        Self { dev, user }
    }

    fn output(&self, args: &[&str]) -> Output {
        self.user.run(&[&["bench", "--duration", "1s", "--warmup", "200ms", "-o", "json"], args].concat())
    }

    /// A run that must end well; its JSON.
    fn bench(&self, args: &[&str]) -> Value {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["conserved"], true, "{args:?}: {json}");
        json
    }

    /// Units awarded so far from a pool.
    fn awarded(&self, pool: &str) -> u64 {
        let state = self.user.json(&["state", "--pool", pool]);
        state["items"].as_array().unwrap().iter().map(|item| item["awarded"].as_u64().unwrap()).sum()
    }

    fn stop(mut self) {
        self.dev.signal(Signal::TERM);
        assert!(self.dev.wait().success());
    }
}

fn number(json: &Value, key: &str) -> u64 {
    json[key].as_u64().unwrap_or_else(|| panic!("{key} in {json}"))
}

/// What every answered run tells.
fn check(json: &Value) {
    assert_eq!((number(json, "errors"), number(json, "unknown"), number(json, "nodes")), (0, 0, 3), "{json}");
    let calls = number(json, "calls");
    assert!(calls > 0 && number(json, "warmup_calls") > 0, "{json}");
    let percentiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|key| number(json, key));
    assert!(percentiles.is_sorted() && percentiles[0] > 0, "{json}");
    let sliced: u64 = json["slices"].as_array().unwrap().iter().map(|slice| number(slice, "calls")).sum();
    assert_eq!(sliced, calls, "{json}");
}

#[test]
fn draws_claims_and_reads_natively_and_over_grpc_are_counted_and_conserved() {
    let cluster = Cluster::start();
    let json = cluster.bench(&["--draws-per-key", "10", "--connections", "2"]);
    check(&json);
    let draws = number(&json, "draws");
    assert_eq!(draws, 10 * number(&json, "calls"));
    assert_eq!(cluster.awarded("bench"), draws + number(&json, "warmup_draws"), "the warm-up is drawn, too");
    assert_eq!((&json["mode"], &json["protocol"]), (&"draws".into(), &"native".into()));

    let before = cluster.awarded("bench");
    let json = cluster.bench(&["--claims", "rare", "--connections", "1", "--in-flight", "4"]);
    check(&json);
    assert_eq!(cluster.awarded("bench") - before, number(&json, "calls") + number(&json, "warmup_calls"));
    assert_eq!((&json["mode"], number(&json, "draws")), (&"claims".into(), 0));

    for args in [&["--reads", "--spread"][..], &["--reads", "--stale"], &["--reads", "--grpc"]] {
        let json = cluster.bench(args);
        check(&json);
        assert_eq!((&json["mode"], number(&json, "draws")), (&"reads".into(), 0));
    }
    for (args, protocol) in [
        (&["--grpc", "--draws-per-key", "3", "--spread"][..], "grpc"),
        (&["--grpc", "--claims", "epic"], "grpc"),
        (&["--grpc=stream", "--pool", "default", "--draws-per-key", "3"], "grpc-stream"),
    ] {
        let json = cluster.bench(args);
        check(&json);
        assert_eq!(json["protocol"], protocol);
    }
    assert!(cluster.awarded("default") > 0, "streams draw from the predecessor's pool");
    cluster.stop();
}

#[test]
fn an_open_loop_offers_what_it_was_told_and_a_list_of_rates_makes_a_picture() {
    let cluster = Cluster::start();
    let json = cluster.bench(&["--rate", "50"]);
    check(&json);
    assert_eq!((number(&json, "rate"), number(&json, "due")), (50, 50));
    assert_eq!(number(&json, "calls") + number(&json, "not_started"), 50, "each that was due is accounted for");

    // One in flight cannot keep up with this: what is left over is told.
    let json = cluster.bench(&["--rate", "1000000", "--connections", "1", "--in-flight", "1"]);
    assert_eq!(number(&json, "due"), 1_000_000);
    assert!(number(&json, "not_started") > 0, "{json}");
    assert!(number(&json, "p50_us") > 100_000, "it waited since it was due: {json}");

    let json = cluster.bench(&["--rates", "20,40,80", "--svg", "latency.svg"]);
    let due: Vec<_> = json["runs"].as_array().unwrap().iter().map(|run| number(run, "due")).collect();
    assert_eq!(due, [20, 40, 80]);
    let svg = fs::read_to_string(cluster.user.path("latency.svg")).unwrap();
    assert_eq!(svg.matches("<circle").count(), 3 * 3 + 4, "a point a rate and percentile, and the legend: {svg}");

    let told = cluster.user.run(&["bench", "--rate", "50", "--duration", "1s"]);
    let told = String::from_utf8(told.stdout).unwrap();
    for part in ["offered    50/s: 50 were due, ", "on the disks of 2 of 3 nodes", "books      conserved"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    cluster.stop();
}

#[test]
fn a_run_that_is_not_conserved_or_cannot_be_made_is_told() {
    let cluster = Cluster::start();
    // Somebody else draws from the pool meanwhile.
    let args = ["bench", "--pool", "default", "--duration", "3s", "--warmup", "0s", "-o", "json"];
    let mut bench = cluster.user.start(&args);
    let before = cluster.awarded("default");
    eventually("the bench draws", || (cluster.awarded("default") > before).then_some(()));
    cluster.user.json(&["draw", "-n", "7"]);
    assert_eq!(bench.wait().code(), Some(5));
    let told: Vec<_> = bench.stderr.iter().collect();
    assert!(told.iter().any(|line| line.contains("NOT_CONSERVED")), "{told:?}");
    let json: Value = serde_json::from_str(&bench.stdout.iter().next().unwrap()).unwrap();
    assert_eq!(json["conserved"], false);

    for (args, exit, code) in [
        (&["--claims", "ghost"][..], 4, "NOT_FOUND"),
        (&["--pool", "ghost"], 4, "NOT_FOUND"),
        (&["--grpc", "--grpc-endpoints", "nowhere at all"], 2, "USAGE"),
        (&["--grpc", "--grpc-endpoints", "127.0.0.1:1"], 3, "UNREACHABLE"),
    ] {
        let output = cluster.output(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {told}");
        assert!(told.contains(code), "{args:?}: {told}");
    }

    cluster.user.json(&["pool", "pause", "default"]);
    let output = cluster.output(&["--pool", "default"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "a run without an answer measures nothing: {told}");
    assert!(told.contains("NOTHING_MEASURED") && told.contains("POOL_PAUSED"), "{told}");
    cluster.stop();
}
