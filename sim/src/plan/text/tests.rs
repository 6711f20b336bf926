use tombola::types::ReplicaId;

use super::*;
use crate::plan::{DiskOperation, Keep, Shape, What, generate};

#[test]
fn what_is_written_is_read() {
    for seed in 0..500 {
        let plan = generate(seed);
        let text = write(&plan);
        assert_eq!(read(&text).as_ref(), Ok(&plan), "{text}");
    }
}

/// What no seed makes: names with signs, nobody at all, every twist and operation.
#[test]
fn odd_values_are_read_as_well() {
    let mut plan = generate(1);
    plan.options.catalog[0].item = "100 % #1=ü".parse().unwrap();
    let node = ReplicaId(1);
    let call = |what, twist| PlannedCall { start: Start::After(0), node, timeout_ms: 0, what, twist };
    let twists =
        [Twist::None, Twist::Twice, Twist::Again { after_ms: u64::MAX }, Twist::Reuse, Twist::Keyless, Twist::Hasty];
    let calls = twists.into_iter().map(|twist| call(What::Adjust { pool: 255, item: 0, delta: i64::MIN }, twist));
    plan.clients = vec![ClientPlan::default(), ClientPlan { calls: calls.collect() }];
    use DiskOperation::{Read, SetLen, Sync, Write};
    plan.faults = [Read, Write, SetLen, Sync]
        .map(|operation| Fault { when: When::At(0), what: FaultKind::DiskError { node, operation, nth: 1 } })
        .into();
    let shapes =
        [Shape::Ring, Shape::Bridge(node), Shape::Groups(vec![vec![], vec![node]]), Shape::Groups(vec![vec![]])];
    plan.faults.extend(shapes.map(|shape| Fault { when: When::At(1), what: FaultKind::Partition { shape, ms: 2 } }));
    plan.faults.extend([Keep::All, Keep::Nothing, Keep::Some, Keep::Torn].map(|keep| Fault {
        when: When::Hit { point: "in_commit".into(), nth: 3 },
        what: FaultKind::Crash { node, keep, down_ms: 7 },
    }));
    plan.faults
        .push(Fault { when: When::At(2), what: FaultKind::CrashMany { nodes: vec![], keep: Keep::All, down_ms: 0 } });
    assert_eq!(read(&write(&plan)), Ok(plan));
}

#[test]
fn comments_and_blank_lines_and_the_order_of_fields_do_not_matter() {
    let plan = generate(3);
    let text = write(&plan).replace('\n', "  # why\n\n").replacen("version=1 seed=3", "seed=3   version=1", 1);
    assert_eq!(read(&text), Ok(plan));
}

#[test]
fn one_line_may_stand_for_several_calls() {
    let base = write(&generate(3));
    let line = "after=5 node=1 timeout_ms=7 read pool=0";
    let short = read(&format!("{base}client\ncall times=3 {line}\n"));
    let long = read(&format!("{base}client\n{}", format!("call {line}\n").repeat(3)));
    assert_eq!(short.as_ref().map(|plan| plan.clients.last().map(|client| client.calls.len())), Ok(Some(3)));
    assert_eq!(short, long);
}

/// Each with the line it stands on, and words that say what is wrong.
#[test]
fn an_error_names_its_line() {
    let text = write(&generate(3));
    let lines = text.lines().count();
    let refused = |text: &str, line: usize, part: &str| {
        let error = read(text).expect_err(part);
        assert!(error.line == line && error.what.contains(part), "{error}");
    };
    refused("", 1, "`plan` is missing");
    refused("run voters=3\n", 1, "a plan begins with");
    refused("plan version=2 seed=1\n", 1, "version 2");
    refused(&text.replacen("seed=3", "", 1), 1, "plan has no seed");
    refused(&text.replacen("seed=3", "seed=3x", 1), 1, "seed of plan cannot be \"3x\"");
    refused(&text.replacen("run voters", "run colour=red voters", 1), 2, "run takes no colour");
    refused(&text.replacen("voters=", "voters=9", 1).replace("fault ", "#"), lines + 1, "clocks");
    let more = |line: &str| format!("{text}{line}\n");
    refused(&more("seed=3"), lines + 1, "belongs to nothing");
    refused(&more("fuss at=1"), lines + 1, "no line begins with \"fuss\"");
    refused(&more("limits keys_bytes_max=1 keys_age_ms_max=1"), lines + 1, "already");
    refused(&text.replacen("\nflow ", "\n# ", 1), lines + 1, "`flow` is missing");
    refused(&more("fault at=1 crush node=1"), lines + 1, "no fault \"crush\"");
    refused(&more("fault at=1"), lines + 1, "which fault?");
    refused(&more("fault at=1 lost-disk node=7"), lines + 1, "no node 7");
    refused(&more("fault at=1 cut from=1 to=0 ms=1"), lines + 1, "no node 0");
    refused(&more("fault point=in_commit nth=1 lost-disk node=1"), lines + 1, "nothing but a crash");
    refused(&more("fault at=1 lost-disk node=1 lost-disk node=1"), lines + 1, "too much");
    refused(&more("fault at=1 partition shape=star ms=1"), lines + 1, "shape of partition cannot be \"star\"");
    refused(&more("call at=1 node=1 timeout_ms=1 draw pool=0 count=1 twirl"), lines + 1, "no twist \"twirl\"");
}
