//! A plan out of a seed.
//!
//! **Swarm**: each class of fault is on in half of the seeds, and its intensity is drawn from a range. A run with everything
//! on mostly shows that nothing gets done; bugs want one thing to be frequent and the others out of its way. **Streams**: each
//! class draws from one of its own name, so that a new class leaves what the others do in a seed as it was; only a crowd is
//! given the room it needs. **Episodes** are what hangs together: see `episodes`.
//!
//! **What a plan must leave possible**: clocks lie on a minority of voters alone, since the cluster's time is a median; and
//! where request keys live for seconds, the others' clocks keep time, or a fresh key would be old. What damages disks is
//! only wished here: the run asks the atlas, which keeps a quorum intact.

mod clocks;
mod disks;
mod episodes;
mod links;
mod options;
mod power;
mod stalls;
mod workload;

use tombola::types::ReplicaId;

use super::{Dice, Fault, FaultKind, Plan, When};
use crate::chance;

/// The plan of a seed.
pub fn generate(seed: u64) -> Plan {
    let swarm = Swarm { seed };
    let mut options = options::draw(&swarm);
    options.network = links::usual(&swarm);
    options.disk = disks::usual(&swarm);
    let scene = Scene {
        nodes: (1..=options.voters).map(ReplicaId).collect(),
        end: options.safety_ms + options.quiet_ms,
        liars: clocks::liars(&swarm, options.voters),
    };
    options.clocks = clocks::usual(&swarm, &scene, &options.limits);
    let episode = episodes::draw(&swarm, &scene, &mut options);
    options.safety_ms += episode.as_ref().map_or(0, |drawn| drawn.end);
    let (catalog, mut clients) = workload::draw(&swarm, &options);
    options.catalog = catalog;
    let mut faults: Vec<Fault> = [power::draw, stalls::draw, links::draw, disks::draw, clocks::draw]
        .iter()
        .flat_map(|class| class(&swarm, &scene))
        .collect();
    if let Some(drawn) = episode {
        if drawn.is_all {
            faults.clear();
        }
        let calm = drawn.end;
        faults.iter_mut().for_each(|fault| {
            if let When::At(at) = &mut fault.when {
                *at += calm;
            }
        });
        faults.extend(drawn.faults);
        clients.push(drawn.client);
    }
    // Stable: what begins in the same millisecond stays in the order of the classes.
    faults.sort_by_key(|fault| match fault.when {
        When::At(at) => at,
        When::Hit { .. } => 0,
    });
    Plan { seed, options, clients, faults }
}

/// Which classes are on.
struct Swarm {
    seed: u64,
}

impl Swarm {
    /// The dice of a class, if it is on in this seed.
    fn on(&self, class: &str) -> Option<Dice> {
        let coin = chance::number(self.seed, "swarm", &[chance::number(0, class, &[])]);
        chance::happens(coin, 500_000).then(|| self.dice(class))
    }

    /// The dice of a crowd, if one comes in this seed: in few, as it costs what several runs do.
    fn crowd(&self) -> Option<Dice> {
        let mut dice = self.dice("crowd");
        dice.percent(5).then_some(dice)
    }

    /// Dice for what always is.
    fn dice(&self, purpose: &str) -> Dice {
        Dice::new(self.seed, &format!("plan {purpose}"), &[])
    }
}

/// Whom and when faults can strike.
struct Scene {
    nodes: Vec<ReplicaId>,
    /// The last of them begins before.
    end: u64,
    /// Whose clocks may be far off: a minority.
    liars: Vec<ReplicaId>,
}

impl Scene {
    fn node(&self, dice: &mut Dice) -> ReplicaId {
        dice.pick(&self.nodes)
    }

    /// Two nodes, if there are two.
    fn pair(&self, dice: &mut Dice) -> Option<(ReplicaId, ReplicaId)> {
        let mut nodes = self.nodes.clone();
        dice.shuffle(&mut nodes);
        (nodes.len() > 1).then(|| (nodes[0], nodes[1]))
    }

    /// A majority, or all.
    fn many(&self, dice: &mut Dice) -> Vec<ReplicaId> {
        let mut nodes = self.nodes.clone();
        dice.shuffle(&mut nodes);
        nodes.truncate(dice.between(nodes.len() as u64 / 2 + 1, nodes.len() as u64) as usize);
        nodes.sort_unstable();
        nodes
    }
}

fn at(at: u64, what: FaultKind) -> Fault {
    Fault { when: When::At(at), what }
}

#[cfg(test)]
mod tests;
