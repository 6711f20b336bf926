//! A plan: everything that is decided about a run before it begins.
//!
//! A seed only makes a plan; a run reads nothing but the plan, and streams of chance that are named by (seed, purpose, id).
//! So a plan can be cut down, written to a file, and replayed when the seed has long lost its meaning. Times are simulated
//! milliseconds since the start. Chances are in parts per million: a plan has no floats.

mod dice;
mod generate;
pub mod text;

use self::dice::Dice;
pub use self::generate::generate;
use tombola::{
    pool::{CatalogItem, Limits},
    replica::SnapshotPolicy,
    runtime::FlowLimits,
    types::ReplicaId,
};

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Names the streams of chance.
    pub seed: u64,
    /// What holds for the whole run.
    pub options: Options,
    /// What each client does, in its order.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// What holds for the whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Voters, numbered from 1: 1, 3 or 5.
    pub voters: u64,
    /// How long faults and clients go on.
    pub safety_ms: u64,
    /// How long, after that, faults go on without clients.
    pub quiet_ms: u64,
    /// Length of a tick, before drift.
    pub tick_ms: u64,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout in ticks.
    pub election_ticks: usize,
    /// The network's usual behaviour.
    pub network: NetworkOptions,
    /// The disks' usual behaviour.
    pub disk: DiskOptions,
    /// How each node's clock goes; the first is voter 1's.
    pub clocks: Vec<ClockOptions>,
    /// When snapshots are taken.
    pub snapshots: SnapshotPolicy,
    /// Most bytes of a snapshot's body that are sent in a second.
    pub snapshot_bytes_per_s: u64,
    /// How much may be under way in a node.
    pub flow: FlowLimits,
    /// Replicated limits: budget and age of request keys.
    pub limits: Limits,
    /// What pool `default` has at first.
    pub catalog: Vec<CatalogItem>,
}

/// The network's usual behaviour. Each link has its own chances, out of (seed, link, kind of message, its number).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Messages lost.
    pub loss_ppm: u32,
    /// Mean of the exponential delay, at least 1 ms.
    pub delay_ms_mean: u32,
    /// Messages that take up to `tail_ms_max`.
    pub tail_ppm: u32,
    /// Longest delay of the tail.
    pub tail_ms_max: u32,
    /// Links on which a message may overtake another; the others are first in, first out.
    pub reordered_links_ppm: u32,
    /// Messages that come twice.
    pub duplicate_ppm: u32,
    /// Latest that a second copy comes, across restarts too.
    pub late_ms_max: u32,
    /// Messages in which a byte is flipped on the way.
    pub corrupt_ppm: u32,
    /// Messages that a directed link holds before it drops.
    pub queue_max: usize,
}

/// The disks' usual behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskOptions {
    /// Least time that a commit takes.
    pub commit_us_min: u32,
    /// Most time that it takes, uniformly between.
    pub commit_us_max: u32,
}

/// How a node's clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOptions {
    /// How far ahead of simulated time the wall clock is.
    pub offset_ms: i64,
    /// Length of its tick and of its second, in millionths of a true one: 1,000,000 is exact.
    pub rate_ppm: u32,
}

/// What a client does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientPlan {
    /// Its calls, in order.
    pub calls: Vec<PlannedCall>,
}

/// A call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedCall {
    /// When it begins.
    pub start: Start,
    /// The node asked first.
    pub node: ReplicaId,
    /// How long the client goes on trying.
    pub timeout_ms: u32,
    /// What it asks for.
    pub what: What,
    /// What it does beyond trying until there is an answer.
    pub twist: Twist,
}

/// When a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// So long after the start of the run, whatever became of the calls before it (open loop).
    At(u64),
    /// So long after the call before it ended (closed loop).
    After(u64),
}

/// What a call asks for. Pools and items are named by number: pool 0 is `default`, item n the catalog's n-th.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Draw so often.
    Draw {
        /// The pool.
        pool: u8,
        /// Steps.
        count: u16,
    },
    /// Take so many units of an item.
    Claim {
        /// The pool.
        pool: u8,
        /// The item.
        item: u8,
        /// Units.
        quantity: u32,
    },
    /// Set an item's stock and weight; `None` is unlimited.
    Update {
        /// The pool.
        pool: u8,
        /// The item.
        item: u8,
        /// The new stock.
        stock: Option<u64>,
        /// The new weight.
        weight: u32,
        /// An unknown item is made.
        create: bool,
    },
    /// Add to an item's stock, or take from it.
    Adjust {
        /// The pool.
        pool: u8,
        /// The item.
        item: u8,
        /// The change.
        delta: i64,
    },
    /// Make a pool with the catalog's items.
    Create {
        /// The pool.
        pool: u8,
    },
    /// Pause a pool.
    Pause {
        /// The pool.
        pool: u8,
    },
    /// Resume it.
    Resume {
        /// The pool.
        pool: u8,
    },
    /// Read a pool, linearizably.
    Read {
        /// The pool.
        pool: u8,
    },
    /// Read a node's own state of it.
    StaleRead {
        /// The pool.
        pool: u8,
    },
    /// Read, linearizably, what became of the client's call that many before this one.
    Outcome {
        /// How many calls back.
        back: u8,
    },
    /// Have every count and digest computed anew.
    Verify,
    /// Hand leadership to a voter, whoever it is.
    Transfer {
        /// The voter.
        to: ReplicaId,
    },
}

/// What a client does beyond trying until there is an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    None,
    /// Sends the same key to another node at the same time.
    Twice,
    /// Sends the same key again so long after the answer, or after it gave up; beyond the keys' age too.
    Again {
        /// How long after.
        after_ms: u64,
    },
    /// Uses the same key for something else afterwards.
    Reuse,
    /// Sends no key of its own: at most once.
    Keyless,
    /// Gives up after the first attempt, whatever came of it.
    Hasty,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub when: When,
    /// What happens.
    pub what: FaultKind,
}

/// When a fault begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At that time.
    At(u64),
    /// When a node comes to a crash point for the n-th time in the run, counted from 1. Only for [`FaultKind::Crash`].
    Hit {
        /// The crash point.
        point: String,
        /// How often it has come there.
        nth: u32,
    },
}

/// What a power cut leaves of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    All,
    /// Nothing.
    Nothing,
    /// Some sectors.
    Some,
    /// Of some sectors a part.
    Torn,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A node loses power, and is started again.
    Crash {
        /// The node.
        node: ReplicaId,
        /// What its disk keeps.
        keep: Keep,
        /// How long it is down.
        down_ms: u64,
    },
    /// A node's disk loses power in the middle of its next commit, and the node with it.
    CrashInCommit {
        /// The node.
        node: ReplicaId,
        /// After so many operations of that commit on the disk.
        operations: u32,
        /// What its disk keeps.
        keep: Keep,
        /// How long it is down.
        down_ms: u64,
    },
    /// Several nodes lose power in the same instant.
    CrashMany {
        /// The nodes.
        nodes: Vec<ReplicaId>,
        /// What their disks keep.
        keep: Keep,
        /// How long they are down.
        down_ms: u64,
    },
    /// A node is asked to stop, and started again.
    Stop {
        /// The node.
        node: ReplicaId,
        /// How long it is down.
        down_ms: u64,
    },
    /// Whoever leads stands still; with nobody leading, voter 1.
    PauseLeader {
        /// How long.
        ms: u64,
    },
    /// A node stands still: garbage collection, a virtual machine that is moved.
    Pause {
        /// The node.
        node: ReplicaId,
        /// How long.
        ms: u64,
    },
    /// A node has little of its processor: it stands still again and again, for so long each time.
    Slow {
        /// The node.
        node: ReplicaId,
        /// How long each time.
        more_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// Every commit of a node takes so much longer.
    SlowDisk {
        /// The node.
        node: ReplicaId,
        /// How much longer.
        more_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// A node's disk fails the n-th of the operations of that kind that come.
    DiskError {
        /// The node.
        node: ReplicaId,
        /// Which operations.
        operation: DiskOperation,
        /// Which one of them, counted from 1.
        nth: u32,
    },
    /// A node's disk cannot grow.
    DiskFull {
        /// The node.
        node: ReplicaId,
        /// How long.
        ms: u64,
    },
    /// A byte of what is durable on a node's disk changes while the node is down, which it is for so long. Under the atlas.
    Rot {
        /// The node.
        node: ReplicaId,
        /// Chooses the byte.
        at: u64,
        /// How long it is down.
        down_ms: u64,
    },
    /// A node's disk says that it synced, and did not, until the node loses power; then it does. Under the atlas.
    LyingSync {
        /// The node.
        node: ReplicaId,
        /// How long.
        ms: u64,
    },
    /// A node comes back with an empty disk; it must not be accepted. Under the atlas.
    LostDisk {
        /// The node.
        node: ReplicaId,
    },
    /// No frame goes from one node to another.
    Cut {
        /// From.
        from: ReplicaId,
        /// To.
        to: ReplicaId,
        /// How long.
        ms: u64,
    },
    /// The network falls apart.
    Partition {
        /// How.
        shape: Shape,
        /// How long.
        ms: u64,
    },
    /// A connection is reset; what was on its way is lost, and both hear of it.
    Reset {
        /// One end.
        one: ReplicaId,
        /// The other.
        other: ReplicaId,
    },
    /// A directed link takes frames and delivers none until it is over.
    Clog {
        /// From.
        from: ReplicaId,
        /// To.
        to: ReplicaId,
        /// How long.
        ms: u64,
    },
    /// A node's wall clock jumps.
    Step {
        /// The node.
        node: ReplicaId,
        /// How far.
        by_ms: i64,
    },
}

/// An operation on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A change of the file's length.
    SetLen,
    /// A sync.
    Sync,
}

/// How a network falls apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only nodes of the same group hear each other.
    Groups(Vec<Vec<ReplicaId>>),
    /// Two groups, and one node that hears and is heard by all.
    Bridge(ReplicaId),
    /// Each node hears only those next to it.
    Ring,
    /// A node is cut off and comes back, again and again.
    Flapping {
        /// The node.
        node: ReplicaId,
        /// How long each time.
        every_ms: u64,
    },
}

impl FaultKind {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<ReplicaId> {
        match self {
            Self::Crash { node, .. }
            | Self::CrashInCommit { node, .. }
            | Self::Stop { node, .. }
            | Self::Pause { node, .. }
            | Self::Slow { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::DiskError { node, .. }
            | Self::DiskFull { node, .. }
            | Self::Rot { node, .. }
            | Self::LyingSync { node, .. }
            | Self::LostDisk { node }
            | Self::Step { node, .. } => vec![*node],
            Self::CrashMany { nodes, .. } => nodes.clone(),
            Self::Cut { from, to, .. } | Self::Clog { from, to, .. } => vec![*from, *to],
            Self::Reset { one, other } => vec![*one, *other],
            Self::Partition { shape, .. } => shape.nodes(),
            Self::PauseLeader { .. } => vec![],
        }
    }
}

impl Shape {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<ReplicaId> {
        match self {
            Self::Groups(groups) => groups.concat(),
            Self::Bridge(node) | Self::Flapping { node, .. } => vec![*node],
            Self::Ring => vec![],
        }
    }

    /// Do two of so many voters hear each other? Those beside a bridge are in two halves, odd and even among themselves.
    pub fn joins(&self, voters: u64, one: ReplicaId, other: ReplicaId) -> bool {
        let half = |node: ReplicaId, bridge: ReplicaId| (node.0 - u64::from(node > bridge)) % 2;
        match self {
            Self::Groups(groups) => groups.iter().any(|group| group.contains(&one) && group.contains(&other)),
            Self::Bridge(bridge) => one == *bridge || other == *bridge || half(one, *bridge) == half(other, *bridge),
            Self::Ring => one.0.abs_diff(other.0) == 1 || one.0.abs_diff(other.0) == voters - 1,
            Self::Flapping { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_sees_all_and_is_all_that_joins_two_halves() {
        for (voters, cut) in [(3, 1), (5, 4)] {
            for bridge in (1..=voters).map(ReplicaId) {
                let shape = Shape::Bridge(bridge);
                let joined = |one: u64, other: u64| shape.joins(voters, ReplicaId(one), ReplicaId(other));
                assert!((1..=voters).all(|other| joined(bridge.0, other) && joined(other, bridge.0)));
                let pairs = (1..=voters).flat_map(|one| (one + 1..=voters).map(move |other| (one, other)));
                assert_eq!(pairs.filter(|(one, other)| !joined(*one, *other)).count(), cut, "{bridge} of {voters}");
            }
        }
    }
}
