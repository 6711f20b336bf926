//! `dev --detach`: another `dev` stays and does the work; this one waits until that one is ready.
//!
//! What it prints until then comes through a pipe and is passed on. What it has to say later, about nodes that end, goes to
//! `DIR/dev.log`.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{
    Args, place,
    supervise::{STOP_LINE, exe},
};
use crate::cli::{CliError, Exit, Format, Globals, args::LogFormat, output, signals::StopSignals};

/// Starts the `dev` that stays, and returns when its cluster is ready.
///
/// # Errors
/// It did not come up; what it told is passed on.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let (dir, temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), false),
        None => (place::make_temporary()?, true),
    };
    let failed = |error: io::Error| {
        CliError::new(Exit::Other, "FILE", format!("cannot start a `dev` in {}: {error}", dir.display()))
    };
    let mut signals = StopSignals::listen().map_err(failed)?;
    fs::create_dir_all(&dir).map_err(failed)?;
    let log = File::options().create(true).append(true).read(true).open(dir.join("dev.log")).map_err(failed)?;
    let told_before = log.metadata().map_err(failed)?.len();
    let mut command = Command::new(exe()?);
    command.args(words(&args, &dir, temporary, globals));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let ready = tokio::select! {
        biased;
        _ = signals.next() => None,
        ready = relay(BufReader::new(stdout).lines(), globals.output) => Some(ready.map_err(failed)?),
    };
    match ready {
        Some(true) => Ok(Exit::Ok),
        Some(false) => ended_early(child, log, told_before).await.map_err(failed),
        None => {
            // Nobody knows of the cluster yet: it goes with us.
            if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                let _ = kill_process(pid, Signal::TERM);
            }
            child.wait().await.map_err(failed)?;
            Ok(Exit::Interrupted)
        }
    }
}

/// The command line of the `dev` that stays.
fn words(args: &Args, dir: &Path, temporary: bool, globals: &Globals) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["dev".into(), "--detached".into(), "--data-dir".into(), dir.into()];
    let mut flag =
        |name: &str, value: Option<OsString>| words.extend(value.into_iter().flat_map(|value| [name.into(), value]));
    flag("--nodes", args.nodes.map(|nodes| nodes.to_string().into()));
    flag("--grpc-port", args.grpc_port.map(|port| port.to_string().into()));
    flag("--catalog", args.catalog.clone().map(Into::into));
    flag("--log-level", globals.log_level.clone().map(Into::into));
    flag("--output", (globals.output == Format::Json).then(|| "json".into()));
    let log_format = globals.log_format.map(|format| if format == LogFormat::Json { "json" } else { "text" });
    flag("--log-format", log_format.map(Into::into));
    if temporary {
        words.push("--temporary".into());
    }
    words
}

/// Passes on what it prints until it is ready; `false` if it ended before.
async fn relay(mut lines: Lines<BufReader<ChildStdout>>, format: Format) -> io::Result<bool> {
    while let Some(line) = lines.next_line().await? {
        output::stdout(&format!("{line}\n"));
        if format == Format::Json || line.starts_with(STOP_LINE) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Passes on what it told and how it ended. Its directory may be gone by now, and its log with it, but for our handle.
async fn ended_early(mut child: Child, mut log: File, told_before: u64) -> io::Result<Exit> {
    let status = child.wait().await?;
    let mut told = Vec::new();
    log.seek(SeekFrom::Start(told_before))?;
    log.read_to_end(&mut told)?;
    output::stderr(String::from_utf8_lossy(&told).trim_end());
    Ok(match status.code() {
        Some(2) => Exit::Usage,
        Some(3) => Exit::Unavailable,
        _ => Exit::Other,
    })
}
