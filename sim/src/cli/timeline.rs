//! A run as one HTML file.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use clap::Args;
use serde_json::json;
use tombola_sim::{timeline, trace::Trace};

use super::{Stop, Which, work};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Where it is written
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let plan = arguments.which.plan()?;
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = lines.clone();
    let trace = Trace::to(Box::new(move |_, _, line| kept.lock().expect("no panic holds it").push(line.to_owned())));
    let outcome = work::outcome(&plan, arguments.which.bug.clone(), trace);
    let lines = lines.lock().expect("no panic holds it");
    let failure = outcome.failure.as_ref().map(ToString::to_string);
    let page = timeline::page(plan.seed, failure.as_deref(), &lines);
    let directory = arguments.out.parent().map_or(Ok(()), fs::create_dir_all);
    let written = directory.and_then(|()| fs::write(&arguments.out, page));
    written.map_err(|error| Stop::usage(format!("{}: {error}", arguments.out.display())))?;
    say!("{} events in {}", lines.len(), arguments.out.display());
    if json {
        say!(
            "{}",
            json!({ "seed": plan.seed, "events": lines.len(), "out": arguments.out, "failure": outcome.failure })
        );
    }
    Ok(())
}
