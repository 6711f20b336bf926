//! What stands still for a while: nodes, the leader first, and disks.

use super::{Scene, Swarm, at};
use crate::plan::{Fault, FaultKind};

pub(super) fn draw(swarm: &Swarm, scene: &Scene) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(mut dice) = swarm.on("pause") {
        let mean = dice.skewed(3_000, 30_000);
        for time in dice.times(mean, scene.end) {
            let ms = dice.skewed(200, 10_000);
            let leader = dice.percent(50);
            let what = if leader {
                FaultKind::PauseLeader { ms }
            } else {
                FaultKind::Pause { node: scene.node(&mut dice), ms }
            };
            faults.push(at(time, what));
        }
    }
    if let Some(mut dice) = swarm.on("slow node") {
        let mean = dice.skewed(5_000, 30_000);
        for time in dice.times(mean, scene.end) {
            let (more_ms, ms) = (dice.skewed(1, 200), dice.skewed(1_000, 10_000));
            faults.push(at(time, FaultKind::Slow { node: scene.node(&mut dice), more_ms, ms }));
        }
    }
    if let Some(mut dice) = swarm.on("slow disk") {
        let mean = dice.skewed(3_000, 30_000);
        for time in dice.times(mean, scene.end) {
            // One in ten lasts until the disk is healed.
            let ms = if dice.percent(10) { scene.end - time } else { dice.skewed(100, 10_000) };
            // One in four is as long as an election.
            let more_ms = if dice.percent(25) { dice.between(500, 2_000) } else { dice.skewed(1, 2_000) };
            faults.push(at(time, FaultKind::SlowDisk { node: scene.node(&mut dice), more_ms, ms }));
        }
    }
    faults
}
