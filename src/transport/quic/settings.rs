//! Bounds, and what quinn is told.
//!
//! Listening endpoints serve peers and clients with one configuration, as the protocol is known only after the
//! handshake; so its windows are a client's, and [`widen`] gives a peer its own.

use std::{io, net::SocketAddr, net::UdpSocket, sync::Arc, time::Duration};

use quinn::{
    Connection, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::QuicServerConfig,
    udp::{UdpSockRef, UdpSocketState},
};

use super::{super::Lane, CLIENTS};

/// A handshake, greeting included, takes no longer; neither does a dial.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Who has not answered a dial at all by then is not there; dialing again finds it sooner than waiting would, as a
/// handshake's own retransmissions become rare.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// Taken for the round-trip time until it is measured. RFC 9002 proposes 333 ms for the internet; between nodes that
/// would only make an unanswered handshake slow to be repeated, and slow to be forgotten when the endpoint closes.
const INITIAL_RTT: Duration = Duration::from_millis(50);
/// A connection that is silent for this long is lost.
const IDLE_MAX_MS: u32 = 10_000;
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Handshakes under way at a time, and as many again waiting to begin: all of one address's clients may come at once, and who
/// is refused goes to a node that must forward what it asks.
pub(super) const HANDSHAKES_MAX: usize = CLIENTS.per_address_max;
/// With more than this many handshakes under way, a caller must first prove that its address is its own.
pub(super) const HANDSHAKES_UNVALIDATED_MAX: usize = 8;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL_MAX: u64 = 4 << 20;

/// Streams that one client may have open.
pub const CLIENT_STREAMS_MAX: usize = 64;
/// A peer opens one stream a lane.
const PEER_STREAMS_MAX: u32 = Lane::ALL.len() as u32;
/// Bytes of one stream that wait to be read; and what one stream may have on its way.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of one connection that wait to be read, and bytes that wait to be acknowledged by one peer. Room for a full
/// window of each lane, so that one that is clogged cannot take another's.
const PEER_WINDOW_BYTES: u32 = PEER_STREAMS_MAX * STREAM_WINDOW_BYTES;
/// Bytes of one client that wait to be read by its node, which may have a thousand clients,
const CLIENT_WINDOW_BYTES: u32 = 64 << 10;
/// and bytes that wait to be acknowledged by one client.
const CLIENT_SEND_WINDOW_BYTES: u32 = 256 << 10;
/// Both, at the client.
const NODE_WINDOW_BYTES: u32 = 4 << 20;
/// A full socket buffer loses packets, which makes congestion windows collapse, most of all on loopback.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Longest datagram that a path is tried with. Ethernet carries up to 1,472 bytes, jumbo frames 8,972, loopback any; and a long
/// one costs hardly more than a short one to seal, to hand over and to acknowledge.
pub(super) const PATH_BYTES_MAX: u16 = 6_550;
/// Most datagrams of a connection that leave in one system call: what quinn gathers by itself, and keeps room for as long
/// as the connection lasts, once there were two.
pub(super) const BURST_DATAGRAMS_MAX: usize = 10;
/// Most bytes that the system call takes. What is longer it refuses, which quinn never hears of, and takes for lost.
const BURST_BYTES_MAX: usize = 65_507;
const _: () = assert!(PATH_BYTES_MAX as usize * BURST_DATAGRAMS_MAX <= BURST_BYTES_MAX);

/// What may be on its way before anything is acknowledged: five of the longest datagrams, or 27 of the shortest. Of quinn's own
/// 12,000 bytes a single probe of the path takes half, and while it is on its way nothing long may leave, nor the word that
/// a connection is closed if something was left to send.
const WINDOW_FIRST_BYTES: u64 = 5 * PATH_BYTES_MAX as u64;

fn transport(window_bytes: u32, uni_streams_max: u32) -> TransportConfig {
    let mut congestion = CubicConfig::default();
    congestion.initial_window(WINDOW_FIRST_BYTES);
    let mut paths = MtuDiscoveryConfig::default();
    paths.upper_bound(PATH_BYTES_MAX);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(paths))
        .congestion_controller_factory(Arc::new(congestion))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MAX_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(uni_streams_max))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(window_bytes))
        .send_window(window_bytes.into())
        .datagram_receive_buffer_size(None);
    transport
}

/// For connections that a client dials: it opens streams, nodes do not.
pub(in crate::transport) fn client_transport() -> TransportConfig {
    let mut transport = transport(NODE_WINDOW_BYTES, 0);
    // It uses one stream.
    transport.stream_receive_window(VarInt::from_u32(NODE_WINDOW_BYTES));
    transport
}

/// For connections that a node dials.
pub(super) fn dialer_transport() -> TransportConfig {
    transport(PEER_WINDOW_BYTES, PEER_STREAMS_MAX)
}

/// Whoever has come in turns out to be a peer, and gets a peer's windows.
pub(super) fn widen(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(PEER_WINDOW_BYTES));
    connection.set_send_window(PEER_WINDOW_BYTES.into());
}

/// Which of the streams that have something to send goes first: the greatest.
pub(super) fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Urgent => 2,
        Lane::Log => 1,
        Lane::Bulk => 0,
    }
}

/// An endpoint that takes datagrams as long as any path is tried with.
pub(super) fn taking_long_datagrams(mut config: EndpointConfig) -> EndpointConfig {
    config.max_udp_payload_size(PATH_BYTES_MAX).expect("QUIC allows 1,200 and more");
    config
}

pub(super) fn server_config(crypto: Arc<QuicServerConfig>) -> ServerConfig {
    let mut transport = transport(CLIENT_WINDOW_BYTES, PEER_STREAMS_MAX);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(CLIENT_STREAMS_MAX as u32))
        .send_window(CLIENT_SEND_WINDOW_BYTES.into());
    let mut config = ServerConfig::with_crypto(crypto);
    config
        .transport_config(Arc::new(transport))
        .migration(false)
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
    config
}

/// A UDP socket with buffers as large as the operating system allows, up to [`SOCKET_BUFFER_BYTES`].
pub(super) fn bind_socket(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen)?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // Smaller buffers lose packets under load and nothing else, so a refusal is no reason not to start.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
    let receive_bytes = state.recv_buffer_size(UdpSockRef::from(&socket))?;
    let send_bytes = state.send_buffer_size(UdpSockRef::from(&socket))?;
    if receive_bytes < SOCKET_BUFFER_BYTES || send_bytes < SOCKET_BUFFER_BYTES {
        tracing::info!(
            %listen, receive_bytes, send_bytes,
            "UDP socket buffers are small: packets may be lost under load; raise net.core.rmem_max and wmem_max"
        );
    }
    Ok(socket)
}

/// Why a connection is closed by this side; the number travels to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// The node stops, or gives the connection up.
    Stopping = 0,
    /// The other side did not prove that it may speak here, or the node does not accept what it says of itself.
    Refused = 1,
    /// A newer connection from the same peer took its place.
    Replaced = 2,
    /// The other side broke the protocol.
    Protocol = 3,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}
