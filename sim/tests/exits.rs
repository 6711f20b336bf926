//! What the simulator's process says with its exit code: by the binary that `sim/run` starts, on plans that keep their meaning
//! when the generator changes. Built for the simulation only: `sim/run test`.
#![cfg(madsim)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// Runs it in an empty directory, where it keeps its failures.
fn run(arguments: &[&str], commit: Option<&str>) -> Output {
    let place = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombola-sim"));
    command.args(arguments).current_dir(place.path()).env_remove("TOMBOLA_SIM_COMMIT");
    command.envs(commit.map(|commit| ("TOMBOLA_SIM_COMMIT", commit))).output().unwrap()
}

fn code(arguments: &[&str]) -> Option<i32> {
    let output = run(arguments, None);
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.code()
}

fn plan(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{name}.plan"));
    path.to_str().unwrap().to_owned()
}

/// A hard case without a bug, in which power is lost as well.
const HARD: &str = "leader-dead-between-commit-and-answer";

#[test]
fn a_clean_run_is_0_and_wrong_usage_2() {
    assert_eq!(code(&["replay", "--plan", &plan(HARD)]), Some(0));
    assert_eq!(code(&["replay"]), Some(2));
    assert_eq!(code(&["replay", "--plan", "not-there.plan"]), Some(2));
    assert_eq!(code(&["replay", "--plan", &plan(HARD), "--bug", "m99"]), Some(2));
    assert_eq!(code(&["corpus", "--from", "not-there"]), Some(2));
}

#[test]
fn a_broken_promise_is_10() {
    assert_eq!(code(&["replay", "--plan", &plan(HARD), "--bug", "m01"]), Some(10));
    assert_eq!(code(&["twice", "--plan", &plan(HARD), "--bug", "m01"]), Some(10), "both fail alike");
    assert_eq!(code(&["sweep", "--seeds", "1", "--shrink", "0", "--bug", "m01"]), Some(10));
}

#[test]
fn a_cluster_that_is_not_alive_is_11() {
    assert_eq!(code(&["replay", "--plan", &plan("a-queue-that-ends-unsent"), "--bug", "m42"]), Some(11));
}

#[test]
fn a_panic_is_12() {
    // Calls of a cluster without nodes: there is nobody to ask.
    let text = fs::read_to_string(plan(HARD)).unwrap().replace("voters=3", "voters=0");
    let left = text.lines().filter(|line| !line.starts_with("clock ") && !line.starts_with("fault "));
    let place = TempDir::new().unwrap();
    let path = place.path().join("nobody.plan");
    fs::write(&path, left.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(code(&["replay", "--plan", path.to_str().unwrap()]), Some(12));
    assert_eq!(code(&["corpus", "--from", place.path().to_str().unwrap()]), Some(12), "told by a child");
}

#[test]
fn a_planted_bug_that_is_not_caught_is_14() {
    // This one needs rot on a disk that is read again: one run has no such luck.
    assert_eq!(code(&["mutants", "--only", "m22", "--seeds", "1"]), Some(14));
    assert_eq!(code(&["mutants", "--only", "m01", "--seeds", "5"]), Some(0));
}

#[test]
fn a_mark_that_was_never_hit_is_15() {
    let one = ["--seeds", "1", "--twice", "0"];
    assert_eq!(code(&[&["sweep", "--marks"], &one[..]].concat()), Some(15), "no run comes everywhere");
    assert_eq!(code(&[&["marks"], &one[..]].concat()), Some(15));
    assert_eq!(code(&[&["sweep"], &one[..]].concat()), Some(0));
}

#[test]
fn the_simulators_own_trouble_is_16() {
    // The bug is in the simulator: whoever is dead still writes.
    assert_eq!(code(&["replay", "--plan", &plan(HARD), "--bug", "m24"]), Some(16));
}

#[test]
fn a_failure_is_told_with_the_commit_if_it_is_known() {
    let told = |commit| {
        let output = run(&["replay", "--plan", &plan(HARD), "--bug", "m01"], commit);
        let told = String::from_utf8(output.stdout).unwrap();
        told.lines().find(|line| line.starts_with("  seed ")).expect("the seed is told").to_owned()
    };
    let bare = told(None);
    assert!(!bare.contains("commit"), "{bare}");
    assert_eq!(told(Some("")), bare);
    assert_eq!(told(Some("0123abc-dirty")), format!("{bare} of commit 0123abc-dirty"));
}
