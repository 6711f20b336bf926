//! Clients of one real node, over a bad network, through its crashes; everything in the book and judged.

mod rig;

use std::{collections::BTreeSet, time::Duration};

use madsim::runtime::Runtime;
use tombola::{
    client::Call,
    pool::{Limits, RequestKey},
};

use self::rig::{NODE, Rig};
use super::{caller::Errand, probe, run_all};
use crate::{
    check::{Report, Violation},
    plan::{ClientPlan, NetworkOptions, Plan, PlannedCall, Start, Twist, What},
    trace::Trace,
};

/// Everything goes wrong on the way.
const BAD: NetworkOptions = NetworkOptions {
    loss_ppm: 100_000,
    delay_ms_mean: 20,
    tail_ppm: 10_000,
    tail_ms_max: 3_000,
    reordered_links_ppm: 1_000_000,
    duplicate_ppm: 200_000,
    late_ms_max: 8_000,
    corrupt_ppm: 50_000,
    queue_max: 1_000,
};

const WHATS: [What; 14] = [
    What::Draw { pool: 0, count: 3 },
    What::Read { pool: 0 },
    What::Claim { pool: 0, item: 0, quantity: 2 },
    What::Create { pool: 1 },
    What::Update { pool: 0, item: 1, stock: Some(7), weight: 3, create: false },
    What::Outcome { back: 1 },
    What::Adjust { pool: 1, item: 0, delta: 5 },
    What::Draw { pool: 1, count: 1_000 },
    What::StaleRead { pool: 1 },
    What::Pause { pool: 1 },
    What::Draw { pool: 1, count: 1 },
    What::Resume { pool: 1 },
    What::Verify,
    What::Transfer { to: NODE },
];

const TWISTS: [Twist; 7] = [
    Twist::None,
    Twist::Twice,
    Twist::Again { after_ms: 0 },
    Twist::Reuse,
    Twist::Keyless,
    Twist::Hasty,
    Twist::Again { after_ms: 9_000 },
];

/// Clients with every request under every twist, some in turn and some at their times.
fn plan(seed: u64, network: NetworkOptions) -> Plan {
    let call = |client: usize, number: usize| PlannedCall {
        start: match client % 2 {
            0 => Start::After(number as u64 % 3 * 50),
            _ => Start::At(number as u64 * 150),
        },
        node: NODE,
        timeout_ms: 4_000,
        what: WHATS[(client + number) % WHATS.len()].clone(),
        twist: TWISTS[(client * 3 + number) % TWISTS.len()],
    };
    let client = |client| ClientPlan { calls: (0..60).map(|number| call(client, number)).collect() };
    let mut plan = rig::plan(seed, network);
    plan.options.limits = Limits { keys_age_ms_max: 6_000, ..Limits::default() };
    plan.clients = (0..4).map(client).collect();
    plan
}

fn simulate<T>(seed: u64, run: impl Future<Output = T>) -> T {
    Runtime::with_seed_and_config(seed, madsim::Config::default()).block_on(run)
}

/// Plays a plan's clients while the node crashes so often, and judges it.
fn play(plan: &Plan, crashes: u64) -> (Result<Report, Violation>, u64) {
    let trace = Trace::default();
    let result = simulate(plan.seed, async {
        let mut rig = Rig::new(plan, None, trace.clone());
        rig.start();
        let clients = run_all(plan, &rig.network, &rig.book);
        for _ in 0..crashes {
            tokio::time::sleep(Duration::from_millis(3_300)).await;
            rig.crash();
            tokio::time::sleep(Duration::from_millis(400)).await;
            rig.start();
        }
        clients.await.expect("clients do not panic");
        let alive = probe(plan, &rig.network, &rig.book, 9, &[NODE], Duration::from_secs(30)).await;
        assert!(alive.wrote && alive.read, "{alive:?}");
        rig.finish().await
    });
    (result, trace.hash())
}

#[test]
fn clients_on_a_good_network_are_all_answered() {
    let good = NetworkOptions { delay_ms_mean: 2, ..NetworkOptions::default() };
    let report = play(&plan(1, good), 0).0.unwrap();
    assert!(report.outcomes > 150 && report.reads > 30 && report.executed > 100, "{report:?}");
}

#[test]
fn clients_through_a_bad_network_and_crashes_are_told_nothing_that_is_wrong() {
    for seed in 1..4 {
        let report = play(&plan(seed, BAD), 4).0.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(report.outcomes > 100 && report.reads > 20, "{report:?}");
    }
}

#[test]
fn a_run_is_the_same_twice_and_another_seed_is_another_run() {
    let trace = |seed| play(&plan(seed, BAD), 2).1;
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

/// However often the network repeats a request without a key, it is executed once.
#[test]
fn a_keyless_request_that_is_repeated_on_the_way_is_executed_once() {
    let doubling =
        NetworkOptions { delay_ms_mean: 2, duplicate_ppm: 1_000_000, late_ms_max: 500, ..NetworkOptions::default() };
    let mut plan = rig::plan(3, doubling);
    let call = |number: u64| PlannedCall {
        start: Start::At(1_000 + 100 * number),
        node: NODE,
        timeout_ms: 2_000,
        what: What::Draw { pool: 0, count: 1 },
        twist: Twist::Keyless,
    };
    plan.clients = vec![ClientPlan { calls: (0..20).map(call).collect() }];
    let report = play(&plan, 0).0.unwrap();
    // With the catalog and the probe.
    assert_eq!((report.outcomes, report.executed), (21, 22));
}

/// Whoever gives up at once is told the truth all the same; and nothing begins when time is over.
#[test]
fn nothing_begins_after_the_clients_time() {
    let good = NetworkOptions { delay_ms_mean: 2, ..NetworkOptions::default() };
    let mut plan = rig::plan(3, good);
    plan.options.safety_ms = 2_000;
    let call = |start| PlannedCall {
        start,
        node: NODE,
        timeout_ms: 1_000,
        what: What::Draw { pool: 0, count: 1 },
        twist: Twist::Again { after_ms: 1_500 },
    };
    let starts = [Start::At(1_000), Start::After(100), Start::At(2_100), Start::After(1)];
    plan.clients = vec![ClientPlan { calls: starts.into_iter().map(call).collect() }];
    let report = play(&plan, 0).0.unwrap();
    assert_eq!(report.outcomes, 2 + 1, "two that began in time, none again, and the probe");
}

#[test]
fn no_two_requests_have_the_same_key() {
    let keys: BTreeSet<RequestKey> = simulate(1, async {
        let plan = rig::plan(3, NetworkOptions { delay_ms_mean: 2, ..NetworkOptions::default() });
        let mut rig = Rig::new(&plan, None, Trace::default());
        rig.start();
        let mut keys = BTreeSet::new();
        for caller in [1, 2].map(|client| rig.caller(&plan, client)) {
            for call in 0..50 {
                let timeout = Duration::from_secs(5);
                let greeting =
                    Errand { call: Call::Status, ask: None, first: 0, timeout, is_hasty: false, name: [call, 0] };
                keys.insert(caller.new_key(call as usize, &greeting).await.expect("the node answers"));
            }
        }
        keys
    });
    assert_eq!(keys.len(), 100);
}
