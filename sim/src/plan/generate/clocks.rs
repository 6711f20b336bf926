//! Clocks: a minority is off by up to an hour, jumps, or runs at half speed; the others drift a little.

use tombola::{pool::Limits, types::ReplicaId};

use super::{Scene, Swarm, at};
use crate::plan::{ClockOptions, Fault, FaultKind};

const HOUR_MS: u64 = 60 * 60 * 1_000;
/// Younger keys than this would be old at birth, were the time to drift by some seconds.
const AGE_TO_DRIFT_MS: u64 = 60_000;

/// A minority of the voters, or nobody.
pub(super) fn liars(swarm: &Swarm, voters: u64) -> Vec<ReplicaId> {
    let mut dice = swarm.dice("liars");
    let mut nodes: Vec<ReplicaId> = (1..=voters).map(ReplicaId).collect();
    dice.shuffle(&mut nodes);
    nodes.truncate((voters as usize - 1) / 2);
    nodes
}

pub(super) fn usual(swarm: &Swarm, scene: &Scene, limits: &Limits) -> Vec<ClockOptions> {
    let mut clocks = vec![ClockOptions { offset_ms: 0, rate_ppm: 1_000_000 }; scene.nodes.len()];
    if let Some(mut dice) = swarm.on("drift") {
        if limits.keys_age_ms_max >= AGE_TO_DRIFT_MS {
            clocks.iter_mut().for_each(|clock| clock.rate_ppm = dice.between(950_000, 1_050_000) as u32);
        }
        if let Some(liar) = scene.liars.first() {
            clocks[liar.0 as usize - 1].rate_ppm = dice.between(700_000, 1_500_000) as u32;
        }
    }
    if let Some(mut dice) = swarm.on("skew") {
        for liar in &scene.liars {
            clocks[liar.0 as usize - 1].offset_ms = signed(dice.skewed(1, HOUR_MS), dice.percent(50));
        }
    }
    clocks
}

pub(super) fn draw(swarm: &Swarm, scene: &Scene) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(mut dice) = swarm.on("step").filter(|_| !scene.liars.is_empty()) {
        let mean = dice.skewed(5_000, 30_000);
        for time in dice.times(mean, scene.end) {
            let by_ms = signed(dice.skewed(1, HOUR_MS), dice.percent(50));
            faults.push(at(time, FaultKind::Step { node: dice.pick(&scene.liars), by_ms }));
        }
    }
    faults
}

fn signed(size: u64, back: bool) -> i64 {
    if back { -(size as i64) } else { size as i64 }
}
