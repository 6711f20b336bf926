//! The configuration file as it is written, before anything is looked at: its keys, and where each value stands.
//!
//! Every key is optional here: what is required depends on whose file it is, ours or the predecessor's.

use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Which of the cluster's nodes this is.
    pub node: Option<Spanned<u64>>,
    /// The same text on all nodes.
    pub cluster: Option<Spanned<Cluster>>,
    /// Where the node keeps its data.
    pub data_dir: Option<Spanned<String>>,
    /// Certificates and keys.
    pub tls: Option<Spanned<Tls>>,
    /// The native side, which peers and clients share.
    #[serde(default)]
    pub quic: Quic,
    /// The gRPC side.
    #[serde(default)]
    pub grpc: Grpc,
    /// The admin side.
    #[serde(default)]
    pub admin: Admin,
    /// What pool `default` is first stocked with.
    pub pool: Option<Pool>,
    /// Ticks and elections.
    #[serde(default)]
    pub timing: Timing,
    /// When snapshots are taken, and what of the log is kept beside them.
    #[serde(default)]
    pub snapshots: Snapshots,
    /// The predecessor's `data_dir`.
    pub working_dir: Option<Spanned<String>>,
    /// The predecessor's log: nothing of it is left to configure.
    pub wal: Option<Spanned<IgnoredAny>>,
}

/// The same text on all nodes: who they are, and what they must agree on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// A UUID, made by `certs init`.
    pub id: Spanned<String>,
    /// All nodes.
    pub nodes: Vec<Spanned<Node>>,
    /// What every node must do alike.
    #[serde(default)]
    pub limits: Limits,
}

/// A node and where others reach it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its replica id.
    pub id: Spanned<u64>,
    /// `HOST:PORT`, UDP.
    pub quic: Spanned<String>,
    /// `HOST:PORT`, TCP.
    pub grpc: Option<Spanned<String>>,
    /// `HOST:PORT`, TCP.
    pub admin: Option<Spanned<String>>,
}

/// What the state machines must do alike; part of what the cluster is founded on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// A size.
    pub keys_bytes_max: Option<Spanned<String>>,
    /// A duration.
    pub keys_age_max: Option<Spanned<String>>,
}

/// Certificates and keys: a directory that `certs init` wrote, or each file by itself, which wins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The directory.
    pub dir: Option<Spanned<String>>,
    /// The authority that peers' certificates are signed by.
    pub node_ca: Option<Spanned<String>>,
    /// The authority that clients' certificates are signed by.
    pub client_ca: Option<Spanned<String>>,
    /// This node's certificate.
    pub cert: Option<Spanned<String>>,
    /// Its private key.
    pub key: Option<Spanned<String>>,
}

/// The native side.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quic {
    /// Where to listen, if it is not where others reach the node.
    pub listen_address: Option<Spanned<String>>,
}

/// The gRPC side. `enabled` and `listen_address` are the predecessor's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// Serve it at all.
    pub enabled: Option<Spanned<bool>>,
    /// Where to listen, if it is not where others reach the node.
    pub listen_address: Option<Spanned<String>>,
    /// `false`, `true` (on loopback) or `anywhere`.
    pub plaintext: Option<Spanned<String>>,
    /// Let clients list and describe what is served.
    pub reflection: Option<Spanned<bool>>,
}

/// The admin side: health, status and metrics over HTTP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Serve it at all.
    pub enabled: Option<Spanned<bool>>,
    /// Where to listen, if it is not where others reach the node.
    pub listen_address: Option<Spanned<String>>,
}

/// The predecessor's section of the pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its items, in order.
    pub catalog: Option<Spanned<Vec<Spanned<Item>>>>,
}

/// An item of a catalog, as the predecessor writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its id.
    pub item_id: Spanned<String>,
    /// Units in stock; -1 is unlimited.
    pub quantity: Spanned<i128>,
    /// Its weight, in the predecessor's word.
    #[serde(alias = "weight")]
    pub probability: Spanned<i128>,
}

/// Ticks and elections, which are durations; and whether the wall clock is taken for right.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The unit of the others.
    pub tick: Option<Spanned<String>>,
    /// How often a leader is heard.
    pub heartbeat: Option<Spanned<String>>,
    /// The shortest silence after which a follower stands for election.
    pub election: Option<Spanned<String>>,
    /// The only node of a cluster starts whatever its wall clock says.
    pub accept_clock: Option<Spanned<bool>>,
}

/// Snapshots and the log: sizes, and a count.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    /// The log that makes a snapshot due.
    pub log_bytes_min: Option<Spanned<String>>,
    /// The log that is cut whoever still needs it.
    pub log_bytes_max: Option<Spanned<String>>,
    /// Entries that stay in the log beside a snapshot.
    pub trailing_entries: Option<Spanned<u64>>,
    /// The same, in bytes.
    pub trailing_bytes: Option<Spanned<String>>,
    /// How much of a snapshot is sent in a second.
    pub transfer_bytes_per_s: Option<Spanned<String>>,
}

/// Any file with a catalog: ours, or the predecessor's config.yaml or config.json. All else in it is passed over.
#[derive(Debug, Deserialize)]
pub struct CatalogFile {
    /// In a config.yaml.
    pub pool: Option<CatalogHolder>,
    /// In a config.json.
    pub catalog: Option<Spanned<Vec<Spanned<Item>>>>,
}

/// What holds a catalog.
#[derive(Debug, Deserialize)]
pub struct CatalogHolder {
    /// The catalog.
    pub catalog: Option<Spanned<Vec<Spanned<Item>>>>,
}
