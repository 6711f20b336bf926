//! Instructions of the hot path, counted by valgrind's callgrind: what noise cannot blur. Each workload runs in a process of
//! its own, and only what it measures is counted. A count that has grown by more than [`GROWN_PERCENT_MAX`] over the table
//! fails; smaller changes are printed, since another compiler makes other code. Whoever makes the code better, or worse for
//! a reason, writes the new counts down here.
//!
//! Valgrind knows no SHA instructions: hashing takes about ten times the instructions that it takes where there are some.
//! Times are for `apply`, `codec` and `replica` to tell.

mod support;

use std::{
    env,
    hint::black_box,
    process::{Command, ExitCode},
};

use support::{HUNDREDS, SINGLE, Shape, calls, draws, replies, stocked};
use tombola::{
    client::wire::{Frame, FrameReader, encode_frame},
    pool::Batch,
};

/// More than this, and something is wrong.
const GROWN_PERCENT_MAX: f64 = 20.0;
/// Less than this is not worth a word.
const NOTED_PERCENT_MIN: f64 = 5.0;
/// Entries, or frames, of a workload; what comes first is not counted.
const ROUNDS: u64 = 20;

struct Workload {
    name: &'static str,
    /// What is counted: keys, draws, calls.
    unit: &'static str,
    /// How many of those a round has.
    units: u64,
    /// Instructions for each, as of the newest change that meant to move them.
    instructions: f64,
    run: fn(),
}

const WORKLOADS: [Workload; 8] = [
    Workload { name: "apply single draws", unit: "key", units: 1_024, instructions: 7_139.1, run: || apply(SINGLE) },
    Workload {
        name: "apply 100 draws a key",
        unit: "draw",
        units: 4_000,
        instructions: 618.9,
        run: || apply(HUNDREDS),
    },
    Workload {
        name: "encode a batch",
        unit: "key",
        units: 1_024,
        instructions: 90.3,
        run: || {
            let batch = draws(SINGLE, 1);
            rounds(|| drop(black_box(batch.encode())));
        },
    },
    Workload {
        name: "decode a batch",
        unit: "key",
        units: 1_024,
        instructions: 242.9,
        run: || {
            let bytes = draws(SINGLE, 1).encode();
            rounds(|| drop(black_box(Batch::decode(&bytes))));
        },
    },
    Workload { name: "encode calls", unit: "call", units: 250, instructions: 241.1, run: || encode(&calls(FRAME)) },
    Workload { name: "decode calls", unit: "call", units: 250, instructions: 918.1, run: || decode(&calls(FRAME)) },
    Workload {
        name: "encode replies",
        unit: "draw",
        units: 25_000,
        instructions: 13.4,
        run: || encode(&replies(LONG)),
    },
    Workload {
        name: "decode replies",
        unit: "draw",
        units: 25_000,
        instructions: 87.3,
        run: || decode(&replies(LONG)),
    },
];

const FRAME: Shape = Shape { keys: 250, draws: 1 };
const LONG: Shape = Shape { keys: 250, draws: 100 };

fn main() -> ExitCode {
    let asked = env::args().nth(1).unwrap_or_default();
    if let Some(workload) = WORKLOADS.iter().find(|workload| workload.name == asked) {
        (workload.run)();
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: instructions are not counted, valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let grown = WORKLOADS.iter().filter(|workload| has_grown(workload)).count();
    if grown == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn has_grown(workload: &Workload) -> bool {
    let Workload { name, unit, units, instructions: expected, .. } = workload;
    let counted = count(name) as f64 / (units * ROUNDS) as f64;
    print!("{name:<24} {counted:>8.1} instructions a {unit:<5}");
    let percent = (counted / expected - 1.0) * 100.0;
    let grown = percent > GROWN_PERCENT_MAX;
    let note = match percent.abs() {
        _ if grown => "  FAILED: it has grown",
        apart if apart >= NOTED_PERCENT_MIN => "  write it down if it is meant",
        _ => "",
    };
    println!(" {percent:>+6.1} % of {expected:.1}{note}");
    grown
}

/// Runs a workload under callgrind; the instructions of what [`measured`] was given.
fn count(name: &str) -> u64 {
    let this = env::current_exe().expect("this program is a file");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*instructions::measured*")
        .arg(this)
        .arg(name)
        .output()
        .expect("valgrind can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let counted = collected.and_then(|(_, count)| count.trim().parse().ok());
    counted.filter(|_| output.status.success()).unwrap_or_else(|| panic!("valgrind says: {said}"))
}

/// What is counted.
#[inline(never)]
fn measured(what: &mut dyn FnMut()) {
    what();
}

fn rounds(mut what: impl FnMut()) {
    what();
    (0..ROUNDS).for_each(|_| measured(&mut what));
}

fn apply(shape: Shape) {
    let mut machine = stocked(6);
    // The first entries are not counted: what is small in the beginning grows in them.
    let entries: Vec<_> = (0..ROUNDS * 2).map(|number| draws(shape, number).encode()).collect();
    let (first, then) = entries.split_at(entries.len() / 2);
    first.iter().for_each(|entry| machine.apply_unheard(machine.applied().next(), entry));
    for entry in then {
        measured(&mut || machine.apply_unheard(machine.applied().next(), entry));
    }
}

fn encode<F: Frame>(frame: &F) {
    rounds(|| drop(black_box(encode_frame(frame))));
}

fn decode<F: Frame>(frame: &F) {
    let bytes = encode_frame(frame).expect("it fits into a frame");
    rounds(|| {
        let mut reader = FrameReader::<F>::default();
        reader.push(&bytes);
        drop(black_box(reader.next_frame()));
    });
}
