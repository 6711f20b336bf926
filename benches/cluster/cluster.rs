//! Three nodes under `tombola dev`, and `tombola bench` against them.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tombola::types::ClusterId;

use crate::{
    process,
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
    // Before the home that it works in.
    dev: Running,
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
        Self { dev, user }
    }

    fn dir(&self) -> PathBuf {
        self.user.path("cluster")
    }

    /// The nodes' processes.
    pub fn pids(&self) -> Vec<u32> {
        pids(&dev_json(&self.dir())).into_iter().map(|pid| u32::try_from(pid).expect("a pid")).collect()
    }

    /// Kills the node that leads, as a power cut would.
    pub fn kill_leader(&self) {
        let leader = eventually("somebody leads", || {
            let output = self.user.run(&["cluster", "status", "-o", "json"]);
            serde_json::from_slice::<Value>(&output.stdout).ok()?["leader"].as_u64()
        });
        let pid = self.pids()[usize::try_from(leader).expect("an id") - 1];
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid is not 0");
        kill_process(pid, Signal::KILL).expect("the node runs");
    }

    /// Begins a load of this many seconds.
    pub fn load(&self, seconds: u32, args: &[&str]) -> Load {
        let duration = format!("{seconds}s");
        let mut command = self.user.command([&["bench", "-o", "json", "--duration", &duration], args].concat());
        Load { child: command.stdout(Stdio::piped()).spawn().expect("the binary was built") }
    }

    /// Stops the nodes; gives the first one's data directory and the cluster's id.
    pub fn stop(&mut self) -> (PathBuf, ClusterId) {
        let status = self.user.json(&["cluster", "status"]);
        let id = status["cluster_id"].as_str().and_then(|id| id.parse().ok()).expect("a cluster id");
        self.dev.signal(Signal::TERM);
        assert!(self.dev.wait().success(), "the nodes stop cleanly");
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
