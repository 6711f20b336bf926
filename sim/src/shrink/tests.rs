use tombola::types::ReplicaId;

use super::*;
use crate::{
    plan::{FaultKind, What, generate},
    verdict::FailureKind,
};

fn failure(checker: &str) -> Failure {
    Failure { kind: FailureKind::Correctness, checker: checker.to_owned(), detail: String::new() }
}

fn crashes(plan: &Plan, of: u64) -> bool {
    plan.faults.iter().any(|fault| matches!(fault.what, FaultKind::Crash { node, .. } if node == ReplicaId(of)))
}

fn claims(plan: &Plan) -> usize {
    let calls = plan.clients.iter().flat_map(|client| &client.calls);
    calls.filter(|call| matches!(call.what, What::Claim { .. })).count()
}

/// A plan that has all that the made-up bug below needs.
fn failing() -> Plan {
    (0..).map(generate).find(|plan| bug(plan).is_some()).expect("one of them")
}

/// Needs a crash of node 1, a cut link of two that three voters have too, two claims and a little loss.
fn bug(plan: &Plan) -> Option<Failure> {
    let is_low = |fault: &Fault| fault.what.nodes().iter().all(|node| node.0 <= 3);
    let cut = plan.faults.iter().any(|fault| matches!(fault.what, FaultKind::Cut { .. }) && is_low(fault));
    (crashes(plan, 1) && cut && claims(plan) >= 2 && plan.options.network.loss_ppm > 0).then(|| failure("once"))
}

#[test]
fn only_what_the_bug_needs_is_left() {
    let plan = failing();
    let shrunk = shrink(&plan, &failure("once"), 5_000, bug);
    let least = &shrunk.plan;
    assert_eq!(bug(least), Some(failure("once")));
    assert_eq!(least.faults.len(), 2);
    assert_eq!(least.clients.iter().map(|client| client.calls.len()).sum::<usize>(), 2);
    assert!(least.options.voters <= 3 && least.options.quiet_ms == 0 && least.options.network.corrupt_ppm == 0);
    assert!(least.options.catalog.is_empty());
    assert!(shrunk.runs < 1_000, "{} runs", shrunk.runs);
}

/// A plan that fails otherwise is another bug.
#[test]
fn the_same_checker_has_to_fail() {
    let plan = failing();
    let other = |plan: &Plan| bug(plan).or_else(|| Some(failure("stock")));
    assert!(bug(&shrink(&plan, &failure("once"), 500, other).plan).is_some());
    let panics = |plan: &Plan| bug(plan).or_else(|| Some(Failure { kind: FailureKind::Panic, ..failure("once") }));
    assert!(bug(&shrink(&plan, &failure("once"), 500, panics).plan).is_some());
}

#[test]
fn the_budget_is_kept() {
    let mut runs = 0;
    let shrunk = shrink(&failing(), &failure("once"), 17, |plan| {
        runs += 1;
        bug(plan)
    });
    assert_eq!((runs, shrunk.runs), (17, 17));
    assert!(bug(&shrunk.plan).is_some());
}

#[test]
fn what_always_fails_ends_with_nothing() {
    let shrunk = shrink(&generate(5), &failure("live"), 5_000, |_| Some(failure("live")));
    assert!(shrunk.plan.faults.is_empty() && shrunk.plan.clients.is_empty());
    assert_eq!((shrunk.plan.options.voters, shrunk.plan.options.safety_ms), (1, 1_000));
}

/// Time goes down with the faults that began late.
#[test]
fn time_is_cut_to_what_is_needed() {
    let early = |plan: &Plan| crashes(plan, 1).then(|| failure("raft"));
    let plan = (0..).map(generate).find(|plan| early(plan).is_some()).expect("one of them");
    let shrunk = shrink(&plan, &failure("raft"), 5_000, early);
    assert_eq!((shrunk.plan.faults.len(), shrunk.plan.clients.len()), (1, 0));
    let first = plan.faults.iter().filter_map(|fault| match (&fault.when, &fault.what) {
        (crate::plan::When::At(at), FaultKind::Crash { node: ReplicaId(1), .. }) => Some(*at),
        _ => None,
    });
    let latest = first.max().unwrap_or(0);
    assert!(shrunk.plan.options.safety_ms <= latest.max(1_000) + 2_000);
}
