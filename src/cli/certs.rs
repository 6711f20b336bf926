//! `certs`: certificates for nodes and clients, and the text to paste into the nodes' files.
//!
//! Everything about the certificates themselves is in [`crate::transport::certs`]; this is its command line.

use std::path::{Path, PathBuf};

use rand::{TryRng, rngs::SysRng};

use super::{
    CliError, Exit, Globals, output,
    ports::{GRPC_PORT_BASE, Ports},
};
use crate::{
    transport::{SetupError, certs, certs::Order},
    types::{ClusterId, ReplicaId},
};

/// Most nodes that one `certs init` makes certificates for.
const NODES_MAX: u64 = 9;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to make.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to make.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Make a cluster's id, its two certificate authorities, and certificates for its nodes and a client
    Init(Init),
    /// Make a certificate for one more client, with the authority that `init` made
    Client {
        /// Its name, which is logged with what it does: a-z, 0-9 and -
        name: String,
        /// Where.
        #[command(flatten)]
        at: At,
    },
    /// Make a certificate for one more node, with the authority that `init` made
    Node {
        /// Its id among the cluster's nodes
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Where.
        #[command(flatten)]
        at: At,
        /// On which machine.
        #[command(flatten)]
        hosts: Hosts,
    },
}

/// `certs init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    at: At,
    /// How many nodes the cluster has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    nodes: u64,
    #[command(flatten)]
    hosts: Hosts,
    /// The first client's name
    #[arg(long, default_value = "admin", value_name = "NAME")]
    client: String,
    /// Keep this id, to replace the certificates of a cluster that exists [default: a new one]
    #[arg(long, value_name = "UUID")]
    cluster_id: Option<ClusterId>,
}

/// Where files are written.
#[derive(Debug, clap::Args)]
pub struct At {
    /// Directory of the certificates and keys; made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    replace: bool,
}

/// Names of the machines that nodes run on.
#[derive(Debug, clap::Args)]
pub struct Hosts {
    /// A name or address under which gRPC clients reach a node, besides localhost; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// Something stands in the way, a file that exists for one: nothing is written then.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    match args.verb {
        Verb::Init(init) => {
            let id = init.cluster_id.map_or_else(new_cluster_id, Ok)?;
            let order = Order {
                nodes: (1..=init.nodes).map(ReplicaId).collect(),
                hosts: init.hosts.hosts.clone(),
                clients: vec![init.client.clone()],
                replace: init.at.replace,
            };
            let files = certs::init(&init.at.dir, id, &order)?;
            let json = serde_json::json!({ "cluster_id": id.to_string(), "files": files });
            output::data(globals.output, &json, || listed(&files) + &next_steps(id, &init));
        }
        Verb::Client { name, at } => {
            let order = Order { clients: vec![name], replace: at.replace, ..Order::default() };
            extend(&at.dir, &order, globals)?;
        }
        Verb::Node { id, at, hosts } => {
            let nodes = vec![ReplicaId(id)];
            extend(&at.dir, &Order { nodes, hosts: hosts.hosts, replace: at.replace, ..Order::default() }, globals)?;
        }
    }
    Ok(Exit::Ok)
}

fn extend(dir: &Path, order: &Order, globals: &Globals) -> Result<(), CliError> {
    let files = certs::extend(dir, order)?;
    output::data(globals.output, &serde_json::json!({ "files": files }), || listed(&files));
    Ok(())
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| format!("{}\n", file.display())).collect()
}

/// What to write into each node's file, and which files go where.
fn next_steps(id: ClusterId, init: &Init) -> String {
    let hosts = &init.hosts.hosts;
    let nodes = (1..=init.nodes).map(|node| {
        // A host for each node, in order, or one machine for all.
        let position = usize::try_from(node - 1).unwrap_or_default();
        let host = if hosts.len() as u64 == init.nodes { hosts[position].as_str() } else { "127.0.0.1" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let Ports { grpc, quic, .. } = Ports::of(ReplicaId(node), GRPC_PORT_BASE).expect("a few nodes' ports exist");
        format!("    - {{ id: {node}, quic: \"{host}:{quic}\", grpc: \"{host}:{grpc}\" }}\n")
    });
    let nodes: String = nodes.collect();
    let dir = std::path::absolute(&init.at.dir).unwrap_or_else(|_| init.at.dir.clone());
    let dir = dir.display();
    let client = &init.client;
    format!(
        "\nThe configuration file of node 1; the others differ in `node` and `data_dir`, and the addresses are yours to change:\n\
         \n\
         node: 1\n\
         cluster:\n\
         \x20 id: {id}\n\
         \x20 nodes:\n\
         {nodes}\
         data_dir: data-1\n\
         tls: {{ dir: {dir} }}\n\
         \n\
         A node needs node-ca.pem, client-ca.pem and its own two files; keep node-ca.key and client-ca.key elsewhere.\n\
         Then, on each node: tombola serve --config FILE\n\
         Clients: --tls-ca {dir}/node-ca.pem --tls-cert {dir}/{client}.pem --tls-key {dir}/{client}.key\n"
    )
}

/// 16 bytes of the operating system in the form of a random UUID (RFC 9562, version 4).
///
/// # Errors
/// The operating system gives no entropy.
pub(super) fn new_cluster_id() -> Result<ClusterId, CliError> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| {
        CliError::new(Exit::Other, "NO_ENTROPY", format!("the operating system gives no entropy: {error}"))
    })?;
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Ok(ClusterId(bytes))
}

impl From<SetupError> for CliError {
    fn from(error: SetupError) -> Self {
        Self::new(Exit::Usage, error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::{self, Overrides};

    fn init(dir: &Path, nodes: u64, hosts: &[&str]) -> Init {
        Init {
            at: At { dir: dir.to_owned(), replace: false },
            nodes,
            hosts: Hosts { hosts: hosts.iter().map(|&host| host.to_owned()).collect() },
            client: "admin".to_owned(),
            cluster_id: None,
        }
    }

    #[test]
    fn the_text_to_paste_is_a_configuration_that_is_accepted() {
        let dir = tempfile::TempDir::new().unwrap();
        let id = new_cluster_id().unwrap();
        for (hosts, second) in [(&[][..], "127.0.0.1:50062"), (&["a.example", "::1", "10.0.0.1"][..], "[::1]:50062")] {
            let text = next_steps(id, &init(dir.path(), 3, hosts));
            let yaml = &text[text.find("node: 1").unwrap()..text.find("\nA node needs").unwrap()];
            let file = dir.path().join("config.yaml");
            std::fs::write(&file, yaml).unwrap();
            let settings = config::load(&file, &Overrides::default()).unwrap();
            assert_eq!(settings.cluster, config::ClusterSource::Given(id));
            assert_eq!(settings.members[1].quic.to_string(), second);
        }
    }
}
