//! Three and five replicas in lock step through loss, duplication, reordering, crashes that lose what was not durable,
//! cuts, retries of one key at several replicas, and transfers; then healed, and asked whether anything was lost or twice.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tombola::{
    pool::{
        Action, Actor, Answer, CatalogItem, Command, Effect, KeyOrigin, Outcome, PoolId, Query, Remembered, RequestKey,
        Stock, Weight,
    },
    replica::{Input, ProposalId, ProposalResult, ReadId, Role},
    types::{Index, Millis, ReplicaId},
};

use crate::cluster::{Cluster, read_default};

const STEPS: usize = 1_500;
const SEEDS: u64 = 1_000;

/// A run: the cluster, and what its clients did and were told.
struct Run {
    cluster: Cluster,
    rng: StdRng,
    commands: Vec<Command>,
    /// Which command a proposal is a try of.
    tries: BTreeMap<ProposalId, usize>,
    /// The outcome told for a command, by whoever was first.
    told: BTreeMap<usize, Outcome>,
    /// The greatest index told before a read was asked for.
    reads: BTreeMap<ReadId, Index>,
    reads_served: usize,
    crashes: usize,
}

impl Run {
    fn new(count: u64, seed: u64) -> Self {
        Self {
            cluster: Cluster::new(count, seed),
            rng: StdRng::seed_from_u64(seed),
            commands: vec![catalog()],
            tries: BTreeMap::new(),
            told: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_served: 0,
            crashes: 0,
        }
    }

    fn step(&mut self) {
        let ids = self.cluster.ids();
        let id = *ids.choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..100) {
            0..12 => {
                self.cluster.now.0 += 5;
                self.cluster.tick(id);
            }
            12..58 if !self.cluster.network.is_empty() => self.deliver(),
            58..76 => self.cluster.persist(id),
            76..90 => self.propose(id),
            90..94 => {
                let told = self.told.values().map(|outcome| outcome.index).max();
                let read = self.cluster.read(id);
                self.reads.insert(read, told.unwrap_or_default());
            }
            94..95 => self.crash(id),
            95..97 => self.restart_all(),
            97 => {
                let to = *ids.choose(&mut self.rng).unwrap();
                if self.cluster.is_up(id) && self.cluster.replica(id).check_transfer(to).is_ok() {
                    self.cluster.input(id, Input::Transfer { to });
                }
            }
            98 => {
                let to = *ids.choose(&mut self.rng).unwrap();
                self.cluster.cut.insert((id, to));
                self.cluster.input(id, Input::Unreachable { peer: to });
            }
            _ => self.cluster.cut.clear(),
        }
        self.collect();
    }

    /// Some message, now and then lost or delivered again later.
    fn deliver(&mut self) {
        let position = self.rng.random_range(0..self.cluster.network.len());
        match self.rng.random_range(0..20) {
            0 => drop(self.cluster.network.swap_remove(position)),
            1 => {
                let copy = self.cluster.network[position].clone();
                self.cluster.deliver(position);
                self.cluster.network.push(copy);
            }
            _ => self.cluster.deliver(position),
        }
    }

    /// New draws and old ones again, in one batch, to whoever it may be.
    fn propose(&mut self, at: ReplicaId) {
        let mut chosen = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            if self.rng.random_bool(0.6) {
                self.commands.push(draw(self.commands.len(), self.cluster.now));
                chosen.push(self.commands.len() - 1);
            } else {
                chosen.push(self.rng.random_range(0..self.commands.len()));
            }
        }
        let commands = chosen.iter().map(|&number| self.commands[number].clone()).collect();
        let ids = self.cluster.propose(at, commands);
        self.tries.extend(ids.into_iter().zip(chosen));
    }

    /// Power is cut: whatever was queued for the disk is there up to some point.
    fn crash(&mut self, id: ReplicaId) {
        let kept = self.rng.random_range(0..=self.cluster.nodes[&id].queued.len());
        self.cluster.crash(id, kept);
        self.crashes += 1;
    }

    fn restart_all(&mut self) {
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                self.cluster.restart(id);
            }
        }
    }

    /// Takes what the replicas answered, and checks it against what was told before.
    fn collect(&mut self) {
        for node in self.cluster.nodes.values_mut() {
            for (id, result) in std::mem::take(&mut node.results) {
                if let ProposalResult::Applied(outcome) = result {
                    let told = self.told.entry(self.tries[&id]).or_insert_with(|| outcome.clone());
                    assert_eq!((told.index, &told.result), (outcome.index, &outcome.result), "one key, one outcome");
                }
            }
            for (read, (served_at, _)) in std::mem::take(&mut node.reads) {
                let told_before = self.reads[&read];
                assert!(served_at >= told_before, "a read at {served_at} misses what was told at {told_before}");
                self.reads_served += 1;
            }
        }
    }

    /// Ends all faults; a majority can talk from now on.
    fn heal(&mut self) {
        self.cluster.cut.clear();
        self.restart_all();
        self.cluster.settle();
        let leader = self.cluster.elect();
        self.commands.push(draw(self.commands.len(), self.cluster.now));
        let fresh = self.commands.len() - 1;
        let ids = self.cluster.propose(leader, vec![self.commands[fresh].clone()]);
        self.tries.extend(ids.into_iter().map(|id| (id, fresh)));
        let read = self.cluster.read(leader);
        self.reads.insert(read, Index(0));
        let served = self.reads_served;
        self.cluster.run(10);
        self.collect();
        assert!(self.told.contains_key(&fresh), "alive: a fresh draw is decided");
        assert!(self.reads_served > served, "alive: a fresh read is served");
    }

    /// Every replica remembers what was told, and stock is what was added less what was given.
    fn check(&self) {
        let digests = self.cluster.replica(ReplicaId(1)).machine().digests();
        for id in self.cluster.ids() {
            let replica = self.cluster.replica(id);
            assert_eq!(replica.machine().digests(), digests, "replica {id} differs");
            for (&number, told) in &self.told {
                let query = Query::Outcome(PoolId::default_pool(), self.commands[number].key);
                let Answer::Outcome(Remembered::Outcome(outcome)) = replica.machine().query(&query) else {
                    panic!("replica {id} has lost command {number}");
                };
                assert_eq!((outcome.index, &outcome.result), (told.index, &told.result), "durable");
            }
            let pool = read_default(replica);
            let mut given = 0;
            for command in &self.commands {
                let query = Query::Outcome(PoolId::default_pool(), command.key);
                if let Answer::Outcome(Remembered::Outcome(outcome)) = replica.machine().query(&query) {
                    given += awards(&outcome);
                }
            }
            let awarded: u64 = pool.items.iter().map(|item| item.awarded).sum();
            assert_eq!(awarded, given, "exactly once: every award belongs to one key");
        }
    }
}

fn awards(outcome: &Outcome) -> u64 {
    match &outcome.result {
        Ok(Effect::Drawn { steps, .. }) => steps.iter().filter(|step| step.item().is_some()).count() as u64,
        _ => 0,
    }
}

fn command(number: usize, now: Millis, action: Action) -> Command {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&(number as u64).to_le_bytes());
    Command {
        pool: PoolId::default_pool(),
        key: RequestKey::new(now, entropy),
        origin: KeyOrigin::Caller,
        actor: Actor::default(),
        action,
    }
}

fn draw(number: usize, now: Millis) -> Command {
    command(number, now, Action::Draw { count: 1 + number as u16 % 4 })
}

fn catalog() -> Command {
    let item = |id: &str, stock, weight| CatalogItem { item: id.parse().unwrap(), stock, weight: Weight(weight) };
    let items = vec![
        item("gold", Stock::Finite(1), 10),
        item("silver", Stock::Finite(100), 20),
        item("mud", Stock::Unlimited, 70),
    ];
    command(0, Millis(1_000_000), Action::ImportCatalog { items, draw_seq: Default::default() })
}

fn run(count: u64, seed: u64) -> Run {
    let mut run = Run::new(count, seed);
    (0..STEPS).for_each(|_| run.step());
    run.heal();
    run.check();
    run
}

/// Runs every seed, and sees to it that they were worth it.
fn runs(count: u64) {
    let (mut told, mut reads, mut crashes, mut leaders) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let run =
            std::panic::catch_unwind(|| run(count, seed)).unwrap_or_else(|_| panic!("{count} replicas, seed {seed}"));
        told += run.told.len();
        reads += run.reads_served;
        crashes += run.crashes;
        let led = run.cluster.ids().iter().filter(|id| run.cluster.replica(**id).role() == Role::Leader).count();
        assert_eq!(led, 1);
        leaders += usize::from(run.cluster.replica(ReplicaId(1)).term().0 > 2);
    }
    let seeds = SEEDS as usize;
    assert!(told > 10 * seeds && reads > 5 * seeds && crashes > 5 * seeds && leaders > seeds / 2);
}

#[test]
fn three_replicas_lose_nothing_and_give_nothing_twice() {
    runs(3);
}

#[test]
fn five_replicas_lose_nothing_and_give_nothing_twice() {
    runs(5);
}

#[test]
fn a_sole_replica_loses_nothing_and_gives_nothing_twice() {
    runs(1);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let digests = |seed| run(3, seed).cluster.replica(ReplicaId(1)).machine().digests();
    assert_eq!(digests(5), digests(5));
    assert_ne!(digests(5), digests(6));
}
