//! Episodes: faults and calls that hang together. What needs several things at once, in an order, is rare among classes that
//! know nothing of each other; each episode is such a thing. Most seeds begin with one, before all else that goes wrong, with
//! a client of its own. Who, when and how long is drawn.

use tombola::{replica::SnapshotPolicy, types::ReplicaId};

use super::{Scene, Swarm, at, power};
use crate::plan::{
    ClientPlan, Dice, DiskOperation, Fault, FaultKind, Options, PlannedCall, Shape, Start, Twist, What, When,
};

/// Before that, a cluster may not be founded.
const EARLIEST_MS: u64 = 5_000;

type Script = fn(&mut Episode);
/// How long a hand-over of leadership is given, and an old life of a node to end.
const SETTLED_MS: u64 = 2_500;
/// Most calls of an episode's client.
const CALLS_MAX: usize = 400;

/// What happens in an episode, on one node above all.
struct Episode<'a> {
    dice: Dice,
    scene: &'a Scene,
    /// Shortest election timeout.
    election_ms: u64,
    /// When a follower asks the leader once more for a read's index, and a little more.
    read_again_ms: u64,
    snapshots: SnapshotPolicy,
    /// When it begins.
    begin: u64,
    /// Whom it is about.
    node: ReplicaId,
    /// Any other; itself, if there is none.
    other: ReplicaId,
    faults: Vec<Fault>,
    calls: Vec<PlannedCall>,
}

/// What an episode brings into a plan.
pub(super) struct Drawn {
    pub faults: Vec<Fault>,
    pub client: ClientPlan,
    /// What else goes wrong does so from then on: in a cluster that is upset already nothing comes of an episode.
    pub end: u64,
}

/// Draws the episode of a seed, if it has one; and what it changes of the options.
pub(super) fn draw(swarm: &Swarm, scene: &Scene, options: &mut Options) -> Option<Drawn> {
    let mut dice = swarm.dice("episode");
    if dice.percent(20) {
        return None;
    }
    let script =
        dice.pick(&[deposed_leader, late_answers, rot_after_a_stop, failed_sync, crashes_among_snapshots as Script]);
    let mut episode = Episode::new(dice, scene, options);
    script(&mut episode);
    options.snapshots = episode.snapshots;
    (!episode.faults.is_empty()).then(|| episode.drawn())
}

/// The leader stands still, cut off, until others have elected one of them and answered; then it goes on, still cut off, and
/// takes itself for the leader until it misses the others. It is read from all the time, and written to. Or it goes on
/// all the time, and takes in much that the others never hear of.
fn deposed_leader(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    let (begin, election_ms) = (episode.begin + SETTLED_MS, episode.election_ms);
    let stands_ms = if episode.dice.percent(65) { episode.dice.between(election_ms, 3 * election_ms) } else { 0 };
    let cut_ms = stands_ms + episode.dice.between(2 * election_ms, 4 * election_ms);
    episode.lead();
    let others = episode.scene.nodes.iter().copied().filter(|node| *node != episode.node).collect();
    let shape = Shape::Groups(vec![vec![episode.node], others]);
    episode.fault(begin, FaultKind::Partition { shape, ms: cut_ms });
    let (writes, lost_writes) = if stands_ms > 0 {
        episode.fault(begin, FaultKind::Pause { node: episode.node, ms: stands_ms });
        (episode.dice.skewed(30, 300), episode.dice.skewed(30, 300))
    } else {
        (episode.dice.between(300, 1_200), episode.dice.between(8, 30))
    };
    let (end, reads) = (begin + stands_ms + 2 * election_ms, episode.dice.between(20, 60));
    episode.read(episode.node, begin, end, reads);
    episode.write(episode.other, begin, end, writes);
    episode.write(episode.node, begin, end, lost_writes);
    if stands_ms == 0 || episode.dice.percent(50) {
        let after = begin + cut_ms + episode.dice.skewed(50, 2_000);
        episode.crash(after);
    }
}

/// What the leader says to a follower comes late, again and again: after the follower has asked once more at which index
/// to read, and before it misses the leader. What was written meanwhile, at another node, it does not know.
fn late_answers(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    episode.lead();
    let mut time = episode.begin + SETTLED_MS;
    for _ in 0..episode.dice.between(2, 5) {
        let most = (episode.read_again_ms + 100).max(episode.election_ms);
        let ms = episode.dice.between(episode.read_again_ms, most);
        episode.fault(time, FaultKind::Clog { from: episode.node, to: episode.other, ms });
        episode.read(episode.other, time, time + ms + 50, 25);
        episode.write(episode.node, time, time + ms, 40);
        time += ms + episode.dice.between(500, 2_000);
    }
}

/// A node is asked to stop, so that its store is closed, and while it is down, some bits rot in what is older than the
/// newest commit.
fn rot_after_a_stop(episode: &mut Episode) {
    let (node, begin) = (episode.node, episode.begin);
    episode.write(node, begin.saturating_sub(4_000), begin, 100);
    episode.fault(begin, FaultKind::Stop { node, down_ms: 30_000 });
    for bit in 0..episode.dice.between(3, 10) {
        // The least bits say where: 2 and 3 are anywhere.
        let place = episode.dice.between(0, (u64::MAX >> 2) - 1) << 2 | episode.dice.between(2, 3);
        let down_ms = episode.dice.skewed(100, 2_000);
        episode.fault(begin + SETTLED_MS + bit, FaultKind::Rot { node, at: place, down_ms });
    }
    episode.write(episode.other, begin + SETTLED_MS, begin + 3 * SETTLED_MS, 200);
}

/// A node's disk fails a sync, not in its first life, and soon after power is cut: what was not synced is lost.
fn failed_sync(episode: &mut Episode) {
    let node = episode.node;
    episode.crash(episode.begin);
    let mut time = episode.begin + SETTLED_MS;
    for _ in 0..episode.dice.between(1, 3) {
        let (nth, soon) = (episode.dice.between(1, 4) as u32, episode.dice.between(80, 800));
        episode.fault(time, FaultKind::DiskError { node, operation: DiskOperation::Sync, nth });
        episode.write(node, time, time + soon + 50, 20);
        episode.crash(time + soon);
        time += soon + episode.dice.between(2_500, 5_000);
    }
}

/// Snapshots every few entries, and again and again power goes in the middle of a commit.
fn crashes_among_snapshots(episode: &mut Episode) {
    episode.snapshots.log_bytes_min = episode.dice.skewed(256, 2_048);
    episode.snapshots.trailing_entries = 0;
    let mut time = episode.begin;
    let end = time + episode.dice.between(3_000, 8_000);
    let pace = episode.dice.between(60, 120);
    episode.write(episode.other, time, end, pace);
    while time < end {
        let node = episode.scene.node(&mut episode.dice);
        let (operations, keep) = (episode.dice.between(4, 60) as u32, power::keep(&mut episode.dice));
        let down_ms = episode.dice.skewed(20, 500);
        episode.fault(time, FaultKind::CrashInCommit { node, operations, keep, down_ms });
        time += episode.dice.between(300, 1_500);
    }
}

impl<'a> Episode<'a> {
    fn new(mut dice: Dice, scene: &'a Scene, options: &Options) -> Self {
        let (node, other) = scene.pair(&mut dice).unwrap_or((scene.nodes[0], scene.nodes[0]));
        let begin = dice.between(EARLIEST_MS, EARLIEST_MS + 2_000);
        Self {
            scene,
            election_ms: options.election_ticks as u64 * options.tick_ms,
            // Three heartbeats: see `replica`.
            read_again_ms: (3 * options.heartbeat_ticks as u64 + 1) * options.tick_ms,
            snapshots: options.snapshots,
            begin,
            node,
            other,
            faults: Vec::new(),
            calls: Vec::new(),
            dice,
        }
    }

    fn fault(&mut self, time: u64, what: FaultKind) {
        self.faults.push(at(time, what));
    }

    fn crash(&mut self, time: u64) {
        let (keep, down_ms) = (power::keep(&mut self.dice), self.dice.skewed(50, 1_000));
        self.fault(time, FaultKind::Crash { node: self.node, keep, down_ms });
    }

    /// The node is to lead, whoever does.
    fn lead(&mut self) {
        let call = self.call(self.begin, self.other, What::Transfer { to: self.node });
        self.calls.push(PlannedCall { twist: Twist::None, ..call });
    }

    /// Reads from a node and nobody else, about so often.
    fn read(&mut self, node: ReplicaId, from: u64, to: u64, pace: u64) {
        for time in self.times(from, to, pace) {
            let call = self.call(time, node, What::Read { pool: 0 });
            self.calls.push(call);
        }
    }

    /// Writes to a node and nobody else, about so often.
    fn write(&mut self, node: ReplicaId, from: u64, to: u64, pace: u64) {
        for time in self.times(from, to, pace) {
            let count = self.dice.skewed(1, 20) as u16;
            let call = self.call(time, node, What::Draw { pool: 0, count });
            self.calls.push(call);
        }
    }

    fn times(&mut self, from: u64, to: u64, pace: u64) -> Vec<u64> {
        let times = self.dice.times(pace, to.saturating_sub(from).max(1));
        times.into_iter().map(|time| from + time).collect()
    }

    fn call(&self, time: u64, node: ReplicaId, what: What) -> PlannedCall {
        PlannedCall { start: Start::At(time), node, timeout_ms: 3_000, what, twist: Twist::Hasty }
    }

    /// One client makes the calls, which do not wait for each other. The last of all is followed by a while of peace.
    fn drawn(mut self) -> Drawn {
        let begin = |call: &PlannedCall| match call.start {
            Start::At(at) | Start::After(at) => at,
        };
        self.calls.sort_by_key(begin);
        self.calls.truncate(CALLS_MAX);
        let calls = self.calls.iter().map(begin);
        let faults = self.faults.iter().filter_map(|fault| match fault.when {
            When::At(at) => Some(at),
            When::Hit { .. } => None,
        });
        let end = calls.chain(faults).max().unwrap_or(0) + SETTLED_MS;
        Drawn { faults: self.faults, client: ClientPlan { calls: self.calls }, end }
    }
}
