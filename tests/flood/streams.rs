//! QUIC connections: of clients who are known and speak garbage, and of strangers.

use std::{net::SocketAddr, path::Path};

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tombola::{
    client::{
        Call, ClientCall, ClientFrame,
        wire::{FrameReader, encode_frame},
    },
    pool::{Action, PoolId},
    transport::{
        certs::{self, Order},
        identity::NODE_NAME,
        tls::ClientTls,
    },
    types::{ClusterId, ReplicaId},
};

use super::noise::Noise;

/// `MALFORMED`, the code of bytes that are no frame.
const MALFORMED: u64 = 1;
const GARBAGE: usize = 60;
const STRANGERS: usize = 20;

async fn dial(address: &str, config: ClientConfig) -> Result<Connection, ConnectionError> {
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.connect_with(config, address.parse().unwrap(), NODE_NAME).unwrap().await
}

/// Bytes that are no frame in many ways.
fn no_frame(noise: &Noise, number: usize) -> Vec<u8> {
    let call = Call::Submit { pool: PoolId::default_pool(), key: None, action: Action::Draw { count: 1 } };
    let frame = encode_frame(&ClientFrame { calls: vec![ClientCall { id: 7, timeout_ms: 1_000, call }] }).unwrap();
    let is_refused = |bytes: &[u8]| {
        let mut reader = FrameReader::<ClientFrame>::default();
        reader.push(bytes);
        reader.next_frame().is_err()
    };
    loop {
        let bytes = match number % 3 {
            0 => noise.bytes(1_000),
            1 => [&500u32.to_le_bytes()[..], &noise.bytes(500)].concat(),
            _ => noise.mutated(&frame),
        };
        // What happens to be a frame would be obeyed.
        if is_refused(&bytes) {
            return bytes;
        }
    }
}

/// Known clients, each of whom breaks the protocol on one of its streams.
pub async fn garbage_frames(address: &str, config: &ClientConfig, noise: &Noise) {
    for number in 0..GARBAGE {
        let connection = dial(address, config.clone()).await.unwrap();
        let (mut stream, _replies) = connection.open_bi().await.unwrap();
        stream.write_all(&no_frame(noise, number)).await.unwrap();
        let ended = connection.closed().await;
        let ConnectionError::ApplicationClosed(close) = &ended else { panic!("it ended otherwise: {ended}") };
        let reason = String::from_utf8_lossy(&close.reason);
        assert_eq!(close.error_code.into_inner(), MALFORMED, "{reason}");
        assert!(reason.contains("frame"), "{reason}");
    }
}

/// Clients with certificates of another cluster's CA, who trust this one.
pub async fn foreign_certificates(address: &str, ca: &Path) {
    let dir = TempDir::new().unwrap();
    let order = Order { nodes: vec![ReplicaId(1)], clients: vec!["shop".to_owned()], ..Order::default() };
    certs::init(dir.path(), ClusterId([0xfe; 16]), &order).unwrap();
    let config = ClientTls::load(ca, &dir.path().join("shop.pem"), &dir.path().join("shop.key")).unwrap();
    let mut strangers = JoinSet::new();
    for _ in 0..STRANGERS {
        let (address, config) = (address.to_owned(), config.clone());
        strangers.spawn(async move {
            let refused = match dial(&address, config).await {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            };
            let ConnectionError::ConnectionClosed(close) = &refused else { panic!("it ended otherwise: {refused}") };
            assert_eq!(&close.reason[..], b"invalid peer certificate: UnknownIssuer");
        });
    }
    strangers.join_all().await;
}
