//! What `bench` can be told, and which of it goes together.

use std::{path::PathBuf, time::Duration};

use super::workload::Ask;
use crate::{
    api::Consistency,
    cli::{CliError, args::parse_duration},
    pool::{DRAWS_PER_COMMAND_MAX, ItemId, PoolId},
};

/// Streams that a node serves on one gRPC connection.
const GRPC_STREAMS_MAX: u32 = 64;
/// Fastest that can be asked for, in requests a second.
const RATE_MAX: i64 = 10_000_000;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Closed loop, unless a rate is given: every worker sends its next request when the last is answered, so a slow
cluster is asked less. Open loop (--rate): requests are due at fixed times, whatever becomes of those before,
and latency counts from when a request was due: a stall is not hidden.

Examples:
  tombola bench --duration 10s
  tombola bench --draws-per-key 100 -o json
  tombola bench --rate 2000 --duration 10s
  tombola bench --rates 1000,2000,5000,10000 --in-flight 250 --svg latency.svg
  tombola bench --reads --spread --in-flight 250
  tombola bench --claims common
  tombola bench --grpc=stream --pool default --connections 16 --in-flight 64")]
pub struct Args {
    /// How long
    #[arg(long, value_parser = parse_duration, default_value = "10s", value_name = "DURATION")]
    pub(super) duration: Duration,
    /// How long to load the cluster before anything counts; 0s for none
    #[arg(long, value_parser = parse_warmup, default_value = "1s", value_name = "DURATION")]
    pub(super) warmup: Duration,
    /// Connections, each of its own
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256), value_name = "C")]
    pub(super) connections: u32,
    /// Requests in flight on each connection; with a rate, at most so many
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "I")]
    pub(super) in_flight: u32,
    /// Spread the connections over all nodes; without it they ask the leader
    #[arg(long)]
    pub(super) spread: bool,
    /// Draws of one request, under one key
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=i64::from(DRAWS_PER_COMMAND_MAX)), value_name = "N", conflicts_with_all = ["claims", "reads"])]
    pub(super) draws_per_key: u16,
    /// Claims of one unit of ITEM instead of draws
    #[arg(long, value_name = "ITEM", conflicts_with = "reads")]
    pub(super) claims: Option<ItemId>,
    /// Reads of the pool instead of draws; linearizable
    #[arg(long)]
    pub(super) reads: bool,
    /// Reads of each node's own state, which may be old
    #[arg(long)]
    pub(super) stale: bool,
    /// Open loop: so many requests are due a second, evenly
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=RATE_MAX), value_name = "R", conflicts_with = "rates")]
    pub(super) rate: Option<u32>,
    /// Open loop at one rate after another, each for --duration
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=RATE_MAX), value_name = "R,R,...")]
    pub(super) rates: Vec<u32>,
    /// Draw latency against load into FILE
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    /// Over gRPC: one call a request, under a key; or on the predecessor's streams, whose keys the nodes make, and which
    /// draw from pool `default` alone
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "unary", hide_possible_values = true, value_name = "unary|stream")]
    pub(super) grpc: Option<Grpc>,
    /// The nodes' gRPC sides, plaintext [default: the running dev cluster's]
    #[arg(long, value_delimiter = ',', requires = "grpc", value_name = "HOST:PORT")]
    pub(super) grpc_endpoints: Vec<String>,
    /// The pool, which nobody else may use meanwhile [default: `bench`, which is made if it is missing]
    #[arg(long, value_name = "POOL")]
    pub(super) pool: Option<PoolId>,
}

/// How requests go over gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Grpc {
    /// `tombola.v1`: one call a request, under a key of ours.
    Unary,
    /// The predecessor's `Draw`: a stream a worker, keys made by the node.
    Stream,
}

/// `0s`, or a duration.
fn parse_warmup(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

impl Args {
    /// What the parser cannot see.
    ///
    /// # Errors
    /// Two that do not go together, code USAGE.
    pub(super) fn check(&self) -> Result<(), CliError> {
        // Not `requires`: clap forgets it as soon as something stands there that conflicts with what is required.
        if self.stale && !self.reads {
            return Err(CliError::usage("--stale is for reads").hint("use --reads --stale"));
        }
        if self.svg.is_some() && self.rates.is_empty() {
            return Err(CliError::usage("--svg draws one point a rate").hint("use --rates 1000,2000,5000, say"));
        }
        if self.grpc.is_some() && self.in_flight > GRPC_STREAMS_MAX {
            let message =
                format!("--in-flight {}: a node serves {GRPC_STREAMS_MAX} streams a gRPC connection", self.in_flight);
            return Err(CliError::usage(message).hint("more connections carry more: --connections"));
        }
        if self.grpc != Some(Grpc::Stream) {
            return Ok(());
        }
        if self.reads || self.claims.is_some() {
            return Err(CliError::usage("the predecessor's streams draw, and nothing else").hint("use --grpc=unary"));
        }
        if self.pool != Some(PoolId::default_pool()) {
            return Err(CliError::usage("the predecessor's streams draw from pool `default`, and take its stock")
                .hint("if that is meant, give --pool default; --grpc=unary draws from any pool, under keys"));
        }
        Ok(())
    }

    /// What every request asks for.
    pub(super) fn ask(&self) -> Ask {
        let consistency = if self.stale { Consistency::Stale } else { Consistency::Linearizable };
        match &self.claims {
            _ if self.reads => Ask::Read(consistency),
            Some(item) => Ask::Claim(item.clone()),
            None => Ask::Draw(self.draws_per_key),
        }
    }
}

#[cfg(test)]
impl Args {
    /// What the command line `tombola bench ...` means.
    pub(super) fn parsed(args: &[&str]) -> Result<Self, String> {
        use clap::Parser;

        use crate::cli::{Args as Whole, Verb};
        let whole =
            Whole::try_parse_from(["tombola", "bench"].iter().chain(args)).map_err(|error| error.to_string())?;
        let Verb::Bench(args) = whole.verb else { unreachable!("the verb is bench") };
        args.check().map_err(|error| error.message)?;
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_told() {
        let wrong: [(&[&str], &str); 14] = [
            (&["--claims", "gold", "--reads"], "cannot be used with"),
            (&["--reads", "--draws-per-key", "2"], "cannot be used with"),
            (&["--claims", "gold", "--draws-per-key", "2"], "cannot be used with"),
            (&["--stale"], "for reads"),
            (&["--stale", "--claims", "gold"], "for reads"),
            (&["--svg", "a.svg"], "one point a rate"),
            (&["--rate", "5", "--rates", "5,6"], "cannot be used with"),
            (&["--svg", "a.svg", "--rate", "5"], "one point a rate"),
            (&["--rate", "0"], "0 is not in"),
            (&["--rates", "5,,6"], "invalid value"),
            (&["--grpc-endpoints", "a:1"], "--grpc"),
            (&["--grpc", "--in-flight", "65"], "64 streams"),
            (&["--grpc=stream", "--pool", "default", "--reads"], "nothing else"),
            (&["--grpc=stream"], "pool `default`"),
        ];
        for (args, part) in wrong {
            let told = Args::parsed(args).expect_err(&args.join(" "));
            assert!(told.contains(part), "{args:?}: {told}");
        }
    }

    #[test]
    fn what_is_asked_follows_from_the_flags() {
        let ask = |args: &[&str]| Args::parsed(args).unwrap().ask();
        assert_eq!(ask(&[]), Ask::Draw(1));
        assert_eq!(ask(&["--draws-per-key", "100", "--grpc"]), Ask::Draw(100));
        assert_eq!(ask(&["--claims", "gold"]), Ask::Claim("gold".parse().unwrap()));
        assert_eq!(ask(&["--reads"]), Ask::Read(Consistency::Linearizable));
        assert_eq!(ask(&["--reads", "--stale"]), Ask::Read(Consistency::Stale));
        let parsed = Args::parsed(&["--grpc", "--warmup", "0s", "--rates", "1,2"]).unwrap();
        assert_eq!((parsed.grpc, parsed.warmup, parsed.rates), (Some(Grpc::Unary), Duration::ZERO, vec![1, 2]));
        assert_eq!(Args::parsed(&["--grpc=stream", "--pool", "default"]).unwrap().grpc, Some(Grpc::Stream));
    }
}
