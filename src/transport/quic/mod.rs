//! QUIC, by quinn: one UDP port a node, for peers and clients alike.
//!
//! **Promises.** A frame comes from whom [`Event::Frame`] says, whole and unchanged, or not at all. Sending never waits
//! and never holds more than a bounded queue. A lost connection is told once, as [`Event::Unreachable`], whatever was
//! lost with it; it is dialed again for as long as the transport lives.
//!
//! **How.** There is one connection a peer, dialed by the node with the greater id, and on it a stream a [`Lane`] each way
//! that lives as long as the connection. Each begins with a [greeting](super::greeting); when both sides have greeted, the
//! node is told whom it has met, and may refuse it. What waits when a stream can take more is written together. Each lane
//! has queues and flow-control windows of its own, and its stream a priority, so that one that is clogged, on whichever
//! side, delays no more urgent one by more than the packets that are on their way. A node that does not take its events is
//! felt by its peers through QUIC's flow control, and by nobody else. Clients come in at the same port under an ALPN of
//! their own, and are handed on, authenticated, as [`ClientConnection`]s.
//!
//! **Refusals** are told to both sides, in words: by TLS alerts, which carry the library's words, for certificates that
//! prove nothing; by a code and a reason for identities and introductions. They are logged once, not at
//! each attempt, and a dialer who was refused, or refuses, comes again after up to 30 s.
//!
//! **Deliberately absent.** Frames are never sent again on a new connection: raft does that better. No early data, no
//! migration, no datagrams, no tickets. Certificates are read once: a new one takes effect at the next start.

mod gather;
mod inbox;
mod listener;
mod log;
mod lost;
mod outbox;
mod peer;
mod session;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use quinn::{AsyncUdpSocket, Connection, Endpoint, EndpointConfig, Runtime, ServerConfig, TokioRuntime};
use quinn_proto::RandomConnectionIdGenerator;
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    gather::GatheringSocket,
    inbox::{Events, Inbox},
    listener::Listener,
    log::Strangers,
    outbox::Outbox,
    peer::{Dialer, Peer},
    session::Ends,
    settings::Code,
};
pub use self::{
    inbox::{EVENTS_MAX, inbox_bytes_max},
    outbox::{OUTBOX_FRAMES_MAX, outbox_bytes_max},
    settings::CLIENT_STREAMS_MAX,
};
pub(crate) use lost::{RefusedBy, one_line, refused_by};
pub(super) use settings::client_transport;

use super::{
    Dropped, Event, HELLO_BYTES_MAX, Lane, SetupError, Transport,
    frame::Frame,
    identity::Refused,
    seats::{ConnectionLimits, Seat, Seats},
    tls::NodeTls,
};
use crate::{pool::Actor, types::ReplicaId};

/// Clients connected at a time. From one address as many as gRPC takes: a hundred workers of one machine have a connection
/// each.
pub const CLIENTS: ConnectionLimits = ConnectionLimits { total_max: 1_024, per_address_max: 256 };
/// Clients that are authenticated and not yet taken by the server: all who may be, as they come together when a leader fails.
const CLIENTS_WAITING_MAX: usize = CLIENTS.total_max;
/// Connections from one peer that wait for its place to notice them.
const ARRIVALS_MAX: usize = 4;
/// Closing waits no longer than this for peers to acknowledge it, and as long again for the socket.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What an endpoint is told once.
#[derive(Debug)]
pub struct QuicConfig {
    /// UDP address to listen on; port 0 for any.
    pub listen: SocketAddr,
    /// Where each peer is found, as `host:port`, resolved at each dial. This node itself may be among them; it is left
    /// out.
    pub peers: BTreeMap<ReplicaId, String>,
    /// Who this node is, and whom it trusts.
    pub tls: NodeTls,
}

/// A client whose identity is proved.
#[derive(Debug)]
pub struct ClientConnection {
    /// Who it is.
    pub actor: Actor,
    /// Its connection. Nothing has been read from it.
    pub connection: Connection,
    /// Counts against the bounds on clients for as long as this lives.
    _seat: Seat,
}

/// The endpoint: holds the port. Dropping it closes everything at once and waits for nothing.
#[must_use = "dropping it closes the endpoint"]
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    /// The listener and one task a peer.
    tasks: JoinSet<()>,
    socket: Weak<dyn AsyncUdpSocket>,
}

impl Quic {
    /// Listens, and begins to dial. Gives the node's transport, the clients as they come in, and the endpoint.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(config: QuicConfig) -> Result<(QuicTransport, mpsc::Receiver<ClientConnection>, Self), SetupError> {
        let QuicConfig { listen, mut peers, tls } = config;
        peers.remove(&tls.me());
        let (endpoint, socket) = listen_on(listen, &tls)?;
        let tls = Arc::new(tls);
        let (senders, events) = Events::new();
        let (hello, introduced) = watch::channel(None);
        let (clients_sender, clients) = mpsc::channel(CLIENTS_WAITING_MAX);
        let mut tasks = JoinSet::new();
        let mut outboxes = BTreeMap::new();
        let mut arrivals = BTreeMap::new();
        let peer_ids: BTreeSet<ReplicaId> = peers.keys().copied().collect();
        let mut dialer_config = quinn::ClientConfig::new(tls.dialer());
        dialer_config.transport_config(Arc::new(settings::dialer_transport()));
        for (id, address) in peers {
            let outbox = Arc::new(Outbox::default());
            outboxes.insert(id, outbox.clone());
            let inbox = Arc::new(Inbox::new(id, senders.clone()));
            let peer = Peer::new(Ends { outbox, inbox, hello: introduced.clone() });
            if tls.me() > id {
                let (endpoint, config, tls) = (endpoint.clone(), dialer_config.clone(), tls.clone());
                tasks.spawn(peer.keep_dialing(Dialer { endpoint, config, tls, peer: id, address }));
            } else {
                let (sender, receiver) = mpsc::channel(ARRIVALS_MAX);
                arrivals.insert(id, sender);
                tasks.spawn(peer.keep_accepting(receiver));
            }
        }
        let listener = Listener {
            endpoint: endpoint.clone(),
            tls,
            peers: peer_ids,
            arrivals,
            clients: clients_sender,
            seats: Seats::new(CLIENTS),
            strangers: Strangers::default(),
        };
        tasks.spawn(listener.run());
        Ok((QuicTransport { outboxes, events, hello }, clients, Self { endpoint, tasks, socket }))
    }

    /// The address that is listened on, with the port chosen if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("a bound socket has an address")
    }

    /// Closes every connection, so that peers and clients notice at once, and frees the port. The port stays taken for
    /// as long as somebody holds on to a [`ClientConnection`]'s connection; this is not waited for beyond 4 seconds.
    pub async fn close(mut self) {
        self.endpoint.close(Code::Stopping.into(), b"the node stops");
        self.tasks.shutdown().await;
        // A peer that is gone acknowledges nothing, and is not worth waiting for.
        let _ = timeout(CLOSE_MAX, self.endpoint.wait_idle()).await;
        let Self { endpoint, socket, .. } = self;
        drop(endpoint);
        // quinn's own tasks hold the socket and tell nobody when they let go.
        let released = async {
            while socket.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(CLOSE_MAX, released).await.is_err() {
            tracing::warn!("the UDP port is not free yet: a client's connection is still in use");
        }
    }
}

/// A node's way to its peers, over QUIC. Dropping it ends the connections to them.
#[derive(Debug)]
pub struct QuicTransport {
    outboxes: BTreeMap<ReplicaId, Arc<Outbox>>,
    events: Events,
    hello: watch::Sender<Option<Bytes>>,
}

impl Transport for QuicTransport {
    fn introduce(&mut self, hello: Bytes) {
        assert!(hello.len() <= HELLO_BYTES_MAX, "an introduction of {} bytes", hello.len());
        self.hello.send_replace(Some(hello));
    }

    fn refuse(&mut self, peer: ReplicaId, reason: &str) {
        self.events.refuse(peer, lost::one_line(reason));
    }

    fn send(&mut self, to: ReplicaId, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        let frame = Frame::new(lane, frame).map_err(|error| {
            tracing::error!(peer = %to, ?lane, %error, "a frame was dropped");
            Dropped
        })?;
        self.outboxes.get(&to).ok_or(Dropped)?.push(lane, frame)
    }

    async fn receive(&mut self) -> Option<Event> {
        self.events.next().await
    }
}

fn listen_on(listen: SocketAddr, tls: &NodeTls) -> Result<(Endpoint, Weak<dyn AsyncUdpSocket>), SetupError> {
    let config = settings::server_config(tls.server());
    let mut own = EndpointConfig::new(tls.reset_key());
    // Ids without a hash of their own: one of an earlier incarnation must be answered by a reset, not dropped.
    own.cid_generator(|| Box::<RandomConnectionIdGenerator>::default());
    endpoint_on(listen, own, Some(config)).map_err(|source| SetupError::Bind { listen, source })
}

/// An endpoint for connections that clients dial from `local`.
pub(crate) fn client_endpoint(local: SocketAddr) -> io::Result<Endpoint> {
    Ok(endpoint_on(local, EndpointConfig::default(), None)?.0)
}

/// An endpoint on a socket of its own, and the socket, to see when it is free.
fn endpoint_on(
    local: SocketAddr,
    config: EndpointConfig,
    server: Option<ServerConfig>,
) -> io::Result<(Endpoint, Weak<dyn AsyncUdpSocket>)> {
    let runtime = Arc::new(TokioRuntime);
    let socket = runtime.wrap_udp_socket(settings::bind_socket(local)?)?;
    let held = Arc::downgrade(&socket);
    let gathering = GatheringSocket::new(socket, &*runtime);
    let config = settings::taking_long_datagrams(config);
    Ok((Endpoint::new_with_abstract_socket(config, server, gathering, runtime)?, held))
}

/// The certificates that the other side has shown, its own first.
fn certificates(connection: &Connection) -> Result<Vec<CertificateDer<'static>>, Refused> {
    let shown = connection.peer_identity().ok_or(Refused::NoCertificate)?;
    shown.downcast().map(|chain| *chain).map_err(|_| Refused::NoCertificate)
}
