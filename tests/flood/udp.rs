//! Datagrams at the QUIC port: garbage, and handshakes that are begun and never continued.

use std::{net::SocketAddr, time::Duration};

use quinn::{ClientConfig, Endpoint};
use tokio::net::UdpSocket;
use tombola::transport::identity::NODE_NAME;

use super::noise::Noise;

const GARBAGE: usize = 3_000;
const HANDSHAKES: usize = 10_000;
/// Handshakes begun at a time.
const WAVE: usize = 250;

/// Datagrams without sense, and some that begin as QUIC does.
pub async fn garbage(address: &str, noise: &Noise) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for number in 0..GARBAGE {
        let mut datagram = noise.bytes(1 + noise.number(1_400));
        // Every other one claims to begin a connection, of QUIC version 1 or of one that nobody knows.
        if number % 2 == 0 && datagram.len() > 64 {
            datagram[..7].copy_from_slice(&[0xc3, 0, 0, 0, (number % 3) as u8, 8, 0x55]);
        }
        socket.send_to(&datagram, address).await.unwrap();
    }
}

/// Real beginnings of handshakes, each of a connection of its own, from one socket that never says more; and each a
/// second time with bytes changed.
pub async fn silent_handshakes(address: &str, config: &ClientConfig, noise: &Noise) {
    let (dialer, nobody, flooder) = (
        Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    );
    let (nobodys_address, mut datagram) = (nobody.local_addr().unwrap(), [0; 2048]);
    let mut begun = 0;
    while begun < HANDSHAKES {
        let dialed: Vec<_> =
            (0..WAVE).map(|_| dialer.connect_with(config.clone(), nobodys_address, NODE_NAME).unwrap()).collect();
        let mut arrived = 0;
        while arrived < WAVE
            && let Ok(received) = tokio::time::timeout(Duration::from_millis(200), nobody.recv(&mut datagram)).await
        {
            let datagram = &datagram[..received.unwrap()];
            flooder.send_to(datagram, address).await.unwrap();
            flooder.send_to(&noise.mutated(datagram), address).await.unwrap();
            arrived += 1;
        }
        assert!(arrived > 0, "handshakes do not even begin");
        begun += arrived;
        drop(dialed);
    }
}
