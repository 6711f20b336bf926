//! Episodes: faults and calls that hang together. What needs several things at once, in an order, is rare among classes that
//! know nothing of each other; each episode is such a thing, in one seed of six, at some time of the run, with a reader and a
//! writer of its own, among whatever else is on. Who, when and how long is drawn.

use tombola::types::ReplicaId;

use super::{Scene, Swarm, at, power};
use crate::plan::{
    ClientPlan, Dice, DiskOperation, Fault, FaultKind, Options, PlannedCall, Shape, Start, Twist, What, When,
};

/// Before that, a cluster may not be founded.
const EARLIEST_MS: u64 = 5_000;
/// How long a hand-over of leadership is given, and an old life of a node to end.
const SETTLED_MS: u64 = 2_500;
/// Most calls of an episode's client.
const CALLS_MAX: usize = 150;

/// What happens in an episode, on one node above all.
struct Episode<'a> {
    dice: Dice,
    scene: &'a Scene,
    /// Shortest election timeout.
    election_ms: u64,
    /// When a follower asks the leader once more for a read's index, and a little more.
    read_again_ms: u64,
    /// When it begins.
    begin: u64,
    /// Whom it is about.
    node: ReplicaId,
    /// Any other; itself, if there is none.
    other: ReplicaId,
    faults: Vec<Fault>,
    calls: Vec<PlannedCall>,
}

/// Draws the episodes of a seed: their faults, who calls in them, and what they change of the options.
pub(super) fn draw(swarm: &Swarm, scene: &Scene, options: &mut Options, clients: &mut Vec<ClientPlan>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let all: [(&str, fn(&mut Episode)); 5] = [
        ("deposed leader", deposed_leader),
        ("late answers", late_answers),
        ("rot after a stop", rot_after_a_stop),
        ("failed sync", failed_sync),
        ("crashes among snapshots", crashes_among_snapshots),
    ];
    for (name, script) in all {
        let mut dice = swarm.dice(name);
        if dice.between(1, 6) > 1 {
            continue;
        }
        if name == "crashes among snapshots" {
            (options.snapshots.log_bytes_min, options.snapshots.trailing_entries) = (dice.skewed(256, 2_048), 0);
        }
        let mut episode = Episode::new(dice, scene, options);
        script(&mut episode);
        episode.faults.retain(|fault| !matches!(fault.when, When::At(at) if at >= scene.end));
        faults.append(&mut episode.faults);
        clients.extend(episode.client(options.safety_ms));
    }
    faults
}

/// The leader stands still, cut off, until others have elected one of them and answered; then it goes on, still cut off, and
/// takes itself for the leader until it misses the others. It is read from all the time, and written to.
fn deposed_leader(episode: &mut Episode) {
    if episode.node == episode.other {
        return;
    }
    let begin = episode.begin + SETTLED_MS;
    let stands_ms = episode.dice.between(episode.election_ms, 3 * episode.election_ms);
    let cut_ms = stands_ms + episode.dice.between(episode.election_ms, 4 * episode.election_ms);
    episode.lead();
    let others = episode.scene.nodes.iter().copied().filter(|node| *node != episode.node).collect();
    let shape = Shape::Groups(vec![vec![episode.node], others]);
    episode.fault(begin, FaultKind::Partition { shape, ms: cut_ms });
    // Without standing still it is deposed as well, but mostly knows before the others.
    if episode.dice.percent(80) {
        episode.fault(begin, FaultKind::Pause { node: episode.node, ms: stands_ms });
    }
    let end = begin + stands_ms + episode.election_ms;
    let (reads, writes, lost_writes) =
        (episode.dice.between(20, 60), episode.dice.skewed(30, 400), episode.dice.skewed(15, 400));
    episode.read(episode.node, begin, end, reads);
    episode.write(episode.other, begin, end, writes);
    episode.write(episode.node, begin, end, lost_writes);
    if episode.dice.percent(50) {
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
    for bit in 0..episode.dice.between(1, 8) {
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
        let (nth, soon) = (episode.dice.between(1, 4) as u32, episode.dice.skewed(5, 600));
        episode.fault(time, FaultKind::DiskError { node, operation: DiskOperation::Sync, nth });
        episode.write(node, time, time + soon + 50, 20);
        episode.crash(time + soon);
        time += soon + episode.dice.between(2_500, 5_000);
    }
}

/// Snapshots every few entries, and again and again power goes in the middle of a commit.
fn crashes_among_snapshots(episode: &mut Episode) {
    let mut time = episode.begin;
    let end = time + episode.dice.between(4_000, 10_000);
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
        let begin = dice.between(EARLIEST_MS, options.safety_ms.saturating_sub(12_000).max(EARLIEST_MS));
        Self {
            scene,
            election_ms: options.election_ticks as u64 * options.tick_ms,
            // Three heartbeats: see `replica`.
            read_again_ms: (3 * options.heartbeat_ticks as u64 + 1) * options.tick_ms,
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
        times.into_iter().map(|time| from + time).take(CALLS_MAX).collect()
    }

    fn call(&self, time: u64, node: ReplicaId, what: What) -> PlannedCall {
        PlannedCall { start: Start::At(time), node, timeout_ms: 3_000, what, twist: Twist::Hasty }
    }

    /// Who makes its calls: one client, whose calls do not wait for each other.
    fn client(mut self, end: u64) -> Option<ClientPlan> {
        self.calls.retain(|call| matches!(call.start, Start::At(at) if at < end));
        self.calls.sort_by_key(|call| match call.start {
            Start::At(at) | Start::After(at) => at,
        });
        self.calls.truncate(300);
        (!self.calls.is_empty()).then_some(ClientPlan { calls: self.calls })
    }
}
