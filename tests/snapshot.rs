//! Three real processes whose logs are short: a follower that was away for too long is brought up by snapshot, over QUIC,
//! while draws go on. Killed in the middle of it again and again, it goes on or starts again, and ends equal.

#[path = "support/user.rs"]
mod user;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tombola::{
    client::{Client, ClientConfig},
    pool::{Action, CatalogItem, Effect, Outcome, Policy, PoolId, Refusal, RequestKey, Stock, Weight},
    replica::Status,
};

use user::{PATIENCE, Running, User, free_base};

/// A snapshot is due after half its body's length of log, some 2 MiB; what stays beside it is little.
const SNAPSHOTS: &str = "{ log_bytes_min: 64KiB, trailing_entries: 20, trailing_bytes: 64KiB, log_bytes_max: 1MiB, transfer_bytes_per_s: 4MiB }";
/// Pools that make a body of about 4 MiB, and so of a second and some 16 chunks at that rate.
const POOLS: usize = 8;
const ITEMS_PER_POOL: usize = 9_000;
/// Where in the transfer the follower is killed, after the leader began to send.
const KILLS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(800)];
const CLIENTS: usize = 4;
/// A client's pause between two draws: the load is steady, not a benchmark.
const PAUSE: Duration = Duration::from_millis(5);

struct Cluster {
    user: User,
    base: u16,
    nodes: BTreeMap<u16, Running>,
}

impl Cluster {
    fn start() -> Self {
        let (user, base) = (User::new(), free_base(3));
        let made = user.json(&["certs", "init", "--dir", "certs", "--nodes", "3", "--client", "me"]);
        let id = made["cluster_id"].as_str().unwrap();
        let members: Vec<_> =
            (1..=3).map(|node| format!("{{ id: {node}, quic: '127.0.0.1:{}' }}", base + 10 * node - 9)).collect();
        let members = members.join(", ");
        for node in 1..=3 {
            let text = format!(
                "node: {node}\ncluster: {{ id: {id}, nodes: [{members}] }}\ndata_dir: data\ntls: {{ dir: certs }}\n\
                 snapshots: {SNAPSHOTS}\npool: {{ catalog: [{{ item_id: mud, quantity: -1, probability: 1 }}] }}\n"
            );
            fs::write(user.path(&format!("node-{node}.yaml")), text).unwrap();
        }
        let mut cluster = Self { user, base, nodes: BTreeMap::new() };
        (1..=3).for_each(|node| cluster.serve(node));
        cluster
    }

    fn log(&self, node: u16) -> PathBuf {
        self.user.path(&format!("node-{node}.log"))
    }

    /// Starts a node; what it says goes into its log.
    fn serve(&mut self, node: u16) {
        let mut command = self.user.command(["serve", "--config", &format!("node-{node}.yaml")]);
        command.stderr(fs::File::options().create(true).append(true).open(self.log(node)).unwrap());
        self.nodes.insert(node, Running::quiet(command));
    }

    fn kill(&mut self, node: u16) {
        let mut running = self.nodes.remove(&node).expect("it runs");
        running.signal(Signal::KILL);
        running.wait();
    }

    fn client(&self) -> Client {
        let path = |name: &str| self.user.path("certs").join(name);
        Client::connect(&ClientConfig {
            endpoints: (1..=3).map(|node| format!("127.0.0.1:{}", self.base + 10 * node - 9)).collect(),
            ca: path("node-ca.pem"),
            cert: path("me.pem"),
            key: path("me.key"),
            timeout: PATIENCE,
            attempt_timeout: Duration::from_secs(2),
        })
        .unwrap()
    }

    /// How often a node has said this since it was first started.
    fn said(&self, node: u16, what: &str) -> usize {
        fs::read_to_string(self.log(node)).unwrap().matches(what).count()
    }
}

/// What the nodes said, where the test fails.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 1..=3 {
                println!("node {node}:\n{}", fs::read_to_string(self.log(node)).unwrap_or_default());
            }
        }
    }
}

async fn submit(client: &Client, pool: PoolId, action: Action) -> (RequestKey, Outcome) {
    let key = client.new_key().await.expect("some node tells the time");
    (key, client.submit(pool, key, action).await.expect("a client sees a delay at worst").value.outcome)
}

/// Creates a pool with many items: half a MiB of log, and as much of a state if there is no such pool yet.
async fn create_large(client: &Client, number: usize) -> Outcome {
    let item = |at| CatalogItem {
        item: format!("item-{number}-{at}-of-a-rather-long-name").parse().unwrap(),
        stock: Stock::Finite(at as u64),
        weight: Weight(1),
    };
    let items = (0..ITEMS_PER_POOL).map(item).collect();
    let create = Action::CreatePool { policy: Policy::Renormalize, items, require_key: false };
    submit(client, format!("large-{number}").parse().unwrap(), create).await.1
}

/// Draws until told to stop; gives what was told under each key.
async fn load(client: Client, stop: Arc<AtomicBool>) -> Vec<(RequestKey, Outcome)> {
    let mut told = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        told.push(submit(&client, PoolId::default_pool(), Action::Draw { count: 3 }).await);
        tokio::time::sleep(PAUSE).await;
    }
    told
}

async fn status(client: &Client, node: u16) -> Option<Status> {
    Some(client.status_of(usize::from(node) - 1).await.ok()?.value.replica)
}

async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < end, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes log until that of a running node begins after this index.
async fn compact_past(client: &Client, node: u16, last: u64) {
    eventually("the log is cut", async || {
        assert_eq!(create_large(client, 0).await.result, Err(Refusal::PoolExists));
        status(client, node).await.filter(|status| status.first_index.0 > last + 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_past_the_log_is_brought_up_by_snapshot_and_killed_at_it_ends_equal() {
    let mut cluster = Cluster::start();
    let observer = cluster.client();
    for number in 0..POOLS {
        let outcome = create_large(&observer, number).await;
        assert!(matches!(outcome.result, Ok(Effect::PoolSet { .. })), "{outcome:?}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(load(cluster.client(), stop.clone()))).collect();

    let leader = eventually("somebody leads", async || status(&observer, 1).await?.leader).await.0 as u16;
    let follower = leader % 3 + 1;
    let last = eventually("it answers", async || status(&observer, follower).await).await.last_index.0;
    cluster.kill(follower);
    compact_past(&observer, leader, last).await;

    let (begins, whole) = ("receiving a snapshot", "a snapshot is whole");
    for after in KILLS {
        let before = cluster.said(follower, begins);
        cluster.serve(follower);
        // If this process, or the machine, stood still in a round before, all of it may have come then.
        eventually("a snapshot is sent, or was", async || {
            (cluster.said(follower, begins) > before || cluster.said(follower, whole) > 0).then_some(())
        })
        .await;
        tokio::time::sleep(after).await;
        cluster.kill(follower);
    }
    cluster.serve(follower);
    eventually("it is installed", async || (cluster.said(follower, whole) > 0).then_some(())).await;
    // It follows: what is drawn now reaches it as entries.
    let now = eventually("it answers", async || status(&observer, leader).await).await.last_index;
    eventually("it catches up", async || {
        status(&observer, follower).await.filter(|status| status.digests.index >= now)
    })
    .await;
    stop.store(true, Ordering::Relaxed);

    let mut told = BTreeMap::new();
    for client in clients {
        told.extend(client.await.unwrap());
    }
    assert!(told.len() > 500, "the load was hardly one: {} draws", told.len());
    for (key, outcome) in &told {
        // Sent again, to whichever node: the follower among them knows only what the snapshot brought.
        let again =
            observer.submit(PoolId::default_pool(), *key, Action::Draw { count: 3 }).await.unwrap().value.outcome;
        assert_eq!((again.index, &again.result, again.replayed), (outcome.index, &outcome.result, true), "{key}");
    }
    let endpoints: Vec<_> = (1..=3).map(|node| observer.address(node - 1).to_owned()).collect();
    let verified = cluster.user.json(&[
        "verify",
        "--endpoints",
        &endpoints.join(","),
        "--tls-ca",
        "certs/node-ca.pem",
        "--tls-cert",
        "certs/me.pem",
        "--tls-key",
        "certs/me.key",
    ]);
    println!("{} keys; {} sends begun, verified: {verified}", told.len(), cluster.said(follower, begins));
    for node in cluster.nodes.values_mut() {
        node.signal(Signal::TERM);
        assert!(node.wait().success());
    }
}
