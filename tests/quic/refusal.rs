//! Who is not let in, with the reason that both sides see; and that peers who are in feel nothing of it.

use std::sync::Arc;

use quinn::{Connection, ConnectionError, crypto::rustls::QuicClientConfig};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tombola::{
    client::CLIENT_ALPN,
    transport::{
        PEER_FRAME_BYTES_MAX,
        frame::{Frame, encode},
        identity::{NODE_NAME, peer_name},
        tls::PEER_ALPN,
    },
    types::{ClusterId, ReplicaId},
};

use super::support::*;

/// A certificate and its key.
type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn made(certs: &Certs, stem: &str) -> Shown {
    let cert = CertificateDer::from_pem_file(certs.file(&format!("{stem}.pem"))).unwrap();
    (cert, PrivateKeyDer::from_pem_file(certs.file(&format!("{stem}.key"))).unwrap())
}

/// A certificate with any names at all, signed by the cluster's own CA of nodes: what a careless operator could make.
fn forged(certs: &Certs, names: &[String]) -> Shown {
    signed_by("node-ca", certs, names)
}

fn signed_by(ca: &str, certs: &Certs, names: &[String]) -> Shown {
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(certs.file(&format!("{ca}.key"))).unwrap()).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(DnType::OrganizationName, "Tombola");
    issuer.distinguished_name.push(DnType::CommonName, format!("{ca} {CLUSTER}"));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &Issuer::new(issuer, ca_key)).unwrap();
    (certificate.into(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

/// A caller of our own, free to show what it likes and to ask for any protocol. It trusts the nodes of `certs`.
struct Caller {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Caller {
    fn new(certs: &Certs, shown: Option<Shown>, protocol: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certs.file("node-ca.pem")).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match shown {
            Some((cert, key)) => builder.with_client_auth_cert(vec![cert], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        Self { endpoint: quinn::Endpoint::client(loopback()).unwrap(), config }
    }

    /// How it appears in the node's log.
    fn address(&self) -> String {
        self.endpoint.local_addr().unwrap().to_string()
    }

    async fn dial(&self, node: &Endpoint, name: &str) -> Result<Connection, ConnectionError> {
        within("a handshake", self.endpoint.connect_with(self.config.clone(), node.address(), name).unwrap()).await
    }

    /// Dials, and gives the reason of being refused: in the handshake, or, as TLS 1.3 has it, just after.
    async fn dial_in_vain(&self, node: &Endpoint) -> ConnectionError {
        match self.dial(node, NODE_NAME).await {
            Ok(connection) => within("a refusal", connection.closed()).await,
            Err(error) => error,
        }
    }
}

fn assert_alert(error: &ConnectionError) {
    let code = match error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        ConnectionError::TransportError(error) => u64::from(error.code),
        _ => 0,
    };
    assert!((0x100..0x200).contains(&code), "refused for another reason: {error}");
}

fn assert_told(error: &ConnectionError, words: &str) {
    let ConnectionError::ApplicationClosed(close) = error else { panic!("refused for another reason: {error}") };
    let reason = String::from_utf8_lossy(&close.reason);
    assert!(reason.contains(words), "{reason:?} does not say {words:?}");
    assert_eq!(close.error_code, 1u32.into());
}

#[tokio::test]
async fn certificates_of_no_ca_of_ours_are_refused_by_tls() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    // The same names, the same cluster, another CA.
    let foreign = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    for (shown, protocol, reason) in [
        (Some(made(&foreign, "node-2")), PEER_ALPN, "certificate"),
        (Some(made(&foreign, "shop")), CLIENT_ALPN, "certificate"),
        (None, PEER_ALPN, "peer sent no certificates"),
        (None, CLIENT_ALPN, "peer sent no certificates"),
        (Some(made(&certs, "node-2")), b"h3", "protocol"),
    ] {
        let caller = Caller::new(&certs, shown, protocol);
        assert_alert(&caller.dial_in_vain(&one).await);
        logged(&["WARN", "connection refused", &caller.address(), reason]).await;
    }
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn identities_that_prove_nothing_here_are_refused_and_told_why() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    let node = |id: u64, cluster: u8| peer_name(ReplicaId(id), ClusterId([cluster; 16]));
    for (shown, protocol, reason) in [
        (made(&certs, "shop"), PEER_ALPN, "not valid under the nodes' CA"),
        (signed_by("client-ca", &certs, &[node(2, 0xc1)]), PEER_ALPN, "not valid under the nodes' CA"),
        (made(&certs, "node-3"), PEER_ALPN, "replica 3 is not among the configured peers"),
        (made(&certs, "node-1"), PEER_ALPN, "replica 1 is not among the configured peers"),
        (forged(&certs, &[node(2, 0xee)]), PEER_ALPN, "it belongs to cluster eeeeeeee-eeee-"),
        (forged(&certs, &[node(2, 0xee)]), CLIENT_ALPN, "it belongs to cluster eeeeeeee-eeee-"),
        (forged(&certs, &[node(2, 0xc1), node(3, 0xc1)]), PEER_ALPN, "exactly one name"),
        (forged(&certs, &[format!("*.{CLUSTER}.peer.tombola.internal")]), PEER_ALPN, "exactly one name"),
        (forged(&certs, &["shop.client.tombola.internal".to_owned()]), CLIENT_ALPN, "exactly one name"),
    ] {
        let caller = Caller::new(&certs, Some(shown), protocol);
        assert_told(&caller.dial_in_vain(&one).await, reason);
        logged(&["WARN", "connection refused", &caller.address(), reason]).await;
    }
    assert!(one.clients.try_recv().is_err(), "somebody passed for a client");
    check_traffic(&mut one, &mut two).await;
}

#[tokio::test]
async fn the_smaller_of_two_nodes_does_not_dial() {
    let certs = Certs::of(CLUSTER);
    let (_one, two) = pair(&certs);
    let caller = Caller::new(&certs, Some(made(&certs, "node-1")), PEER_ALPN);
    assert_told(&caller.dial_in_vain(&two).await, "replica 1 dialed this node");
}

#[tokio::test]
async fn a_node_of_another_cluster_and_mixed_up_addresses_are_seen_by_the_dialer() {
    watch_log();
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let theirs = ClusterId([0xdd; 16]);
    let their_certs = Certs::of(theirs);
    let _their_two = Endpoint::bind(their_certs.tls(theirs, 2), loopback(), &[one.peer(1)]);
    logged(&["WARN", "peer not connected: an identity was refused", "peer=1", "UnknownIssuer"]).await;
    // Three looks for one where two is.
    let _three = Endpoint::bind(certs.tls(CLUSTER, 3), loopback(), &[two.peer(1)]);
    let wanted = peer_name(ReplicaId(1), CLUSTER);
    logged(&["WARN", "peer not connected: an identity was refused", "peer=1", &wanted]).await;
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
    assert_told(&within("a refusal", connection.closed()).await, "exactly one name");
}

#[tokio::test]
async fn of_two_connections_of_a_peer_the_newer_is_kept() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let two = || Caller::new(&certs, Some(made(&certs, "node-2")), PEER_ALPN);
    let say = async |connection: &Connection, word: &'static [u8]| {
        let mut stream = connection.open_uni().await.unwrap();
        let frames = [Frame::greeting(), Frame::new(word.into()).unwrap()];
        stream.write_all_chunks(&mut encode(frames)).await.unwrap();
        stream
    };
    let (older, newer) = (two(), two());
    let first = older.dial(&one, NODE_NAME).await.unwrap();
    let _first_stream = say(&first, b"first").await;
    one.expect_frame(2, b"first").await;
    let second = newer.dial(&one, NODE_NAME).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = within("the end of the first", first.closed()).await else {
        panic!("the older connection ended otherwise")
    };
    assert_eq!((close.error_code, &close.reason[..]), (2u32.into(), &b"a newer connection took its place"[..]));
    one.expect_unreachable(2).await;
    let _second_stream = say(&second, b"second").await;
    one.expect_frame(2, b"second").await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_loses_its_connection() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let greeting = encode([Frame::greeting()]).concat();
    let mut too_long = greeting.clone();
    too_long[8..12].copy_from_slice(&(PEER_FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
    let unsolicited = encode([Frame::new((&b"no greeting"[..]).into()).unwrap()]).concat();
    let too_long_after_greeting = [greeting.clone(), too_long].concat();
    let garbage_after_greeting = [&greeting[..], &[0xff; 64]].concat();
    for (bytes, reason, was_connected) in [
        (&too_long_after_greeting, "a frame has 4194305 bytes", true),
        (&garbage_after_greeting, "magic number", true),
        (&unsolicited, "without a greeting", false),
    ] {
        let caller = Caller::new(&certs, Some(made(&certs, "node-2")), PEER_ALPN);
        let connection = caller.dial(&one, NODE_NAME).await.unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let error = within("the end", connection.closed()).await;
        let ConnectionError::ApplicationClosed(close) = &error else { panic!("it ended otherwise: {error}") };
        assert_eq!(close.error_code, 3u32.into());
        assert!(String::from_utf8_lossy(&close.reason).contains(reason), "{close:?}");
        if was_connected {
            one.expect_unreachable(2).await;
        }
    }
    // And the real one is let in afterwards.
    let mut two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
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
