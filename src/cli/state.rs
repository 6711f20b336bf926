//! To come.
use super::{CliError, Exit, Globals};
/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}
/// Runs the verb.
pub async fn run(_args: Args, _globals: &Globals) -> Result<Exit, CliError> {
    Ok(Exit::Ok)
}
