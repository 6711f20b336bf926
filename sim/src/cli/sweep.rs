//! Many seeds: what failed, the worst of it cut down; and the sums.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use tombola_sim::{
    marks::{self, MARKS},
    plan,
    verdict::{Failure, FailureKind},
};

use super::{
    Stop, bug,
    crew::{self, Job, Task},
    report::{self, Outcome, Sums},
    shrink, span,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Begin no more seeds after so long
    #[arg(long, value_parser = span)]
    time_limit: Option<Duration>,
    /// Processes at a time [default: one a core]
    #[arg(long)]
    jobs: Option<usize>,
    /// Run every n-th seed in another process as well, and compare the traces; 0 for none
    #[arg(long, default_value_t = 20)]
    twice: u64,
    /// Most runs that cut the worst failure down; 0 for none
    #[arg(long, default_value_t = 100)]
    shrink: usize,
    /// A mark that was never hit is a failure
    #[arg(long)]
    marks: bool,
    #[arg(long, value_parser = bug)]
    bug: Option<String>,
}

/// Seeds of a process: few enough that statics do not pile up.
const CHUNK: u64 = 10;
/// With so many failures, more seeds tell nothing new.
const FAILURES_MAX: usize = 10;
/// The worst failure is cut down for no longer than this.
const SHRINK_MAX: Duration = Duration::from_secs(120);

pub(super) fn processes(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let begun = Instant::now();
    let mut batch = Batch::default();
    batch.run(arguments, begun);
    let wall = begun.elapsed();
    let worst = batch.judge(arguments)?;
    let missing = marks::missing(&batch.sums.marks);
    batch.tell(wall);
    if arguments.marks {
        missing.iter().for_each(|mark| say!("never hit: {} ({})", mark.name, mark.what));
    }
    if json {
        say!("{}", batch.json(wall));
    }
    match worst {
        Some(kind) => Err(Stop::silent(kind.exit_code())),
        None if arguments.marks && !missing.is_empty() => Err(Stop::silent(Stop::MARKS)),
        None => Ok(()),
    }
}

/// The batch with every mark, hit or not.
pub(super) fn marks(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let begun = Instant::now();
    let mut batch = Batch::default();
    batch.run(arguments, begun);
    let wall = begun.elapsed();
    let worst = batch.judge(arguments)?;
    for mark in MARKS {
        say!("{:>8}  {:<42} {}", batch.sums.marks.get(mark.name).copied().unwrap_or(0), mark.name, mark.what);
    }
    batch.tell(wall);
    if json {
        say!("{}", batch.json(wall));
    }
    let missing = marks::missing(&batch.sums.marks);
    match worst {
        Some(kind) => Err(Stop::silent(kind.exit_code())),
        None if !missing.is_empty() => {
            Err(Stop { code: Stop::MARKS, why: format!("{} marks were never hit", missing.len()) })
        }
        None => Ok(()),
    }
}

/// What came of the seeds.
#[derive(Default)]
struct Batch {
    sums: Sums,
    traces: BTreeMap<u64, String>,
    compared: u64,
    failed: BTreeMap<u64, Failure>,
}

impl Batch {
    fn run(&mut self, arguments: &Arguments, begun: Instant) {
        let Arguments { seeds, from, twice, .. } = *arguments;
        let end = from.saturating_add(seeds);
        let first = (from..end).step_by(CHUNK as usize).map(|at| (at..end.min(at + CHUNK)).collect());
        let again = (from..end).filter(|seed| twice > 0 && seed % twice == 0).map(|seed| vec![seed]);
        let mut chunks = first.chain(again);
        let is_late = || arguments.time_limit.is_some_and(|limit| begun.elapsed() >= limit);
        let this = std::sync::Mutex::new(self);
        let next = || {
            let enough = this.lock().expect("no panic holds it").failed.len() >= FAILURES_MAX;
            let chunk: Vec<u64> = if enough || is_late() { None } else { chunks.next() }?;
            Some(Job { tasks: chunk.into_iter().map(Task::Seed).collect(), bug: arguments.bug.clone() })
        };
        crew::run(processes(arguments.jobs), next, |job, at, outcome| {
            let Task::Seed(seed) = job.tasks[at] else { return true };
            let mut batch = this.lock().expect("no panic holds it");
            batch.add(seed, outcome);
            if batch.sums.runs.is_multiple_of(CHUNK) {
                batch.progress(seeds);
            }
            batch.failed.len() < FAILURES_MAX && !is_late()
        });
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        if let Some(trace) = self.traces.get(&seed) {
            self.compared += 1;
            if *trace != outcome.trace {
                let detail = format!("traces of two processes: {trace} and {}", outcome.trace);
                self.failed.insert(seed, differs(detail));
            }
            return;
        }
        self.sums.add(&outcome);
        self.traces.insert(seed, outcome.trace);
        if let Some(failure) = outcome.failure {
            eprintln!("seed {seed}: {failure}");
            self.failed.insert(seed, failure);
        }
    }

    fn progress(&self, of: u64) {
        let (speed, failed) = (self.sums.speed(), self.failed.len());
        eprintln!("{} of {of} seeds, {failed} failed, {speed:.0} simulated seconds a second and core", self.sums.runs);
    }

    /// The sort of the worst failure; it is run again, cut down and told. The draws are judged as well.
    fn judge(&mut self, arguments: &Arguments) -> Result<Option<FailureKind>, Stop> {
        if let Some((seed, failure)) = self.worst() {
            let failure = self.confirm(seed, failure, arguments.bug.as_deref());
            self.failed.insert(seed, failure.clone());
            explain(seed, &failure, arguments)?;
            return Ok(Some(failure.kind));
        }
        if let Err(violation) = self.sums.draws.check() {
            say!("failure: {violation}");
            return Ok(Some(FailureKind::Correctness));
        }
        Ok(None)
    }

    /// The worst failure, and the first seed of those alike.
    fn worst(&self) -> Option<(u64, Failure)> {
        let worst = self.failed.iter().min_by_key(|(seed, failure)| (failure.kind, **seed));
        worst.map(|(seed, failure)| (*seed, failure.clone()))
    }

    /// Fails it the same way in another process?
    fn confirm(&self, seed: u64, failure: Failure, bug: Option<&str>) -> Failure {
        let mut again = None;
        let job = Job { tasks: vec![Task::Seed(seed)], bug: bug.map(str::to_owned) };
        crew::one(&job, |_, outcome| {
            again = Some(outcome.trace);
            true
        });
        match (self.traces.get(&seed), again) {
            (Some(first), Some(again)) if *first != again && failure.kind != FailureKind::Determinism => {
                differs(format!("traces of two processes: {first} and {again}; one of them: {failure}"))
            }
            _ => failure,
        }
    }

    fn tell(&self, wall: Duration) {
        let Sums { runs, operations, simulated_s, .. } = self.sums;
        let hit = MARKS.len() - marks::missing(&self.sums.marks).len();
        let speed = self.sums.speed();
        say!("{runs} seeds, {} failed, {} compared with another process", self.failed.len(), self.compared);
        say!("{simulated_s:.0} simulated s in {:.0} s; {speed:.0} a second and core", wall.as_secs_f64());
        say!("{operations} operations checked, {} steps of draws", self.sums.draws.steps());
        say!("faults: {}", report::counts(&self.sums.faults));
        say!("marks: {hit} of {} hit", MARKS.len());
        let unknown = marks::unknown(&self.sums.marks);
        if !unknown.is_empty() {
            say!("marks that nobody knows: {}", unknown.join(", "));
        }
    }

    fn json(&self, wall: Duration) -> serde_json::Value {
        let failed: Vec<_> =
            self.failed.iter().map(|(seed, failure)| json!({ "seed": seed, "kind": failure.kind, "checker": failure.checker, "detail": failure.detail })).collect();
        json!({
            "seeds": self.sums.runs,
            "failures": self.failed.len(),
            "failed": failed,
            "compared": self.compared,
            "operations": self.sums.operations,
            "simulated_s": self.sums.simulated_s,
            "wall_s": wall.as_secs_f64(),
            "simulated_s_per_core_s": self.sums.speed(),
            "faults": self.sums.faults,
            "marks": self.sums.marks,
        })
    }
}

fn differs(detail: String) -> Failure {
    Failure { kind: FailureKind::Determinism, checker: "twice".to_owned(), detail }
}

/// Writes the plan, and what is left of it when it is cut down.
fn explain(seed: u64, failure: &Failure, arguments: &Arguments) -> Result<(), Stop> {
    let (plan, bug) = (plan::generate(seed), arguments.bug.as_deref());
    let path = report::keep(&plan, &format!("seed-{seed}"), failure)?;
    report::tell(&plan, failure, &path, bug);
    // Runs that differ from one another cannot be cut down by running them.
    if arguments.shrink == 0 || failure.kind == FailureKind::Determinism {
        return Ok(());
    }
    let shrunk = shrink::cut(&plan, failure, bug, arguments.shrink, SHRINK_MAX)?;
    let path = report::keep(&shrunk.plan, &format!("seed-{seed}-min"), &shrunk.failure)?;
    say!("cut down in {} runs to:\n{}", shrunk.runs, plan::text::write(&shrunk.plan));
    let planted = bug.map_or_else(String::new, |bug| format!(" --bug {bug}"));
    say!("reproduce: ./sim/run replay --plan {}{planted}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use tombola_sim::verdict::Verdict;

    use super::*;

    fn outcome(seed: u64, trace: u64, kind: Option<FailureKind>) -> Outcome {
        let failure = kind.map(|kind| Failure { kind, checker: String::new(), detail: String::new() });
        Outcome::new(seed, Verdict { failure, trace, ..Verdict::default() }, Duration::ZERO)
    }

    /// The exit code that these runs lead to: seed, trace, and what was broken.
    fn code(of: &[(u64, u64, Option<FailureKind>)]) -> Option<u8> {
        let mut batch = Batch::default();
        of.iter().for_each(|(seed, trace, kind)| batch.add(*seed, outcome(*seed, *trace, *kind)));
        batch.worst().map(|(_, failure)| failure.kind.exit_code())
    }

    #[test]
    fn a_seed_with_two_traces_is_two_runs_that_differ() {
        assert_eq!(code(&[(1, 7, None), (2, 8, None), (1, 7, None)]), None);
        assert_eq!(code(&[(1, 7, None), (2, 8, None), (1, 8, None)]), Some(13));
    }

    #[test]
    fn the_worst_failure_is_told_whichever_came_first() {
        use FailureKind::*;
        let alike = [(1, 0, Some(Liveness)), (2, 0, Some(Correctness)), (3, 0, Some(Correctness))];
        let mut batch = Batch::default();
        alike.iter().rev().for_each(|(seed, trace, kind)| batch.add(*seed, outcome(*seed, *trace, *kind)));
        assert_eq!(batch.worst().map(|(seed, failure)| (seed, failure.kind)), Some((2, Correctness)));
        assert_eq!(code(&[(1, 0, Some(Harness)), (2, 0, Some(Panic)), (3, 0, Some(Liveness))]), Some(11));
        assert_eq!(code(&[(1, 0, Some(Harness)), (2, 0, Some(Panic)), (3, 0, None)]), Some(12));
        assert_eq!(code(&[(1, 0, Some(Harness)), (2, 7, None), (2, 8, None)]), Some(13));
        assert_eq!(code(&[(1, 0, Some(Harness))]), Some(16));
    }
}
