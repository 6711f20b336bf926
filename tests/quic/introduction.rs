//! What nodes say of themselves, and how one refuses another for it.

use std::time::Duration;

use bytes::Bytes;
use tombola::{
    transport::{Event, Lane, REASON_BYTES_MAX, Transport},
    types::ReplicaId,
};

use super::{caller::*, support::*};

/// Long enough for anything that is going to happen on loopback, and the price of knowing that it does not.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn both_sides_are_introduced_before_anything_else() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    one.send(2, b"to two").await;
    two.send(1, b"to one").await;
    one.expect_met(2, b"2").await;
    two.expect_met(1, b"1").await;
    one.expect_frame(2, b"to one").await;
    two.expect_frame(1, b"to two").await;
}

#[tokio::test]
async fn a_node_dials_nobody_before_it_has_introduced_itself() {
    let certs = Certs::of(CLUSTER);
    let peer = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let address = peer.local_addr().unwrap().to_string();
    let mut two = Endpoint::bind_unknown(certs.tls(CLUSTER, 2), loopback(), &[(1, address)]);
    let mut datagram = [0; 2048];
    let early = tokio::time::timeout(A_WHILE, peer.recv_from(&mut datagram)).await;
    assert!(early.is_err(), "it dialed without an introduction");
    two.transport.introduce(Bytes::from_static(b"two"));
    let (_, from) = within("a dial", peer.recv_from(&mut datagram)).await.unwrap();
    assert_eq!(from, two.address());
}

#[tokio::test]
async fn a_node_greets_nobody_before_it_has_introduced_itself() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind_unknown(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let connection = Caller::two(&certs).dial(&one).await.unwrap();
    let _streams = greet(&connection).await;
    assert!(tokio::time::timeout(A_WHILE, connection.accept_uni()).await.is_err(), "it greeted");
    one.transport.introduce(Bytes::from_static(b"one"));
    let mut stream = within("a greeting", connection.accept_uni()).await.unwrap();
    let mut header_and_lane = [0; 17];
    within("a greeting", stream.read_exact(&mut header_and_lane)).await.unwrap();
    let hello = within("a hello", stream.read_chunk(16, true)).await.unwrap().unwrap();
    assert_eq!((header_and_lane[16], &hello.bytes[..]), (0, &b"one"[..]));
    one.expect_met(2, b"2").await;
}

#[tokio::test]
async fn the_next_connection_is_introduced_with_the_newest_words() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    two.expect_met(1, b"1").await;
    one.transport.introduce(Bytes::from_static(b"one, founded"));
    drop(two);
    one.expect_unreachable(2).await;
    let mut two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
    two.expect_met(1, b"one, founded").await;
    check_traffic(&mut one, &mut two).await;
}

/// Both ways: the node that listens refuses, and the one that dials does.
#[tokio::test]
async fn a_peer_that_is_refused_knows_why_comes_back_and_is_let_in_once_it_is_mended() {
    watch_log();
    for (refusing, refused) in [(1, 2), (2, 1)] {
        let certs = Certs::of(CLUSTER);
        let (mut one, mut two) = pair(&certs);
        let (us, them) = if refusing == 1 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        let said = format!("replica {refused} has another disk\nthan before");
        let told = said.replace('\n', " ");
        for _ in 0..3 {
            us.expect_met(refused, refused.to_string().as_bytes()).await;
            us.transport.refuse(ReplicaId(refused), &said);
            them.expect_met(refusing, refusing.to_string().as_bytes()).await;
            them.expect_refused(refusing, &told).await;
            them.expect_unreachable(refusing).await;
        }
        // The third refusal may not have been logged yet, and is not to be; the next line of the refused is of the fourth.
        us.expect_met(refused, refused.to_string().as_bytes()).await;
        for line in ["peer refused", "refused by peer"] {
            logged(&["WARN", line, &told]).await;
            assert_eq!(times_logged(&["WARN", line, &told]), 1, "three attempts, one line");
        }
        check_traffic(&mut one, &mut two).await;
    }
}

#[tokio::test]
async fn nothing_that_a_refused_peer_sent_is_heard() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let connection = Caller::two(&certs).dial(&one).await.unwrap();
    let mut streams = greet(&connection).await;
    for stream in &mut streams {
        stream.write_all(&frame(b"from a stranger")).await.unwrap();
    }
    one.expect_met(2, b"2").await;
    one.transport.refuse(ReplicaId(2), &"long ".repeat(1000));
    let (code, words) = told(&within("a refusal", connection.closed()).await);
    assert_eq!(code, 1);
    assert!(words.starts_with("long long ") && words.len() <= REASON_BYTES_MAX, "{words}");
    // Nor of the end: the next event is of the next connection.
    let mut two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
    one.expect_met(2, b"2").await;
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn what_a_peer_says_of_its_reasons_is_one_line_of_bounded_length() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let connection = Caller::two(&certs).dial(&one).await.unwrap();
    let _streams = greet(&connection).await;
    one.expect_met(2, b"2").await;
    connection.close(1u32.into(), format!("\u{1b}[31m{}\n", "x".repeat(900)).as_bytes());
    let Event::Refused { peer, reason } = one.next().await else { panic!("it is a refusal") };
    assert_eq!(peer, ReplicaId(2));
    assert!(reason.starts_with(" [31mxxx") && reason.len() <= REASON_BYTES_MAX, "{reason:?}");
    one.expect_unreachable(2).await;
}

#[tokio::test]
#[should_panic(expected = "an introduction of 1025 bytes")]
async fn an_introduction_has_its_bound() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[]);
    assert!(one.transport.send(ReplicaId(2), Lane::Urgent, Bytes::new()).is_err());
    one.transport.introduce(vec![0; 1025].into());
}
