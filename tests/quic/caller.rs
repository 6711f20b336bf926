//! A caller of our own: free to show any certificate, to ask for any protocol, and to say anything.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, SendStream, crypto::rustls::QuicClientConfig};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tombola::transport::{
    Lane,
    frame::{Frame, encode},
    greeting::Greeting,
    identity::NODE_NAME,
    tls::PEER_ALPN,
};

use super::support::*;

/// A certificate and its key.
pub type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

pub fn made(certs: &Certs, stem: &str) -> Shown {
    let cert = CertificateDer::from_pem_file(certs.file(&format!("{stem}.pem"))).unwrap();
    (cert, PrivateKeyDer::from_pem_file(certs.file(&format!("{stem}.key"))).unwrap())
}

/// A certificate with any names at all, signed by the cluster's own CA of nodes: what a careless operator could make.
pub fn forged(certs: &Certs, names: &[String]) -> Shown {
    signed_by("node-ca", certs, names, false)
}

/// A certificate that one of the CAs signed, valid now or no more.
pub fn signed_by(ca: &str, certs: &Certs, names: &[String], is_expired: bool) -> Shown {
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(certs.file(&format!("{ca}.key"))).unwrap()).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(DnType::OrganizationName, "Tombola");
    issuer.distinguished_name.push(DnType::CommonName, format!("{ca} {CLUSTER}"));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if is_expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let certificate = params.signed_by(&key, &Issuer::new(issuer, ca_key)).unwrap();
    (certificate.into(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

/// It trusts the nodes of `certs`.
pub struct Caller {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Caller {
    pub fn new(certs: &Certs, shown: Option<Shown>, protocol: &[u8]) -> Self {
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

    /// The peer `node-2`.
    pub fn two(certs: &Certs) -> Self {
        Self::new(certs, Some(made(certs, "node-2")), PEER_ALPN)
    }

    /// How it appears in the node's log.
    pub fn address(&self) -> String {
        self.endpoint.local_addr().unwrap().to_string()
    }

    pub async fn dial(&self, node: &Endpoint) -> Result<Connection, ConnectionError> {
        within("a handshake", self.endpoint.connect_with(self.config.clone(), node.address(), NODE_NAME).unwrap()).await
    }

    /// Dials, and gives the reason of being refused: in the handshake, or, as TLS 1.3 has it, just after.
    pub async fn dial_in_vain(&self, node: &Endpoint) -> ConnectionError {
        match self.dial(node).await {
            Ok(connection) => within("a refusal", connection.closed()).await,
            Err(error) => error,
        }
    }
}

/// The bytes of a greeting.
pub fn greeting(lane: Lane) -> Vec<u8> {
    encode([Frame::greeting(&Greeting::of(lane, &Bytes::from_static(b"2")))]).concat()
}

/// Greets on every lane, and gives the streams in the order of [`Lane::ALL`].
pub async fn greet(connection: &Connection) -> [SendStream; 3] {
    let mut streams = vec![];
    for lane in Lane::ALL {
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&greeting(lane)).await.unwrap();
        streams.push(stream);
    }
    streams.try_into().unwrap()
}

/// The bytes of a frame.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    encode([Frame::new(Lane::Log, Bytes::copy_from_slice(payload)).unwrap()]).concat()
}

/// What a node said when it closed the connection, with its code.
pub fn told(error: &ConnectionError) -> (u64, String) {
    let (code, reason) = match error {
        ConnectionError::ApplicationClosed(close) => (close.error_code.into_inner(), &close.reason),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), &close.reason),
        other => panic!("it ended otherwise: {other}"),
    };
    (code, String::from_utf8_lossy(reason).into_owned())
}
