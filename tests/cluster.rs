//! Three real processes as their callers see them: any node takes any request, one key has one outcome wherever it is
//! sent, reads are linearizable or refused in time, and the predecessor's clients notice nothing.

#[path = "support/user.rs"]
mod user;

/// The predecessor's client, generated from a proto of its own (`tests/upstream.proto`).
#[allow(clippy::all)]
mod upstream {
    include!("gen/rewardpool.rs");
}

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::task::JoinSet;
use tombola::{
    client::{Client, ClientConfig},
    pool::{Action, Effect, PoolId},
};
use upstream::{
    DrawRequest, DrawResponse, GetStateRequest, UpdateItemRequest, reward_pool_service_client::RewardPoolServiceClient,
};

use user::{Running, User, dev_json, eventually, free_base, pids};

/// Three nodes under `dev`, ready.
struct Cluster {
    dev: Running,
    user: User,
    dir: PathBuf,
}

impl Cluster {
    fn start(catalog: &str) -> Self {
        let user = User::new();
        let dir = user.path("cluster");
        std::fs::write(user.path("catalog.yaml"), catalog).unwrap();
        let base = free_base(3).to_string();
        let args = ["dev", "--data-dir", dir.to_str().unwrap(), "--grpc-port", &base, "--catalog", "catalog.yaml"];
        let dev = user.start(&args);
        dev.stdout_until("ready");
        Self { dev, user, dir }
    }

    fn nodes(&self) -> Vec<Value> {
        dev_json(&self.dir)["nodes"].as_array().unwrap().clone()
    }

    /// Addresses of one side of every node: `grpc` or `quic`.
    fn addresses(&self, side: &str) -> Vec<String> {
        self.nodes().iter().map(|node| node[side].as_str().unwrap().to_owned()).collect()
    }

    fn pid(&self, node: usize) -> Pid {
        Pid::from_raw(i32::try_from(pids(&dev_json(&self.dir))[node]).unwrap()).unwrap()
    }

    /// Runs a verb against one node alone; its exit code and its JSON, of stderr if it failed.
    fn at(&self, node: usize, args: &[&str]) -> (i32, Value) {
        let endpoint = &self.addresses("quic")[node];
        let output = self.user.run(&[args, &["-o", "json", "--endpoints", endpoint]].concat());
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        let json = serde_json::from_slice(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&text)));
        (output.status.code().unwrap(), json)
    }

    /// Position of the leader.
    fn leader(&self) -> usize {
        let status = eventually("somebody leads", || {
            let output = self.user.run(&["cluster", "status", "-o", "json"]);
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            status["leader"].is_u64().then_some(status)
        });
        status["leader"].as_u64().unwrap() as usize - 1
    }

    fn stop(mut self) {
        self.dev.signal(Signal::TERM);
        assert!(self.dev.wait().success());
    }
}

async fn predecessor(address: &str) -> RewardPoolServiceClient<tonic::transport::Channel> {
    RewardPoolServiceClient::connect(format!("http://{address}")).await.unwrap()
}

/// One message on a stream of its own, and all its answers.
async fn draw(address: &str, count: i32) -> Vec<DrawResponse> {
    let requests = tokio_stream::iter([DrawRequest { count }]);
    let mut answers = predecessor(address).await.draw(requests).await.unwrap().into_inner();
    let mut drawn = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        drawn.push(answer);
    }
    drawn
}

#[tokio::test(flavor = "multi_thread")]
async fn the_predecessors_clients_draw_through_any_node_and_see_the_end_in_band() {
    let cluster = Cluster::start("catalog: [{ item_id: gold, quantity: 35, probability: 1 }]");
    let mut last = 0;
    for address in cluster.addresses("grpc") {
        let drawn = draw(&address, 10).await;
        assert_eq!(drawn.len(), 10);
        for answer in drawn {
            assert!(answer.request_id > last, "request ids rise, whichever node is asked");
            assert_eq!((answer.item_id.as_str(), answer.error.as_str()), ("gold", ""));
            last = answer.request_id;
        }
    }
    let drawn = draw(&cluster.addresses("grpc")[1], 10).await;
    let errors: Vec<_> = drawn.iter().map(|answer| answer.error.as_str()).collect();
    assert_eq!(errors[..5], [""; 5]);
    assert_eq!(errors[5..], ["reward pool is empty"; 5]);
    assert!(drawn.windows(2).all(|pair| pair[0].request_id < pair[1].request_id), "a failed draw has its number, too");
    assert!(drawn[5..].iter().all(|answer| answer.item_id.is_empty()));
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_on_the_leader_is_read_alike_on_all_nodes_at_once() {
    let cluster = Cluster::start("catalog: [{ item_id: gold, quantity: 1, probability: 1 }]");
    let addresses = cluster.addresses("grpc");
    for quantity in [7, 70, -1, 0] {
        let update = UpdateItemRequest { item_id: "gold".into(), quantity, probability: 3 };
        predecessor(&addresses[cluster.leader()]).await.update_item(update).await.unwrap();
        let mut reads = JoinSet::new();
        for address in addresses.clone() {
            reads.spawn(async move {
                let state = predecessor(&address).await.get_state(GetStateRequest {}).await.unwrap().into_inner();
                state.items.into_iter().map(|item| (item.item_id, item.quantity, item.probability)).collect::<Vec<_>>()
            });
        }
        for state in reads.join_all().await {
            assert_eq!(state, [("gold".to_owned(), quantity, 3)]);
        }
    }
    cluster.stop();
}

#[test]
fn a_node_whose_peers_are_stopped_refuses_linearizable_reads_in_time_and_answers_stale_ones() {
    let cluster = Cluster::start("catalog: [{ item_id: gold, quantity: 9, probability: 1 }]");
    let alone = cluster.leader();
    let others: Vec<_> = (0..3).filter(|node| *node != alone).map(|node| cluster.pid(node)).collect();
    others.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());

    let started = Instant::now();
    let (code, refused) = cluster.at(alone, &["state", "--timeout", "5s"]);
    assert_eq!(code, 3, "{refused}");
    assert!(started.elapsed() < Duration::from_secs(15), "it took {:?}", started.elapsed());
    assert!(["NO_QUORUM", "NO_LEADER"].contains(&refused["error"]["code"].as_str().unwrap()), "{refused}");
    let (code, stale) = cluster.at(alone, &["state", "--stale"]);
    assert_eq!((code, &stale["stale"]), (0, &true.into()));
    assert_eq!(stale["items"][0]["remaining"], 9);
    assert!(stale["index"].as_u64().unwrap() > 1);
    // A draw is not answered either; its key is told, and safe to send again.
    let (code, unknown) = cluster.at(alone, &["draw", "--timeout", "3s"]);
    assert_eq!(code, 3, "{unknown}");
    let key = unknown["error"]["key"].as_str().unwrap().to_owned();

    others.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap());
    let (code, drawn) = cluster.at(alone, &["draw", "--key", &key]);
    assert_eq!((code, drawn["awards"].as_array().unwrap().len()), (0, 1));
    let (code, state) = cluster.at(alone, &["state"]);
    assert_eq!((code, &state["items"][0]["remaining"]), (0, &8.into()), "the draw was made once");
    cluster.stop();
}

#[test]
fn one_key_has_one_outcome_on_every_node_after_a_restart_and_under_another_leader() {
    let mut cluster = Cluster::start(
        "catalog: [{ item_id: gold, quantity: 50, probability: 1 }, { item_id: mud, quantity: -1, probability: 1 }]",
    );
    let (_, first) = cluster.at(0, &["draw", "-n", "20"]);
    let key = first["key"].as_str().unwrap().to_owned();
    assert_eq!(first["replayed"], false);
    let again = |cluster: &Cluster, node: usize| {
        let (code, again) = cluster.at(node, &["draw", "-n", "20", "--key", &key]);
        assert_eq!(code, 0, "{again}");
        assert_eq!((&again["replayed"], &again["awards"]), (&true.into(), &first["awards"]));
        assert_eq!(again["index"], first["index"]);
    };
    (0..3).for_each(|node| again(&cluster, node));

    let (code, reused) = cluster.at(1, &["draw", "-n", "21", "--key", &key]);
    assert_eq!((code, &reused["error"]["code"]), (4, &"KEY_REUSED".into()));
    let (code, reused) = cluster.at(2, &["claim", "gold", "--quantity", "1", "--key", &key]);
    assert_eq!((code, &reused["error"]["code"]), (4, &"KEY_REUSED".into()));

    let leader = cluster.leader();
    let next = (leader + 1) % 3;
    let (code, told) = cluster.at(next, &["cluster", "transfer", &(next + 1).to_string()]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(cluster.leader(), next);
    (0..3).for_each(|node| again(&cluster, node));

    // All processes anew, on the same files.
    cluster.dev.signal(Signal::TERM);
    assert!(cluster.dev.wait().success());
    cluster.dev = cluster.user.start(&["dev", "--data-dir", cluster.dir.to_str().unwrap()]);
    cluster.dev.stdout_until("ready");
    (0..3).for_each(|node| again(&cluster, node));
    let (code, outcome) = cluster.at(2, &["outcome", &key]);
    assert_eq!(code, 0, "{outcome}");
    cluster.user.json(&["verify"]);
    cluster.stop();
}

fn client(cluster: &Cluster, endpoint: usize) -> Client {
    let file = dev_json(&cluster.dir);
    let path = |key: &str| Path::new(file[key].as_str().unwrap()).to_owned();
    let mut endpoints = cluster.addresses("quic");
    endpoints.rotate_left(endpoint);
    let (timeout, attempt_timeout) = (Duration::from_secs(30), Duration::from_secs(2));
    let config =
        ClientConfig { endpoints, ca: path("ca"), cert: path("cert"), key: path("key"), timeout, attempt_timeout };
    Client::connect(&config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_unit_raced_by_a_hundred_clients_is_awarded_once() {
    let cluster = Cluster::start("catalog: [{ item_id: gold, quantity: 1, probability: 1 }]");
    let mut racers = JoinSet::new();
    for racer in 0..100 {
        let client = client(&cluster, racer % 3);
        racers.spawn(async move {
            let key = client.new_key().await.unwrap();
            let answered = client.submit(PoolId::default_pool(), key, Action::Draw { count: 1 }).await.unwrap().value;
            match answered.outcome.result {
                Ok(Effect::Drawn { steps, .. }) => steps.iter().filter(|step| step.item().is_some()).count(),
                other => panic!("a draw is answered by a result, not by {other:?}"),
            }
        });
    }
    assert_eq!(racers.join_all().await.into_iter().sum::<usize>(), 1);
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_was_emptied_is_refused_and_says_why_on_both_sides() {
    let cluster = Cluster::start("catalog: [{ item_id: gold, quantity: -1, probability: 1 }]");
    cluster.user.json(&["draw", "-n", "5"]);
    kill_process(cluster.pid(2), Signal::KILL).unwrap();
    let place = cluster.dir.join("node-3");
    std::fs::remove_dir_all(place.join("data")).unwrap();
    let config = place.join("config.yaml");
    let mut emptied = cluster.user.start(&["serve", "--config", config.to_str().unwrap()]);
    let said = emptied.stderr_until("error[FOUNDING_REFUSED]").pop().unwrap();
    assert_eq!(emptied.wait().code(), Some(1));
    let reason = "an emptied disk cannot come back under its old id";
    assert!(said.contains(reason) && said.contains("replica 3 comes with disk"), "{said}");
    let told = |node: usize| std::fs::read_to_string(cluster.dir.join(format!("node-{node}/log"))).unwrap();
    eventually("the others say so too", || [1, 2].iter().any(|node| told(*node).contains(reason)).then_some(()));
    cluster.user.json(&["draw", "-n", "5"]);
    cluster.stop();
}
