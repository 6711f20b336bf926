//! TLS: who may speak, and the configurations that hold everybody to it.
//!
//! TLS 1.3 only, certificates from both sides, no tickets, no resumption and hence no early data, and the `ring` provider
//! passed by hand, as two enabled providers would panic at run time.
//!
//! Peers and clients share a UDP port and are told apart by ALPN, but rustls asks for a client's certificate before it
//! looks at protocols. So a handshake passes with a certificate of either CA, and what the ALPN demands is verified
//! afterwards, before a byte of any stream is read: a peer must chain to the nodes' CA and carry the name of one replica
//! of this cluster; a client must chain to the clients' CA, or be a node. The dialer asks for the replica that it wants
//! by name, and holds the answer to the same rules, since the library's own check would be content with a wildcard.

use std::{
    fmt,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};

use sha2::{Digest, Sha256};

use super::{
    SetupError,
    identity::{Refused, client_of, node_actor, peer_name, peer_of},
    quic,
};
use crate::{
    client::CLIENT_ALPN,
    pool::Actor,
    types::{ClusterId, ReplicaId},
};

/// ALPN of peers.
pub const PEER_ALPN: &[u8] = b"tombola-peer/1";
/// A node whose certificate ends sooner than this says so when it starts.
const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A node's certificate files, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    /// The CA, or CAs, of nodes.
    pub node_ca: PathBuf,
    /// The CA, or CAs, of clients.
    pub client_ca: PathBuf,
    /// The node's certificate, followed by intermediates if there are any.
    pub cert: PathBuf,
    /// Its private key; readable by its owner only.
    pub key: PathBuf,
}

impl NodeFiles {
    /// The files that [`super::certs::init`] made for this node in `dir`.
    pub fn in_dir(dir: &Path, me: ReplicaId) -> Self {
        Self {
            node_ca: dir.join("node-ca.pem"),
            client_ca: dir.join("client-ca.pem"),
            cert: dir.join(format!("node-{me}.pem")),
            key: dir.join(format!("node-{me}.key")),
        }
    }
}

/// The same identity in the form that gRPC wants: PEM.
#[derive(Clone)]
pub struct GrpcPem {
    /// The node's certificate chain.
    pub cert: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The CAs that may sign callers: the clients' and the nodes'. [`NodeTls::client`] says who a caller is.
    pub caller_cas: Vec<u8>,
}

impl fmt::Debug for GrpcPem {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrpcPem(..)")
    }
}

/// Everything a node needs to prove itself and to verify others; checked as a whole when it is loaded.
pub struct NodeTls {
    me: ReplicaId,
    cluster: ClusterId,
    nodes: Verifier,
    clients: Verifier,
    server: Arc<QuicServerConfig>,
    dialer: Arc<QuicClientConfig>,
    grpc: GrpcPem,
    reset_key: Arc<ring::hmac::Key>,
}

impl fmt::Debug for NodeTls {
    /// Leaves keys out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeTls({})", peer_name(self.me, self.cluster))
    }
}

impl NodeTls {
    /// Loads the files of replica `me` of `cluster`. Whatever would make its peers refuse it later is an error here.
    pub fn load(files: &NodeFiles, cluster: ClusterId, me: ReplicaId) -> Result<Self, SetupError> {
        let node_cas = read_certificates(&files.node_ca)?;
        let client_cas = read_certificates(&files.client_ca)?;
        if node_cas.iter().any(|ca| client_cas.contains(ca)) {
            return Err(SetupError::SharedCa { node_ca: files.node_ca.clone(), client_ca: files.client_ca.clone() });
        }
        let chain = read_certificates(&files.cert)?;
        let key_pem = read_key_pem(&files.key)?;
        let key = parse_key(&files.key, &key_pem)?;
        let reset_key = Arc::new(reset_key(&key));
        let nodes = verifier(&files.node_ca, node_cas.clone())?;
        let clients = verifier(&files.client_ca, client_cas.clone())?;
        check_own(files, &chain, &nodes, cluster, me)?;
        let either = verifier(&files.node_ca, node_cas.iter().chain(&client_cas).cloned())?;
        Ok(Self {
            me,
            cluster,
            server: server_config(files, either, chain.clone(), key.clone_key())?,
            dialer: dialer_config(&node_cas, (&files.cert, chain), (&files.key, key), PEER_ALPN)?,
            nodes,
            clients,
            reset_key,
            grpc: GrpcPem {
                cert: read(&files.cert)?,
                key: key_pem,
                caller_cas: [read(&files.client_ca)?, read(&files.node_ca)?].join(&b'\n'),
            },
        })
    }

    /// The key of this node's stateless resets: the same in every incarnation.
    pub(super) fn reset_key(&self) -> Arc<ring::hmac::Key> {
        self.reset_key.clone()
    }

    /// The replica that this is.
    pub fn me(&self) -> ReplicaId {
        self.me
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What gRPC needs to serve with the same identity.
    pub fn grpc_pem(&self) -> &GrpcPem {
        &self.grpc
    }

    /// The replica of this cluster that this chain, end entity first, proves.
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Result<ReplicaId, Refused> {
        let first = chain.first().ok_or(Refused::NoCertificate)?;
        self.nodes.verify(chain, UnixTime::now()).map_err(|why| Refused::Untrusted { ca: "nodes'", why })?;
        peer_of(first, self.cluster)
    }

    /// The caller that this chain, end entity first, proves: a client, or a node acting as one, under the name
    /// `node-<id>`.
    pub fn client(&self, chain: &[CertificateDer<'_>]) -> Result<Actor, Refused> {
        let first = chain.first().ok_or(Refused::NoCertificate)?;
        match self.clients.verify(chain, UnixTime::now()) {
            Ok(()) => client_of(first),
            Err(why) => match self.peer(chain) {
                Ok(replica) => Ok(node_actor(replica)),
                Err(Refused::Untrusted { .. }) => Err(Refused::Untrusted { ca: "clients'", why }),
                Err(refused) => Err(refused),
            },
        }
    }

    /// For the listening endpoint: both protocols, either CA.
    pub(super) fn server(&self) -> Arc<QuicServerConfig> {
        self.server.clone()
    }

    /// For dialing peers.
    pub(super) fn dialer(&self) -> Arc<QuicClientConfig> {
        self.dialer.clone()
    }
}

/// A client's side of TLS.
pub enum ClientTls {}

impl ClientTls {
    /// Loads the nodes' CA and a client's certificate and key, all PEM. Connect under the name
    /// [`super::identity::NODE_NAME`].
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<quinn::ClientConfig, SetupError> {
        let cas = read_certificates(ca)?;
        let chain = read_certificates(cert)?;
        let secret = parse_key(key, &read_key_pem(key)?)?;
        let crypto = dialer_config(&cas, (cert, chain), (key, secret), CLIENT_ALPN)?;
        let mut config = quinn::ClientConfig::new(crypto);
        config.transport_config(Arc::new(quic::client_transport()));
        Ok(config)
    }
}

/// Verifies chains against a set of CAs, for use by a client.
pub(super) struct Verifier(Arc<dyn ClientCertVerifier>);

impl Verifier {
    pub(super) fn new(cas: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, String> {
        let roots = roots(cas)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Ok(Self(verifier.map_err(|error| error.to_string())?))
    }

    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), String> {
        let (first, intermediates) = chain.split_first().ok_or("there is no certificate")?;
        self.0.verify_client_cert(first, intermediates, now).map(drop).map_err(|error| error.to_string())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(cas: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn verifier(file: &Path, cas: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Verifier, SetupError> {
    Verifier::new(cas).map_err(|why| bad_pem(file, "CA", why))
}

/// This node's certificate, as its peers will see it.
fn check_own(
    files: &NodeFiles,
    chain: &[CertificateDer<'static>],
    nodes: &Verifier,
    cluster: ClusterId,
    me: ReplicaId,
) -> Result<(), SetupError> {
    let untrusted = |why| SetupError::Untrusted { cert: files.cert.clone(), ca: files.node_ca.clone(), why };
    nodes.verify(chain, UnixTime::now()).map_err(untrusted)?;
    let not_this = |why| SetupError::NotThisNode { cert: files.cert.clone(), wanted: peer_name(me, cluster), why };
    match peer_of(&chain[0], cluster) {
        Ok(replica) if replica == me => {}
        Ok(replica) => return Err(not_this(format!("it is that of replica {replica}"))),
        Err(refused) => return Err(not_this(refused.to_string())),
    }
    let soon = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + EXPIRY_WARNING);
    if nodes.verify(chain, soon).is_err() {
        tracing::warn!(cert = %files.cert.display(), "the certificate of this node expires within 30 days: replace it");
    }
    Ok(())
}

fn server_config(
    files: &NodeFiles,
    callers: Verifier,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<QuicServerConfig>, SetupError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(callers.0)
        .with_single_cert(chain, key)
        .map_err(|error| key_mismatch(&files.cert, &files.key, error))?;
    config.alpn_protocols = vec![PEER_ALPN.to_vec(), CLIENT_ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map(Arc::new).map_err(|error| SetupError::Tls(error.to_string()))
}

fn dialer_config(
    cas: &[CertificateDer<'static>],
    (cert_file, chain): (&Path, Vec<CertificateDer<'static>>),
    (key_file, key): (&Path, PrivateKeyDer<'static>),
    alpn: &[u8],
) -> Result<Arc<QuicClientConfig>, SetupError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_root_certificates(roots(cas.iter().cloned()).map_err(SetupError::Tls)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| key_mismatch(cert_file, key_file, error))?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map(Arc::new).map_err(|error| SetupError::Tls(error.to_string()))
}

/// A key that outlives the process, so that whoever talks to a connection of an earlier incarnation is told at its next
/// packet that it is gone (RFC 9000, section 10.3), and need not wait for its idle timeout.
fn reset_key(secret: &PrivateKeyDer<'_>) -> ring::hmac::Key {
    let mut hash = Sha256::new_with_prefix(b"tombola: key of stateless resets");
    hash.update(secret.secret_der());
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &hash.finalize())
}

fn read(file: &Path) -> Result<Vec<u8>, SetupError> {
    std::fs::read(file).map_err(|source| SetupError::Unreadable { file: file.to_owned(), source })
}

/// The certificates in a PEM file; one at least.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| bad_pem(file, "certificate", error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad_pem(file, "certificate", "there is none in it".to_owned()));
    }
    Ok(certificates)
}

/// The text of a private key's file, which nobody but its owner may read.
pub(super) fn read_key_pem(file: &Path) -> Result<Vec<u8>, SetupError> {
    let unreadable = |source| SetupError::Unreadable { file: file.to_owned(), source };
    let mut opened = File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SetupError::KeyOpen { file: file.to_owned(), mode });
    }
    let mut pem = Vec::new();
    opened.read_to_end(&mut pem).map_err(unreadable)?;
    Ok(pem)
}

fn parse_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, SetupError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| bad_pem(file, "private key", error.to_string()))
}

fn bad_pem(file: &Path, what: &'static str, why: String) -> SetupError {
    SetupError::BadPem { file: file.to_owned(), what, why }
}

fn key_mismatch(cert: &Path, key: &Path, error: rustls::Error) -> SetupError {
    SetupError::KeyMismatch { cert: cert.to_owned(), key: key.to_owned(), why: error.to_string() }
}

fn refused(error: rustls::Error) -> SetupError {
    SetupError::Tls(error.to_string())
}
