//! What can be typed: the verbs, and the flags that every verb takes.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::{
    bench, certs, claim, cluster, config, dev, draw, exit::EXIT_CODES_HELP, item, key, outcome, pool, serve, state,
    verify,
};

/// A replicated reward pool: every draw is decided once, by weight, and never given twice.
#[derive(Debug, Parser)]
#[command(name = "tombola", version, term_width = 100, after_help = EXIT_CODES_HELP, subcommand_required = true)]
pub struct Args {
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a cluster on this machine to try things out.
    Dev(dev::Args),
    /// Run one node.
    Serve(serve::Args),
    /// Draw from a pool.
    Draw(draw::Args),
    /// Take a named item, all units or none.
    Claim(claim::Args),
    /// Show a pool and what is left in it.
    State(state::Args),
    /// Show what became of a request.
    Outcome(outcome::Args),
    /// Make a request key.
    Key(key::Args),
    /// Change a pool's items.
    #[command(subcommand)]
    Item(item::Args),
    /// Create, list, pause and resume pools.
    #[command(subcommand)]
    Pool(pool::Args),
    /// Show the nodes; hand leadership over.
    #[command(subcommand)]
    Cluster(cluster::Args),
    /// Check that all nodes agree and nothing was lost or given twice.
    Verify(verify::Args),
    /// Measure draws.
    Bench(bench::Args),
    /// Make certificates.
    Certs(certs::Args),
    /// Check or show a node's configuration.
    Config(config::Args),
}

/// What every verb takes.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// What stdout carries: tables for people, or one JSON document and nothing else
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t = Format::Table,
        hide_possible_values = true,
        value_name = "table|json"
    )]
    pub output: Format,

    /// Nodes to ask, comma-separated `host:port` of their QUIC side [default: the running dev cluster's, else 127.0.0.1:50052]
    #[arg(
        long,
        global = true,
        env = "TOMBOLA_ENDPOINTS",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub endpoints: Vec<String>,

    /// How long a call keeps trying, under one key
    #[arg(long, global = true, value_parser = parse_duration, default_value = "15s", value_name = "DURATION")]
    pub timeout: Duration,

    /// Certificate authority that the nodes must prove [default: the running dev cluster's]
    #[arg(long, global = true, env = "TOMBOLA_TLS_CA", value_name = "FILE", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,

    /// Our certificate [default: the running dev cluster's]
    #[arg(long, global = true, env = "TOMBOLA_TLS_CERT", value_name = "FILE", hide_env_values = true)]
    pub tls_cert: Option<PathBuf>,

    /// Our certificate's private key [default: the running dev cluster's]
    #[arg(long, global = true, env = "TOMBOLA_TLS_KEY", value_name = "FILE", hide_env_values = true)]
    pub tls_key: Option<PathBuf>,

    /// What is logged to stderr, as `warn` or `info,tombola=debug` [default: warn; of nodes: info]
    #[arg(long, global = true, env = "TOMBOLA_LOG_LEVEL", value_name = "LEVEL", hide_env_values = true)]
    pub log_level: Option<String>,

    /// The form of log lines [default: text on a terminal, else json]
    #[arg(
        long,
        global = true,
        env = "TOMBOLA_LOG_FORMAT",
        value_enum,
        value_name = "text|json",
        hide_env_values = true,
        hide_possible_values = true
    )]
    pub log_format: Option<LogFormat>,
}

/// What stdout carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    Table,
    /// One JSON document, and nothing else.
    Json,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads `150ms`, `15s`, `2m` or `1h`: a whole number and its unit, more than nothing and at most a day.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a duration is a whole number and its unit, as 150ms, 15s, 2m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a duration starts with a whole number, as 15s".to_owned())?;
    match number.checked_mul(unit_ms) {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("a duration is more than nothing and at most 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(parse_duration("150ms"), Ok(Duration::from_millis(150)));
        assert_eq!(parse_duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in
            ["", "15", "s", "0s", "25h", "1.5s", "-1s", "15 s", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
