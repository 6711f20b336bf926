//! What gets through, and what becomes of it when queues fill and peers go.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::udp::{UdpSockRef, UdpSocketState};
use tombola::{
    transport::{
        Event, Lane, Transport,
        identity::NODE_NAME,
        quic::{EVENTS_MAX, OUTBOX_FRAMES_MAX, inbox_bytes_max, outbox_bytes_max},
        tls::ClientTls,
    },
    types::ReplicaId,
};

use super::support::*;

async fn exchange_in_all_directions() {
    let certs = Certs::of(CLUSTER);
    let one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2), never_dialed(3)]);
    // A node may find itself among its peers: all configurations are then the same.
    let two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1), never_dialed(2), never_dialed(3)]);
    let three = Endpoint::bind(certs.tls(CLUSTER, 3), loopback(), &[one.peer(1), two.peer(2)]);
    let mut nodes = [one, two, three];
    for from in 1..=3u64 {
        for to in (1..=3u64).filter(|&to| to != from) {
            let sender = &mut nodes[from as usize - 1];
            for number in 0..100u64 {
                sender.send(to, &[from, to, number].map(u64::to_le_bytes).concat()).await;
            }
        }
    }
    for to in 1..=3u64 {
        let mut received = vec![];
        for _ in 0..200 {
            let Event::Frame { from, frame } = nodes[to as usize - 1].next_but_met().await else {
                panic!("a peer was lost")
            };
            received.push((from, frame));
        }
        // Of one peer, frames arrive in order while the connection lasts.
        received.sort_by_key(|(from, _)| *from);
        let sent = (1..=3u64).filter(|&from| from != to).flat_map(|from| {
            (0..100u64)
                .map(move |number| (ReplicaId(from), Bytes::from([from, to, number].map(u64::to_le_bytes).concat())))
        });
        assert_eq!(received, sent.collect::<Vec<_>>());
    }
    for Endpoint { quic, .. } in nodes {
        within("closing", quic.close()).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn three_nodes_exchange_frames_in_all_directions_on_one_thread() {
    exchange_in_all_directions().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_frames_in_all_directions_on_two_threads() {
    exchange_in_all_directions().await;
}

#[tokio::test]
async fn a_listener_that_restarts_is_noticed_at_once_and_found_again() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let address = one.address();
    within("closing", one.quic.close()).await;
    assert_eq!(within("the end", one.transport.receive()).await, None);
    two.expect_unreachable(1).await;
    assert!(two.transport.send(ReplicaId(1), Lane::Log, Bytes::from_static(b"nobody is there")).is_err());
    // The port is free the moment that close returns.
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), address, &[never_dialed(2)]);
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_dialer_that_restarts_is_noticed_at_once_and_comes_back() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    // Without a word: dropped, not closed.
    drop(two);
    one.expect_unreachable(2).await;
    let mut two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_peer_that_starts_later_is_found() {
    let certs = Certs::of(CLUSTER);
    let (one, mut two) = pair(&certs);
    let address = one.address();
    drop(one.transport);
    within("closing", one.quic.close()).await;
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), address, &[never_dialed(2)]);
    one.send(2, b"hello").await;
    // Whether the first connection came about before it was closed is chance.
    let mut event = two.next_but_met().await;
    if event == (Event::Unreachable { peer: ReplicaId(1) }) {
        event = two.next_but_met().await;
    }
    assert_eq!(event, Event::Frame { from: ReplicaId(1), frame: Bytes::from_static(b"hello") });
}

#[tokio::test]
async fn a_full_queue_drops_and_what_it_took_arrives() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let payload = Bytes::from(vec![7; 64 << 10]);
    let mut taken = 0usize;
    // Two does not take its events: first its own queue fills, then flow control, then one's queue.
    within("a full queue", async {
        let mut full_for = 0;
        while full_for < 100 {
            match one.transport.send(ReplicaId(2), Lane::Log, payload.clone()) {
                Ok(()) => (taken, full_for) = (taken + 1, 0),
                Err(_dropped) => full_for += 1,
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let queue_bytes = outbox_bytes_max(Lane::Log);
    let windows_bytes = 2 << 20;
    let bytes_max = queue_bytes + inbox_bytes_max(Lane::Log) + windows_bytes;
    assert!(taken * payload.len() >= queue_bytes / 2, "only {taken} frames fitted");
    assert!(taken * payload.len() <= bytes_max, "{taken} frames fitted");
    for _ in 0..taken {
        two.expect_frame(1, &payload).await;
    }
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn small_frames_are_bounded_by_their_number() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let mut taken = 0usize;
    // Nothing is awaited, so nothing is written meanwhile.
    while one.transport.send(ReplicaId(2), Lane::Log, Bytes::from_static(b"x")).is_ok() {
        taken += 1;
        assert!(taken <= OUTBOX_FRAMES_MAX + EVENTS_MAX, "the queue has no bound");
    }
    assert_eq!(taken, OUTBOX_FRAMES_MAX);
    for _ in 0..taken {
        two.expect_frame(1, b"x").await;
    }
}

#[tokio::test]
async fn a_frame_for_a_stranger_is_dropped() {
    let certs = Certs::of(CLUSTER);
    let (mut one, _two) = pair(&certs);
    for nobody in [0, 1, 3] {
        assert!(one.transport.send(ReplicaId(nobody), Lane::Log, Bytes::from_static(b"x")).is_err());
    }
}

#[tokio::test]
async fn a_transport_that_is_dropped_is_gone_for_its_peers() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    drop(one.transport);
    two.expect_unreachable(1).await;
}

#[tokio::test]
async fn clients_come_in_at_the_same_port() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    let ca = certs.file("node-ca.pem");
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    for (stem, actor) in [("shop", "shop"), ("node-3", "node-3")] {
        let config =
            ClientTls::load(&ca, &certs.file(&format!("{stem}.pem")), &certs.file(&format!("{stem}.key"))).unwrap();
        let dialed = endpoint.connect_with(config, one.address(), NODE_NAME).unwrap();
        let ours = within("a handshake", dialed).await.unwrap();
        let theirs = within("a client", one.clients.recv()).await.unwrap();
        assert_eq!(theirs.actor.as_str(), actor);
        // A stream each way, as the client protocol has it.
        let (mut send, mut recv) = ours.open_bi().await.unwrap();
        send.write_all(b"call").await.unwrap();
        send.finish().unwrap();
        let (mut reply, mut call) = within("a stream", theirs.connection.accept_bi()).await.unwrap();
        assert_eq!(within("a call", call.read_to_end(64)).await.unwrap(), b"call");
        reply.write_all(b"reply").await.unwrap();
        reply.finish().unwrap();
        assert_eq!(within("a reply", recv.read_to_end(64)).await.unwrap(), b"reply");
    }
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_path_that_carries_long_datagrams_is_given_long_ones_and_they_arrive() {
    let certs = Certs::of(CLUSTER);
    let (mut one, _two) = pair(&certs);
    let [ca, cert, key] = ["node-ca.pem", "shop.pem", "shop.key"].map(|name| certs.file(name));
    // Loopback carries all that a client is told that the node takes; and this client takes all that the node tries.
    let mut takes_all = quinn::EndpointConfig::default();
    takes_all.max_udp_payload_size(65_527).unwrap();
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    // Room for what may be on its way, as both sides of ours have it: what finds none is lost.
    let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20).unwrap();
    let endpoint = quinn::Endpoint::new(takes_all, None, socket, Arc::new(quinn::TokioRuntime)).unwrap();
    let dialed = endpoint.connect_with(ClientTls::load(&ca, &cert, &key).unwrap(), one.address(), NODE_NAME).unwrap();
    let ours = within("a handshake", dialed).await.unwrap();
    let theirs = within("a client", one.clients.recv()).await.unwrap().connection;

    let (mut send, mut recv) = ours.open_bi().await.unwrap();
    send.write_all(b"call").await.unwrap();
    let (mut reply, _call) = within("a stream", theirs.accept_bi()).await.unwrap();
    let path = |connection: &quinn::Connection| connection.stats().path;
    within("a path is measured", async {
        while [&ours, &theirs].iter().any(|one| path(one).current_mtu < 6_500) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;

    // In bursts as long as they get.
    let (before, bytes) = (path(&theirs), vec![7; 8 << 20]);
    let write = async {
        reply.write_all(&bytes).await.unwrap();
        reply.finish().unwrap();
    };
    let (read, ()) = within("a long reply", async { tokio::join!(recv.read_to_end(bytes.len()), write) }).await;
    assert!(read.unwrap() == bytes);
    let (sent, lost) = (path(&theirs).sent_packets - before.sent_packets, path(&theirs).lost_packets);
    assert!(sent < 3_000, "{sent} datagrams: they are short");
    assert!(lost * 10 < sent, "{lost} of {sent} datagrams were lost");
}
