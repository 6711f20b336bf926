//! What a node goes by once flags, environment, file and defaults are settled; each value remembers where it is from.

use std::{fmt, path::PathBuf, time::Duration};

use super::units::{Address, Listen};
use crate::{
    pool::{CatalogItem, Limits},
    replica::SnapshotPolicy,
    transport::tls::NodeFiles,
    types::{ClusterId, ReplicaId},
};

/// A node's effective configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which of the cluster's nodes this is.
    pub node: ReplicaId,
    /// The cluster.
    pub cluster: ClusterSource,
    /// All nodes, this one included, sorted by id.
    pub members: Vec<Member>,
    /// What every node must do alike.
    pub limits: Limits,
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// Certificates and keys.
    pub tls: NodeFiles,
    /// Where the native side listens.
    pub quic_listen: Listen,
    /// The gRPC side, if it is served.
    pub grpc: Option<Grpc>,
    /// Where the admin side listens, if it is served: a loopback address.
    pub admin_listen: Option<Listen>,
    /// Ticks and elections.
    pub timing: Timing,
    /// When snapshots are taken, and what of the log is kept beside them.
    pub snapshots: SnapshotPolicy,
    /// How much of a snapshot is sent in a second, in bytes.
    pub snapshot_bytes_per_s: u64,
    /// The only node of a cluster starts whatever its wall clock says.
    pub accept_clock: bool,
    /// What pool `default` is first stocked with.
    pub catalog: Vec<CatalogItem>,
    /// What the operator should know; nothing is wrong with it.
    pub warnings: Vec<String>,
    /// Every value as `config show` prints it, in the order of the file.
    pub rows: Vec<Row>,
}

/// Where the cluster's id is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterSource {
    /// From the file: the nodes agree on it because their files do.
    Given(ClusterId),
    /// The file is the predecessor's: id and certificates are made in this directory at the first start.
    MadeIn(PathBuf),
}

/// A node and where others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its replica id.
    pub id: ReplicaId,
    /// Its native side, UDP.
    pub quic: Address,
    /// Its gRPC side, TCP.
    pub grpc: Option<Address>,
    /// Its admin side, TCP.
    pub admin: Option<Address>,
}

/// The gRPC side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Where it listens.
    pub listen: Listen,
    /// Whether it may do without TLS.
    pub plaintext: Plaintext,
    /// Whether clients may list and describe what is served.
    pub reflection: bool,
}

/// Whether the gRPC side does without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// TLS.
    No,
    /// Plaintext, on a loopback address.
    OnLoopback,
    /// Plaintext, even where others can listen in.
    Anywhere,
}

impl std::str::FromStr for Plaintext {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "false" => Ok(Self::No),
            "true" => Ok(Self::OnLoopback),
            "anywhere" => Ok(Self::Anywhere),
            _ => Err(format!("`{text}` is none of `false`, `true` (on a loopback address) and `anywhere`")),
        }
    }
}

impl fmt::Display for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "false",
            Self::OnLoopback => "true",
            Self::Anywhere => "anywhere",
        })
    }
}

/// Ticks and elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The unit of the others.
    pub tick: Duration,
    /// How often a leader is heard, in ticks.
    pub heartbeat_ticks: usize,
    /// The shortest silence after which a follower stands for election, in ticks.
    pub election_ticks: usize,
}

/// One value as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key, with the keys above it: `grpc.plaintext`.
    pub key: String,
    /// As the file would say it.
    pub value: String,
    /// Where it is from.
    pub origin: Origin,
}

impl Row {
    /// The row as `config show -o json` prints it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "key": self.key, "value": self.value, "from": self.origin.to_string() })
    }
}

/// Where a value is from. A flag wins over the environment, that over the file, that over the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(&'static str),
    /// A line of the file.
    File {
        /// From 1.
        line: u64,
    },
    /// Ours.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File { line } => write!(f, "file, line {line}"),
            Self::Default => f.write_str("default"),
        }
    }
}
