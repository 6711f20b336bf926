//! Three nodes under `tombola dev`, and `tombola bench` against them.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tombola::types::ClusterId;

use crate::{
    http, process,
    user::{Running, User, dev_json, eventually, free_base, pids},
};

/// Six items with more of each than any run draws: streams draw from pool `default`.
const CATALOG: &str = "catalog:\n  - { item_id: common, quantity: 1000000000000000, probability: 60000 }\n  \
    - { item_id: uncommon, quantity: 1000000000000000, probability: 25000 }\n  \
    - { item_id: rare, quantity: 1000000000000000, probability: 10000 }\n  \
    - { item_id: epic, quantity: 1000000000000000, probability: 4000 }\n  \
    - { item_id: legendary, quantity: 1000000000000000, probability: 990 }\n  \
    - { item_id: unique, quantity: 1000000000000000, probability: 10 }\n";

/// Three nodes of their own, stopped and removed when dropped.
pub struct Cluster {
    /// `dev`, or the nodes themselves. Before the home that they work in.
    running: Vec<Running>,
    /// How nodes that `dev` does not run are reached.
    reach: Vec<(&'static str, String)>,
    /// The admin address of the first node.
    admin: String,
    user: User,
}

/// A load that runs.
pub struct Load {
    child: Child,
}

impl Cluster {
    /// Starts them, and waits until all answer.
    pub fn start() -> Self {
        let user = User::new();
        fs::write(user.path("catalog.yaml"), CATALOG).expect("a temporary directory");
        let dir = user.path("cluster");
        let dir = dir.to_str().expect("a path in UTF-8");
        let base = free_base(3).to_string();
        let dev = user.start(&["dev", "--data-dir", dir, "--grpc-port", &base, "--catalog", "catalog.yaml"]);
        dev.stdout_until("ready");
        let admin = dev_json(&user.path("cluster"))["nodes"][0]["admin"].as_str().expect("an address").to_owned();
        Self { running: vec![dev], reach: Vec::new(), admin, user }
    }

    /// The same with another budget for request keys, as `256MiB`, which `dev` has no word for.
    pub fn start_with_keys(size: &str) -> Self {
        let mut cluster = Self::start();
        let told = dev_json(&cluster.dir());
        let nodes = told["nodes"].as_array().expect("a list of nodes");
        let quic: Vec<_> = nodes.iter().map(|node| node["quic"].as_str().expect("an address")).collect();
        let word = |name: &str| told[name].as_str().expect("a path").to_owned();
        let reach = vec![
            ("TOMBOLA_ENDPOINTS", quic.join(",")),
            ("TOMBOLA_TLS_CA", word("ca")),
            ("TOMBOLA_TLS_CERT", word("cert")),
            ("TOMBOLA_TLS_KEY", word("key")),
        ];
        cluster.halt();
        cluster.reach = reach;
        for node in 1..=nodes.len() {
            let dir = cluster.dir().join(format!("node-{node}"));
            fs::remove_dir_all(dir.join("data")).expect("what the node kept");
            let config = fs::read_to_string(dir.join("config.yaml")).expect("what the node was told");
            let limits = format!("cluster:\n  limits: {{ keys_bytes_max: {size} }}\n");
            let limited = config.replacen("cluster:\n", &limits, 1);
            assert_ne!(limited, config, "the file has another form");
            let file = dir.join("config.yaml");
            fs::write(&file, limited).expect("a file of ours");
            let mut command = cluster.command(&["serve", "--config", file.to_str().expect("a path in UTF-8")]);
            command.stderr(Stdio::null());
            cluster.running.push(Running::quiet(command));
        }
        eventually("a leader answers", || {
            let told = cluster.command(&["cluster", "status", "-o", "json"]).output().expect("the binary was built");
            told.status.success().then_some(())
        });
        cluster
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.user.command(args);
        command.envs(self.reach.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Stops what runs.
    fn halt(&mut self) {
        for mut process in self.running.drain(..) {
            process.signal(Signal::TERM);
            assert!(process.wait().success(), "the nodes stop cleanly");
        }
    }

    fn dir(&self) -> PathBuf {
        self.user.path("cluster")
    }

    /// The nodes' processes.
    pub fn pids(&self) -> Vec<u32> {
        if !self.reach.is_empty() {
            return self.running.iter().map(|node| node.child.id()).collect();
        }
        pids(&dev_json(&self.dir())).into_iter().map(|pid| u32::try_from(pid).expect("a pid")).collect()
    }

    /// What the first node's metric of that name says.
    pub fn metric(&self, name: &str) -> f64 {
        let told = http::get(&self.admin, "/metrics").body;
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {told}"))
    }

    /// Kills the node that leads, as a power cut would.
    pub fn kill_leader(&self) {
        let leader = eventually("somebody leads", || {
            let output = self.command(&["cluster", "status", "-o", "json"]).output().ok()?;
            serde_json::from_slice::<Value>(&output.stdout).ok()?["leader"].as_u64()
        });
        let pid = self.pids()[usize::try_from(leader).expect("an id") - 1];
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid is not 0");
        kill_process(pid, Signal::KILL).expect("the node runs");
    }

    /// Begins a load of this many seconds.
    pub fn load(&self, seconds: u32, args: &[&str]) -> Load {
        let duration = format!("{seconds}s");
        let mut command = self.command(&[&["bench", "-o", "json", "--duration", &duration], args].concat());
        Load { child: command.stdout(Stdio::piped()).spawn().expect("the binary was built") }
    }

    /// Stops the nodes; gives the first one's data directory and the cluster's id.
    pub fn stop(&mut self) -> (PathBuf, ClusterId) {
        let status = self.user.json(&["cluster", "status"]);
        let id = status["cluster_id"].as_str().and_then(|id| id.parse().ok()).expect("a cluster id");
        self.halt();
        (self.dir().join("node-1/data"), id)
    }
}

impl Load {
    /// Does it still run?
    pub fn is_running(&self) -> bool {
        // A process that has ended stays a zombie until somebody waits for it.
        fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
    }

    /// Waits for its end; what it told, and the processor time that it spent, in microseconds.
    pub fn end(mut self) -> (Value, f64) {
        let mut told = Vec::new();
        self.child.stdout.take().expect("it is piped").read_to_end(&mut told).expect("a pipe");
        // Its output has ended, and so it is about to; nobody has waited for it yet, so the kernel still knows it.
        eventually("the load ends", || (!self.is_running()).then_some(()));
        let cpu_us = process::cpu_us(self.child.id());
        let status = self.child.wait().expect("a child");
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&told));
        (serde_json::from_slice(&told).expect("one document"), cpu_us)
    }
}
