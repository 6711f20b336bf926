//! Placeholder: the `certs` verb is built on another branch.

use super::{CliError, Exit, Globals};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub async fn run(_args: Args, _globals: &Globals) -> Result<Exit, CliError> {
    Err(CliError::new(Exit::Other, "NOT_BUILT", "not built yet"))
}
