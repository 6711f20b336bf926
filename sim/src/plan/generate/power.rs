//! Power: nodes lose it one by one, all at once, in the middle of a commit, at a point of the code; or are asked to stop.

use super::{Scene, Swarm, at};
use crate::plan::{Dice, Fault, FaultKind, Keep, When};

/// Where the code offers to lose power, with how often a node comes there in a run at most, roughly.
pub(super) const POINTS: [(&str, u64); 10] = [
    ("before_commit", 1_000),
    ("in_commit", 10_000),
    ("after_commit_before_report", 1_000),
    ("after_report_before_send", 1_000),
    ("after_send", 1_000),
    ("before_apply", 500),
    ("after_apply_before_reply", 200),
    ("snapshot_staged", 6),
    ("snapshot_installed_before_restore", 4),
    ("compacted", 20),
];

pub(super) fn draw(swarm: &Swarm, scene: &Scene) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(mut dice) = swarm.on("crash") {
        crashes(&mut dice, scene, &mut faults);
    }
    if let Some(mut dice) = swarm.on("crash point") {
        let count = dice.between(1, 10);
        faults.extend((0..count).map(|_| crash_point(&mut dice, scene)));
    }
    if let Some(mut dice) = swarm.on("crash at a snapshot") {
        // So few come there that each may.
        for node in &scene.nodes {
            let point = dice.pick(&["snapshot_staged", "snapshot_installed_before_restore"]).to_owned();
            let (when, keep, down_ms) = (When::Hit { point, nth: 1 }, keep(&mut dice), down(&mut dice));
            faults.push(Fault { when, what: FaultKind::Crash { node: *node, keep, down_ms } });
        }
    }
    if let Some(mut dice) = swarm.on("crash of many") {
        let count = dice.between(1, 2);
        for time in dice.moments(count, scene.end) {
            let nodes = scene.many(&mut dice);
            faults.push(at(time, FaultKind::CrashMany { nodes, keep: keep(&mut dice), down_ms: down(&mut dice) }));
        }
    }
    if let Some(mut dice) = swarm.on("stop") {
        let mean = dice.between(5_000, 40_000);
        for time in dice.times(mean, scene.end) {
            faults.push(at(time, FaultKind::Stop { node: scene.node(&mut dice), down_ms: down(&mut dice) }));
        }
    }
    faults
}

/// Every 2 to 30 s; mostly with a commit pending, where there is most to lose.
fn crashes(dice: &mut Dice, scene: &Scene, faults: &mut Vec<Fault>) {
    let mean = dice.skewed(2_000, 30_000);
    for time in dice.times(mean, scene.end) {
        let (node, keep, down_ms) = (scene.node(dice), keep(dice), down(dice));
        faults.push(at(
            time,
            if dice.percent(60) {
                FaultKind::CrashInCommit { node, operations: dice.skewed(1, 31) as u32 - 1, keep, down_ms }
            } else {
                FaultKind::Crash { node, keep, down_ms }
            },
        ));
    }
}

fn crash_point(dice: &mut Dice, scene: &Scene) -> Fault {
    let (point, hits) = dice.pick(&POINTS);
    Fault {
        when: When::Hit { point: point.to_owned(), nth: dice.skewed(1, hits) as u32 },
        what: FaultKind::Crash { node: scene.node(dice), keep: keep(dice), down_ms: down(dice) },
    }
}

pub(super) fn keep(dice: &mut Dice) -> Keep {
    dice.pick(&[Keep::All, Keep::Nothing, Keep::Some, Keep::Some, Keep::Torn, Keep::Torn])
}

fn down(dice: &mut Dice) -> u64 {
    dice.skewed(10, 16_000)
}
