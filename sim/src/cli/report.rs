//! What is told of runs: a line from child to parent, sums over many, and the last words on a failure.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tombola_sim::{
    check::draw::Tally,
    plan::{self, Plan},
    verdict::{Failure, Verdict},
};

use super::{FAILURES, Stop};

/// What came of a run, as a child tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) seed: u64,
    pub(super) failure: Option<Failure>,
    pub(super) trace: String,
    pub(super) simulated_s: f64,
    pub(super) wall_s: f64,
    /// Outcomes and reads that were judged.
    pub(super) operations: u64,
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) marks: BTreeMap<String, u64>,
    pub(super) draws: Tally,
}

impl Outcome {
    pub(super) fn new(seed: u64, verdict: Verdict, wall: Duration) -> Self {
        let owned =
            |counts: BTreeMap<&str, u64>| counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Self {
            seed,
            failure: verdict.failure,
            trace: format!("{:016x}", verdict.trace),
            simulated_s: verdict.simulated.as_secs_f64(),
            wall_s: wall.as_secs_f64(),
            operations: (verdict.report.outcomes + verdict.report.reads) as u64,
            faults: owned(verdict.faults),
            marks: owned(verdict.marks),
            draws: verdict.report.draws,
        }
    }

    /// Of a run that told nothing.
    pub(super) fn lost(seed: u64, failure: Failure) -> Self {
        let verdict = Verdict { failure: Some(failure), ..Verdict::default() };
        Self::new(seed, verdict, Duration::ZERO)
    }
}

/// Sums over runs.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) runs: u64,
    pub(super) operations: u64,
    pub(super) simulated_s: f64,
    /// Wall time of each run, added up: that of one core.
    pub(super) core_s: f64,
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) marks: BTreeMap<String, u64>,
    pub(super) draws: Tally,
}

impl Sums {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let merge = |into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            from.iter().for_each(|(name, count)| *into.entry(name.clone()).or_default() += count);
        };
        self.runs += 1;
        self.operations += outcome.operations;
        self.simulated_s += outcome.simulated_s;
        self.core_s += outcome.wall_s;
        merge(&mut self.faults, &outcome.faults);
        merge(&mut self.marks, &outcome.marks);
        self.draws.merge(&outcome.draws);
    }

    /// Simulated seconds a second of wall time and core.
    pub(super) fn speed(&self) -> f64 {
        if self.core_s > 0.0 { self.simulated_s / self.core_s } else { 0.0 }
    }
}

/// `name 12, other 3`, most first.
pub(super) fn counts(of: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<(&String, &u64)> = of.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// Writes a plan where failures are kept.
pub(super) fn keep(plan: &Plan, name: &str, failure: &Failure) -> Result<PathBuf, Stop> {
    let path = Path::new(FAILURES).join(format!("{name}.plan"));
    save(plan, &path, failure)?;
    Ok(path)
}

/// Writes a plan, with what it led to as a comment.
pub(super) fn save(plan: &Plan, path: &Path, failure: &Failure) -> Result<(), Stop> {
    let error = |error: std::io::Error| Stop::harness(format!("{}: {error}", path.display()));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(error)?;
    }
    let why: String = failure.to_string().lines().map(|line| format!("# {line}\n")).collect();
    fs::write(path, format!("{why}{}", plan::text::write(plan))).map_err(error)
}

/// The last words on a failure: all that is needed to see it again.
pub(super) fn tell(plan: &Plan, failure: &Failure, path: &Path, bug: Option<&str>) {
    let options: Vec<String> = plan::text::write(plan)
        .lines()
        .take_while(|line| !line.starts_with("clock"))
        .map(|line| format!("  {line}"))
        .collect();
    let planted = bug.map_or_else(String::new, |bug| format!(" --bug {bug}"));
    let calls: usize = plan.clients.iter().map(|client| client.calls.len()).sum();
    say!("failure: {failure}");
    say!("  seed {}{}", plan.seed, commit());
    say!("{}", options.join("\n"));
    say!("  {} faults, {calls} calls of {} clients", plan.faults.len(), plan.clients.len());
    say!("reproduce: ./sim/run replay --plan {}{planted}", path.display());
}

/// The checked out commit, if `sim/run` knows it.
fn commit() -> String {
    let commit = env::var("TOMBOLA_SIM_COMMIT").unwrap_or_default();
    if commit.is_empty() { commit } else { format!(" of commit {commit}") }
}
