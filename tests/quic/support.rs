//! Clusters of transports on loopback, certificates for them, and everything that is logged.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tombola::{
    transport::{
        Event, Lane, Transport,
        certs::{self, Order},
        quic::{ClientConnection, Quic, QuicConfig, QuicTransport},
        tls::{NodeFiles, NodeTls},
    },
    types::{ClusterId, ReplicaId},
};

pub const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
/// Longer than anything takes that works; shorter than the idle timeout of a connection, which must not be what ends one.
pub const DEADLINE: Duration = Duration::from_secs(8);

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Certificates of a cluster's nodes 1 to 3 and of the client `shop`.
pub struct Certs(TempDir);

impl Certs {
    pub fn of(cluster: ClusterId) -> Self {
        let dir = TempDir::new().unwrap();
        let order =
            Order { nodes: (1..=3).map(ReplicaId).collect(), clients: vec!["shop".to_owned()], ..Order::default() };
        certs::init(dir.path(), cluster, &order).unwrap();
        Self(dir)
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn tls(&self, cluster: ClusterId, me: u64) -> NodeTls {
        NodeTls::load(&NodeFiles::in_dir(self.dir(), ReplicaId(me)), cluster, ReplicaId(me)).unwrap()
    }
}

/// A transport with its endpoint.
pub struct Endpoint {
    pub transport: QuicTransport,
    pub clients: mpsc::Receiver<ClientConnection>,
    pub quic: Quic,
}

impl Endpoint {
    /// Nodes are bound in the order of their ids: the greater dials, so an address is needed of smaller ones only. Each
    /// introduces itself with its id.
    pub fn bind(tls: NodeTls, listen: SocketAddr, peers: &[(u64, String)]) -> Self {
        let hello = Bytes::from(tls.me().to_string());
        let mut endpoint = Self::bind_unknown(tls, listen, peers);
        endpoint.transport.introduce(hello);
        endpoint
    }

    /// The same, without an introduction.
    pub fn bind_unknown(tls: NodeTls, listen: SocketAddr, peers: &[(u64, String)]) -> Self {
        let peers: BTreeMap<_, _> = peers.iter().map(|(id, address)| (ReplicaId(*id), address.clone())).collect();
        let (transport, clients, quic) = Quic::bind(QuicConfig { listen, peers, tls }).unwrap();
        Self { transport, clients, quic }
    }

    pub fn address(&self) -> SocketAddr {
        self.quic.local_addr()
    }

    pub fn peer(&self, id: u64) -> (u64, String) {
        (id, self.address().to_string())
    }

    /// Sends a frame as soon as it is not dropped.
    pub async fn send(&mut self, to: u64, frame: &[u8]) {
        let frame = Bytes::copy_from_slice(frame);
        within(&format!("a connection to {to}"), async {
            // There is no news of a peer's arrival; raft tries again at its ticks, and so does this.
            while self.transport.send(ReplicaId(to), Lane::Log, frame.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    pub async fn next(&mut self) -> Event {
        within("an event", self.transport.receive()).await.expect("the transport is open")
    }

    /// The next event, introductions aside.
    pub async fn next_but_met(&mut self) -> Event {
        loop {
            let event = self.next().await;
            if !matches!(event, Event::Met { .. }) {
                return event;
            }
        }
    }

    pub async fn expect_frame(&mut self, from: u64, frame: &[u8]) {
        let expected = Event::Frame { from: ReplicaId(from), frame: Bytes::copy_from_slice(frame) };
        assert_eq!(self.next_but_met().await, expected);
    }

    pub async fn expect_unreachable(&mut self, peer: u64) {
        assert_eq!(self.next_but_met().await, Event::Unreachable { peer: ReplicaId(peer) });
    }

    pub async fn expect_met(&mut self, peer: u64, hello: &[u8]) {
        assert_eq!(self.next().await, Event::Met { peer: ReplicaId(peer), hello: Bytes::copy_from_slice(hello) });
    }

    pub async fn expect_refused(&mut self, peer: u64, reason: &str) {
        let refused = Event::Refused { peer: ReplicaId(peer), reason: reason.to_owned() };
        assert_eq!(self.next_but_met().await, refused);
    }
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Where a smaller node finds a greater one: nowhere, as it never dials it.
pub fn never_dialed(id: u64) -> (u64, String) {
    (id, "127.0.0.1:9".to_owned())
}

/// Nodes 1 and 2, each the other's peer.
pub fn pair(certs: &Certs) -> (Endpoint, Endpoint) {
    let one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let two = Endpoint::bind(certs.tls(CLUSTER, 2), loopback(), &[one.peer(1)]);
    (one, two)
}

/// A frame each way.
pub async fn check_traffic(one: &mut Endpoint, two: &mut Endpoint) {
    one.send(2, b"to two").await;
    two.send(1, b"to one").await;
    two.expect_frame(1, b"to two").await;
    one.expect_frame(2, b"to one").await;
}

/// Every line that this process has logged so far.
static LOG: LazyLock<&'static Mutex<Vec<u8>>> = LazyLock::new(|| {
    let lines: &'static Mutex<Vec<u8>> = Box::leak(Box::default());
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || Lines(lines))
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    lines
});

struct Lines(&'static Mutex<Vec<u8>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to log. Call it before whatever is to be seen.
pub fn watch_log() {
    LazyLock::force(&LOG);
}

/// How many lines have been logged that hold all of these words.
pub fn times_logged(words: &[&str]) -> usize {
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

pub fn has_logged(words: &[&str]) -> bool {
    times_logged(words) > 0
}

/// Waits until a line has been logged that holds all of these words.
pub async fn logged(words: &[&str]) {
    within(&format!("a line with {words:?} in the log"), async {
        while !has_logged(words) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
