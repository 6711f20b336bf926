//! Three real processes under floods of garbage and of connections that say nothing, while real clients go on drawing:
//! whoever has a right to be served is served, memory stays bounded, and nothing else comes of it.

#[path = "support/user.rs"]
mod user;

/// The predecessor's client, generated from a proto of its own (`tests/upstream.proto`).
#[allow(clippy::all)]
mod upstream {
    include!("gen/rewardpool.rs");
}

mod flood {
    pub mod noise;
    pub mod streams;
    pub mod tcp;
    pub mod udp;
}

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tombola::{
    client::{Client, ClientConfig},
    pool::{Action, Effect, PoolId},
    transport::tls::ClientTls,
};
use upstream::{GetStateRequest, reward_pool_service_client::RewardPoolServiceClient};

use flood::{noise::Noise, streams, tcp, udp};
use user::{Running, User, dev_json, exists, free_base, pids};

const STOCK: u64 = 1_000_000;
const CLIENTS: usize = 2;
/// A client's pause between two draws: the load is steady, not a benchmark.
const PAUSE: Duration = Duration::from_millis(5);
/// No draw may take longer, on a machine that may be busy with other tests.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// What a node may grow by, in KiB: its buffers, its log and what the allocator keeps.
const GROWTH_KIB_MAX: u64 = 64 << 10;

/// Three nodes under `dev`, and what is needed to call them.
struct Cluster {
    dev: Running,
    user: User,
    dir: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let user = User::new();
        let dir = user.path("cluster");
        let catalog = format!("catalog: [{{ item_id: gold, quantity: {STOCK}, probability: 1 }}]");
        std::fs::write(user.path("catalog.yaml"), catalog).unwrap();
        let base = free_base(3).to_string();
        let dev = user.start(&[
            "dev",
            "--data-dir",
            dir.to_str().unwrap(),
            "--grpc-port",
            &base,
            "--catalog",
            "catalog.yaml",
        ]);
        dev.stdout_until("ready");
        Self { dev, user, dir }
    }

    /// Addresses of one side of every node: `grpc` or `quic`.
    fn addresses(&self, side: &str) -> Vec<String> {
        let file = dev_json(&self.dir);
        file["nodes"].as_array().unwrap().iter().map(|node| node[side].as_str().unwrap().to_owned()).collect()
    }

    fn pids(&self) -> Vec<u64> {
        pids(&dev_json(&self.dir))
    }

    fn file(&self, key: &str) -> PathBuf {
        Path::new(dev_json(&self.dir)[key].as_str().unwrap()).to_owned()
    }

    fn client(&self) -> Client {
        let [ca, cert, key] = ["ca", "cert", "key"].map(|key| self.file(key));
        let endpoints = self.addresses("quic");
        let (timeout, attempt_timeout) = (Duration::from_secs(30), Duration::from_secs(2));
        Client::connect(&ClientConfig { endpoints, ca, cert, key, timeout, attempt_timeout }).unwrap()
    }

    fn quic_config(&self) -> quinn::ClientConfig {
        ClientTls::load(&self.file("ca"), &self.file("cert"), &self.file("key")).unwrap()
    }

    /// Resident memory of each node in KiB.
    fn memory_kib(&self) -> Vec<u64> {
        let resident = |pid: u64| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        self.pids().into_iter().map(resident).collect()
    }

    /// No node takes much more than it did.
    fn check_memory(&self, before: &[u64]) {
        let now = self.memory_kib();
        println!("memory before and now in KiB: {before:?} {now:?}");
        for (before, now) in before.iter().zip(&now) {
            assert!(now.saturating_sub(*before) < GROWTH_KIB_MAX, "a node grew from {before} to {now} KiB");
        }
    }

    /// Lines in the nodes' logs that must not be there.
    fn complaints(&self) -> Vec<String> {
        let log = |node: usize| std::fs::read_to_string(self.dir.join(format!("node-{node}/log"))).unwrap();
        let lines: Vec<String> =
            (1..=3).flat_map(|node| log(node).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        assert!(!lines.is_empty(), "the logs are somewhere else");
        lines.into_iter().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect()
    }
}

/// A client that draws until it is told to stop; gives its awards and the longest that it waited for one.
struct Drawer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(u64, Duration)>,
}

impl Drawer {
    fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(Self::draw(client, stop.clone()));
        Self { stop, task }
    }

    async fn draw(client: Client, stop: Arc<AtomicBool>) -> (u64, Duration) {
        let (mut awards, mut longest) = (0, Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            awards += draw_one(&client).await;
            longest = started.elapsed().max(longest);
            tokio::time::sleep(PAUSE).await;
        }
        (awards, longest)
    }

    async fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Gives the awards of one draw: one.
async fn draw_one(client: &Client) -> u64 {
    let key = client.new_key().await.expect("a node tells the time");
    let drawn = client.submit(PoolId::default_pool(), key, Action::Draw { count: 1 }).await;
    match drawn.expect("a draw is answered").value.outcome.result {
        Ok(Effect::Drawn { steps, .. }) => steps.awards().map(|(_, units)| units).sum(),
        other => panic!("a draw is answered by a result, not by {other:?}"),
    }
}

/// A stranger to the flood gets in over gRPC, from an address of their own, as soon as a seat is free: silence has to give
/// its seats back.
async fn is_served(address: &str) {
    let endpoint = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap();
    let endpoint = endpoint.local_address(Some([127, 0, 0, 2].into()));
    let served = async {
        loop {
            if let Ok(channel) = endpoint.connect().await
                && let Ok(state) = RewardPoolServiceClient::new(channel).get_state(GetStateRequest {}).await
            {
                return state.into_inner();
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let state = tokio::time::timeout(DELAY_MAX, served).await.expect("a seat becomes free");
    assert_eq!(state.items[0].item_id, "gold");
}

/// Everything at once that does not stand in each other's way; gives the awards of who came in meanwhile. `before` is what
/// the nodes took of memory.
async fn floods(cluster: &Cluster, before: &[u64]) -> u64 {
    let (quic, grpc) = (cluster.addresses("quic"), cluster.addresses("grpc"));
    let noise = Arc::new(Noise::new(0x746f_6d62_6f6c_6121));
    let mut garbage = JoinSet::new();
    for (quic, grpc) in quic.iter().cloned().zip(grpc.iter().cloned()) {
        let (config, ca, noise) = (cluster.quic_config(), cluster.file("ca"), noise.clone());
        garbage.spawn(async move {
            let started = Instant::now();
            udp::garbage(&quic, &noise).await;
            streams::garbage_frames(&quic, &config, &noise).await;
            streams::foreign_certificates(&quic, &ca).await;
            tcp::garbage(&grpc, &noise).await;
            tcp::endless_headers(&grpc).await;
            println!("garbage at {quic} and {grpc}: {:?}", started.elapsed());
        });
    }
    let handshakes = async {
        let started = Instant::now();
        udp::silent_handshakes(&quic[0], &cluster.quic_config(), &noise).await;
        // Somebody who was not there before comes in through the middle of it.
        let awards = draw_one(&cluster.client()).await;
        println!("silent handshakes: {:?}", started.elapsed());
        awards
    };
    let connections = async {
        // Silence takes every seat of this address, so that garbage would not get in any more.
        garbage.join_all().await;
        let started = Instant::now();
        let silent = tcp::Silent::connect(&grpc[1]).await;
        println!("silent connections are open: {:?}", started.elapsed());
        let awards = draw_one(&cluster.client()).await;
        cluster.check_memory(before);
        is_served(&grpc[1]).await;
        silent.end().await;
        println!("silent connections are over: {:?}", started.elapsed());
        awards
    };
    let (some, others) = tokio::join!(handshakes, connections);
    some + others
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_garbage_and_of_silence_change_nothing_for_those_who_draw() {
    let cluster = Cluster::start();
    let pids = cluster.pids();
    let drawers: Vec<Drawer> = (0..CLIENTS).map(|_| Drawer::start(cluster.client())).collect();
    // What a node needs once: buffers, caches, threads.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cluster.memory_kib();

    let mut awards = floods(&cluster, &before).await;

    for drawer in drawers {
        let (drawn, longest) = drawer.stop().await;
        println!("{drawn} draws, the longest took {longest:?}");
        assert!(drawn > 100 && longest < DELAY_MAX, "{drawn} draws went through, one of them in {longest:?}");
        awards += drawn;
    }
    cluster.check_memory(&before);
    assert_eq!(cluster.pids(), pids);
    assert!(pids.iter().all(|pid| exists(*pid)), "a node is gone");
    // The books: what was drawn is missing from the stock, and nothing else; on every node alike.
    let state = cluster.user.json(&["state"]);
    assert_eq!(state["items"][0]["remaining"], Value::from(STOCK - awards));
    cluster.user.json(&["verify"]);
    assert_eq!(cluster.complaints(), Vec::<String>::new());
    let Cluster { mut dev, .. } = cluster;
    dev.signal(rustix::process::Signal::TERM);
    assert!(dev.wait().success());
}
