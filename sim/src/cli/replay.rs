//! One run within this process, with as much of its trace as is wanted.

use std::{
    io::{BufWriter, Stdout, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Args;
use serde_json::json;
use tombola_sim::trace::Trace;

use super::{Stop, Which, report, work};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Print the trace
    #[arg(long)]
    trace: bool,
    /// Of the trace, what was before that simulated second
    #[arg(long)]
    until: Option<f64>,
    /// Of the trace, what happened to that node
    #[arg(long)]
    node: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let plan = arguments.which.plan()?;
    let bug = arguments.which.bug.clone();
    let out: Out = Arc::new(Mutex::new(BufWriter::new(std::io::stdout())));
    let outcome = work::outcome(&plan, bug.clone(), arguments.trace(&out));
    // As above: nobody may be left to read it.
    let _ = out.lock().expect("no panic holds it").flush();
    if let Some(failure) = &outcome.failure {
        let path = match &arguments.which.source.plan {
            Some(path) => path.clone(),
            None => report::keep(&plan, &format!("seed-{}", plan.seed), failure)?,
        };
        report::tell(&plan, failure, &path, bug.as_deref());
    }
    say!("{:.1} simulated s, {} operations checked", outcome.simulated_s, outcome.operations);
    say!("faults: {}", report::counts(&outcome.faults));
    say!("marks: {}", report::counts(&outcome.marks));
    if json {
        let failure = &outcome.failure;
        say!(
            "{}",
            json!({
                "seed": plan.seed, "trace": outcome.trace, "failure": failure, "simulated_s": outcome.simulated_s,
                "wall_s": outcome.wall_s, "operations": outcome.operations, "faults": outcome.faults, "marks": outcome.marks,
            })
        );
    } else {
        say!("trace {}", outcome.trace);
    }
    outcome.failure.map_or(Ok(()), |failure| Err(Stop::silent(failure.kind.exit_code())))
}

/// Where the wanted lines go. Held outside the run, which may leak what it holds: its last lines must not be lost.
type Out = Arc<Mutex<BufWriter<Stdout>>>;

impl Arguments {
    /// Prints the lines that are asked for.
    fn trace(&self, out: &Out) -> Trace {
        let Self { trace, until, node, .. } = *self;
        if !trace && until.is_none() && node.is_none() {
            return Trace::default();
        }
        let until = until.map_or(Duration::MAX, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let out = out.clone();
        Trace::to(Box::new(move |at, of, line| {
            if at < until && node.is_none_or(|node| node == of) {
                // Whoever read may have had enough; the run goes on to its verdict.
                let _ = writeln!(out.lock().expect("no panic holds it"), "{line}");
            }
        }))
    }
}
