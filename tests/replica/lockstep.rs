//! One, three and five replicas in lock step through loss, duplication, reordering, crashes that lose what was not durable,
//! cuts, retries of one key at several replicas, transfers of leadership, snapshots taken, sent, torn off and installed;
//! then healed, and asked whether anything was lost or twice. What they do meanwhile is judged by the observer.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tombola::{
    pool::{Action, Actor, CatalogItem, Command, KeyOrigin, PoolId, RequestKey, Stock, Weight},
    replica::{Input, ProposalId, RaftMessage, Role, SnapshotPolicy},
    types::{Millis, ReplicaId},
};
use tombola_sim::check::{Report, draw::Tally};

use crate::{
    cluster::{Cluster, Settings},
    transfer::{Chunk, Counts},
};

const STEPS: usize = 3_000;
const SEEDS: u64 = 1_000;

/// A run: the cluster, and what its clients asked for.
struct Run {
    cluster: Cluster,
    rng: StdRng,
    commands: Vec<Command>,
    /// In a thousand steps, how often power fails somewhere.
    crashes_planned: u32,
    /// How often a replica is cut off from all others.
    isolations: u32,
    /// Now and then somebody is left behind for long, and then all are together for long.
    leaves_behind: bool,
    steps: usize,
    /// Messages that come much later.
    held_up: Vec<RaftMessage>,
    /// How often all that are down start again.
    restarts: u32,
    /// Who waits for an answer, and in which life it was asked.
    waiters: Vec<(ReplicaId, u64, ProposalId)>,
    /// How often all cuts end.
    mendings: u32,
    crashes: usize,
    /// What was judged in the end.
    report: Report,
}

impl Run {
    fn new(count: u64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let settings = settings(&mut rng);
        Self {
            cluster: Cluster::new(count, seed, settings),
            crashes_planned: *[1, 4, 10].choose(&mut rng).unwrap(),
            isolations: *[1, 4, 8].choose(&mut rng).unwrap(),
            leaves_behind: rng.random_bool(0.5),
            steps: 0,
            held_up: Vec::new(),
            restarts: *[4, 10, 30].choose(&mut rng).unwrap(),
            mendings: *[3, 6, 20].choose(&mut rng).unwrap(),
            rng,
            commands: vec![catalog()],
            waiters: Vec::new(),
            crashes: 0,
            report: Report::default(),
        }
    }

    fn step(&mut self) {
        let ids = self.cluster.ids();
        let id = *ids.choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..1_000) {
            100..540 if !self.cluster.network.is_empty() => self.deliver(),
            540..700 => self.cluster.persist(id),
            700..820 => {
                let leader = self.cluster.leader().filter(|_| self.rng.random_bool(0.5));
                self.propose(leader.unwrap_or(id));
            }
            820..860 => _ = self.cluster.read(id),
            860..866 => {
                let to = *ids.choose(&mut self.rng).unwrap();
                if self.cluster.is_up(id) && self.cluster.replica(id).check_transfer(to).is_ok() {
                    self.cluster.input(id, Input::Transfer { to });
                }
            }
            866..874 => {
                let to = *ids.choose(&mut self.rng).unwrap();
                self.hold_up(id, to);
                self.cluster.cut.insert((id, to));
                self.cluster.input(id, Input::Unreachable { peer: to });
            }
            874..910 => self.cluster.stage(id),
            910..960 => self.transfer(id),
            960..990 => self.cluster.hand_over(id),
            990..1_000 => {
                if let Some(leader) = self.cluster.leader() {
                    self.cluster.send_unasked(leader, id);
                    self.cluster.hand_over(id);
                }
            }
            // Time passes, and faster when nothing is under way.
            _ => {
                self.cluster.now.0 += 5;
                self.cluster.tick(id);
            }
        }
        self.steps += 1;
        match self.steps % 800 {
            0 if self.leaves_behind => self.isolate(id),
            400 if self.leaves_behind => {
                self.restart_all();
                self.cluster.cut.clear();
            }
            _ => {}
        }
        let flips = self.cluster.nodes[&id].disk.has_queued_snapshot();
        if self.happens(if flips { 10 * self.crashes_planned } else { self.crashes_planned }) {
            self.crash(id);
        }
        if self.happens(4) {
            self.cluster.network.append(&mut self.held_up);
        }
        if self.happens(self.isolations) {
            self.isolate(id);
        }
        if self.happens(self.restarts) {
            self.restart_all();
        }
        if self.happens(self.mendings) {
            self.cluster.cut.clear();
        }
    }

    /// Something that happens so often in a thousand steps.
    fn happens(&mut self, often: u32) -> bool {
        self.rng.random_range(0..1_000) < often
    }

    /// What is under way on a link comes much later, if at all.
    fn hold_up(&mut self, from: ReplicaId, to: ReplicaId) {
        let on_link = |message: &mut RaftMessage| (message.from, message.to) == (from, to);
        self.held_up.extend(self.cluster.network.extract_if(.., on_link));
    }

    /// Cuts a replica off from all others, both ways, so that it falls behind.
    fn isolate(&mut self, id: ReplicaId) {
        for other in self.cluster.ids() {
            self.hold_up(other, id);
            self.cluster.cut.extend([(id, other), (other, id)]);
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

    /// Some message, now and then lost, delivered again later, or held up for long.
    fn deliver(&mut self) {
        let position = self.rng.random_range(0..self.cluster.network.len());
        match self.rng.random_range(0..20) {
            0 => drop(self.cluster.network.swap_remove(position)),
            1 => {
                let copy = self.cluster.network[position].clone();
                self.cluster.deliver(position);
                self.cluster.network.push(copy);
            }
            2 => self.held_up.push(self.cluster.network.swap_remove(position)),
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
        let incarnation = self.cluster.nodes[&at].incarnation;
        self.waiters.extend(ids.into_iter().map(|id| (at, incarnation, id)));
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
        let served = self.cluster.observer.reads_served;
        self.cluster.read(leader);
        self.cluster.run(10);
        assert!(self.cluster.observer.told.contains_key(&(fresh.pool, fresh.key)), "alive: a fresh draw is decided");
        assert!(self.cluster.observer.reads_served > served, "alive: a fresh read is served");
    }

    /// Every replica ends where the others do, and all that they did, answered and have is what it must be.
    fn judge(&mut self) {
        let digests = self.cluster.replica(ReplicaId(1)).machine().digests();
        for id in self.cluster.ids() {
            assert_eq!(self.cluster.replica(id).machine().digests(), digests, "replica {id} differs");
        }
        for (at, incarnation, id) in &self.waiters {
            let node = &self.cluster.nodes[at];
            let is_answered = node.results.contains_key(id) || node.incarnation != *incarnation;
            assert!(is_answered, "replica {at} has forgotten who waits for {id:?}");
        }
        self.report = self.cluster.verdict();
    }
}

/// Snapshots every few entries, or hardly ever; logs that are cut close, and such that wait for the slowest.
fn settings(rng: &mut StdRng) -> Settings {
    let snapshots = SnapshotPolicy {
        log_bytes_min: rng.random_range(100..1_500),
        trailing_entries: rng.random_range(0..20),
        trailing_bytes: rng.random_range(0..2_000),
        log_bytes_max: rng.random_range(200..4_000),
    };
    Settings { snapshots, checkpoint_every: rng.random_range(1..20) }
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
    run.judge();
    run
}

/// Runs every seed, and sees to it that they were worth it.
fn runs(count: u64) -> Counts {
    let (mut told, mut reads, mut crashes, mut leaders, mut counts) = (0, 0, 0, 0, Counts::default());
    let mut draws = Tally::default();
    for seed in 0..SEEDS {
        let run =
            std::panic::catch_unwind(|| run(count, seed)).unwrap_or_else(|_| panic!("{count} replicas, seed {seed}"));
        told += run.cluster.observer.told.len();
        reads += run.cluster.observer.reads_served;
        crashes += run.crashes;
        counts.add(&run.cluster.counts);
        draws.merge(&run.report.draws);
        let led = run.cluster.ids().iter().filter(|id| run.cluster.replica(**id).role() == Role::Leader).count();
        assert_eq!(led, 1);
        leaders += usize::from(run.cluster.replica(ReplicaId(1)).term().0 > 2);
    }
    let seeds = SEEDS as usize;
    assert!(told > 10 * seeds && reads > 5 * seeds && crashes > 5 * seeds && leaders > seeds / 2);
    draws.check().unwrap_or_else(|violation| panic!("{count} replicas: {violation}"));
    println!("{count} replicas: {counts:?}");
    counts
}

/// Of everything that can happen to snapshots, all did.
fn check_worth(counts: &Counts) {
    counts.all().into_iter().for_each(|(what, count)| assert!(count > 0, "{what} never happened: {counts:?}"));
}

#[test]
fn three_replicas_lose_nothing_and_give_nothing_twice() {
    check_worth(&runs(3));
}

#[test]
fn five_replicas_lose_nothing_and_give_nothing_twice() {
    check_worth(&runs(5));
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
