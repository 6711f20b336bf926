//! A child's work: runs, one after another, with a line of JSON for each. A panic ends the process after its line: whatever
//! it left behind must not reach another run. The parent goes on in a fresh one.

use std::{
    any::Any,
    io::Write as _,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use clap::Args;
use tombola_sim::{
    plan::{self, Plan},
    trace::Trace,
    verdict::{Failure, FailureKind, Verdict},
    world::{self, Run},
};

use super::{Stop, bug, read, report::Outcome};

#[derive(Args)]
pub(super) struct Arguments {
    /// Seeds, in that order
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Files with plans, after the seeds
    #[arg(long)]
    plan: Vec<PathBuf>,
    #[arg(long, value_parser = bug)]
    bug: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Stop> {
    let seeds = arguments.seeds.iter().map(|seed| Ok(plan::generate(*seed)));
    let plans = arguments.plan.iter().map(|path| read(path));
    for plan in seeds.chain(plans) {
        let outcome = outcome(&plan?, arguments.bug.clone(), Trace::default());
        let line = serde_json::to_string(&outcome).map_err(|error| Stop::harness(error.to_string()))?;
        let mut stdout = std::io::stdout().lock();
        // Without a parent there is nobody to run for.
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| Stop::harness(error.to_string()))?;
        if outcome.failure.is_some_and(|failure| failure.kind == FailureKind::Panic) {
            break;
        }
    }
    Ok(())
}

/// Runs a plan, and takes a panic for the verdict that it is.
pub(super) fn outcome(plan: &Plan, bug: Option<String>, trace: Trace) -> Outcome {
    let begun = Instant::now();
    let seen = watch_panics();
    let run = Run { bug, trace: trace.clone() };
    let verdict = panic::catch_unwind(AssertUnwindSafe(|| world::run(plan, run)));
    drop(panic::take_hook());
    let verdict = verdict.unwrap_or_else(|payload| {
        let first = seen.lock().expect("the hook does not panic").take();
        let detail = first.unwrap_or_else(|| text_of(&*payload));
        let failure = Failure { kind: FailureKind::Panic, checker: "panic".to_owned(), detail };
        Verdict { failure: Some(failure), trace: trace.hash(), ..Verdict::default() }
    });
    Outcome::new(plan.seed, verdict, begun.elapsed())
}

/// Keeps the first panic's message and place, and prints none: what follows is what it led to.
fn watch_panics() -> Arc<Mutex<Option<String>>> {
    let first = Arc::new(Mutex::new(None));
    let kept = first.clone();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(String::new, |location| format!(" at {location}"));
        let message = format!("{}{place}", text_of(info.payload()));
        if let Ok(mut kept) = kept.lock() {
            kept.get_or_insert(message);
        }
    }));
    first
}

fn text_of(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}
