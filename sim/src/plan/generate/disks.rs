//! Disks: how long they take, how they fail, and how they lose what they had. Of the latter the atlas has the last word.

use super::{Scene, Swarm, at, power};
use crate::plan::{DiskOperation, DiskOptions, Fault, FaultKind};

pub(super) fn usual(swarm: &Swarm) -> DiskOptions {
    let (least, most) = match swarm.on("disk time") {
        Some(mut dice) => {
            let least = dice.skewed(50, 10_000);
            (least, least * dice.between(1, 10))
        }
        None => (200, 2_000),
    };
    DiskOptions { commit_us_min: least as u32, commit_us_max: most as u32 }
}

pub(super) fn draw(swarm: &Swarm, scene: &Scene) -> Vec<Fault> {
    let mut faults = errors(swarm, scene);
    if let Some(mut dice) = swarm.on("rot") {
        let count = dice.between(1, 2);
        for time in dice.moments(count, scene.end) {
            let (at_byte, down_ms) = (dice.between(0, u64::MAX - 1), dice.skewed(100, 5_000));
            faults.push(at(time, FaultKind::Rot { node: scene.node(&mut dice), at: at_byte, down_ms }));
        }
    }
    // One in eight of all seeds.
    if let Some(mut dice) = swarm.on("lying sync").filter(|_| swarm.dice("lying sync at all").percent(25)) {
        let node = scene.node(&mut dice);
        for time in dice.times(10_000, scene.end) {
            faults.push(at(time, FaultKind::LyingSync { node, ms: dice.skewed(100, 10_000) }));
        }
    }
    if let Some(mut dice) = swarm.on("lost disk") {
        let time = dice.between(1_000, scene.end - 1);
        faults.push(at(time, FaultKind::LostDisk { node: scene.node(&mut dice) }));
    }
    faults
}

/// Errors and full disks, of a minority each: they stop the node that has them.
fn errors(swarm: &Swarm, scene: &Scene) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(mut dice) = swarm.on("disk error") {
        let count = dice.between(1, 3);
        for time in dice.moments(count, scene.end) {
            use DiskOperation::{Read, SetLen, Sync, Write};
            let operation = dice.pick(&[Read, Write, Write, SetLen, Sync, Sync]);
            let nth = dice.skewed(1, 50) as u32;
            let node = scene.node(&mut dice);
            faults.push(at(time, FaultKind::DiskError { node, operation, nth }));
            // What a failed sync has lost, a power cut soon after shows.
            if operation == Sync && dice.percent(60) {
                let (soon, keep, down_ms) =
                    (time + dice.skewed(20, 1_500), power::keep(&mut dice), dice.skewed(100, 5_000));
                faults.push(at(soon.min(scene.end - 1), FaultKind::Crash { node, keep, down_ms }));
            }
        }
    }
    if let Some(mut dice) = swarm.on("disk full") {
        let count = dice.between(1, 2);
        for time in dice.moments(count, scene.end) {
            faults.push(at(time, FaultKind::DiskFull { node: scene.node(&mut dice), ms: dice.skewed(1_000, 20_000) }));
        }
    }
    faults
}
