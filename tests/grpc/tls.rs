//! TLS: the server's certificate, and the clients'.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tombola::{
    pool::Stock,
    server::grpc::{ClientCertificates, GrpcConfig, GrpcError, GrpcTls},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{
    Server, soon, support,
    upstream::{GetStateRequest, reward_pool_service_client::RewardPoolServiceClient},
};

/// A CA and certificates of its making.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server with a certificate of `nodes`, which believes clients of `clients`.
async fn serve(nodes: &Authority, clients: Option<(&Authority, bool)>) -> Server {
    let (certificate, key) = nodes.issue("localhost");
    let clients =
        clients.map(|(clients, required)| ClientCertificates { roots: clients.root().into_bytes(), required });
    let tls = GrpcTls { certificate_chain: certificate.into_bytes(), private_key: key.into_bytes(), clients };
    let config = GrpcConfig { tls: Some(tls), ..GrpcConfig::default() };
    Server::start(support::alone(&[("mud", Stock::Unlimited, 1)]).await, config).await
}

/// Reads the state over TLS; believes `root`, and shows a certificate if it has one.
async fn read(server: &Server, root: &Authority, identity: Option<(String, String)>) -> Result<(), String> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root.root())).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let uri = format!("https://{}", server.address);
    let endpoint = tonic::transport::Endpoint::from_shared(uri).unwrap().tls_config(tls).unwrap();
    soon(async {
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let told = RewardPoolServiceClient::new(channel).get_state(GetStateRequest {}).await;
        told.map(|_| ()).map_err(|status| status.to_string())
    })
    .await
}

#[tokio::test]
async fn a_client_that_believes_the_server_is_served_and_plaintext_is_not() {
    let nodes = Authority::new();
    let server = serve(&nodes, None).await;
    read(&server, &nodes, None).await.expect("TLS works");
    assert!(read(&server, &Authority::new(), None).await.is_err(), "a stranger's root");
    let plaintext = async {
        let channel = server.endpoint().connect().await.ok()?;
        RewardPoolServiceClient::new(channel).get_state(GetStateRequest {}).await.ok()
    };
    assert!(soon(plaintext).await.is_none());
}

#[tokio::test]
async fn a_required_client_certificate_is_required() {
    let [nodes, clients, strangers] = [(); 3].map(|()| Authority::new());
    let server = serve(&nodes, Some((&clients, true))).await;
    read(&server, &nodes, Some(clients.issue("shop"))).await.expect("a known client");
    assert!(read(&server, &nodes, None).await.is_err(), "no certificate");
    assert!(read(&server, &nodes, Some(strangers.issue("shop"))).await.is_err(), "a stranger's certificate");
}

#[tokio::test]
async fn an_optional_client_certificate_is_checked_if_shown() {
    let [nodes, clients, strangers] = [(); 3].map(|()| Authority::new());
    let server = serve(&nodes, Some((&clients, false))).await;
    read(&server, &nodes, Some(clients.issue("shop"))).await.expect("a known client");
    read(&server, &nodes, None).await.expect("no certificate");
    assert!(read(&server, &nodes, Some(strangers.issue("shop"))).await.is_err(), "a stranger's certificate");
}

#[tokio::test]
async fn unusable_material_is_told_before_anything_is_served() {
    let nodes = Authority::new();
    let (certificate, _) = nodes.issue("localhost");
    let (_, other_key) = nodes.issue("localhost");
    for (certificate_chain, private_key) in [
        ("no certificate".to_owned(), other_key.clone()),
        (certificate.clone(), "no key".to_owned()),
        (certificate, other_key),
    ] {
        let tls = GrpcTls {
            certificate_chain: certificate_chain.into_bytes(),
            private_key: private_key.into_bytes(),
            clients: None,
        };
        let config = GrpcConfig { tls: Some(tls), ..GrpcConfig::default() };
        let server = Server::start(support::alone(&[]).await, config).await;
        let ended = soon(server.stopped).await.unwrap();
        assert!(matches!(ended, Err(GrpcError::Tls(_))), "{ended:?}");
    }
}
