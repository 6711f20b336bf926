//! Founding: byte-identical, at most one list of founders, and never with an emptied disk.

use std::collections::BTreeMap;

use tombola::{
    durable::{Founders, FoundingWrite, Identity, Snapshot},
    pool::Limits,
    replica::founding::{Founding, FoundingMessage, FoundingOutput, FoundingRefused, answer},
    types::{DiskId, ReplicaId},
};

use crate::cluster::identity;

const IDS: [ReplicaId; 3] = [ReplicaId(1), ReplicaId(2), ReplicaId(3)];

/// A founder and what its disk holds.
struct Founder {
    identity: Identity,
    founding: Founding,
    prepared: Option<Founders>,
    snapshot: Option<Snapshot>,
}

impl Founder {
    fn new(identity: Identity, prepared: Option<Founders>) -> Result<Self, FoundingRefused> {
        let founding = Founding::new(identity, &IDS, Limits::default(), prepared.clone())?;
        Ok(Self { identity, founding, prepared, snapshot: None })
    }

    /// Takes all outputs; what it persists is durable at once.
    fn outputs(&mut self) -> Vec<(ReplicaId, FoundingMessage)> {
        let mut messages = Vec::new();
        while let Some(output) = self.founding.poll_output() {
            match output {
                FoundingOutput::Send { to, message } => messages.push((to, message)),
                FoundingOutput::Persist(write) => {
                    assert!(write.promise, "a binding is a promise");
                    match write.founding.expect("a founding step") {
                        FoundingWrite::Prepare(founders) => self.prepared = Some(founders),
                        FoundingWrite::Found(snapshot) => self.snapshot = Some(snapshot),
                    }
                    self.founding.handle_persisted();
                }
            }
        }
        messages
    }

    /// Its name, and what it says at a tick.
    fn says(&mut self, to: u64) -> (ReplicaId, FoundingMessage) {
        for _ in 0..8 {
            self.founding.handle_tick();
        }
        let message = self.outputs().into_iter().rev().find(|(peer, _)| peer.0 == to).expect("it greets").1;
        (self.identity.replica, message)
    }

    fn hears(&mut self, (from, message): (ReplicaId, FoundingMessage)) -> Result<(), FoundingRefused> {
        let result = self.founding.handle_message(from, message);
        self.outputs();
        result
    }
}

fn founders() -> BTreeMap<u64, Founder> {
    (1..=3).map(|id| (id, Founder::new(identity(id), None).unwrap())).collect()
}

#[test]
fn all_found_the_same_bytes_whatever_the_order() {
    let mut founders = founders();
    for round in 0..12 {
        for step in 0..3 {
            let (from, to) = ((round + step) % 3 + 1, (round + 2 * step + 1) % 3 + 1);
            if from != to {
                let said = founders.get_mut(&from).unwrap().says(to);
                founders.get_mut(&to).unwrap().hears(said).unwrap();
            }
        }
    }
    let snapshots: Vec<_> = founders.values().map(|founder| founder.snapshot.clone().expect("founded")).collect();
    assert!(snapshots.iter().all(|snapshot| *snapshot == snapshots[0]));
}

#[test]
fn nobody_founds_before_all_are_bound() {
    let mut founders = founders();
    for (from, to) in [(1, 2), (1, 3), (2, 3), (2, 1), (3, 1)] {
        let said = founders.get_mut(&from).unwrap().says(to);
        founders.get_mut(&to).unwrap().hears(said).unwrap();
    }
    assert!(founders.values().all(|founder| founder.snapshot.is_none()));
    assert!(founders[&1].prepared.is_some());
    assert_eq!(founders[&1].founding.missing(), [ReplicaId(2)]);
}

#[test]
fn a_founder_that_lost_its_disk_after_binding_is_refused_and_the_others_stay_bound() {
    let mut founders = founders();
    for (from, to) in [(2, 1), (3, 1), (1, 2), (3, 2), (1, 3), (2, 3)] {
        let said = founders.get_mut(&from).unwrap().says(to);
        founders.get_mut(&to).unwrap().hears(said).unwrap();
    }
    let emptied = Identity { disk: DiskId([99; 16]), ..identity(3) };
    let mut emptied = Founder::new(emptied, None).unwrap();
    let said = emptied.says(1);
    founders.get_mut(&1).unwrap().hears(said).unwrap();
    let bound = founders.get_mut(&1).unwrap().says(3);
    let refused = emptied.hears(bound).unwrap_err();
    assert_eq!(refused, FoundingRefused::OtherDisk { replica: ReplicaId(3), peer: ReplicaId(1) });
    assert!(emptied.snapshot.is_none());
    assert_eq!(founders[&1].prepared.as_ref().unwrap().disks[&ReplicaId(3)], identity(3).disk);
}

#[test]
fn a_founded_cluster_answers_a_late_founder_and_refuses_an_emptied_one() {
    let mut bound = founders();
    for (from, to) in [(2, 1), (3, 1), (1, 2), (1, 3), (2, 1), (3, 1)] {
        let said = bound.get_mut(&from).unwrap().says(to);
        bound.get_mut(&to).unwrap().hears(said).unwrap();
    }
    let founded = bound[&1].snapshot.clone().expect("replica 1 knows that all are bound").meta.founders;
    let said = bound.get_mut(&2).unwrap().says(1);
    let told = answer(&founded, &said.1).expect("a founder that has not heard is told");
    bound.get_mut(&2).unwrap().hears((ReplicaId(1), told.clone())).unwrap();
    assert_eq!(bound[&2].snapshot, bound[&1].snapshot);

    let emptied = Identity { disk: DiskId([99; 16]), ..identity(3) };
    let refused = Founder::new(emptied, None).unwrap().hears((ReplicaId(1), told)).unwrap_err();
    assert_eq!(refused, FoundingRefused::OtherDisk { replica: ReplicaId(3), peer: ReplicaId(1) });
}

#[test]
fn a_restart_goes_on_from_the_binding() {
    let mut founders = founders();
    for (from, to) in [(2, 1), (3, 1)] {
        let said = founders.get_mut(&from).unwrap().says(to);
        founders.get_mut(&to).unwrap().hears(said).unwrap();
    }
    let prepared = founders[&1].prepared.clone();
    assert!(prepared.is_some());
    let mut again = Founder::new(identity(1), prepared.clone()).unwrap();
    assert_eq!(again.says(2).1, FoundingMessage::Prepared { founders: prepared.unwrap() });
}

#[test]
fn other_nodes_limits_or_clusters_are_refused() {
    let mut two_only = Founder::new(identity(1), None).unwrap();
    let mut founders = Founders {
        cluster: identity(1).cluster,
        limits: Limits::default(),
        disks: (1..=2).map(|id| (ReplicaId(id), identity(id).disk)).collect(),
    };
    let refused = FoundingRefused::OtherFounders { peer: ReplicaId(2) };
    let bound = |founders: &Founders| (ReplicaId(2), FoundingMessage::Prepared { founders: founders.clone() });
    assert_eq!(two_only.hears(bound(&founders)), Err(refused.clone()));
    founders.disks.insert(ReplicaId(3), identity(3).disk);
    founders.limits.keys_age_ms_max += 1;
    assert_eq!(two_only.hears(bound(&founders)), Err(refused));
    founders.limits = Limits::default();
    assert_eq!(two_only.hears(bound(&founders)), Ok(()));
}

#[test]
fn a_sole_founder_founds_alone() {
    let mut founding = Founding::new(identity(1), &[ReplicaId(1)], Limits::default(), None).unwrap();
    let mut steps = 0;
    while let Some(output) = founding.poll_output() {
        assert!(matches!(output, FoundingOutput::Persist(_)));
        founding.handle_persisted();
        steps += 1;
    }
    assert_eq!(steps, 2);
    assert_eq!(founding.founded().unwrap().meta.voters, [ReplicaId(1)]);
}
