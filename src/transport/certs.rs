//! Certificates: two authorities, and what they sign.
//!
//! One CA signs nodes and another signs clients, so that whoever may issue clients can never issue a node. Everything is
//! ECDSA on P-256. A CA is valid for ten years and may sign end entities only; what it signs is valid for one year, as
//! replacing it is one command and a leaked key should not last. Running connections outlive their certificates: an
//! expired node keeps its peers until one of them reconnects, and [`super::tls`] warns 30 days ahead.
//!
//! | file | mode | holds |
//! |---|---|---|
//! | `node-ca.pem`, `client-ca.pem` | 0644 | the CAs' certificates; every node needs both, clients `node-ca.pem` |
//! | `node-ca.key`, `client-ca.key` | 0600 | the CAs' keys: needed to make more certificates only, so keep them elsewhere |
//! | `node-<id>.pem`, `node-<id>.key` | 0644, 0600 | a node, as a server and as a client |
//! | `<client>.pem`, `<client>.key` | 0644, 0600 | a client |
//!
//! Deliberately absent: revocation lists. A lost key is answered by new CAs; both old and new may stand in one CA file
//! while certificates are being replaced.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    SetupError,
    identity::{NODE_NAME, OUR_DOMAIN, client_name, cluster_name, cluster_of, peer_name},
    tls,
};
use crate::types::{ClusterId, ReplicaId};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LEAF_VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Certificates are valid from this long ago, for machines whose clocks are behind.
const BACKDATED: Duration = DAY;

/// Which certificates to make.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Nodes, by replica id.
    pub nodes: Vec<ReplicaId>,
    /// DNS names and addresses under which nodes are reached, besides `localhost`, `127.0.0.1` and `::1`. gRPC clients
    /// that do not ask for `node.tombola.internal` check these; nothing of ours does.
    pub hosts: Vec<String>,
    /// Clients, by name (see [`client_name`]).
    pub clients: Vec<String>,
    /// Replace files that exist, instead of refusing.
    pub replace: bool,
}

/// Makes both CAs of `cluster`, and what is ordered, in `dir`, which is made with mode 0700 if it is missing. Gives the
/// files written. If anything stands in the way, nothing is written.
pub fn init(dir: &Path, cluster: ClusterId, order: &Order) -> Result<Vec<PathBuf>, SetupError> {
    let mut files = Files::new(dir, order.replace);
    let node_ca = Authority::create(CaKind::Node, dir, cluster, &mut files)?;
    let client_ca = Authority::create(CaKind::Client, dir, cluster, &mut files)?;
    issue_nodes(&node_ca, order, &mut files)?;
    issue_clients(&client_ca, order, &mut files)?;
    files.write()
}

/// Makes what is ordered with the CAs that `dir` holds; only those are needed that have something to sign. Gives the
/// files written. If anything stands in the way, nothing is written.
pub fn extend(dir: &Path, order: &Order) -> Result<Vec<PathBuf>, SetupError> {
    let mut files = Files::new(dir, order.replace);
    if !order.nodes.is_empty() {
        issue_nodes(&Authority::load(CaKind::Node, dir)?, order, &mut files)?;
    }
    if !order.clients.is_empty() {
        issue_clients(&Authority::load(CaKind::Client, dir)?, order, &mut files)?;
    }
    files.write()
}

fn issue_nodes(ca: &Authority, order: &Order, files: &mut Files) -> Result<(), SetupError> {
    for &node in &order.nodes {
        if node.0 == 0 {
            return Err(SetupError::BadName { name: node.to_string(), why: "replica ids begin with 1" });
        }
        let fixed = [NODE_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut names = vec![peer_name(node, ca.cluster)];
        for name in fixed.iter().chain(&order.hosts) {
            check_host(name)?;
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        ca.issue(&format!("node-{node}"), names, &usages, files)?;
    }
    Ok(())
}

fn issue_clients(ca: &Authority, order: &Order, files: &mut Files) -> Result<(), SetupError> {
    for client in &order.clients {
        let bad = |why| SetupError::BadName { name: client.clone(), why };
        let name = client_name(client).ok_or_else(|| {
            bad("a client's name has 1 to 63 characters of a-z, 0-9 and -, neither ends in - nor begins with - or node-")
        })?;
        if CaKind::Client.stem() == client {
            return Err(bad("its files would be those of the CA"));
        }
        ca.issue(client, vec![name], &[ExtendedKeyUsagePurpose::ClientAuth], files)?;
    }
    Ok(())
}

/// A host may be anything that TLS can check, but no identity of ours.
fn check_host(host: &str) -> Result<(), SetupError> {
    let bad = |why| Err(SetupError::BadName { name: host.to_owned(), why });
    if ServerName::try_from(host).is_err() {
        return bad("a host is a DNS name or an IP address, without a port");
    }
    if host != NODE_NAME && host.to_ascii_lowercase().trim_end_matches('.').ends_with(OUR_DOMAIN) {
        return bad("names under tombola.internal are identities, which are given by replica id and client name");
    }
    Ok(())
}

/// The two authorities.
#[derive(Clone, Copy)]
enum CaKind {
    Node,
    Client,
}

impl CaKind {
    fn stem(self) -> &'static str {
        match self {
            Self::Node => "node-ca",
            Self::Client => "client-ca",
        }
    }

    /// What its certificate says. The subject follows from the cluster, so that an issuer is made again from the key
    /// and the cluster alone.
    fn params(self, cluster: ClusterId) -> Result<CertificateParams, SetupError> {
        let mut params = params_of(vec![cluster_name(cluster)], CA_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::OrganizationName, "Tombola");
        params.distinguished_name.push(DnType::CommonName, format!("{} {cluster}", self.stem()));
        Ok(params)
    }
}

/// A CA that can sign.
struct Authority {
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    file: PathBuf,
}

impl Authority {
    fn create(kind: CaKind, dir: &Path, cluster: ClusterId, files: &mut Files) -> Result<Self, SetupError> {
        let key = KeyPair::generate().map_err(refused)?;
        let params = kind.params(cluster)?;
        let certificate = params.self_signed(&key).map_err(refused)?;
        files.add(kind.stem(), certificate.pem(), key.serialize_pem());
        let file = dir.join(format!("{}.pem", kind.stem()));
        Ok(Self { cluster, issuer: Issuer::new(params, key), certificate: certificate.into(), file })
    }

    fn load(kind: CaKind, dir: &Path) -> Result<Self, SetupError> {
        let file = dir.join(format!("{}.pem", kind.stem()));
        let certificate = tls::read_certificates(&file)?.swap_remove(0);
        let cluster = cluster_of(&certificate).map_err(|refused| SetupError::BadPem {
            file: file.clone(),
            what: "CA made by `tombola certs init`",
            why: refused.to_string(),
        })?;
        let key_file = dir.join(format!("{}.key", kind.stem()));
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&tls::read_key_pem(&key_file)?))
            .map_err(|error| SetupError::BadPem { file: key_file, what: "private key", why: error.to_string() })?;
        Ok(Self { cluster, issuer: Issuer::new(kind.params(cluster)?, key), certificate, file })
    }

    /// Signs a certificate for a fresh key, and checks that it is valid under the CA as its file has it.
    fn issue(
        &self,
        stem: &str,
        names: Vec<String>,
        usages: &[ExtendedKeyUsagePurpose],
        files: &mut Files,
    ) -> Result<(), SetupError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params_of(names, LEAF_VALIDITY)?;
        params.distinguished_name.push(DnType::CommonName, stem);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(refused)?;
        tls::Verifier::new([self.certificate.clone()])
            .and_then(|verifier| verifier.verify(&[certificate.der().clone()], UnixTime::now()))
            .map_err(|why| SetupError::Untrusted {
                cert: files.dir.join(format!("{stem}.pem")),
                ca: self.file.clone(),
                why: format!("{why}; its key, or the CA itself, is another one's"),
            })?;
        files.add(stem, certificate.pem(), key.serialize_pem());
        Ok(())
    }
}

fn params_of(names: Vec<String>, validity: Duration) -> Result<CertificateParams, SetupError> {
    let mut params = CertificateParams::new(names).map_err(refused)?;
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    params.not_before = now - BACKDATED;
    params.not_after = now + validity;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params)
}

fn refused(error: rcgen::Error) -> SetupError {
    SetupError::Tls(error.to_string())
}

/// Files to be written together.
struct Files {
    dir: PathBuf,
    replace: bool,
    /// Contents and mode, by name.
    files: BTreeMap<String, (String, u32)>,
}

impl Files {
    fn new(dir: &Path, replace: bool) -> Self {
        Self { dir: dir.to_owned(), replace, files: BTreeMap::new() }
    }

    fn add(&mut self, stem: &str, certificate: String, key: String) {
        self.files.insert(format!("{stem}.pem"), (certificate, 0o644));
        self.files.insert(format!("{stem}.key"), (key, 0o600));
    }

    fn write(self) -> Result<Vec<PathBuf>, SetupError> {
        let unwritable = |file: &Path| {
            let file = file.to_owned();
            move |source| SetupError::Unwritable { file, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(unwritable(&self.dir))?;
        let mode = fs::metadata(&self.dir).map_err(unwritable(&self.dir))?.permissions().mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(SetupError::DirectoryOpen { dir: self.dir, mode });
        }
        let paths: Vec<PathBuf> = self.files.keys().map(|name| self.dir.join(name)).collect();
        if !self.replace
            && let Some(file) = paths.iter().find(|path| path.symlink_metadata().is_ok())
        {
            return Err(SetupError::Exists { file: file.clone() });
        }
        for (path, (contents, mode)) in paths.iter().zip(self.files.values()) {
            write_beside(path, contents.as_bytes(), *mode).map_err(unwritable(path))?;
        }
        Ok(paths)
    }
}

/// Writes the file under another name and renames it, so that nobody ever reads half a key.
fn write_beside(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::{
        super::tls::{ClientTls, NodeFiles, NodeTls},
        *,
    };

    const CLUSTER: ClusterId = ClusterId([0x11; 16]);

    fn order(nodes: &[u64], clients: &[&str]) -> Order {
        Order {
            nodes: nodes.iter().copied().map(ReplicaId).collect(),
            hosts: vec!["db.example.com".to_owned(), "192.0.2.7".to_owned()],
            clients: clients.iter().map(|&name| name.to_owned()).collect(),
            replace: false,
        }
    }

    fn made() -> TempDir {
        let dir = TempDir::new().unwrap();
        init(dir.path(), CLUSTER, &order(&[1, 2], &["shop"])).unwrap();
        dir
    }

    fn load(dir: &Path, me: u64) -> Result<NodeTls, SetupError> {
        NodeTls::load(&NodeFiles::in_dir(dir, ReplicaId(me)), CLUSTER, ReplicaId(me))
    }

    fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    #[test]
    fn what_is_made_loads_and_proves_who_it_is_for() {
        let parent = TempDir::new().unwrap();
        let dir = parent.path().join("new/certs");
        let files = init(&dir, CLUSTER, &order(&[1, 2], &["shop"])).unwrap();
        assert_eq!(files.len(), 10);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        for file in &files {
            let is_key = file.extension().is_some_and(|extension| extension == "key");
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert!(!is_key || mode == 0o600, "{} has mode {mode:o}", file.display());
        }
        let tls = load(&dir, 1).unwrap();
        let chain = |stem: &str| tls::read_certificates(&dir.join(format!("{stem}.pem"))).unwrap();
        assert_eq!(tls.peer(&chain("node-2")), Ok(ReplicaId(2)));
        assert_eq!(tls.client(&chain("shop")).unwrap().as_str(), "shop");
        assert_eq!(tls.client(&chain("node-2")).unwrap().as_str(), "node-2");
        assert!(tls.peer(&chain("shop")).is_err(), "a client passes for a peer");
        assert!(tls.peer(&chain("node-ca")).is_err(), "the CA passes for a peer");
        ClientTls::load(&dir.join("node-ca.pem"), &dir.join("shop.pem"), &dir.join("shop.key")).unwrap();
    }

    #[test]
    fn more_can_be_made_later_from_the_same_cas() {
        let dir = made();
        extend(dir.path(), &order(&[3], &["till"])).unwrap();
        load(dir.path(), 3).unwrap();
        // The key of the nodes' CA may be elsewhere when only clients are made.
        fs::remove_file(dir.path().join("node-ca.key")).unwrap();
        extend(dir.path(), &order(&[], &["kiosk"])).unwrap();
        assert!(matches!(extend(dir.path(), &order(&[4], &[])), Err(SetupError::Unreadable { .. })));
    }

    #[test]
    fn nothing_is_overwritten_unless_asked() {
        let dir = made();
        let before = contents(dir.path());
        assert!(matches!(init(dir.path(), CLUSTER, &order(&[9], &[])), Err(SetupError::Exists { .. })));
        assert!(matches!(extend(dir.path(), &order(&[9, 2], &[])), Err(SetupError::Exists { .. })));
        assert_eq!(contents(dir.path()), before);
        extend(dir.path(), &Order { replace: true, ..order(&[2], &[]) }).unwrap();
        assert_ne!(contents(dir.path()), before);
        load(dir.path(), 2).unwrap();
    }

    #[test]
    fn a_ca_whose_key_is_anothers_signs_nothing() {
        let (dir, other) = (made(), made());
        fs::copy(other.path().join("node-ca.key"), dir.path().join("node-ca.key")).unwrap();
        assert!(matches!(extend(dir.path(), &order(&[3], &[])), Err(SetupError::Untrusted { .. })));
    }

    #[test]
    fn names_that_would_be_another_identity_are_refused() {
        let dir = TempDir::new().unwrap();
        let hosts = |host: &str| Order { hosts: vec![host.to_owned()], ..order(&[1], &[]) };
        for bad in [
            order(&[0], &[]),
            order(&[], &["node-1"]),
            order(&[], &["client-ca"]),
            order(&[], &["../shop"]),
            order(&[], &[""]),
            hosts("r2.11111111-1111-1111-1111-111111111111.peer.tombola.internal"),
            hosts("X.Tombola.Internal"),
            hosts("host:50051"),
            hosts(""),
        ] {
            let result = init(dir.path(), CLUSTER, &bad);
            assert!(matches!(result, Err(SetupError::BadName { .. })), "{bad:?} gave {result:?}");
        }
        assert!(contents(dir.path()).is_empty());
    }

    #[test]
    fn a_node_refuses_files_that_its_peers_would_refuse() {
        let dir = made();
        let code = |files: &NodeFiles, cluster, me| NodeTls::load(files, cluster, ReplicaId(me)).unwrap_err().code();
        let files = NodeFiles::in_dir(dir.path(), ReplicaId(1));
        let other = made();
        let foreign = NodeFiles::in_dir(other.path(), ReplicaId(1));
        assert_eq!(code(&files, CLUSTER, 2), "CERTIFICATE_OF_ANOTHER");
        assert_eq!(code(&files, ClusterId([0x22; 16]), 1), "CERTIFICATE_OF_ANOTHER");
        for (files, expected) in [
            (NodeFiles { node_ca: foreign.node_ca.clone(), ..files.clone() }, "CERTIFICATE_UNTRUSTED"),
            (NodeFiles { client_ca: files.node_ca.clone(), ..files.clone() }, "SHARED_CA"),
            (NodeFiles { key: foreign.key.clone(), ..files.clone() }, "KEY_MISMATCH"),
            (NodeFiles { cert: files.key.clone(), ..files.clone() }, "BAD_PEM"),
            (NodeFiles { key: dir.path().join("none"), ..files.clone() }, "FILE_UNREADABLE"),
        ] {
            assert_eq!(code(&files, CLUSTER, 1), expected);
        }
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(code(&files, CLUSTER, 1), "KEY_READABLE");
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let result = init(dir.path(), CLUSTER, &order(&[1], &[]));
        assert!(matches!(result, Err(SetupError::DirectoryOpen { .. })));
        assert!(contents(dir.path()).is_empty());
    }
}
