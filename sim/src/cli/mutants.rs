//! Every planted bug, on the same seeds until a checker sees it; and the null mutant on as many seeds as the slowest needed.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use clap::Args;
use serde_json::json;
use tombola_sim::{
    check::draw::Tally,
    mutants::{MUTANTS, Mutant, NULL},
};

use super::{
    Stop, bug,
    crew::{self, Job, Task},
    report::Outcome,
    sweep::processes,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Most seeds a bug
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// That one alone
    #[arg(long, value_parser = bug)]
    only: Option<String>,
    /// Processes at a time [default: one a core]
    #[arg(long)]
    jobs: Option<usize>,
}

/// Seeds of a process.
const CHUNK: u64 = 10;

/// How a hunt ended.
#[derive(Clone, Debug, Default)]
struct Hunt {
    caught_by: Option<String>,
    seeds: u64,
    simulated_s: f64,
    draws: Tally,
}

impl Hunt {
    /// Takes a run in. Is the bug still at large?
    fn add(&mut self, outcome: &Outcome) -> bool {
        self.seeds += 1;
        self.simulated_s += outcome.simulated_s;
        self.draws.merge(&outcome.draws);
        let seen = outcome.failure.as_ref().map(|failure| failure.checker.clone());
        self.caught_by = seen.or_else(|| self.draws.check().err().map(|violation| violation.checker.to_owned()));
        self.caught_by.is_none()
    }
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Stop> {
    let begun = Instant::now();
    let wanted = |mutant: &&Mutant| arguments.only.as_ref().is_none_or(|only| only == mutant.id);
    let bugs: Vec<&Mutant> = MUTANTS.iter().filter(wanted).filter(|mutant| mutant.id != NULL).collect();
    let hunts = hunt_all(&bugs, arguments);
    // The null mutant has to be clean on whatever caught the others.
    let most = hunts.values().filter(|hunt| hunt.caught_by.is_some()).map(|hunt| hunt.seeds).max();
    let null = (arguments.only.is_none() || bugs.is_empty()).then(|| null(most.unwrap_or(arguments.seeds), arguments));
    let mut all = hunts;
    all.extend(null.clone().map(|hunt| (NULL, hunt)));
    table(&all);
    let caught = bugs.iter().filter(|mutant| all[mutant.id].caught_by.is_some()).count();
    let null_flagged = null.is_some_and(|hunt| hunt.caught_by.is_some());
    say!("{caught} of {} caught, in {:.0} s", bugs.len(), begun.elapsed().as_secs_f64());
    if json {
        let row = |mutant: &&Mutant| {
            let hunt = &all[mutant.id];
            json!({ "id": mutant.id, "caught": hunt.caught_by.is_some(), "by": hunt.caught_by, "seeds": hunt.seeds })
        };
        let rows: Vec<_> = bugs.iter().map(row).collect();
        say!("{}", json!({ "mutants": rows, "null_flagged": null_flagged }));
    }
    if null_flagged {
        return Err(Stop {
            code: Stop::MUTANTS,
            why: "the null mutant was flagged: the others prove nothing".to_owned(),
        });
    }
    if caught < bugs.len() {
        return Err(Stop { code: Stop::MUTANTS, why: "not every planted bug was caught".to_owned() });
    }
    Ok(())
}

/// Each bug in a thread's turn, seed by seed, until it is caught.
fn hunt_all(bugs: &[&'static Mutant], arguments: &Arguments) -> BTreeMap<&'static str, Hunt> {
    let left = Mutex::new(bugs.iter());
    let hunts: Mutex<BTreeMap<&'static str, Hunt>> = Mutex::default();
    let worker = || loop {
        let Some(mutant) = left.lock().expect("no panic holds it").next() else { return };
        let hunt = hunt(mutant.id, arguments);
        let by = hunt.caught_by.as_deref().unwrap_or("nobody");
        eprintln!("{}: caught by {by} after {} seeds", mutant.id, hunt.seeds);
        hunts.lock().expect("no panic holds it").insert(mutant.id, hunt);
    };
    std::thread::scope(|scope| (0..processes(arguments.jobs)).for_each(|_| drop(scope.spawn(worker))));
    hunts.into_inner().expect("no panic held it")
}

fn hunt(id: &str, arguments: &Arguments) -> Hunt {
    let mut hunt = Hunt::default();
    for job in jobs(id, arguments.from, arguments.seeds) {
        let mut at_large = true;
        crew::one(&job, |_, outcome| {
            at_large = hunt.add(&outcome);
            at_large
        });
        if !at_large {
            break;
        }
    }
    hunt
}

fn null(seeds: u64, arguments: &Arguments) -> Hunt {
    let mut jobs = jobs(NULL, arguments.from, seeds);
    let mut hunt = Hunt::default();
    let mut flagged = false;
    let cell = Mutex::new((&mut hunt, &mut flagged));
    let next = || if *cell.lock().expect("no panic holds it").1 { None } else { jobs.next() };
    crew::run(processes(arguments.jobs), next, |_, _, outcome| {
        let (hunt, flagged) = &mut *cell.lock().expect("no panic holds it");
        if let Some(failure) = &outcome.failure {
            eprintln!("{NULL}: seed {}: {failure}", outcome.seed);
        }
        if !**flagged {
            **flagged = !hunt.add(&outcome);
        }
        !**flagged
    });
    hunt
}

fn jobs(id: &str, from: u64, seeds: u64) -> impl Iterator<Item = Job> {
    let (bug, end) = (Some(id.to_owned()), from.saturating_add(seeds));
    (from..end)
        .step_by(CHUNK as usize)
        .map(move |at| Job { tasks: (at..end.min(at + CHUNK)).map(Task::Seed).collect(), bug: bug.clone() })
}

fn table(hunts: &BTreeMap<&'static str, Hunt>) {
    say!("{:<4} {:<7} {:<12} {:>5} {:>11}  what", "id", "caught", "by", "seeds", "simulated s");
    for mutant in MUTANTS {
        let Some(hunt) = hunts.get(mutant.id) else { continue };
        let (caught, by) = hunt.caught_by.as_deref().map_or(("no", "-"), |by| ("yes", by));
        let is_expected = by == "-" || mutant.catchers.contains(&by);
        let note = if is_expected { String::new() } else { format!(" (expected {})", mutant.catchers.join(", ")) };
        say!(
            "{:<4} {caught:<7} {by:<12} {:>5} {:>11.0}  {}{note}",
            mutant.id,
            hunt.seeds,
            hunt.simulated_s,
            mutant.what
        );
    }
}
