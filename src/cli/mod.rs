//! The command line: one binary for operators, clients and the server itself.
//!
//! `args` says what can be typed, one file a verb does it, `output` prints it, `exit` says how it ended.

pub mod args;
pub mod bench;
pub mod certs;
pub mod claim;
pub mod cluster;
pub mod config;
pub mod dev;
pub mod discovery;
pub mod draw;
pub mod exit;
pub mod item;
pub mod key;
pub mod log;
pub mod mutate;
pub mod nodes;
pub mod outcome;
pub mod output;
mod pages;
pub mod pool;
pub mod ports;
pub mod serve;
pub mod session;
pub mod signals;
pub mod state;
#[cfg(target_os = "linux")]
mod turns;
pub mod verify;

use std::{io, process::ExitCode};

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

pub use args::{Args, Format, Globals, Verb};
pub use exit::{CliError, Exit};

/// The binary: reads the command line, does what it says, and tells how it ended.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return not_understood(&error).into(),
    };
    let format = args.globals.output;
    #[cfg(target_os = "linux")]
    if matches!(args.verb, Verb::Dev(_) | Verb::Bench(_)) {
        // Before any thread is started, as threads and processes have it from who starts them.
        turns::wait_for_turns();
    }
    let threads = if let Verb::Serve(serve) = &args.verb { serve.threads } else { 1 };
    let ended = runtime(threads)
        .map_err(|error| CliError::new(Exit::Other, "RUNTIME", format!("cannot start: {error}")))
        .and_then(|runtime| {
            let ended = runtime.block_on(run(args));
            runtime.shutdown_background();
            ended
        });
    let exit = ended.unwrap_or_else(|error| {
        output::error(format, &error);
        error.exit
    });
    output::exit(exit).into()
}

fn runtime(threads: u16) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.into()).enable_all().build()
}

/// The command line was not understood, or `--help` or `--version` was asked for. clap knows what to print; scripts that
/// ask for JSON get the error in their own form.
fn not_understood(error: &clap::Error) -> Exit {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let json = words.iter().any(|word| matches!(word.as_str(), "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json");
    if !error.use_stderr() {
        output::stdout(&error.render().to_string());
        return Exit::Ok;
    }
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ");
    // For scripts what is wrong; for people how it is used, too. Where to read on is ours to say.
    let (format, end) = if json { (Format::Json, "\n\n") } else { (Format::Table, "\n\nFor more") };
    let message = text.split(end).next().unwrap_or_default().trim();
    output::error(format, &CliError::usage(message).hint("see `tombola --help`"));
    Exit::Usage
}

async fn run(args: Args) -> Result<Exit, CliError> {
    let Args { globals, verb } = args;
    let serves = matches!(verb, Verb::Serve(_) | Verb::Dev(_));
    log::start(&globals, if serves { "info" } else { "warn" })?;
    match verb {
        // These two stop cleanly by themselves.
        Verb::Dev(args) => dev::run(args, &globals).await,
        Verb::Serve(args) => serve::run(args, &globals).await,
        verb => {
            tokio::select! {
                biased;
                ended = ask(verb, &globals) => ended,
                _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
            }
        }
    }
}

async fn ask(verb: Verb, globals: &Globals) -> Result<Exit, CliError> {
    match verb {
        Verb::Dev(args) => dev::run(args, globals).await,
        Verb::Serve(args) => serve::run(args, globals).await,
        Verb::Draw(args) => draw::run(args, globals).await,
        Verb::Claim(args) => claim::run(args, globals).await,
        Verb::State(args) => state::run(args, globals).await,
        Verb::Outcome(args) => outcome::run(args, globals).await,
        Verb::Key(args) => key::run(args, globals).await,
        Verb::Item(args) => item::run(args, globals).await,
        Verb::Pool(args) => pool::run(args, globals).await,
        Verb::Cluster(args) => cluster::run(args, globals).await,
        Verb::Verify(args) => verify::run(args, globals).await,
        Verb::Bench(args) => bench::run(args, globals).await,
        Verb::Certs(args) => certs::run(args, globals).await,
        Verb::Config(args) => config::run(args, globals).await,
    }
}
