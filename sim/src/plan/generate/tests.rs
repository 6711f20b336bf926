use std::collections::{BTreeMap, BTreeSet};

use tombola::types::ReplicaId;

use super::*;
use crate::plan::{Start, Twist, What, text};

const SEEDS: u64 = 400;

/// How many of the seeds have a word in their text.
fn seeds_with(plans: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for plan in plans {
        let words: BTreeSet<&str> = plan.split_whitespace().filter(|word| !word.contains('=')).collect();
        words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
    }
    counts
}

#[test]
fn a_seed_has_one_plan_and_two_seeds_have_two() {
    assert_eq!(generate(7), generate(7));
    assert_ne!(generate(7).clients, generate(8).clients);
}

/// Each kind of fault, call and twist is on in a good part of the seeds, and off in another.
#[test]
fn every_kind_is_on_and_off() {
    let plans: Vec<String> = (0..SEEDS).map(|seed| text::write(&generate(seed))).collect();
    let counts = seeds_with(&plans);
    let faults = "crash crash-in-commit crash-many stop pause-leader pause slow slow-disk disk-error disk-full rot lost-disk cut \
                  partition reset clog step";
    let twists = "twice again reuse keyless hasty";
    let calls = "claim update adjust create pause resume stale-read transfer";
    for word in faults.split_whitespace().chain(twists.split_whitespace()).chain(calls.split_whitespace()) {
        let count = counts.get(word).copied().unwrap_or(0);
        assert!((SEEDS as usize / 5..SEEDS as usize).contains(&count), "{word}: {count} of {SEEDS}");
    }
    let lies = counts["lying-sync"];
    assert!((25..80).contains(&lies), "one in eight of {SEEDS} seeds has disks that lie, {lies} have");
}

/// Off means off: swarm testing is about what is not there.
#[test]
fn a_class_that_is_off_leaves_a_good_network() {
    let networks: Vec<_> = (0..SEEDS).map(|seed| generate(seed).options.network).collect();
    let without =
        |of: fn(&crate::plan::NetworkOptions) -> u32| networks.iter().filter(|network| of(network) == 0).count();
    for count in
        [without(|n| n.loss_ppm), without(|n| n.duplicate_ppm), without(|n| n.corrupt_ppm), without(|n| n.tail_ppm)]
    {
        assert!((150..250).contains(&count), "{count} of {SEEDS}");
    }
}

#[test]
fn what_a_plan_promises() {
    for seed in 0..SEEDS {
        let Plan { options, clients, faults, .. } = generate(seed);
        assert!([1, 3, 5].contains(&options.voters) && options.clocks.len() as u64 == options.voters);
        assert!((30_000..=150_000).contains(&options.safety_ms));
        // Eight at most, a crowd and an episode's.
        assert!((1..=10).contains(&clients.len()), "{} clients", clients.len());
        let crowds = clients.iter().filter(|client| client.calls.len() > 400).count();
        assert!(crowds <= 1, "{crowds} crowds");
        for client in &clients {
            assert!(client.calls.len() <= 6_001, "{} calls", client.calls.len());
            let times: Vec<u64> = client.calls.iter().filter_map(start).collect();
            assert!(times.is_sorted() && times.iter().all(|at| *at < options.safety_ms));
        }
        let named = faults.iter().flat_map(|fault| fault.what.nodes());
        assert!(named.collect::<BTreeSet<_>>().into_iter().all(|node| (1..=options.voters).contains(&node.0)));
        let end = options.safety_ms + options.quiet_ms;
        assert!(faults.iter().all(|fault| !matches!(fault.when, When::At(at) if at >= end)));
        let lying = |node: &&ReplicaId| {
            let clock = options.clocks[node.0 as usize - 1];
            let steps =
                faults.iter().any(|fault| matches!(fault.what, FaultKind::Step { node: of, .. } if of == **node));
            clock.offset_ms != 0 || !(950_000..=1_050_000).contains(&clock.rate_ppm) || steps
        };
        let nodes: Vec<ReplicaId> = (1..=options.voters).map(ReplicaId).collect();
        assert!(nodes.iter().filter(lying).count() as u64 <= (options.voters - 1) / 2, "seed {seed}: the median lies");
    }
}

fn start(call: &crate::plan::PlannedCall) -> Option<u64> {
    match call.start {
        Start::At(at) => Some(at),
        Start::After(_) => None,
    }
}

/// Several clients ask for one unit in one millisecond, in some seeds.
#[test]
fn some_race_for_the_last_unit() {
    let races = |plan: &Plan| {
        let mut asked: BTreeMap<(u64, u8), usize> = BTreeMap::new();
        for call in plan.clients.iter().flat_map(|client| &client.calls) {
            if let (Start::At(at), What::Claim { item, quantity: 1, .. }, Twist::None) =
                (call.start, &call.what, call.twist)
            {
                *asked.entry((at, *item)).or_default() += 1;
            }
        }
        asked.values().any(|count| *count >= 3)
    };
    let count = (0..100).filter(|seed| races(&generate(*seed))).count();
    assert!(count >= 20, "{count} of 100");
}
