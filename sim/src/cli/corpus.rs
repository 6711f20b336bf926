//! The plans that once failed, or that random search would be long in finding. None may fail.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use clap::Args;
use serde_json::json;
use tombola_sim::verdict::Failure;

use super::{
    Stop,
    crew::{self, Job, Task},
    read, report,
    sweep::processes,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Where the plans are
    #[arg(long, default_value = "sim/corpus")]
    from: PathBuf,
    /// Processes at a time [default: one a core]
    #[arg(long)]
    jobs: Option<usize>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let plans = plans(&arguments.from)?;
    let mut left = plans.iter();
    let next = || left.next().map(|path| Job { tasks: vec![Task::Plan(path.clone())], bug: None });
    let failed: Mutex<Vec<(PathBuf, Failure)>> = Mutex::default();
    crew::run(processes(arguments.jobs), next, |job, at, outcome| {
        let Task::Plan(path) = &job.tasks[at] else { return true };
        say!("{}: {}", path.display(), outcome.failure.as_ref().map_or("passes".into(), Failure::to_string));
        failed.lock().expect("no panic holds it").extend(outcome.failure.map(|failure| (path.clone(), failure)));
        true
    });
    let mut failed = failed.into_inner().expect("no panic held it");
    failed.sort_by(|(one, a), (other, b)| (a.kind, one).cmp(&(b.kind, other)));
    for (path, failure) in &failed {
        report::tell(&read(path)?, failure, path, None);
    }
    say!("{} plans, {} failed", plans.len(), failed.len());
    if json {
        let names: Vec<&PathBuf> = failed.iter().map(|(path, _)| path).collect();
        say!("{}", json!({ "plans": plans.len(), "failures": failed.len(), "failed": names }));
    }
    failed.first().map_or(Ok(()), |(_, failure)| Err(Stop::silent(failure.kind.exit_code())))
}

/// By name. A directory that is not there is one that somebody misspelt.
fn plans(directory: &Path) -> Result<Vec<PathBuf>, Stop> {
    let error = |error: std::io::Error| Stop::usage(format!("{}: {error}", directory.display()));
    let mut plans = Vec::new();
    for entry in fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "plan") {
            plans.push(path);
        }
    }
    if plans.is_empty() {
        return Err(Stop::usage(format!("{}: no plans", directory.display())));
    }
    plans.sort_unstable();
    Ok(plans)
}
