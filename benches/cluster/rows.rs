//! The rows: what is measured, how, and what for.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    disk,
    figures::{Measured, median},
    log, process,
};

/// What one row of the goals is about.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub goal: &'static str,
    /// A peer at the same work: scripts of the measurements of peers, which are not part of this repository.
    pub beside: Option<&'static str>,
    /// What `bench` is told.
    args: &'static [&'static str],
    kind: Kind,
}

enum Kind {
    /// Load, and nothing else.
    Load,
    /// The log is read when the nodes have stopped.
    Log,
    /// The leader is killed in the middle.
    Failover,
    /// Memory is looked at all the time.
    Memory,
}

/// A failover takes its time, however short a run is wanted.
const FAILOVER_SECONDS_MIN: u32 = 12;
/// `bench` warms up for so long by itself.
const WARMUP: Duration = Duration::from_secs(1);

/// Names of the latency's figures, and their keys in what `bench` tells.
const LATENCY: [(&str, &str); 5] = [
    ("p50, ms", "p50_us"),
    ("p90, ms", "p90_us"),
    ("p99, ms", "p99_us"),
    ("p99.9, ms", "p999_us"),
    ("max, ms", "max_us"),
];

const BATCHED: &[&str] = &["--draws-per-key", "100", "--connections", "4", "--in-flight", "32"];
const SINGLE: &[&str] = &["--connections", "4", "--in-flight", "250"];

/// All rows that go over a cluster.
pub const ROWS: [Row; 10] = [
    Row {
        name: "batched",
        what: "100 draws a key, 128 in flight on 4 connections",
        goal: "3,000,000 draws/s, p99 10 ms, 0.6 µs of CPU a draw",
        beside: Some("SCRIPTS=once100 ONCE100_CELLS=16,16,60000 redis.sh"),
        args: BATCHED,
        kind: Kind::Load,
    },
    Row {
        name: "single",
        what: "1 draw a key, 1,000 in flight on 4 connections",
        goal: "400,000 draws/s, 4.5 µs of CPU a draw",
        beside: Some("SCRIPTS=once ONCE_CELLS=16,100,400000 redis.sh"),
        args: SINGLE,
        kind: Kind::Load,
    },
    Row {
        name: "clients",
        what: "100 clients, one draw in flight each",
        goal: "50,000 draws/s, p99 5 ms",
        beside: Some("CELLS=put,100 etcd.sh"),
        args: &["--connections", "100", "--in-flight", "1"],
        kind: Kind::Load,
    },
    Row {
        name: "stream",
        what: "1 draw a request on 1,008 gRPC streams of 16 connections",
        goal: "60,000 draws/s",
        beside: None,
        args: &["--grpc=stream", "--pool", "default", "--connections", "16", "--in-flight", "63"],
        kind: Kind::Load,
    },
    Row {
        name: "unary",
        what: "1 draw a key, a gRPC call each, 1,008 in flight on 16 connections",
        goal: "none of its own",
        beside: None,
        args: &["--grpc=unary", "--connections", "16", "--in-flight", "63"],
        kind: Kind::Load,
    },
    Row {
        name: "alone",
        what: "one client, one draw at a time",
        goal: "p50 600 µs and 0.6 × etcd put, p99 1.5 ms",
        beside: Some("CELLS=put,1 etcd.sh"),
        args: &["--connections", "1", "--in-flight", "1"],
        kind: Kind::Load,
    },
    Row {
        name: "reads",
        what: "linearizable reads of all nodes, 1,002 in flight on 6 connections",
        goal: "200,000 reads/s",
        beside: None,
        args: &["--reads", "--spread", "--connections", "6", "--in-flight", "167"],
        kind: Kind::Load,
    },
    Row {
        name: "log",
        what: "bytes in the log a draw, 100 draws a key",
        goal: "2 bytes",
        beside: None,
        args: BATCHED,
        kind: Kind::Log,
    },
    Row {
        name: "failover",
        what: "100 clients in a closed loop; the leader is SIGKILLed",
        goal: "longest stall 1.5 × the longest election timeout, 3,000 ms by default; p99.9 outside it unchanged",
        beside: None,
        args: &["--connections", "4", "--in-flight", "25"],
        kind: Kind::Failover,
    },
    Row {
        name: "memory",
        what: "resident memory under the load of `single`, with 1 GiB for request keys; --seconds 600 for the goal",
        goal: "flat once the keys have their budget, no KEY_TABLE_FULL",
        beside: None,
        args: SINGLE,
        kind: Kind::Memory,
    },
];

impl Row {
    /// Measures once, on a cluster of its own.
    pub fn measure(&self, seconds: u32) -> Measured {
        let before_us = disk::fdatasync_us();
        let mut cluster = match self.kind {
            Kind::Memory => Cluster::start_with_keys("1GiB"),
            Kind::Load | Kind::Log | Kind::Failover => Cluster::start(),
        };
        let (busy, all) = process::machine_ticks();
        let mut measured = match self.kind {
            Kind::Load => self.load(&cluster, seconds),
            Kind::Log => self.log(&mut cluster, seconds),
            Kind::Failover => self.failover(&cluster, seconds),
            Kind::Memory => self.memory(&cluster, seconds),
        };
        let (busy_then, all_then) = process::machine_ticks();
        measured.push(("machine busy, %", 100.0 * (busy_then - busy) / (all_then - all)));
        measured.push(("load average", process::load_average()));
        drop(cluster);
        measured.push(("fdatasync 4 KiB, µs", f64::midpoint(before_us, disk::fdatasync_us())));
        measured
    }

    fn load(&self, cluster: &Cluster, seconds: u32) -> Measured {
        let nodes = cluster.pids();
        let spent = |of: fn(u32) -> f64| nodes.iter().map(|&pid| of(pid)).sum::<f64>();
        let (cpu_us, written) = (spent(process::cpu_us), spent(process::written_bytes));
        let (told, bench_cpu_us) = cluster.load(seconds, self.args).end();
        let nodes_cpu_us = spent(process::cpu_us) - cpu_us;
        let draws = told["mode"] == "draws";
        let (unit, done) = match draws {
            true => ("draws/s", number(&told, "draws") + number(&told, "warmup_draws")),
            false => ("reads/s", number(&told, "calls") + number(&told, "warmup_calls")),
        };
        let mut measured = vec![(unit, number(&told, if draws { "draws_per_s" } else { "calls_per_s" }))];
        measured.extend(LATENCY.map(|(name, key)| (name, number(&told, key) / 1_000.0)));
        measured.push(("CPU of all, µs each", (nodes_cpu_us + bench_cpu_us) / done));
        measured.push(("CPU of the nodes, µs each", nodes_cpu_us / done));
        if draws {
            measured.push(("written a node, bytes a draw", (spent(process::written_bytes) - written) / 3.0 / done));
        }
        measured.push(("memory of a node at the end, MiB", spent(process::resident_mib) / 3.0));
        measured.push(("errors", number(&told, "errors")));
        measured
    }

    fn log(&self, cluster: &mut Cluster, seconds: u32) -> Measured {
        let (told, _) = cluster.load(seconds, self.args).end();
        let (data_dir, id) = cluster.stop();
        vec![("bytes of log a draw", log::bytes_per_draw(&data_dir, id)), ("errors", number(&told, "errors"))]
    }

    fn failover(&self, cluster: &Cluster, seconds: u32) -> Measured {
        let seconds = seconds.max(FAILOVER_SECONDS_MIN);
        let load = cluster.load(seconds, self.args);
        thread::sleep(WARMUP + Duration::from_secs(seconds.into()) / 3);
        cluster.kill_leader();
        let (told, _) = load.end();
        let (before, after) = outside_the_stall(&told);
        vec![
            ("longest stall, ms", number(&told, "max_us") / 1_000.0),
            ("p99.9 before it, ms", before),
            ("p99.9 after it, ms", after),
            ("draws/s", number(&told, "draws_per_s")),
            ("retries", number(&told, "retries")),
            ("errors", number(&told, "errors")),
        ]
    }

    fn memory(&self, cluster: &Cluster, seconds: u32) -> Measured {
        let nodes = cluster.pids();
        let largest = || nodes.iter().map(|&pid| process::resident_mib(pid)).fold(0.0, f64::max);
        let mut seen = vec![largest()];
        let load = cluster.load(seconds, self.args);
        while load.is_running() {
            thread::sleep(Duration::from_secs(1));
            seen.push(largest());
        }
        let (keys, horizon_s) =
            (cluster.metric("tombola_key_table_entries"), cluster.metric("tombola_key_horizon_seconds"));
        let (told, _) = load.end();
        let at = |share: usize| seen[(seen.len() - 1) * share / 4];
        vec![
            ("largest node at the start, MiB", at(0)),
            ("after a quarter, MiB", at(1)),
            ("after a half, MiB", at(2)),
            ("at the end, MiB", at(4)),
            ("most, MiB", seen.iter().copied().fold(0.0, f64::max)),
            ("keys remembered at the end, millions", keys / 1e6),
            ("for how long, s", horizon_s),
            ("draws/s", number(&told, "draws_per_s")),
            ("errors", number(&told, "errors")),
        ]
    }
}

fn number(told: &Value, key: &str) -> f64 {
    told[key].as_f64().unwrap_or_else(|| panic!("no {key} in {told}"))
}

/// The median of the slices' p99.9 before the slice with the longest call, and after what that call lasted into, in
/// milliseconds.
fn outside_the_stall(told: &Value) -> (f64, f64) {
    let slices = told["slices"].as_array().expect("slices of time");
    let max_us = |slice: &Value| number(slice, "max_us");
    let stalled = (0..slices.len()).max_by(|&a, &b| max_us(&slices[a]).total_cmp(&max_us(&slices[b]))).unwrap_or(0);
    let lasted = (max_us(&slices[stalled]) / 1e6 / number(told, "slice_s")).ceil() as usize;
    let p999_ms = |slices: &[Value]| {
        let told: Vec<_> = slices.iter().filter(|slice| number(slice, "calls") > 0.0).collect();
        median(&told.iter().map(|slice| number(slice, "p999_us") / 1_000.0).collect::<Vec<_>>())
    };
    let after = (stalled + lasted + 1).min(slices.len());
    (p999_ms(&slices[..stalled]), p999_ms(&slices[after..]))
}
