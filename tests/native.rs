//! The native protocol's server side over real QUIC on a real node, with a client of bare frames.

mod support;

use std::{net::SocketAddr, time::Duration};

use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tombola::{
    api::{Consistency, Failure, NotApplied},
    client::{
        Call, ClientCall, ClientFrame, ClientReply, Reply, ServerFrame,
        wire::{CloseCode, FrameReader, encode_frame},
    },
    pool::{Action, Answer, Effect, PoolId, Query, RequestKey, Stock},
    runtime::{Node, NodeHandle},
    server::native,
    transport::{
        certs::{self, Order},
        identity::NODE_NAME,
        quic::{Quic, QuicConfig},
        tls::{ClientTls, NodeFiles, NodeTls},
    },
    types::{ClusterId, Index, Millis, ReplicaId},
};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const MUD: (&str, Stock, u32) = ("mud", Stock::Unlimited, 70);

/// A node, its endpoint, and what its clients need.
struct Server {
    certs: TempDir,
    address: SocketAddr,
    node: NodeHandle,
    stop: oneshot::Sender<()>,
    stopped: JoinHandle<()>,
    _quic: Quic,
}

impl Server {
    fn start(node: Node) -> Self {
        let certs = TempDir::new().unwrap();
        let order = Order { nodes: vec![ReplicaId(1)], clients: vec!["shop".to_owned()], ..Order::default() };
        certs::init(certs.path(), CLUSTER, &order).unwrap();
        let tls = NodeTls::load(&NodeFiles::in_dir(certs.path(), ReplicaId(1)), CLUSTER, ReplicaId(1)).unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let (_, clients, quic) = Quic::bind(QuicConfig { listen, peers: Default::default(), tls }).unwrap();
        let (stop, stopping) = oneshot::channel();
        let shutdown = async {
            let _ = stopping.await;
        };
        let stopped = tokio::spawn(native::serve(clients, node.handle.clone(), shutdown));
        Self { certs, address: quic.local_addr(), node: node.handle, stop, stopped, _quic: quic }
    }

    async fn connect(&self) -> Client {
        let file = |name: &str| self.certs.path().join(name);
        let config = ClientTls::load(&file("node-ca.pem"), &file("shop.pem"), &file("shop.key")).unwrap();
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connection = soon(endpoint.connect_with(config, self.address, NODE_NAME).unwrap()).await.unwrap();
        let (send, receive) = soon(connection.open_bi()).await.unwrap();
        Client { connection, send, receive, frames: FrameReader::default(), frames_seen: 0 }
    }
}

/// One stream of a connection.
struct Client {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    frames: FrameReader<ServerFrame>,
    frames_seen: usize,
}

impl Client {
    async fn call(&mut self, calls: Vec<ClientCall>) {
        self.send.write_all(&encode_frame(&ClientFrame { calls }).unwrap()).await.unwrap();
    }

    /// The next so many replies, sorted by number.
    async fn replies(&mut self, count: usize) -> Vec<ClientReply> {
        let mut replies = vec![];
        while replies.len() < count {
            match self.frames.next_frame().unwrap() {
                Some(frame) => {
                    self.frames_seen += 1;
                    replies.extend(frame.replies);
                }
                None => {
                    let piece = soon(self.receive.read_chunk(1 << 16, true)).await.unwrap();
                    self.frames.push(&piece.expect("the stream goes on").bytes);
                }
            }
        }
        assert_eq!(replies.len(), count, "more replies than calls");
        replies.sort_by_key(|reply| reply.id);
        replies
    }

    async fn ask(&mut self, call: Call) -> ClientReply {
        self.call(vec![ClientCall { id: 1, timeout_ms: 5_000, call }]).await;
        self.replies(1).await.remove(0)
    }

    /// How the other side closed the connection: code and reason.
    async fn closed(&self) -> (u64, String) {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("closed otherwise: {other}"),
        }
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it ends")
}

fn draw(key: Option<RequestKey>) -> Call {
    Call::Submit { pool: PoolId::default_pool(), key, action: Action::Draw { count: 1 } }
}

fn calls(ids: impl Iterator<Item = u64>, call: &Call) -> Vec<ClientCall> {
    ids.map(|id| ClientCall { id, timeout_ms: 5_000, call: call.clone() }).collect()
}

#[tokio::test]
async fn every_kind_of_call_has_its_kind_of_reply() {
    let server = Server::start(support::alone(&[MUD]).await);
    let mut client = server.connect().await;
    let reply = client.ask(draw(None)).await;
    let Ok(Reply::Submitted(answered)) = reply.reply else { panic!("a draw was asked for: {reply:?}") };
    assert!(matches!(answered.outcome.result, Ok(Effect::Drawn { .. })));
    assert!(reply.now >= answered.outcome.now);
    let query = Query::Pool(PoolId::default_pool());
    let reply = client.ask(Call::Read { query, consistency: Consistency::Linearizable }).await;
    let Ok(Reply::Read(read)) = reply.reply else { panic!("a read was asked for: {reply:?}") };
    assert!(matches!(read.answer, Answer::Pool(pool) if pool.summary.draw_seq.0 == 1));
    let reply = client.ask(Call::Status).await;
    assert!(matches!(reply.reply, Ok(Reply::Status(_))), "{reply:?}");
    let reply = client.ask(Call::HistoryAt(read.index)).await;
    assert!(matches!(reply.reply, Ok(Reply::HistoryAt(Some(_)))), "{reply:?}");
    let reply = client.ask(Call::HistoryAt(Index(1 << 40))).await;
    assert!(matches!(reply.reply, Ok(Reply::HistoryAt(None))), "{reply:?}");
    let reply = client.ask(Call::Transfer(ReplicaId(9))).await;
    assert!(matches!(reply.reply, Err(Failure::NotApplied(NotApplied::TransferRefused(_)))), "{reply:?}");
}

#[tokio::test]
async fn whole_pools_are_read_whole_however_long_they_turn_out() {
    const READS: u64 = 200;
    let names: Vec<_> = (0..300).map(|n| format!("item {n}")).collect();
    let items: Vec<_> = names.iter().map(|name| (name.as_str(), Stock::Unlimited, 1)).collect();
    let server = Server::start(support::alone(&items).await);
    let mut client = server.connect().await;
    client.ask(draw(None)).await;
    let query = Query::Pool(PoolId::default_pool());
    let call = Call::Read { query, consistency: Consistency::Linearizable };
    client.call(calls(0..READS, &call)).await;
    for (reply, id) in client.replies(READS as usize).await.into_iter().zip(0..) {
        let Ok(Reply::Read(read)) = reply.reply else { panic!("a read was asked for: {reply:?}") };
        assert!(matches!(read.answer, Answer::Pool(pool) if pool.items.len() == names.len()));
        assert_eq!(reply.id, id, "each once");
    }
}

#[tokio::test]
async fn the_first_reply_tells_the_time_whatever_was_asked() {
    let server = Server::start(support::alone(&[MUD]).await);
    let mut first = server.connect().await;
    first.ask(draw(None)).await;
    for call in [Call::Status, Call::HistoryAt(Index(1)), Call::Transfer(ReplicaId(9))] {
        let reply = server.connect().await.ask(call).await;
        assert!(reply.now > Millis(1_700_000_000_000), "{reply:?}");
    }
}

#[tokio::test]
async fn many_calls_are_answered_once_each_in_few_frames() {
    const CALLS: u64 = 20_000;
    let server = Server::start(support::alone(&[MUD]).await);
    let mut client = server.connect().await;
    // The first decision takes an election.
    client.ask(draw(None)).await;
    let (send, calls) = (&mut client.send, calls(0..CALLS, &Call::Status));
    let mut bytes = vec![];
    for calls in calls.chunks(1_000) {
        bytes.extend(encode_frame(&ClientFrame { calls: calls.to_vec() }).unwrap());
    }
    soon(send.write_all(&bytes)).await.unwrap();
    let before = client.frames_seen;
    let replies = client.replies(CALLS as usize).await;
    assert!(replies.iter().zip(0..).all(|(reply, id)| reply.id == id && reply.reply.is_ok()));
    let frames = client.frames_seen - before;
    assert!(frames < CALLS as usize / 2, "{frames} frames");
}

#[tokio::test]
async fn draws_of_one_frame_are_all_made() {
    let server = Server::start(support::alone(&[MUD]).await);
    let mut client = server.connect().await;
    client.call(calls(0..500, &draw(None))).await;
    let mut seqs: Vec<_> = client
        .replies(500)
        .await
        .into_iter()
        .map(|reply| match reply.reply {
            Ok(Reply::Submitted(answered)) => match answered.outcome.result {
                Ok(Effect::Drawn { first_seq, .. }) => first_seq.0,
                other => panic!("a draw was asked for: {other:?}"),
            },
            other => panic!("a draw was asked for: {other:?}"),
        })
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_call_holds_up_nobody() {
    let server = Server::start(support::without_quorum());
    let mut client = server.connect().await;
    let slow = ClientCall { id: 1, timeout_ms: 2_000, call: draw(None) };
    let quick = ClientCall { id: 2, timeout_ms: 300, call: draw(None) };
    client.call(vec![slow, quick]).await;
    assert_eq!(client.replies(1).await[0].id, 2, "the one with less time is answered first");
    let reply = client.replies(1).await.remove(0);
    assert_eq!((reply.id, reply.reply), (1, Err(Failure::NotApplied(NotApplied::NoLeader))));
}

#[tokio::test]
async fn bytes_that_are_no_frame_close_the_connection_with_the_reason() {
    let server = Server::start(support::alone(&[MUD]).await);
    let too_long = u32::MAX.to_le_bytes().to_vec();
    let no_value = [3u32.to_le_bytes().as_slice(), b"abc"].concat();
    for (bytes, words) in [(too_long, "longer than"), (no_value, "malformed frame")] {
        let mut client = server.connect().await;
        client.send.write_all(&bytes).await.unwrap();
        let (code, reason) = client.closed().await;
        assert_eq!(code, u64::from(CloseCode::Malformed.number()));
        assert!(reason.contains(words), "{reason}");
    }
    server.connect().await.ask(draw(None)).await.reply.expect("others are served as before");
}

#[tokio::test]
async fn a_half_closed_stream_is_answered_to_the_end() {
    let server = Server::start(support::alone(&[MUD]).await);
    let mut client = server.connect().await;
    client.call(calls(0..100, &draw(None))).await;
    client.send.finish().unwrap();
    assert_eq!(client.replies(100).await.len(), 100);
    assert!(soon(client.receive.read_chunk(1, true)).await.unwrap().is_none(), "then it ends");
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_closes() {
    let server = Server::start(support::alone(&[MUD]).await);
    let mut client = server.connect().await;
    client.ask(draw(None)).await;
    server.stop.send(()).unwrap();
    let (code, _) = client.closed().await;
    assert_eq!(code, u64::from(CloseCode::Draining.number()));
    soon(server.stopped).await.unwrap();
}

#[tokio::test]
async fn the_stream_is_read_no_further_than_calls_may_be_in_flight() {
    let server = Server::start(support::without_quorum());
    let mut client = server.connect().await;
    let (call, timeout_ms) = (draw(None), 10_000);
    let calls = (0..1_000).map(|id| ClientCall { id, timeout_ms, call: call.clone() }).collect();
    let frame = encode_frame(&ClientFrame { calls }).unwrap();
    // Nothing is answered for ten seconds, so writing gets stuck at what fits: calls in flight, and QUIC's window.
    let mut written = 0;
    let write = async {
        loop {
            client.send.write_all(&frame).await.unwrap();
            written += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), write).await;
    let window_frames = (4 << 20) / frame.len();
    let in_flight_frames = native::CALLS_IN_FLIGHT_MAX / 1_000;
    assert!((in_flight_frames..=in_flight_frames + window_frames + 2).contains(&written), "{written} frames");
    assert!(server.node.status().await.is_ok(), "the node is none the worse");
}
