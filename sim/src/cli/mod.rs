//! The command line: what runs, where, and what is told of it.
//!
//! Each run has a process of its own, or shares one with a few others: statics, thread-locals and the keys of hash maps
//! outlive a run, and must not reach the next far. So `sweep`, `mutants` and the rest are parents ([`crew`]), which start
//! this same program as [`work`] on a handful of seeds, read a line of JSON a run, and outlive whatever a run does to its
//! process. `replay` alone runs within.
//!
//! Exit codes: 0 all is well, 2 wrong usage, and those of [`FailureKind`](tombola_sim::verdict::FailureKind), besides 14
//! and 15: a planted bug was not caught, a mark was not hit.

/// Prints a line. Whoever read may have had enough, as `head` has: that is no failure of the run.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

mod corpus;
mod crew;
mod mutants;
mod replay;
mod report;
mod shrink;
mod sweep;
mod timeline;
mod twice;
mod work;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use tombola_sim::plan::{self, Plan};

/// Where failing plans are written.
const FAILURES: &str = "target/sim/failures";

/// Runs Tombola under every fault, from one seed.
#[derive(Parser)]
#[command(name = "sim/run", bin_name = "sim/run")]
struct Arguments {
    /// The last line of stdout is one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run many seeds
    Sweep(sweep::Arguments),
    /// Run the batch of CI, and show how often each rare state was reached
    Marks(sweep::Arguments),
    /// Run one seed or plan
    Replay(replay::Arguments),
    /// Run one seed or plan in two processes, and compare their traces
    Twice(Which),
    /// Plant each bug, and see who catches it
    Mutants(mutants::Arguments),
    /// Cut a failing plan down
    Shrink(shrink::Arguments),
    /// Draw a run as one HTML file
    Timeline(timeline::Arguments),
    /// Run the plans of sim/corpus
    Corpus(corpus::Arguments),
    /// Run seeds or a plan for a parent
    #[command(hide = true)]
    Work(work::Arguments),
}

/// Which run.
#[derive(Args, Clone)]
struct Which {
    #[command(flatten)]
    source: Source,
    /// A planted bug: see `mutants`
    #[arg(long, value_parser = bug)]
    bug: Option<String>,
}

/// Where its plan comes from.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
struct Source {
    /// The seed that makes the plan
    #[arg(long)]
    seed: Option<u64>,
    /// A file with the plan
    #[arg(long)]
    plan: Option<PathBuf>,
}

impl Which {
    fn plan(&self) -> Result<Plan, Stop> {
        match &self.source.plan {
            Some(path) => read(path),
            None => Ok(plan::generate(self.source.seed.expect("clap wants one of the two"))),
        }
    }

    /// How to say it again.
    fn words(&self) -> Vec<String> {
        let mut words = match &self.source.plan {
            Some(path) => vec!["--plan".to_owned(), path.display().to_string()],
            None => vec!["--seed".to_owned(), self.source.seed.unwrap_or_default().to_string()],
        };
        words.extend(self.bug.iter().flat_map(|bug| ["--bug".to_owned(), bug.clone()]));
        words
    }
}

fn read(path: &Path) -> Result<Plan, Stop> {
    let text = std::fs::read_to_string(path).map_err(|error| Stop::usage(format!("{}: {error}", path.display())))?;
    plan::text::read(&text).map_err(|error| Stop::usage(format!("{}: {error}", path.display())))
}

/// Why a command ends, other than well.
struct Stop {
    code: u8,
    why: String,
}

impl Stop {
    const USAGE: u8 = 2;
    const MUTANTS: u8 = 14;
    const MARKS: u8 = 15;
    const HARNESS: u8 = 16;

    fn usage(why: impl Into<String>) -> Self {
        Self { code: Self::USAGE, why: why.into() }
    }

    /// The simulator's own trouble.
    fn harness(why: impl Into<String>) -> Self {
        Self { code: Self::HARNESS, why: why.into() }
    }

    /// It was all said before.
    fn silent(code: u8) -> Self {
        Self { code, why: String::new() }
    }
}

fn bug(id: &str) -> Result<String, String> {
    let found = tombola_sim::mutants::find(id);
    found.map(|mutant| mutant.id.to_owned()).ok_or_else(|| format!("no bug is called {id:?}; `mutants` lists them"))
}

/// `90`, `90s`, `5m`, `1h`.
fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        other => return Err(format!("{other:?} is no unit; s, m and h are")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

pub fn main() -> ExitCode {
    if !cfg!(debug_assertions) {
        eprintln!(
            "this build has no debug assertions, and would miss what they see; use `./sim/run`, with its profile"
        );
        return ExitCode::from(Stop::USAGE);
    }
    let Arguments { json, verb } = Arguments::parse();
    let result = match verb {
        Verb::Sweep(arguments) => sweep::run(&arguments, json),
        Verb::Marks(arguments) => sweep::marks(&arguments, json),
        Verb::Replay(arguments) => replay::run(&arguments, json),
        Verb::Twice(which) => twice::run(&which, json),
        Verb::Mutants(arguments) => mutants::run(&arguments, json),
        Verb::Shrink(arguments) => shrink::run(&arguments, json),
        Verb::Timeline(arguments) => timeline::run(&arguments, json),
        Verb::Corpus(arguments) => corpus::run(&arguments, json),
        Verb::Work(arguments) => work::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop { code, why }) => {
            if !why.is_empty() {
                eprintln!("{why}");
            }
            ExitCode::from(code)
        }
    }
}
