//! One, three and five replicas in lock step through loss, duplication, reordering, crashes that lose what was not durable,
//! cuts, retries of one key at several replicas, transfers of leadership, snapshots taken, sent, torn off and installed;
//! then healed, and asked whether anything was lost or twice. What they do meanwhile is judged by the observer.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tombola::{
    pool::{
        Action, Actor, Answer, CatalogItem, Command, Effect, KeyOrigin, Outcome, PoolId, Query, Remembered, RequestKey,
        Stock, Weight,
    },
    replica::{Input, Role, SnapshotPolicy},
    types::{Millis, ReplicaId},
};

use crate::{
    cluster::{Cluster, Settings, read_default},
    transfer::{Chunk, Counts},
};

const STEPS: usize = 1_500;
const SEEDS: u64 = 1_000;

/// A run: the cluster, and what its clients asked for.
struct Run {
    cluster: Cluster,
    rng: StdRng,
    commands: Vec<Command>,
    /// In a thousand steps, how often all that are down start again, and all cuts end.
    repairs: u32,
    crashes: usize,
}

impl Run {
    fn new(count: u64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let settings = settings(&mut rng);
        Self {
            cluster: Cluster::new(count, seed, settings),
            repairs: *[5, 15, 30].choose(&mut rng).unwrap(),
            rng,
            commands: vec![catalog()],
            crashes: 0,
        }
    }

    fn step(&mut self) {
        let ids = self.cluster.ids();
        let id = *ids.choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..1_000) {
            0..100 => {
                self.cluster.now.0 += 5;
                self.cluster.tick(id);
            }
            100..540 if !self.cluster.network.is_empty() => self.deliver(),
            540..700 => self.cluster.persist(id),
            700..820 => self.propose(id),
            820..860 => _ = self.cluster.read(id),
            860..870 => self.crash(id),
            870..880 => {
                let to = *ids.choose(&mut self.rng).unwrap();
                if self.cluster.is_up(id) && self.cluster.replica(id).check_transfer(to).is_ok() {
                    self.cluster.input(id, Input::Transfer { to });
                }
            }
            880..890 => {
                let to = *ids.choose(&mut self.rng).unwrap();
                self.cluster.cut.insert((id, to));
                self.cluster.input(id, Input::Unreachable { peer: to });
            }
            890..920 => self.cluster.stage(id),
            920..970 => self.transfer(id),
            970..980 => self.cluster.hand_over(id),
            _ => {}
        }
        if self.rng.random_range(0..1_000) < self.repairs {
            self.restart_all();
        }
        if self.rng.random_range(0..1_000) < self.repairs {
            self.cluster.cut.clear();
        }
    }

    fn transfer(&mut self, id: ReplicaId) {
        let chunk = match self.rng.random_range(0..20) {
            0 => Chunk::GivenUp,
            1 => Chunk::ArrivesUnheard,
            2 | 3 => Chunk::Lost,
            4 | 5 => Chunk::ArrivesAgain,
            _ => Chunk::Arrives,
        };
        self.cluster.transfer(id, chunk);
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
        self.cluster.propose(at, commands);
    }

    /// Power is cut: whatever was queued for the disk is there up to some point.
    fn crash(&mut self, id: ReplicaId) {
        let kept = self.rng.random_range(0..=self.cluster.nodes[&id].disk.queued.len());
        self.crashes += usize::from(self.cluster.is_up(id));
        self.cluster.crash(id, kept);
    }

    fn restart_all(&mut self) {
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                self.cluster.restart(id);
            }
        }
    }

    /// Ends all faults; a majority can talk from now on.
    fn heal(&mut self) {
        self.cluster.cut.clear();
        self.restart_all();
        self.cluster.settle();
        let leader = self.cluster.elect();
        let fresh = draw(self.commands.len(), self.cluster.now);
        self.commands.push(fresh.clone());
        self.cluster.propose(leader, vec![fresh.clone()]);
        self.cluster.read(leader);
        let served = self.cluster.observer.reads_served;
        self.cluster.run(10);
        assert!(self.cluster.observer.told.contains_key(&(fresh.pool, fresh.key)), "alive: a fresh draw is decided");
        assert!(self.cluster.observer.reads_served > served, "alive: a fresh read is served");
    }

    /// Every replica remembers what was told, and stock is what was added less what was given.
    fn check(&self) {
        let digests = self.cluster.replica(ReplicaId(1)).machine().digests();
        for id in self.cluster.ids() {
            let replica = self.cluster.replica(id);
            assert_eq!(replica.machine().digests(), digests, "replica {id} differs");
            let remembered = |pool: &PoolId, key| match replica.machine().query(&Query::Outcome(pool.clone(), key)) {
                Answer::Outcome(Remembered::Outcome(outcome)) => Some(outcome),
                _ => None,
            };
            for ((pool, key), told) in &self.cluster.observer.told {
                let outcome =
                    remembered(pool, *key).unwrap_or_else(|| panic!("durable: replica {id} has lost {key:?}"));
                assert_eq!((outcome.index, &outcome.result), (told.index, &told.result), "durable");
            }
            let outcomes = self.commands.iter().filter_map(|command| remembered(&command.pool, command.key));
            let given: u64 = outcomes.map(|outcome| awards(&outcome)).sum();
            let awarded: u64 = read_default(replica).items.iter().map(|item| item.awarded).sum();
            assert_eq!(awarded, given, "exactly once: every award belongs to one key");
        }
    }
}

/// Snapshots every few entries, or hardly ever; logs that are cut close, and such that wait for the slowest.
fn settings(rng: &mut StdRng) -> Settings {
    let snapshots = SnapshotPolicy {
        log_bytes_min: rng.random_range(100..3_000),
        trailing_entries: rng.random_range(0..20),
        trailing_bytes: rng.random_range(0..3_000),
        log_bytes_max: rng.random_range(500..6_000),
    };
    Settings { snapshots, checkpoint_every: rng.random_range(1..20) }
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
fn runs(count: u64) -> Counts {
    let (mut told, mut reads, mut crashes, mut leaders, mut counts) = (0, 0, 0, 0, Counts::default());
    for seed in 0..SEEDS {
        let run =
            std::panic::catch_unwind(|| run(count, seed)).unwrap_or_else(|_| panic!("{count} replicas, seed {seed}"));
        told += run.cluster.observer.told.len();
        reads += run.cluster.observer.reads_served;
        crashes += run.crashes;
        counts.add(&run.cluster.counts);
        let led = run.cluster.ids().iter().filter(|id| run.cluster.replica(**id).role() == Role::Leader).count();
        assert_eq!(led, 1);
        leaders += usize::from(run.cluster.replica(ReplicaId(1)).term().0 > 2);
    }
    let seeds = SEEDS as usize;
    println!("{count}: told {told} reads {reads} crashes {crashes} leaders {leaders} {counts:?}");
    assert!(told > 10 * seeds && reads > 5 * seeds && crashes > 5 * seeds && leaders > seeds / 2);
    counts
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
