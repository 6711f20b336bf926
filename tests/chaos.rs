//! Three real processes on real files, under the load of clients that keep their keys, while processes are killed: the
//! leader, a follower, then all three. Nothing that was acknowledged is lost, nothing is given twice, and a client saw at
//! worst a delay.

#[path = "support/user.rs"]
mod user;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tombola::{
    api::Consistency,
    client::{Client, ClientConfig},
    pool::{Action, Answer, DrawSeq, Effect, ItemId, Outcome, PoolId, PoolState, Query, Remembered, RequestKey},
};

use user::{Running, User, dev_json, free_base, pids};

/// How long the clients draw.
const LOAD: Duration = Duration::from_secs(60);
/// When what is killed, and how long it stays down.
const KILLS: [(Duration, Victims); 3] = [
    (Duration::from_secs(10), Victims::Leader),
    (Duration::from_secs(25), Victims::Follower),
    (Duration::from_secs(40), Victims::All),
];
const DOWN: Duration = Duration::from_secs(3);
const CLIENTS: usize = 4;
/// A client's pause between two draws: the load is steady, not a benchmark.
const PAUSE: Duration = Duration::from_millis(10);
/// No call may take longer: the processes are down for a while, then elect, on a machine that may be busy.
const DELAY_MAX: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug)]
enum Victims {
    Leader,
    Follower,
    All,
}

/// What a client was told: for each key, the awards.
type Told = BTreeMap<RequestKey, (DrawSeq, Vec<Option<ItemId>>)>;

struct Cluster<'a> {
    user: &'a User,
    dir: PathBuf,
    /// Nodes that were brought back; they end with the test.
    back: Vec<Running>,
}

impl Cluster<'_> {
    fn client(&self) -> Client {
        let file = dev_json(&self.dir);
        let path = |key: &str| Path::new(file[key].as_str().unwrap()).to_owned();
        let nodes = file["nodes"].as_array().unwrap();
        Client::connect(&ClientConfig {
            endpoints: nodes.iter().map(|node| node["quic"].as_str().unwrap().to_owned()).collect(),
            ca: path("ca"),
            cert: path("cert"),
            key: path("key"),
            timeout: DELAY_MAX,
            attempt_timeout: Duration::from_secs(2),
        })
        .unwrap()
    }

    /// Kills the victims, waits, and brings them back as `dev` says.
    async fn kill(&mut self, victims: Victims, leader: usize) {
        let chosen = match victims {
            Victims::Leader => vec![leader],
            Victims::Follower => vec![(leader + 1) % 3],
            Victims::All => vec![0, 1, 2],
        };
        let pids = pids(&dev_json(&self.dir));
        for &node in &chosen {
            let pid = Pid::from_raw(i32::try_from(pids[node]).unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        }
        tokio::time::sleep(DOWN).await;
        for node in chosen {
            let config = self.dir.join(format!("node-{}/config.yaml", node + 1));
            let log = self.dir.join(format!("node-{}/log-by-hand", node + 1));
            let mut command = self.user.command(["serve", "--config", config.to_str().unwrap()]);
            command.stderr(std::fs::File::options().create(true).append(true).open(log).unwrap());
            self.back.push(Running::quiet(command));
        }
    }
}

/// Draws one after the other until told to stop; a call that fails is sent again, under its key, by the client itself.
async fn load(client: Client, stop: Arc<AtomicBool>) -> (Told, Duration) {
    let mut told = Told::new();
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let key = client.new_key().await.expect("some node tells the time");
        let count = 1 + (told.len() % 5) as u16;
        let started = Instant::now();
        let called = client.submit(PoolId::default_pool(), key, Action::Draw { count }).await;
        slowest = slowest.max(started.elapsed());
        let answered = called.unwrap_or_else(|error| panic!("a client saw more than a delay: {error}")).value;
        assert_eq!(answered.key, key);
        told.insert(key, awards(&answered.outcome));
        tokio::time::sleep(PAUSE).await;
    }
    (told, slowest)
}

fn awards(outcome: &Outcome) -> (DrawSeq, Vec<Option<ItemId>>) {
    match &outcome.result {
        Ok(Effect::Drawn { first_seq, steps, .. }) => {
            (*first_seq, steps.iter().map(|step| step.cloned().into_item()).collect())
        }
        other => panic!("not a draw's outcome: {other:?}"),
    }
}

async fn leader(client: &Client) -> usize {
    let status = client.status().await.expect("some node answers").value;
    (status.replica.leader.expect("somebody leads").0 - 1) as usize
}

async fn pool(client: &Client, endpoint: usize) -> PoolState {
    let query = Query::Pool(PoolId::default_pool());
    let read = client.read_at(endpoint, query, Consistency::Linearizable).await.expect("every node reads").value;
    match read.answer {
        Answer::Pool(pool) => pool,
        other => panic!("not a pool: {other:?}"),
    }
}

/// Every acknowledged award is there, on every node, and no number was given twice.
async fn check(client: &Client, told: &Told) {
    let mut numbers = BTreeSet::new();
    let mut given: BTreeMap<ItemId, u64> = BTreeMap::new();
    for (first, items) in told.values() {
        for (offset, item) in items.iter().enumerate() {
            assert!(numbers.insert(first.0 + offset as u64), "award {} was given twice", first.0 + offset as u64);
            *given.entry(item.clone().expect("this pool never runs dry")).or_default() += 1;
        }
    }
    for endpoint in 0..3 {
        // Linearizable, so that what follows may be read as this node has it.
        let pool = pool(client, endpoint).await;
        for item in &pool.items {
            assert_eq!(item.awarded, given.get(&item.id).copied().unwrap_or(0), "item {} at {endpoint}", item.id);
        }
        assert_eq!(pool.summary.draw_seq.0, numbers.len() as u64);
        for (key, expected) in told {
            let query = Query::Outcome(PoolId::default_pool(), *key);
            let read = client.read_at(endpoint, query, Consistency::Stale).await.unwrap().value;
            match read.answer {
                Answer::Outcome(Remembered::Outcome(outcome)) => assert_eq!(awards(&outcome), *expected),
                other => panic!("{key} is lost at {endpoint}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_leader_a_follower_and_all_three_lose_nothing_and_give_nothing_twice() {
    let user = User::new();
    let dir = user.path("cluster");
    let args = ["dev", "--data-dir", dir.to_str().unwrap(), "--grpc-port", &free_base(3).to_string()];
    let mut dev = user.start(&args);
    dev.stdout_until("ready");
    let mut cluster = Cluster { user: &user, dir: dir.clone(), back: Vec::new() };

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(load(cluster.client(), stop.clone()))).collect();
    let started = Instant::now();
    let observer = cluster.client();
    for (at, victims) in KILLS {
        tokio::time::sleep(at.saturating_sub(started.elapsed())).await;
        let leader = leader(&observer).await;
        println!("{:5.1} s: killing {victims:?}, node {} leads", started.elapsed().as_secs_f64(), leader + 1);
        cluster.kill(victims, leader).await;
    }
    tokio::time::sleep(LOAD.saturating_sub(started.elapsed())).await;
    stop.store(true, Ordering::Relaxed);

    let mut told = Told::new();
    for client in clients {
        let (theirs, slowest) = client.await.unwrap();
        println!("a client drew under {} keys and waited {:.1} s at most", theirs.len(), slowest.as_secs_f64());
        assert!(theirs.len() > 100, "the load was hardly one");
        told.extend(theirs);
    }
    check(&observer, &told).await;
    let verified: Value = user.json(&["verify"]);
    println!(
        "{} keys, {} awards, verified: {verified}",
        told.len(),
        told.values().map(|(_, items)| items.len()).sum::<usize>()
    );

    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
}
