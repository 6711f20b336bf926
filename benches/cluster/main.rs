//! The goals that a cluster has to meet, measured: three nodes of the `tombola` binary on loopback with their data under
//! the directory for temporary files (`TMPDIR`), loaded by `tombola bench` on the same machine.
//!
//! `cargo bench --bench cluster`, or `-- --runs 5 --seconds 5 --row batched --row alone`. Every row of every run has a
//! cluster of its own, and the rows take turns, so that what the machine does meanwhile is spread over all. A figure is the
//! median of the runs, with the least and the greatest. Beside each stands what the disk and the machine did in the same
//! minute: a bare fdatasync of 4 KiB, the load average, how busy the processors were. Whatever is not conserved ends it all.

#[path = "../../tests/support/http.rs"]
mod http;
#[path = "../../tests/support/user.rs"]
mod user;

mod cluster;
mod disk;
mod figures;
mod log;
mod process;
mod rows;

use clap::Parser;

use figures::Figures;
use rows::ROWS;

/// Measures what the cluster's goals are about.
#[derive(Debug, Parser)]
struct Options {
    /// How often every row is measured
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long a row is measured each time, in seconds
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Only this row; may be given several times
    #[arg(long, value_parser = ROWS.map(|row| row.name))]
    row: Vec<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let wanted = |name: &str| options.row.is_empty() || options.row.iter().any(|row| row == name);
    let rows: Vec<_> = ROWS.iter().filter(|row| wanted(row.name)).collect();
    println!("commit {}, {}", process::commit(), process::machine());
    println!("{} runs of {} s each; data in {}", options.runs, options.seconds, std::env::temp_dir().display());
    for row in &rows {
        println!("{}: {}; goal: {}", row.name, row.what, row.goal);
        if let Some(beside) = row.beside {
            println!("  beside it, in the same minutes: {beside}");
        }
    }
    let mut figures = Figures::default();
    for run in 1..=options.runs {
        for row in &rows {
            let measured = row.measure(options.seconds);
            println!("run {run}, {}: {}", row.name, figures::one_line(&measured));
            figures.add(row.name, measured);
        }
    }
    println!("\n{figures}");
}
