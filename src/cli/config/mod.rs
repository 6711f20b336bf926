//! The configuration of a node: one YAML file, a few flags, and the environment.
//!
//! ```yaml
//! node: 1
//! cluster:                                # the same text on all nodes
//!   id: 1b4e28ba-2fa1-41d2-883f-0016d3cca427
//!   nodes:
//!     - { id: 1, quic: "10.0.0.1:50052", grpc: "10.0.0.1:50051" }
//!     - { id: 2, quic: "10.0.0.2:50052", grpc: "10.0.0.2:50051" }
//!     - { id: 3, quic: "10.0.0.3:50052", grpc: "10.0.0.3:50051" }
//!   limits: { keys_bytes_max: 256MiB, keys_age_max: 24h }
//! data_dir: data
//! tls: { dir: certs }                     # from `certs init`; or node_ca, client_ca, cert and key by themselves
//! quic: { listen_address: ":50052" }      # where to listen, if it is not where others reach the node
//! grpc: { listen_address: ":50051", plaintext: false, reflection: false }
//! admin: { listen_address: "127.0.0.1:50053" }    # health, status and metrics over HTTP; loopback only
//! timing: { tick: 50ms, heartbeat: 100ms, election: 1s, accept_clock: false }
//! pool:
//!   catalog:                              # stocks pool `default` while it is new, and never again
//!     - { item_id: gold, quantity: 1000, probability: 20 }
//!     - { item_id: mud, quantity: -1, probability: 70 }
//! ```
//!
//! Only `node`, `cluster`, `data_dir` and `tls` are required. **A flag wins over the environment, that over the file, that
//! over the default**, always; [`Settings`] remembers for each value where it is from. A path is relative to the file that
//! names it. An unknown key is an error: a misspelt one would be a setting that silently has no effect. Everything that is
//! wrong is told at once, each with its place; nothing is started or changed then.
//!
//! **Memory.** A node whose limits allow it more than this machine has is refused here, before it starts: see [`memory`].
//!
//! `limits` stands under `cluster` because replicas that differ in it would not do alike; it is part of what the cluster
//! is founded on, so nodes that differ never found one.
//!
//! **The predecessor's config.yaml** is told from ours by its `working_dir` and its lack of a `cluster`. It is accepted
//! unchanged: one node, which keeps everything of its own in `tombola/` under the working directory.
//!
//! Deliberately absent: secrets (the file names files), inclusion of other files, and reloading.

mod catalog;
mod diagnostic;
mod file;
pub mod memory;
mod resolve;
mod settings;
mod units;

use std::path::{Path, PathBuf};

pub use catalog::{read_catalog, sample_catalog};
pub use diagnostic::{Diagnostic, Rejected};
pub use settings::{ClusterSource, Grpc, Member, Origin, Plaintext, Row, Settings, Timing};
pub use units::{Address, Listen, Size, Span};

use super::{CliError, Exit, Globals, output};

/// What a flag or the environment says instead of the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Which of the cluster's nodes this is
    #[arg(long, env = "TOMBOLA_NODE", value_name = "ID")]
    pub node: Option<u64>,
    /// Where the node keeps its data
    #[arg(long, env = "TOMBOLA_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where its native side listens (UDP), as in `127.0.0.1:50052` or `:50052`
    #[arg(long, env = "TOMBOLA_QUIC_LISTEN", value_name = "ADDRESS")]
    pub quic_listen: Option<Listen>,
    /// Where its gRPC side listens (TCP), as in `127.0.0.1:50051` or `:50051`
    #[arg(long, env = "TOMBOLA_GRPC_LISTEN", value_name = "ADDRESS")]
    pub grpc_listen: Option<Listen>,
    /// Where its admin side listens (TCP, loopback only), as in `127.0.0.1:50053`
    #[arg(long, env = "TOMBOLA_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<Listen>,
    /// Start although this machine's clock contradicts the data; asked for by a cluster of one node alone
    #[arg(long, env = "TOMBOLA_ACCEPT_CLOCK", value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_clock: bool,
}

impl Overrides {
    /// clap does not tell a flag from its variable; if both say the same, it does not matter which one is named.
    fn origin_of(&self, flag: &'static str, variable: &'static str, value: &dyn std::fmt::Display) -> Origin {
        match std::env::var(variable) {
            Ok(text) if text == value.to_string() => Origin::Environment(variable),
            _ => Origin::Flag(flag),
        }
    }
}

/// Reads and settles a node's configuration. Nothing is started, made or changed.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Settings, Rejected> {
    let source = diagnostic::Source::read(path)?;
    settle(&source, overrides, memory::of_machine())
}

/// `machine` is the memory that there is, in bytes, if that is known.
fn settle(source: &diagnostic::Source, overrides: &Overrides, machine: Option<u64>) -> Result<Settings, Rejected> {
    let file: file::File = source.parse()?;
    resolve::resolve(source, file, overrides, machine)
}

/// `config check` and `config show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which of the two.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with a configuration file.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Check a file; nothing is started
    Check(Checked),
    /// Show the values that count, each with where it is from
    Show(Checked),
}

/// A configuration file, and what is said instead of it.
#[derive(Debug, clap::Args)]
pub struct Checked {
    /// The file
    pub file: PathBuf,
    /// Instead of the file's values.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Runs `config check` or `config show`.
///
/// # Errors
/// The file is wrong: exit 2.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let (Verb::Check(Checked { file, overrides }) | Verb::Show(Checked { file, overrides })) = &args.verb;
    let settings = load(file, overrides)?;
    for warning in &settings.warnings {
        output::stderr(&format!("warning: {warning}"));
    }
    match args.verb {
        Verb::Check(_) => {
            let json = serde_json::json!({ "file": file, "ok": true, "warnings": settings.warnings });
            output::data(globals.output, &json, || format!("{}: ok\n", file.display()));
        }
        Verb::Show(_) => {
            let json: Vec<_> = settings.rows.iter().map(Row::to_json).collect();
            output::data(globals.output, &json, || {
                let rows = settings.rows.iter().map(|Row { key, value, origin }| {
                    vec![key.as_str().into(), value.as_str().into(), origin.to_string().into()]
                });
                output::table(&["key", "value", "from"], rows)
            });
        }
    }
    Ok(Exit::Ok)
}

impl From<Rejected> for CliError {
    fn from(rejected: Rejected) -> Self {
        Self::new(Exit::Usage, "CONFIG_INVALID", rejected.to_string())
    }
}

#[cfg(test)]
mod tests;
