//! One plan in two processes: all that they print of their traces must be the same, byte for byte.

use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::json;

use super::{Stop, Which};
use tombola_sim::verdict::FailureKind;

pub(super) fn run(which: &Which, json: bool) -> Result<(), Stop> {
    // A file that cannot be read is told of once.
    let seed = which.plan()?.seed;
    let (mut one, mut other) = (Half::start(which)?, Half::start(which)?);
    let mut lines = 0_u64;
    let mut trace = String::new();
    let difference = loop {
        match (one.line()?, other.line()?) {
            (None, None) => break None,
            (first, second) if first == second => {
                lines += 1;
                trace = first.unwrap_or_default();
            }
            different => break Some(different),
        }
    };
    let code = one.end().max(other.end());
    let trace = trace.strip_prefix("trace ").unwrap_or_default();
    if let Some((first, second)) = &difference {
        let or_end = |line: &Option<String>| line.clone().unwrap_or_else(|| "nothing more".to_owned());
        say!("line {} differs:\n  {}\n  {}", lines + 1, or_end(first), or_end(second));
    } else {
        say!("{lines} lines are the same, trace {trace}");
    }
    if json {
        say!("{}", json!({ "seed": seed, "same": difference.is_none(), "lines": lines, "trace": trace }));
    }
    match difference {
        Some(_) => Err(Stop::silent(FailureKind::Determinism.exit_code())),
        None if code != 0 => Err(Stop { code, why: "both fail in the same way; see `replay`".to_owned() }),
        None => Ok(()),
    }
}

/// One of the two processes.
struct Half {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Half {
    fn start(which: &Which) -> Result<Self, Stop> {
        let program = env::current_exe().map_err(|error| Stop::harness(error.to_string()))?;
        let mut command = Command::new(program);
        command.args(["replay", "--trace"]).args(which.words()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Stop::harness(format!("no process: {error}")))?;
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<Option<String>, Stop> {
        self.lines.next().transpose().map_err(|error| Stop::harness(error.to_string()))
    }

    /// Its exit code; a process that is still at it has said enough.
    fn end(mut self) -> u8 {
        if self.lines.next().is_some() {
            // It may end by itself meanwhile.
            let _ = self.child.kill();
        }
        let code = self.child.wait().ok().and_then(|status| status.code());
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Stop::HARNESS)
    }
}
