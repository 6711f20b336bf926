//! Who is not let in, with the reason that both sides see; and that peers who are in feel nothing of it.

use std::sync::Arc;

use quinn::{Connection, ConnectionError, SendStream};
use tombola::{
    client::{CLIENT_ALPN, wire::CloseCode},
    transport::{Lane, PEER_FRAME_BYTES_MAX, identity::peer_name, tls::PEER_ALPN},
    types::{ClusterId, ReplicaId},
};

use super::{caller::*, support::*};

/// The code of a refusal that is not TLS's.
const REFUSED: u64 = 1;
/// The code of a broken protocol.
const PROTOCOL: u64 = 3;

#[tokio::test]
async fn what_tls_refuses_both_sides_know() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let foreign = Certs::of(ClusterId([0xfe; 16]));
    // The same names, the same cluster, even the CA has the same name.
    let double = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    let expired = |ca, name: String| signed_by(ca, &certs, &[name], true);
    for (shown, protocol, reason, is_first) in [
        (Some(made(&foreign, "node-2")), PEER_ALPN, "invalid peer certificate: UnknownIssuer", true),
        (Some(made(&foreign, "shop")), CLIENT_ALPN, "invalid peer certificate: UnknownIssuer", false),
        (Some(made(&double, "node-2")), PEER_ALPN, "invalid peer certificate: BadSignature", true),
        (Some(expired("node-ca", peer_name(ReplicaId(2), CLUSTER))), PEER_ALPN, "certificate expired", true),
        (Some(expired("client-ca", "shop.client.tombola.internal".into())), CLIENT_ALPN, "certificate expired", false),
        (None, PEER_ALPN, "peer sent no certificates", true),
        (None, CLIENT_ALPN, "peer sent no certificates", false),
        (Some(made(&certs, "node-2")), b"h3", "peer doesn't support any known protocol", true),
    ] {
        let caller = Caller::new(&certs, shown, protocol);
        let (code, words) = told(&caller.dial_in_vain(&one).await);
        assert!((0x100..0x200).contains(&code), "refused by other means: {code:#x} {words}");
        assert!(words.contains(reason), "{words:?} does not say {reason:?}");
        if is_first {
            logged(&["WARN", "connection refused", &caller.address(), reason]).await;
        } else {
            assert!(!has_logged(&[&caller.address()]), "a reason is logged once for an address");
        }
    }
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn identities_that_prove_nothing_here_are_refused_and_told_why() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    let node = |id: u64, cluster: u8| peer_name(ReplicaId(id), ClusterId([cluster; 16]));
    for (shown, protocol, reason, is_first) in [
        (made(&certs, "shop"), PEER_ALPN, "not valid under the nodes' CA", true),
        (signed_by("client-ca", &certs, &[node(2, 0xc1)], false), PEER_ALPN, "not valid under the nodes' CA", false),
        (made(&certs, "node-3"), PEER_ALPN, "replica 3 is not among the configured peers", true),
        (made(&certs, "node-1"), PEER_ALPN, "replica 1 is not among the configured peers", true),
        (forged(&certs, &[node(2, 0xee)]), PEER_ALPN, "it belongs to cluster eeeeeeee-eeee-", true),
        (forged(&certs, &[node(2, 0xee)]), CLIENT_ALPN, "it belongs to cluster eeeeeeee-eeee-", false),
        (forged(&certs, &[node(2, 0xc1), node(3, 0xc1)]), PEER_ALPN, "exactly one name", true),
        (forged(&certs, &[format!("*.{CLUSTER}.peer.tombola.internal")]), PEER_ALPN, "but [*.", true),
        (forged(&certs, &["shop.client.tombola.internal".to_owned()]), CLIENT_ALPN, "but [shop.client.", true),
    ] {
        let caller = Caller::new(&certs, Some(shown), protocol);
        let (code, words) = told(&caller.dial_in_vain(&one).await);
        let expected = if protocol == CLIENT_ALPN { u64::from(CloseCode::Refused.number()) } else { REFUSED };
        assert_eq!(code, expected);
        assert!(words.contains(reason), "{words:?} does not say {reason:?}");
        if is_first {
            logged(&["WARN", "connection refused", &caller.address(), reason]).await;
        } else {
            assert!(!has_logged(&[&caller.address()]), "a reason is logged once for an address");
        }
    }
    assert!(one.clients.try_recv().is_err(), "somebody passed for a client");
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn the_smaller_of_two_nodes_does_not_dial() {
    let certs = Certs::of(CLUSTER);
    let (_one, two) = pair(&certs);
    let caller = Caller::new(&certs, Some(made(&certs, "node-1")), PEER_ALPN);
    let (code, words) = told(&caller.dial_in_vain(&two).await);
    assert_eq!(code, REFUSED);
    assert!(words.contains("replica 1 dialed this node"), "{words}");
}

#[tokio::test]
async fn a_node_that_is_not_accepted_is_told_why_as_an_event() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    // Three is a node of the cluster; one is not configured to know it.
    let mut three = Endpoint::bind(certs.tls(CLUSTER, 3), loopback(), &[one.peer(1)]);
    let reason = "replica 3 is not among the configured peers";
    three.expect_refused(1, reason).await;
    three.expect_refused(1, reason).await;
    let address = three.address().to_string();
    logged(&["WARN", "refused by peer", "peer=1", reason]).await;
    logged(&["WARN", "connection refused", &address, reason]).await;
    assert_eq!(times_logged(&["WARN", &address, reason]), 1, "two attempts, one line");
}

#[tokio::test]
async fn a_node_of_another_cluster_and_mixed_up_addresses_are_seen_by_both_sides() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let theirs = ClusterId([0xdd; 16]);
    let their_certs = Certs::of(theirs);
    let their_two = Endpoint::bind(their_certs.tls(theirs, 2), loopback(), &[one.peer(1)]);
    logged(&["WARN", "peer refused", "peer=1", "UnknownIssuer"]).await;
    logged(&["WARN", "refused by the other side", &their_two.address().to_string(), "UnknownIssuer"]).await;
    // Three looks for one where two is.
    let three = Endpoint::bind(certs.tls(CLUSTER, 3), loopback(), &[two.peer(1)]);
    let wanted = peer_name(ReplicaId(1), CLUSTER);
    logged(&["WARN", "peer refused", "peer=1", &wanted]).await;
    logged(&["WARN", "refused by the other side", &three.address().to_string(), &wanted]).await;
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_wildcard_does_not_pass_for_the_replica_that_was_dialed() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let (cert, key) = forged(&certs, &[format!("*.{CLUSTER}.peer.tombola.internal")]);
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    tls.alpn_protocols = vec![PEER_ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let impostor = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback()).unwrap();
    let address = impostor.local_addr().unwrap().to_string();
    let _two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[(1, address)]);
    let incoming = within("a dial", impostor.accept()).await.unwrap();
    let connection = within("a handshake", incoming.into_future()).await.unwrap();
    let (code, words) = told(&within("a refusal", connection.closed()).await);
    assert_eq!(code, REFUSED);
    assert!(words.contains("exactly one name"), "{words}");
}

#[tokio::test]
async fn of_two_connections_of_a_peer_the_newer_is_kept() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let say = async |connection: &Connection, word: &'static [u8]| -> [SendStream; 3] {
        let mut streams = greet(connection).await;
        streams[Lane::Log as usize].write_all(&frame(word)).await.unwrap();
        streams
    };
    let (older, newer) = (Caller::two(&certs), Caller::two(&certs));
    let first = older.dial(&one).await.unwrap();
    let _first_streams = say(&first, b"first").await;
    one.expect_frame(2, b"first").await;
    let second = newer.dial(&one).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = within("the end of the first", first.closed()).await else {
        panic!("the older connection ended otherwise")
    };
    assert_eq!((close.error_code, &close.reason[..]), (2u32.into(), &b"a newer connection took its place"[..]));
    one.expect_unreachable(2).await;
    let _second_streams = say(&second, b"second").await;
    one.expect_frame(2, b"second").await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_loses_its_connection() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let claims = |bytes: usize| {
        let mut header = frame(b"");
        header[8..12].copy_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        header
    };
    let urgent_bytes_max = Lane::Urgent.frame_bytes_max();
    for (lane, bytes, reason) in [
        (Lane::Log, claims(PEER_FRAME_BYTES_MAX + 1), "a frame has 4194305 bytes, and at most 4194304 are allowed"),
        (Lane::Urgent, claims(urgent_bytes_max + 1), "a frame has 65537 bytes, and at most 65536 are allowed"),
        (Lane::Bulk, vec![0xff; 64], "magic number"),
    ] {
        let connection = Caller::two(&certs).dial(&one).await.unwrap();
        let mut streams = greet(&connection).await;
        one.expect_met(2, b"2").await;
        streams[lane as usize].write_all(&bytes).await.unwrap();
        let (code, words) = told(&within("the end", connection.closed()).await);
        assert_eq!(code, PROTOCOL);
        assert!(words.contains(reason), "{words}");
        one.expect_unreachable(2).await;
    }
    // And the real one is let in afterwards.
    let mut two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_peer_that_does_not_greet_properly_is_never_met() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let urgent = greeting(Lane::Urgent);
    for (first, second, reason) in [
        (frame(b"no greeting"), vec![], "does not begin with a greeting"),
        (frame(&[0; 2000]), vec![], "a frame has 2000 bytes, and at most 1025 are allowed"),
        (urgent.clone(), urgent, "it greets twice on one lane"),
        (greeting(Lane::Bulk), frame(b""), "does not begin with a greeting"),
    ] {
        let connection = Caller::two(&certs).dial(&one).await.unwrap();
        for bytes in [first, second] {
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
        let (code, words) = told(&within("the end", connection.closed()).await);
        assert_eq!(code, PROTOCOL);
        assert!(words.contains(reason), "{words}");
    }
    let mut two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
    one.expect_met(2, b"2").await;
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn garbage_on_the_port_does_no_harm() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let socket = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..3000usize {
        let mut datagram = vec![0; 1 + number % 1400];
        for byte in &mut datagram {
            // xorshift64 (Marsaglia, 2003)
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            *byte = seed as u8;
        }
        // Every other one claims to begin a QUIC version 1 connection.
        if number % 2 == 0 && datagram.len() > 64 {
            datagram[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, 0x55]);
        }
        socket.send_to(&datagram, one.address()).await.unwrap();
    }
    check_traffic(&mut one, &mut two).await;
}
