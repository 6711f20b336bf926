//! Cuts a failing plan down, each try in a process of its own.

use std::{
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use tombola_sim::{
    plan::Plan,
    shrink::{Shrunk, shrink},
    verdict::Failure,
};

use super::{
    FAILURES, Stop, Which,
    crew::{self, Job, Task},
    report, span,
};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Where the least plan is written [default: beside the other failures]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Most runs
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Try no more after so long
    #[arg(long, value_parser = span, default_value = "1h")]
    time_limit: Duration,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let plan = arguments.which.plan()?;
    let bug = arguments.which.bug.as_deref();
    let failure = Bench::new(bug, arguments.time_limit)?.fails(&plan);
    let failure = failure.ok_or_else(|| Stop::usage("this plan does not fail"))?;
    eprintln!("{failure}");
    let Shrunk { plan, failure, runs } = cut(&plan, &failure, bug, arguments.runs, arguments.time_limit)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => PathBuf::from(FAILURES).join(format!("seed-{}-min.plan", plan.seed)),
    };
    report::save(&plan, &out, &failure)?;
    report::tell(&plan, &failure, &out, bug);
    if json {
        let calls: usize = plan.clients.iter().map(|client| client.calls.len()).sum();
        let faults = plan.faults.len();
        say!(
            "{}",
            json!({ "seed": plan.seed, "checker": failure.checker, "runs": runs, "faults": faults, "calls": calls, "plan": out })
        );
    }
    Ok(())
}

/// The least plan that fails alike, as far as so many runs and so much time find it.
pub(super) fn cut(
    plan: &Plan,
    failure: &Failure,
    bug: Option<&str>,
    runs_max: usize,
    time: Duration,
) -> Result<Shrunk, Stop> {
    let bench = Bench::new(bug, time)?;
    Ok(shrink(plan, failure, runs_max, |plan| bench.fails(plan)))
}

/// Where plans are tried: a file that a child reads.
struct Bench<'a> {
    file: PathBuf,
    bug: Option<&'a str>,
    end: Instant,
}

impl<'a> Bench<'a> {
    fn new(bug: Option<&'a str>, time: Duration) -> Result<Self, Stop> {
        std::fs::create_dir_all(FAILURES).map_err(|error| Stop::harness(format!("{FAILURES}: {error}")))?;
        let file = PathBuf::from(FAILURES).join(format!("try-{}.plan", process::id()));
        Ok(Self { file, bug, end: Instant::now() + time })
    }

    /// How it fails; not at all once time is up.
    fn fails(&self, plan: &Plan) -> Option<Failure> {
        if Instant::now() >= self.end {
            return None;
        }
        std::fs::write(&self.file, tombola_sim::plan::text::write(plan)).ok()?;
        let mut failure = None;
        let job = Job { tasks: vec![Task::Plan(self.file.clone())], bug: self.bug.map(str::to_owned) };
        crew::one(&job, |_, outcome| {
            failure = outcome.failure;
            true
        });
        failure
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.file);
    }
}
