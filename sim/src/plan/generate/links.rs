//! The network: how it usually is, and how it falls apart.

use super::{Scene, Swarm, at};
use crate::plan::{Dice, Fault, FaultKind, NetworkOptions, Shape};

pub(super) fn usual(swarm: &Swarm) -> NetworkOptions {
    // A class that is off leaves what a good network has.
    let mut network = NetworkOptions { delay_ms_mean: 1, queue_max: 1_024, ..NetworkOptions::default() };
    if let Some(mut dice) = swarm.on("loss") {
        network.loss_ppm = dice.skewed(1_000, 300_000) as u32;
    }
    if let Some(mut dice) = swarm.on("delay") {
        network.delay_ms_mean = dice.skewed(1, 100) as u32;
        network.tail_ppm = dice.skewed(100, 10_000) as u32;
        network.tail_ms_max = dice.between(100, 3_000) as u32;
    }
    if let Some(mut dice) = swarm.on("reorder") {
        network.reordered_links_ppm = dice.pick(&[200_000, 500_000, 1_000_000]);
    }
    if let Some(mut dice) = swarm.on("duplicate") {
        network.duplicate_ppm = dice.skewed(1_000, 200_000) as u32;
        network.late_ms_max = dice.skewed(10, 30_000) as u32;
    }
    if let Some(mut dice) = swarm.on("corrupt") {
        network.corrupt_ppm = dice.skewed(100, 20_000) as u32;
    }
    if let Some(mut dice) = swarm.on("short queues") {
        network.queue_max = dice.skewed(2, 1_024) as usize;
    }
    network
}

pub(super) fn draw(swarm: &Swarm, scene: &Scene) -> Vec<Fault> {
    let mut faults = Vec::new();
    if scene.nodes.len() == 1 {
        return faults;
    }
    if let Some(mut dice) = swarm.on("cut") {
        each_pair(&mut dice, scene, 20_000, &mut faults, |dice, from, to| FaultKind::Cut {
            from,
            to,
            ms: dice.skewed(1_000, 20_000),
        });
    }
    if let Some(mut dice) = swarm.on("clog") {
        each_pair(&mut dice, scene, 20_000, &mut faults, |dice, from, to| FaultKind::Clog {
            from,
            to,
            ms: dice.skewed(200, 10_000),
        });
    }
    if let Some(mut dice) = swarm.on("reset") {
        each_pair(&mut dice, scene, 60_000, &mut faults, |_, one, other| FaultKind::Reset { one, other });
    }
    if let Some(mut dice) = swarm.on("partition") {
        let mean = dice.skewed(4_000, 30_000);
        for time in dice.times(mean, scene.end) {
            let shape = shape(&mut dice, scene);
            faults.push(at(time, FaultKind::Partition { shape, ms: dice.skewed(1_000, 30_000) }));
        }
    }
    faults
}

/// To two nodes, every 2 s or so at most, and every `mean_max` at least.
fn each_pair(
    dice: &mut Dice,
    scene: &Scene,
    mean_max: u64,
    faults: &mut Vec<Fault>,
    what: impl Fn(&mut Dice, tombola::types::ReplicaId, tombola::types::ReplicaId) -> FaultKind,
) {
    let mean = dice.skewed(2_000, mean_max);
    for time in dice.times(mean, scene.end) {
        if let Some((from, to)) = scene.pair(dice) {
            faults.push(at(time, what(dice, from, to)));
        }
    }
}

fn shape(dice: &mut Dice, scene: &Scene) -> Shape {
    let mut nodes = scene.nodes.clone();
    dice.shuffle(&mut nodes);
    match dice.between(0, 5) {
        0 => groups(vec![nodes[..1].to_vec(), nodes[1..].to_vec()]),
        1 => groups(vec![nodes[..nodes.len() / 2].to_vec(), nodes[nodes.len() / 2..].to_vec()]),
        2 => {
            let mut parts = vec![Vec::new(); dice.between(2, nodes.len() as u64) as usize];
            for node in nodes {
                let part = dice.between(0, parts.len() as u64 - 1) as usize;
                parts[part].push(node);
            }
            groups(parts)
        }
        3 => Shape::Bridge(nodes[0]),
        4 => Shape::Ring,
        _ => Shape::Flapping { node: nodes[0], every_ms: dice.between(50, 500) },
    }
}

fn groups(mut parts: Vec<Vec<tombola::types::ReplicaId>>) -> Shape {
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts.retain(|part| !part.is_empty());
    Shape::Groups(parts)
}
