//! Episodes: faults and calls that hang together. What needs several things at once, in an order, is rare among classes that
//! know nothing of each other; each episode is such a thing. Most seeds begin with one, before all else that goes wrong (or,
//! where what it leaves behind shows only at the end, with nothing else), with a client of its own. Who, when and how long
//! is drawn.

use tombola::{replica::SnapshotPolicy, types::ReplicaId};

use super::{Scene, Swarm, at, power};
use crate::plan::{
    ClientPlan, Dice, DiskOperation, Fault, FaultKind, Options, PlannedCall, Shape, Start, Twist, What, When,
};

/// Before that, a cluster may not be founded.
const EARLIEST_MS: u64 = 5_000;

/// Draws what happens in an episode.
type Script = fn(&mut Episode);

const SCRIPTS: [Script; 7] = [
    deposed_leader,
    lost_suffix,
    late_answers,
    rot_after_a_stop,
    failed_sync,
    crashes_among_snapshots,
    failed_snapshot,
];

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
    snapshot_bytes_per_s: u64,
    /// Nothing else goes wrong in this seed.
    is_all: bool,
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
    /// Nothing else goes wrong.
    pub is_all: bool,
}

/// Draws the episode of a seed, if it has one; and what it changes of the options.
pub(super) fn draw(swarm: &Swarm, scene: &Scene, options: &mut Options) -> Option<Drawn> {
    let mut dice = swarm.dice("episode");
    if dice.percent(10) {
        return None;
    }
    let script = dice.pick(&SCRIPTS);
    let mut episode = Episode::new(dice, scene, options);
    script(&mut episode);
    options.snapshots = episode.snapshots;
    options.snapshot_bytes_per_s = episode.snapshot_bytes_per_s;
    (!episode.faults.is_empty()).then(|| episode.drawn())
}

/// The leader stands still, cut off, until others have elected one of them and answered; then it goes on, still cut off, and
/// takes itself for the leader until it misses the others. It is read from all the time, and written to.
fn deposed_leader(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    let (begin, election_ms) = (episode.begin + SETTLED_MS, episode.election_ms);
    let stands_ms = episode.dice.between(election_ms, 3 * election_ms);
    let cut_ms = stands_ms + episode.dice.between(2 * election_ms, 4 * election_ms);
    episode.lead(episode.node, episode.begin);
    episode.cut_off(begin, cut_ms);
    episode.fault(begin, FaultKind::Pause { node: episode.node, ms: stands_ms });
    let end = begin + stands_ms + 2 * election_ms;
    let (reads, writes) = (episode.dice.between(20, 60), episode.dice.skewed(30, 300));
    let lost_writes = episode.dice.skewed(30, 300);
    episode.read(episode.node, begin, end, reads);
    episode.write(episode.other, begin, end, writes);
    episode.write(episode.node, begin, end, lost_writes);
    if episode.dice.percent(50) {
        let after = begin + cut_ms + episode.dice.skewed(50, 2_000);
        episode.crash(after);
    }
}

/// The leader, cut off, goes on, and takes in much that the others never hear of; they elect one of them, who has less to say.
/// Soon after it hears that, and takes back what is too much, power goes.
fn lost_suffix(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    let election_ms = episode.election_ms;
    let mut time = episode.begin;
    for _ in 0..2 {
        episode.lead(episode.node, time);
        time += SETTLED_MS;
        let cut_ms = episode.dice.between(2 * election_ms, 3 * election_ms);
        episode.cut_off(time, cut_ms);
        let (writes, lost_writes) = (episode.dice.between(300, 1_200), episode.dice.between(5, 20));
        episode.write(episode.other, time, time + cut_ms, writes);
        episode.write(episode.node, time, time + election_ms, lost_writes);
        time += cut_ms + episode.dice.between(100, 600);
        episode.crash(time);
        time += episode.dice.between(1_000, 2_000);
    }
}

/// What the leader says to a follower comes late, again and again: after the follower has asked once more at which index
/// to read, and before it misses the leader. What was written meanwhile, at another node, it does not know.
fn late_answers(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    episode.lead(episode.node, episode.begin);
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

/// A node that has much in its log is asked to stop, so that its store is closed; while it is down, some bits rot in what is
/// older than the newest commit. And again, if it comes back.
fn rot_after_a_stop(episode: &mut Episode) {
    let node = episode.node;
    episode.snapshots.log_bytes_min = 1 << 20;
    episode.snapshots.log_bytes_max = 8 << 20;
    let mut time = episode.begin;
    episode.write(node, time.saturating_sub(4_000), time, 15);
    for _ in 0..episode.dice.between(2, 3) {
        episode.fault(time, FaultKind::Stop { node, down_ms: 30_000 });
        let closed = time + SETTLED_MS;
        for bit in 0..episode.dice.between(1, 3) {
            // The least bits say where: 3 is what is older.
            let place = episode.dice.between(0, (u64::MAX >> 2) - 1) << 2 | 3;
            let down_ms = episode.dice.skewed(100, 1_000);
            episode.fault(closed + bit, FaultKind::Rot { node, at: place, down_ms });
        }
        time = closed + SETTLED_MS;
        episode.write(episode.other, closed, time, 200);
    }
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

/// A node that was down has to be sent a snapshot, and does not get it: the leader makes newer ones and forgets what it sends,
/// or the node is cut off for longer than the leader is patient. A leader who does not hear of that never tries again, which
/// is seen at the end, unless another has come to lead.
fn failed_snapshot(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    let node = episode.node;
    episode.is_all = true;
    episode.snapshots.log_bytes_min = episode.dice.skewed(256, 1_024);
    episode.snapshots.trailing_entries = 0;
    episode.snapshot_bytes_per_s = episode.dice.skewed(4 << 10, 64 << 10);
    episode.lead(episode.other, episode.begin);
    let mut time = episode.begin + SETTLED_MS;
    for _ in 0..2 {
        let (keep, down_ms) = (power::keep(&mut episode.dice), episode.dice.between(500, 1_000));
        episode.fault(time, FaultKind::Crash { node, keep, down_ms });
        let (back, more_ms) = (time + down_ms, episode.dice.between(50, 300));
        episode.fault(back, FaultKind::SlowDisk { node, more_ms, ms: 3_000 });
        let cut = back + episode.dice.between(300, 1_500);
        let cut_ms = episode.dice.between(10_500, 12_000);
        episode.cut_off(cut, cut_ms);
        let pace = episode.dice.between(30, 80);
        episode.write(episode.other, time, cut, pace);
        time = cut + 12_500;
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
            snapshot_bytes_per_s: options.snapshot_bytes_per_s,
            is_all: false,
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

    /// The node is cut off from all others.
    fn cut_off(&mut self, time: u64, ms: u64) {
        let others = self.scene.nodes.iter().copied().filter(|node| *node != self.node).collect();
        self.fault(time, FaultKind::Partition { shape: Shape::Groups(vec![vec![self.node], others]), ms });
    }

    /// A node is to lead, whoever does.
    fn lead(&mut self, node: ReplicaId, time: u64) {
        let asked = if node == self.node { self.other } else { self.node };
        let call = self.call(time, asked, What::Transfer { to: node });
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
        Drawn { faults: self.faults, client: ClientPlan { calls: self.calls }, end, is_all: self.is_all }
    }
}
