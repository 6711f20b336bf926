//! The directory of a development cluster: made, locked, described to its nodes, and removed.
//!
//! ```text
//! DIR/dev.lock                held by the `dev` that runs it
//! DIR/dev.json                where the running nodes are (see `discovery`)
//! DIR/certs/                  both CAs, the nodes' certificates, the client `dev`
//! DIR/node-K/config.yaml      written anew at every start
//! DIR/node-K/data/            the node's data
//! DIR/node-K/log              what the node has to say
//! ```
//!
//! Node 1's configuration is written last when the directory is first used: a directory that has it is whole, and one
//! that has not has never run a node, so that everything in it may be made again.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        CliError, Exit,
        certs::new_cluster_id,
        config::{self, ClusterSource, Overrides, Settings},
        discovery::{DevFile, DevNode},
        ports::Ports,
    },
    pool::{CatalogItem, Stock},
    transport::{certs, certs::Order},
    types::{ClusterId, ReplicaId},
};

/// Name of the client that every development cluster has a certificate for.
const CLIENT: &str = "dev";

/// A development cluster's directory, held by this process.
#[derive(Debug)]
pub struct Place {
    /// Absolute.
    pub dir: PathBuf,
    /// Made for this run, and removed at its end.
    pub temporary: bool,
    _lock: File,
}

/// What the nodes are told.
#[derive(Debug)]
pub struct Plan {
    /// The cluster.
    pub cluster: ClusterId,
    /// How many nodes there are, numbered from 1.
    pub nodes: u64,
    /// Port of node 1's gRPC side.
    pub grpc_port: u16,
    /// What pool `default` is first stocked with.
    pub catalog: Vec<CatalogItem>,
}

/// Makes a fresh directory among the temporary ones, for this user alone.
///
/// # Errors
/// It cannot be made.
pub fn make_temporary() -> Result<PathBuf, CliError> {
    let parent = std::env::temp_dir();
    let parent = std::path::absolute(&parent).unwrap_or(parent);
    loop {
        let dir = parent.join(format!("tombola-dev-{:08x}", rand::random::<u32>()));
        match private_dir().create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| dir.clone()).map_err(|error| failed("make", &dir, &error)),
        }
    }
}

impl Place {
    /// Takes `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// Another `dev` holds it, or it cannot be used.
    pub fn take(dir: &Path, temporary: bool) -> Result<Self, CliError> {
        private_dir().recursive(true).create(dir).map_err(|error| failed("make", dir, &error))?;
        let dir = fs::canonicalize(dir).map_err(|error| failed("find", dir, &error))?;
        let path = dir.join("dev.lock");
        let lock = private_file().open(&path).map_err(|error| failed("open", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, temporary, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another `dev` runs in {}", dir.display());
                Err(CliError::new(Exit::Other, "DIRECTORY_IN_USE", message).hint("stop it, or name another --data-dir"))
            }
            Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
        }
    }

    /// What the cluster in this directory was told last; `None` if there is none yet.
    ///
    /// # Errors
    /// There is one, and its first node's configuration was spoilt.
    pub fn existing(&self) -> Result<Option<Plan>, CliError> {
        let first = self.config(ReplicaId(1));
        if !first.exists() {
            return Ok(None);
        }
        let Settings { cluster, members, catalog, grpc, .. } = config::load(&first, &Overrides::default())?;
        match (cluster, grpc) {
            (ClusterSource::Given(cluster), Some(grpc)) => {
                Ok(Some(Plan { cluster, nodes: members.len() as u64, grpc_port: grpc.listen.0.port(), catalog }))
            }
            _ => Err(CliError::new(
                Exit::Usage,
                "CONFIG_INVALID",
                format!("{} is not what `dev` wrote", first.display()),
            )
            .hint("name another --data-dir")),
        }
    }

    /// Makes certificates for a new cluster.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn found(&self, nodes: u64) -> Result<ClusterId, CliError> {
        let cluster = new_cluster_id()?;
        // `replace`: a start that was cut short may have left some, of a cluster that never was.
        let order = Order {
            nodes: (1..=nodes).map(ReplicaId).collect(),
            clients: vec![CLIENT.to_owned()],
            replace: true,
            ..Order::default()
        };
        certs::init(&self.dir.join("certs"), cluster, &order)?;
        Ok(cluster)
    }

    /// Writes every node's configuration, node 1's last.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn configure(&self, plan: &Plan) -> Result<(), CliError> {
        for node in (1..=plan.nodes).rev().map(ReplicaId) {
            let dir = self.node_dir(node);
            private_dir().recursive(true).create(&dir).map_err(|error| failed("make", &dir, &error))?;
            let path = self.config(node);
            write_by_rename(&path, plan.config_of(node).as_bytes()).map_err(|error| failed("write", &path, &error))?;
        }
        Ok(())
    }

    /// Node `node`'s configuration.
    pub fn config(&self, node: ReplicaId) -> PathBuf {
        self.node_dir(node).join("config.yaml")
    }

    /// Node `node`'s log.
    pub fn log(&self, node: ReplicaId) -> PathBuf {
        self.node_dir(node).join("log")
    }

    /// The number of the process that holds node `node`'s data, or held it last: it leaves it in its lock file.
    pub fn holder(&self, node: ReplicaId) -> Option<u32> {
        let lock = self.node_dir(node).join(format!("data/replica-{node}/LOCK"));
        fs::read_to_string(lock).ok()?.trim().parse().ok()
    }

    /// What `dev.json` says, given each node's process.
    pub fn describe(&self, grpc_port: u16, pids: impl IntoIterator<Item = (ReplicaId, u32)>) -> DevFile {
        let certs = self.dir.join("certs");
        let nodes = pids.into_iter().map(|(node, pid)| {
            let Ports { grpc, quic, admin } = ports_of(node, grpc_port);
            let address = |port: u16| format!("127.0.0.1:{port}");
            DevNode { id: node.0, pid, grpc: address(grpc), quic: address(quic), admin: address(admin) }
        });
        DevFile {
            nodes: nodes.collect(),
            ca: certs.join("node-ca.pem"),
            cert: certs.join(format!("{CLIENT}.pem")),
            key: certs.join(format!("{CLIENT}.key")),
        }
    }

    /// Removes the directory if it was made for this run.
    pub fn remove_if_temporary(self) -> Result<(), CliError> {
        if !self.temporary {
            return Ok(());
        }
        fs::remove_dir_all(&self.dir).map_err(|error| failed("remove", &self.dir, &error))
    }

    fn node_dir(&self, node: ReplicaId) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }
}

impl Plan {
    /// A node's file. Its `cluster` is the same text for all.
    fn config_of(&self, node: ReplicaId) -> String {
        let members = (1..=self.nodes).map(|id| {
            let Ports { grpc, quic, admin } = ports_of(ReplicaId(id), self.grpc_port);
            format!(
                "    - {{ id: {id}, quic: \"127.0.0.1:{quic}\", grpc: \"127.0.0.1:{grpc}\", admin: \"127.0.0.1:{admin}\" }}\n"
            )
        });
        let catalog = self.catalog.iter().map(|CatalogItem { item, stock, weight }| {
            // A JSON string is a YAML one.
            let id = serde_json::Value::from(item.as_str());
            let quantity = match stock {
                Stock::Finite(quantity) => quantity.to_string(),
                Stock::Unlimited => "-1".to_owned(),
            };
            format!("    - {{ item_id: {id}, quantity: {quantity}, probability: {weight} }}\n")
        });
        let (cluster, members, catalog) = (self.cluster, members.collect::<String>(), catalog.collect::<String>());
        let catalog = if catalog.is_empty() { " []\n".to_owned() } else { format!("\n{catalog}") };
        format!(
            "# Written by `tombola dev` at every start: changes are lost.\n\
             node: {node}\n\
             cluster:\n  id: {cluster}\n  nodes:\n{members}\
             data_dir: data\n\
             tls: {{ dir: ../certs }}\n\
             grpc: {{ plaintext: true, reflection: true }}\n\
             pool:\n  catalog:{catalog}"
        )
    }
}

fn ports_of(node: ReplicaId, grpc_port: u16) -> Ports {
    Ports::of(node, grpc_port).expect("the ports were checked before anything was started")
}

fn private_dir() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn private_file() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn write_by_rename(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private_file().truncate(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::new(Exit::Other, "FILE", format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::Plaintext;

    fn plan() -> Plan {
        let item = |id: &str, stock| CatalogItem { item: id.parse().unwrap(), stock, weight: crate::pool::Weight(7) };
        Plan {
            cluster: ClusterId([7; 16]),
            nodes: 3,
            grpc_port: 7_000,
            catalog: vec![item("a \"quoted\": #item, ünï", Stock::Finite(3)), item("null", Stock::Unlimited)],
        }
    }

    #[test]
    fn a_written_configuration_is_read_back() {
        let dir = tempfile::TempDir::new().unwrap();
        let place = Place::take(dir.path(), false).unwrap();
        assert!(place.existing().unwrap().is_none());
        place.configure(&plan()).unwrap();
        let back = place.existing().unwrap().unwrap();
        assert_eq!(
            (back.cluster, back.nodes, back.grpc_port, &back.catalog),
            (plan().cluster, 3, 7_000, &plan().catalog)
        );

        let third = config::load(&place.config(ReplicaId(3)), &Overrides::default()).unwrap();
        assert_eq!((third.node, third.quic_listen.to_string().as_str()), (ReplicaId(3), "127.0.0.1:7021"));
        assert_eq!(third.grpc.unwrap().plaintext, Plaintext::OnLoopback);
        assert!(third.warnings.is_empty());

        place.configure(&Plan { catalog: Vec::new(), ..plan() }).unwrap();
        assert!(place.existing().unwrap().unwrap().catalog.is_empty());
    }

    #[test]
    fn a_directory_is_held_by_one_and_only_a_temporary_one_is_removed() {
        let dir = tempfile::TempDir::new().unwrap();
        let place = Place::take(dir.path(), false).unwrap();
        assert_eq!(Place::take(dir.path(), false).unwrap_err().code, "DIRECTORY_IN_USE");
        place.remove_if_temporary().unwrap();
        assert!(dir.path().exists());

        let temporary = make_temporary().unwrap();
        Place::take(&temporary, true).unwrap().remove_if_temporary().unwrap();
        assert!(!temporary.exists());
    }
}
