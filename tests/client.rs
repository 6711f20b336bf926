//! The native client over real QUIC, against nodes that do what a script says: what is sent again, where, under which
//! key, and what is said when nothing helps.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::task::JoinSet;
use tombola::{
    api::{Answered, Consistency, Failure, NodeStatus, NotApplied, Read},
    client::{
        Call, Client, ClientCall, ClientConfig, ClientError, ClientFrame, ClientReply, Reply, ServerFrame, Sockets,
        wire::{CloseCode, FrameReader, encode_frame},
    },
    pool::{
        Action, Answer, CatalogItem, Digests, DrawSeq, Effect, Outcome, Policy, PoolId, Query, Refusal, RequestKey,
        Step, Stock, Version, Weight,
    },
    replica::{Role, Status},
    transport::{
        certs::{self, Order},
        quic::{ClientConnection, Quic, QuicConfig},
        tls::{NodeFiles, NodeTls},
    },
    types::{ClusterId, HistoryDigest, Index, Millis, ReplicaId, StateDigest, Term},
};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
/// The cluster's time: far from any wall clock.
const NOW: Millis = Millis(1_000_000_000_000);

/// Longer than any test: who waits for it is found out.
const AN_HOUR: Duration = Duration::from_secs(3_600);

/// What a node does with a call.
enum Play {
    Reply(Box<Result<Reply, Failure>>),
    /// Nothing, ever.
    Silence,
    /// Nothing, and reads nothing more either.
    Deaf,
    /// Drops the connection.
    HangUp,
    /// Drops the connection with the code that refuses a client.
    TurnAway,
    /// Sends bytes that are no frame.
    Garbage,
}

fn says(reply: Result<Reply, Failure>) -> Play {
    Play::Reply(Box::new(reply))
}

type Script = dyn Fn(&Call) -> Play + Send + Sync;

struct Node {
    address: String,
    calls: Arc<Mutex<Vec<Call>>>,
    /// Calls of every frame that arrived.
    frames: Arc<Mutex<Vec<usize>>>,
    /// Where each connection came from.
    callers: Arc<Mutex<Vec<SocketAddr>>>,
    quic: Quic,
}

impl Node {
    fn start(certs: &TempDir, id: u64, script: impl Fn(&Call) -> Play + Send + Sync + 'static) -> Self {
        let tls = NodeTls::load(&NodeFiles::in_dir(certs.path(), ReplicaId(id)), CLUSTER, ReplicaId(id)).unwrap();
        let config = QuicConfig { listen: "127.0.0.1:0".parse().unwrap(), peers: BTreeMap::new(), tls };
        let (_transport, mut clients, quic) = Quic::bind(config).unwrap();
        let (calls, frames) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let callers = Arc::<Mutex<Vec<_>>>::default();
        let met = callers.clone();
        let (heard, counted, script): (_, _, Arc<Script>) = (calls.clone(), frames.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Some(client) = clients.recv().await {
                met.lock().unwrap().push(client.connection.remote_address());
                tokio::spawn(serve(client, heard.clone(), counted.clone(), script.clone()));
            }
        });
        Self { address: quic.local_addr().to_string(), calls, frames, callers, quic }
    }

    /// The keys of the mutations that arrived, in order.
    fn keys(&self) -> Vec<RequestKey> {
        let key = |call: &Call| match call {
            Call::Submit { key, .. } => *key,
            _ => None,
        };
        self.calls.lock().unwrap().iter().filter_map(key).collect()
    }
}

async fn serve(
    client: ClientConnection,
    heard: Arc<Mutex<Vec<Call>>>,
    counted: Arc<Mutex<Vec<usize>>>,
    script: Arc<Script>,
) {
    let Ok((mut send, mut receive)) = client.connection.accept_bi().await else { return };
    let mut frames = FrameReader::<ClientFrame>::default();
    while let Ok(Some(chunk)) = receive.read_chunk(1 << 16, true).await {
        frames.push(&chunk.bytes);
        while let Some(frame) = frames.next_frame().unwrap() {
            counted.lock().unwrap().push(frame.calls.len());
            let mut replies = Vec::new();
            for ClientCall { id, call, .. } in frame.calls {
                heard.lock().unwrap().push(call.clone());
                match script(&call) {
                    Play::Reply(reply) => replies.push(ClientReply { id, now: NOW, reply: *reply }),
                    Play::Silence => {}
                    Play::Deaf => return drop(client.connection.closed().await),
                    Play::HangUp => return client.connection.close(CloseCode::Done.number().into(), b""),
                    Play::TurnAway => return client.connection.close(CloseCode::Refused.number().into(), b""),
                    Play::Garbage => drop(send.write_all(&[0xff; 64]).await),
                }
            }
            // Answers come in any order.
            replies.reverse();
            let _ = send.write_all(&encode_frame(&ServerFrame { replies }).unwrap()).await;
        }
    }
}

fn certs() -> TempDir {
    let dir = TempDir::new().unwrap();
    let order = Order { nodes: (1..=3).map(ReplicaId).collect(), clients: vec!["shop".to_owned()], ..Order::default() };
    certs::init(dir.path(), CLUSTER, &order).unwrap();
    dir
}

fn client(certs: &TempDir, endpoints: &[&str], timeout: Duration) -> Client {
    patient_client(certs, endpoints, timeout, Duration::from_millis(600))
}

fn patient_client(certs: &TempDir, endpoints: &[&str], timeout: Duration, attempt_timeout: Duration) -> Client {
    Client::connect(&config(certs, endpoints, timeout, attempt_timeout)).unwrap()
}

fn config(certs: &TempDir, endpoints: &[&str], timeout: Duration, attempt_timeout: Duration) -> ClientConfig {
    let file = |name: &str| certs.path().join(name);
    ClientConfig {
        endpoints: endpoints.iter().map(|&address| address.to_owned()).collect(),
        ca: file("node-ca.pem"),
        cert: file("shop.pem"),
        key: file("shop.key"),
        timeout,
        attempt_timeout,
    }
}

fn status(id: u64, term: u64, leader: u64) -> Play {
    let replica = Status {
        replica: ReplicaId(id),
        role: if id == leader { Role::Leader } else { Role::Follower },
        term: Term(term),
        leader: Some(ReplicaId(leader)),
        commit: Index(9),
        digests: Digests { index: Index(9), history: HistoryDigest([1; 32]), state: StateDigest(1) },
        snapshot_index: Index(1),
        first_index: Index(2),
        last_index: Index(9),
        matched: Vec::new(),
        transferring: false,
    };
    let voters = (1..=3).map(ReplicaId).collect();
    let status = NodeStatus { cluster: CLUSTER, replica, voters, version: "0".to_owned() };
    says(Ok(Reply::Status(Box::new(status))))
}

fn decided(call: &Call, result: Result<Effect, Refusal>) -> Play {
    let Call::Submit { key: Some(key), .. } = call else { panic!("{call:?} is no mutation") };
    let outcome = Outcome { index: Index(9), now: NOW, replayed: false, result };
    says(Ok(Reply::Submitted(Answered { key: *key, outcome })))
}

/// As many steps as were asked for.
fn drawn(call: &Call) -> Play {
    let Call::Submit { action: Action::Draw { count }, .. } = call else { panic!("{call:?} is no draw") };
    let steps = std::iter::repeat_n(Step::PoolEmpty, usize::from(*count)).collect();
    decided(call, Ok(Effect::Drawn { first_seq: DrawSeq(1), version: Version(1), steps }))
}

/// A healthy leader.
fn healthy(id: u64) -> impl Fn(&Call) -> Play + Send + Sync {
    move |call| match call {
        Call::Status => status(id, 4, id),
        _ => drawn(call),
    }
}

/// A node that answers how it is and does `play` with everything else.
fn follower(play: impl Fn(&Call) -> Play + Send + Sync) -> impl Fn(&Call) -> Play + Send + Sync {
    move |call| match call {
        Call::Status => status(1, 3, 1),
        call => play(call),
    }
}

fn draw_one() -> Action {
    Action::Draw { count: 1 }
}

/// A long one: some 85 bytes an item.
fn create(items: u32) -> Action {
    let item = |number: u32| CatalogItem {
        item: format!("{number:064}").parse().unwrap(),
        stock: Stock::Unlimited,
        weight: Weight(1),
    };
    let items = (0..items).map(item).collect();
    Action::CreatePool { policy: Policy::Renormalize, require_key: false, items }
}

async fn draw(client: &Client, count: u16) -> Result<(RequestKey, tombola::client::Called<Answered>), ClientError> {
    let key = client.new_key().await?;
    Ok((key, client.submit(PoolId::default_pool(), key, Action::Draw { count }).await?))
}

#[tokio::test]
async fn keys_are_stamped_with_the_clusters_time_which_is_asked_for_once() {
    let certs = certs();
    let node = Node::start(&certs, 1, healthy(1));
    let client = client(&certs, &[&node.address], Duration::from_secs(5));
    let (one, two) = (client.new_key().await.unwrap(), client.new_key().await.unwrap());
    assert_ne!(one, two);
    for key in [one, two] {
        assert!((NOW.0..NOW.0 + 5_000).contains(&key.time().0), "{:?}", key.time());
    }
    assert_eq!(*node.calls.lock().unwrap(), [Call::Status]);
}

#[tokio::test]
async fn many_calls_share_a_stream_and_each_gets_its_own_answer() {
    let certs = certs();
    let node = Node::start(&certs, 1, healthy(1));
    let client = client(&certs, &[&node.address], Duration::from_secs(5));
    let calls: Vec<_> = (1..=500u16)
        .map(|count| {
            let client = client.clone();
            tokio::spawn(async move { (count, draw(&client, count).await.unwrap()) })
        })
        .collect();
    for call in calls {
        let (count, (key, called)) = call.await.unwrap();
        assert_eq!(called.value.key, key);
        assert_eq!(called.retries, 0);
        let Ok(Effect::Drawn { steps, .. }) = called.value.outcome.result else { panic!() };
        assert_eq!(steps.len(), usize::from(count));
    }
    let frames = node.frames.lock().unwrap().len();
    assert!(frames < 250, "500 calls took {frames} frames: nothing rode together");
}

#[tokio::test]
async fn a_connection_lost_after_sending_is_made_good_elsewhere_under_the_same_key() {
    let certs = certs();
    let broken = Node::start(&certs, 1, follower(|_| Play::HangUp));
    let healthy = Node::start(&certs, 2, healthy(2));
    let client = client(&certs, &[&broken.address, &healthy.address], Duration::from_secs(5));
    let (key, called) = draw(&client, 3).await.unwrap();
    assert_eq!(called.retries, 1);
    assert_eq!((broken.keys(), healthy.keys()), (vec![key], vec![key]));
    let change = called.leader_change.unwrap();
    assert_eq!((change.from, change.to, change.term), (ReplicaId(1), ReplicaId(2), Term(4)));

    let (_, called) = draw(&client, 3).await.unwrap();
    assert_eq!((called.retries, called.leader_change), (0, None), "who answered last is asked first");
}

#[tokio::test]
async fn a_silent_node_is_left_after_an_attempts_time() {
    let certs = certs();
    let silent = Node::start(&certs, 1, follower(|_| Play::Silence));
    let healthy = Node::start(&certs, 2, healthy(2));
    let client = client(&certs, &[&silent.address, &healthy.address], Duration::from_secs(5));
    let start = Instant::now();
    let (key, called) = draw(&client, 3).await.unwrap();
    assert_eq!((called.retries, silent.keys(), healthy.keys()), (1, vec![key], vec![key]));
    assert!(start.elapsed() >= Duration::from_millis(600) && called.elapsed < Duration::from_secs(3));
}

#[tokio::test]
async fn what_nobody_answered_is_possibly_applied_if_it_was_sent() {
    let certs = certs();
    // Who has answered before, and turns the client away after that, has looked at what was sent.
    let plays: [fn() -> Play; 4] = [|| Play::HangUp, || Play::TurnAway, || Play::Silence, || Play::Garbage];
    for play in plays {
        let node = Node::start(&certs, 1, follower(move |_| play()));
        let client = client(&certs, &[&node.address], Duration::from_millis(1_500));
        let key = client.new_key().await.unwrap();
        let start = Instant::now();
        let error = client.submit(PoolId::default_pool(), key, draw_one()).await.unwrap_err();
        assert_eq!(error, ClientError::Failed(Failure::Unknown { key }));
        assert!(start.elapsed() < Duration::from_millis(2_500));
        assert!(node.keys().len() > 1 && node.keys().iter().all(|&sent| sent == key), "one key on every attempt");
    }
}

#[tokio::test]
async fn what_never_left_is_surely_not_applied() {
    let certs = certs();
    // A port that was free a moment ago, and an address that has no name.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let client = client(&certs, &[&free, "nowhere.invalid:1"], Duration::from_millis(2_500));
    let start = Instant::now();
    let error = draw(&client, 1).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_millis(3_500));
}

#[tokio::test]
async fn a_call_that_waits_for_a_connection_never_left() {
    let certs = certs();
    let node = Node::start(&certs, 1, healthy(1));
    let address = node.address.clone();
    let client = client(&certs, &[&address], Duration::from_millis(400));
    let key = client.new_key().await.unwrap();
    node.quic.close().await;
    // Bound, and deaf: packets go in and nothing comes out, so the call is still queued when its time is over.
    let _deaf = std::net::UdpSocket::bind(&address).unwrap();
    let error = client.submit(PoolId::default_pool(), key, draw_one()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_waits_behind_a_frame_that_is_being_written_has_not_left() {
    let certs = certs();
    let node = Node::start(&certs, 1, follower(|_| Play::Deaf));
    let timeout = Duration::from_secs(3);
    let client = patient_client(&certs, &[&node.address], timeout, timeout);
    // Two of these fill a frame, and a frame is far more than a node takes that reads nothing.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (client, key, action) = (client.clone(), client.new_key().await.unwrap(), create(5_000));
        calls.spawn(async move { client.submit(PoolId::default_pool(), key, action).await.unwrap_err() });
    }
    let errors = calls.join_all().await;
    let left = errors.iter().filter(|error| matches!(error, ClientError::Failed(Failure::Unknown { .. }))).count();
    let waited = errors.iter().filter(|error| matches!(error, ClientError::Unreachable { .. })).count();
    // The frame that the node read, and the one that it did not.
    assert!((1..=4).contains(&left), "{errors:?}");
    assert_eq!(left + waited, 10, "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_share_sockets_have_connections_of_their_own_and_may_come_all_at_once() {
    let certs = certs();
    let [first, second] = [1, 2].map(|id| Node::start(&certs, id, healthy(id)));
    let patience = Duration::from_secs(20);
    let config = config(&certs, &[&first.address, &second.address], patience, patience);
    let sockets = Sockets::default();
    let clients: Vec<_> = (0..80).map(|_| Client::connect_over(&sockets, &config).unwrap()).collect();
    let draws: JoinSet<()> =
        clients.iter().cloned().map(|client| async move { _ = draw(&client, 1).await.unwrap() }).collect();
    draws.join_all().await;
    let callers = first.callers.lock().unwrap().clone();
    assert_eq!((callers.len(), second.callers.lock().unwrap().len()), (80, 0), "nobody is sent elsewhere");
    assert!(callers.iter().all(|caller| *caller == callers[0]), "from one port: {callers:?}");
}

#[tokio::test]
async fn a_socket_that_a_node_does_not_answer_is_left_by_the_next_dial_and_kept_by_what_is_connected() {
    let certs = certs();
    let node = Node::start(&certs, 1, healthy(1));
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = [node.address.clone(), silent.local_addr().unwrap().to_string()];
    let patience = Duration::from_secs(2);
    let config = config(&certs, &[&addresses[0], &addresses[1]], patience, patience);
    let sockets = Sockets::default();
    let client = || Client::connect_over(&sockets, &config).unwrap();
    let first = client();
    first.status_of(0).await.unwrap();
    client().status_of(0).await.unwrap();
    first.status_of(1).await.unwrap_err();
    client().status_of(0).await.unwrap();
    first.status_of(0).await.unwrap();
    let callers = node.callers.lock().unwrap().clone();
    assert_eq!(callers.len(), 3, "the first one keeps its connection");
    assert_eq!(callers[0], callers[1]);
    assert_ne!(callers[1], callers[2]);
}

#[test]
fn a_client_whose_runtime_is_gone_connects_anew_in_another() {
    let certs = certs();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let nodes = runtime();
    let _within = nodes.enter();
    let node = Node::start(&certs, 1, healthy(1));
    let client = client(&certs, &[&node.address], Duration::from_secs(2));
    for _ in 0..2 {
        let status = runtime().block_on(async { tokio::time::timeout(Duration::from_secs(10), client.status()).await });
        status.expect("nobody waits for ever").unwrap();
    }
}

#[tokio::test]
async fn a_call_that_is_too_long_for_a_frame_is_told_so_and_its_neighbours_are_served() {
    let certs = certs();
    let node = Node::start(&certs, 1, healthy(1));
    let client = client(&certs, &[&node.address], AN_HOUR);
    let key = client.new_key().await.unwrap();
    let (long, short) = tokio::join!(client.submit(PoolId::default_pool(), key, create(20_000)), draw(&client, 1));
    let malformed = matches!(&long, Err(ClientError::Failed(Failure::NotApplied(NotApplied::Malformed(_)))));
    assert!(malformed && short.is_ok(), "{long:?} {short:?}");
    assert_eq!(node.keys(), [short.unwrap().0]);
}

#[tokio::test]
async fn a_node_without_a_leader_sends_the_client_on_and_its_word_is_passed_on_if_nobody_knows_better() {
    let certs = certs();
    let leaderless = || follower(|_| says(Err(Failure::NotApplied(NotApplied::NoLeader))));
    let one = Node::start(&certs, 1, leaderless());
    let two = Node::start(&certs, 2, healthy(2));
    let both = client(&certs, &[&one.address, &two.address], Duration::from_secs(5));
    assert_eq!(draw(&both, 1).await.unwrap().1.retries, 1);

    let alone = client(&certs, &[&one.address], Duration::from_millis(500));
    let error = draw(&alone, 1).await.unwrap_err();
    assert_eq!(error, ClientError::Failed(Failure::NotApplied(NotApplied::NoLeader)));
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_teaches_the_time() {
    let certs = certs();
    let later = Millis(NOW.0 + 90_000_000);
    let node = Node::start(
        &certs,
        1,
        follower(move |call| decided(call, Err(Refusal::KeyExpired { floor: NOW, now: later }))),
    );
    let client = client(&certs, &[&node.address], Duration::from_secs(5));
    let (_, called) = draw(&client, 1).await.unwrap();
    assert_eq!((called.retries, node.keys().len()), (0, 1), "a refusal is final");
    assert!(client.new_key().await.unwrap().time() >= later);
}

#[tokio::test]
async fn an_answer_to_another_question_is_none() {
    let certs = certs();
    let confused = Node::start(&certs, 1, follower(|_| says(Ok(Reply::Transferred))));
    let healthy = Node::start(&certs, 2, healthy(2));
    let client = client(&certs, &[&confused.address, &healthy.address], Duration::from_secs(5));
    let (key, called) = draw(&client, 2).await.unwrap();
    assert_eq!((called.retries, confused.keys(), healthy.keys()), (1, vec![key], vec![key]));
}

#[tokio::test]
async fn reads_go_on_to_a_node_that_can_serve_them() {
    let certs = certs();
    let cut_off = Node::start(&certs, 1, follower(|_| says(Err(Failure::NotApplied(NotApplied::NoQuorum)))));
    let answer = Read { index: Index(9), now: NOW, answer: Answer::Pools { pools: Vec::new(), more: false } };
    let expected = answer.clone();
    let healthy = Node::start(&certs, 2, move |_| says(Ok(Reply::Read(answer.clone()))));
    let both = client(&certs, &[&cut_off.address, &healthy.address], Duration::from_secs(5));
    let called = both.read(Query::first_pools(), Consistency::Linearizable).await.unwrap();
    assert_eq!((called.value, called.retries), (expected, 1));

    let alone = client(&certs, &[&cut_off.address], Duration::from_millis(400));
    let error = alone.read(Query::first_pools(), Consistency::Linearizable).await.unwrap_err();
    assert_eq!(error, ClientError::Failed(Failure::NotApplied(NotApplied::NoQuorum)));
}

#[tokio::test]
async fn a_node_is_asked_by_itself_and_the_leader_is_found() {
    let certs = certs();
    let nodes: Vec<_> = (1..=3)
        .map(|id| {
            Node::start(&certs, id, move |call| match call {
                Call::Status => status(id, 4, 3),
                Call::HistoryAt(index) => {
                    says(Ok(Reply::HistoryAt((index.0 < 10).then_some(HistoryDigest([id as u8; 32])))))
                }
                _ => drawn(call),
            })
        })
        .collect();
    let endpoints: Vec<_> = nodes.iter().map(|node| node.address.as_str()).collect();
    let client = client(&certs, &endpoints, Duration::from_secs(5));
    assert_eq!(client.status_of(1).await.unwrap().value.replica.replica, ReplicaId(2));
    assert_eq!(client.history_at(2, Index(5)).await.unwrap().value, Some(HistoryDigest([3; 32])));
    assert_eq!(client.history_at(2, Index(10)).await.unwrap().value, None);

    client.find_leader().await;
    let (key, _) = draw(&client, 1).await.unwrap();
    assert_eq!((nodes[0].keys().len(), nodes[2].keys()), (0, vec![key]));
}

#[tokio::test]
async fn a_restarted_node_is_found_again() {
    let certs = certs();
    let first = Node::start(&certs, 1, healthy(1));
    let address = first.address.clone();
    let client = client(&certs, &[&address], Duration::from_secs(8));
    draw(&client, 1).await.unwrap();
    first.quic.close().await;

    let tls = NodeTls::load(&NodeFiles::in_dir(certs.path(), ReplicaId(1)), CLUSTER, ReplicaId(1)).unwrap();
    let config = QuicConfig { listen: address.parse().unwrap(), peers: BTreeMap::new(), tls };
    let (_transport, mut clients, _again) = Quic::bind(config).unwrap();
    tokio::spawn(async move {
        let script: Arc<Script> = Arc::new(healthy(1));
        while let Some(client) = clients.recv().await {
            tokio::spawn(serve(client, Arc::default(), Arc::default(), script.clone()));
        }
    });
    let (key, called) = draw(&client, 2).await.unwrap();
    assert_eq!(called.value.key, key);
}

#[tokio::test]
async fn a_node_of_another_cluster_is_not_talked_to() {
    let (ours, theirs) = (certs(), certs());
    let node = Node::start(&theirs, 1, healthy(1));
    let client = client(&ours, &[&node.address], AN_HOUR);
    let error = draw(&client, 1).await.unwrap_err();
    assert_eq!(error.code(), "HANDSHAKE_REFUSED", "{error:?}");
    assert!(error.to_string().contains("its certificate is not accepted: invalid peer certificate"), "{error}");
    assert!(node.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_of_another_cluster_is_told_so_at_once_and_surely_not_applied() {
    let (ours, theirs) = (certs(), certs());
    let nodes: Vec<_> = (1..=3).map(|id| Node::start(&ours, id, healthy(id))).collect();
    let endpoints: Vec<_> = nodes.iter().map(|node| node.address.as_str()).collect();
    // They trust the nodes, and are not trusted.
    std::fs::copy(ours.path().join("node-ca.pem"), theirs.path().join("node-ca.pem")).unwrap();
    let key = RequestKey::new(NOW, [7; 10]);
    // A call may be written before the refusal comes, wait for the connection, or come after: it is told the same.
    for _ in 0..20 {
        let client = client(&theirs, &endpoints, AN_HOUR);
        let (new_key, asked) = tokio::join!(client.new_key(), client.submit(PoolId::default_pool(), key, draw_one()));
        for error in [new_key.unwrap_err(), asked.unwrap_err()] {
            assert_eq!(error.code(), "HANDSHAKE_REFUSED", "{error:?}");
            let says = error.to_string();
            assert!(says.contains("it does not accept this client: invalid peer certificate"), "{says}");
        }
    }
    assert!(nodes.iter().all(|node| node.calls.lock().unwrap().is_empty()));
}

#[tokio::test]
async fn a_client_that_one_node_refuses_is_served_by_another() {
    let (ours, theirs) = (certs(), certs());
    for file in ["node-1.pem", "node-1.key", "node-ca.pem"] {
        std::fs::copy(ours.path().join(file), theirs.path().join(file)).unwrap();
    }
    // It is a node of ours that trusts other clients: its client CA was changed too early.
    let stranger = Node::start(&theirs, 1, healthy(1));
    let healthy = Node::start(&ours, 2, healthy(2));
    let client = client(&ours, &[&stranger.address, &healthy.address], AN_HOUR);
    let (key, _) = draw(&client, 1).await.unwrap();
    assert_eq!((stranger.keys(), healthy.keys()), (vec![], vec![key]));
}

#[tokio::test]
async fn a_client_without_endpoints_or_certificates_does_not_start() {
    let certs = certs();
    let config = |endpoints: Vec<String>, key: &str| ClientConfig {
        endpoints,
        ca: certs.path().join("node-ca.pem"),
        cert: certs.path().join("shop.pem"),
        key: certs.path().join(key),
        timeout: Duration::from_secs(1),
        attempt_timeout: Duration::from_secs(1),
    };
    for wrong in [config(vec![], "shop.key"), config(vec!["a:1".to_owned()], "nobody.key")] {
        assert!(matches!(Client::connect(&wrong), Err(ClientError::Config(_))));
    }
}
