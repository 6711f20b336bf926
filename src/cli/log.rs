//! Log lines on stderr, through `tracing`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{
    args::{Globals, LogFormat},
    exit::CliError,
};

/// Starts logging: to `--log-level`, else `RUST_LOG`, else `level_default`. Once per process.
///
/// # Errors
/// The level cannot be understood.
pub fn start(globals: &Globals, level_default: &str) -> Result<(), CliError> {
    let asked = globals.log_level.clone().or_else(|| std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty()));
    let level = asked.as_deref().unwrap_or(level_default);
    let filter = EnvFilter::try_new(level).map_err(|error| {
        CliError::usage(format!("the log level {level:?} cannot be understood: {error}"))
            .hint("a level is error, warn, info, debug or trace; or one a module, as `info,tombola=debug`")
    })?;
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let json = match globals.log_format {
        Some(format) => format == LogFormat::Json,
        None => !terminal,
    };
    // An error only means that a logger is there already.
    let _ = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(terminal && super::output::colour_wanted()).try_init()
    };
    Ok(())
}
