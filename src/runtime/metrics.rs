//! What a node counts and measures about itself, and when its loop last ran.
//!
//! **What it costs.** Whoever counts adds to an atomic; nothing on the way of a draw takes a lock or allocates. What can be
//! seen from outside, as the term or the lag, is looked at once a tick.
//!
//! **What it means.** [`Metrics::registry`] names each metric once, with what it means; a name is there only if something
//! moves it. Labels are few and ours: reasons, outcomes, replica ids; never what a caller sent. Counters of requests are
//! kept where a caller is answered, so that over all nodes they add up; those of the log are the log's own indexes.
//!
//! No globals: a node has its own, and [`super::NodeHandle::metrics`] hands them out. Time is tokio's, which the simulator
//! owns.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use super::{histogram::Histogram, view::Leader, view::View};
use crate::{
    api::{Answered, Failure, NotApplied, Read, TurnedAway},
    pool::{Answer, Effect, KeyStats, Step},
    replica::{Checkpoint, Input, Status},
    types::{HistoryDigest, ReplicaId},
};

/// Begins every name.
const PREFIX: &str = "tombola";

/// The label of what [`crate::pool::Query::Verify`] looks at.
const STATE: [(&str, &str); 1] = [("invariant", "state")];

/// The only kind of gauge there is: nothing counted here is negative or broken.
type Level = Gauge<u64, AtomicU64>;

/// What a node counts and measures.
#[derive(Debug)]
pub struct Metrics {
    /// When the node was started.
    start: Instant,
    /// From the start to the loop's last tick, in milliseconds plus 1; 0 before the first.
    beat: AtomicU64,
    has_leader: Level,
    is_leader: Level,
    term: Level,
    leader_changes: Counter,
    committed: Counter,
    applied: Counter,
    failed: Counter,
    pending: Level,
    apply_lag: Level,
    log_entries: Level,
    keys: Level,
    keys_horizon: Gauge<f64, AtomicU64>,
    /// Each transaction of the store.
    pub(super) store_commit: Histogram,
    /// Commands in each entry that was proposed here.
    pub(super) batch_commands: Histogram,
    read_index: Histogram,
    draws: Labelled<6>,
    rejected: Labelled<7>,
    peer_dropped: Family<[(&'static str, u64); 1], Counter>,
    violations: Family<[(&'static str, &'static str); 1], Counter>,
    digest_mismatches: Counter,
    snapshots: SnapshotMetrics,
}

/// What becomes of snapshots.
#[derive(Debug)]
struct SnapshotMetrics {
    sent: Counter,
    installed: Counter,
    failed: Counter,
    /// From a snapshot's beginning until it is staged.
    duration: Histogram,
    /// From the node's start to the beginning of the one that is being taken, in nanoseconds.
    begun: AtomicU64,
}

impl Default for SnapshotMetrics {
    fn default() -> Self {
        let [sent, installed, failed] = [(); 3].map(|()| Counter::default());
        Self { sent, installed, failed, duration: Histogram::of_durations(), begun: AtomicU64::new(0) }
    }
}

/// Counters that differ in the value of one label. All are there from the start: whoever counts only adds.
#[derive(Debug)]
struct Labelled<const N: usize> {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    counters: [Counter; N],
}

impl<const N: usize> Labelled<N> {
    fn new(label: &'static str, values: [&'static str; N]) -> Self {
        let family = Family::<_, Counter>::default();
        let counters = values.map(|value| family.get_or_create_owned(&[(label, value)]));
        Self { family, counters }
    }
}

/// What became of a draw, as told to its caller; the position in `draws`.
#[derive(Clone, Copy, Debug)]
enum DrawOutcome {
    Awarded,
    Fallback,
    Miss,
    PoolEmpty,
    Refused,
    Replayed,
}

/// Why a request was turned away before anything was proposed; the position in `rejected`.
#[derive(Clone, Copy, Debug)]
enum Rejection {
    Full,
    ClientFull,
    Shed,
    TooLate,
    ReadsFull,
    Draining,
    Malformed,
}

impl Default for Metrics {
    /// Of a node that starts now.
    fn default() -> Self {
        let violations = Family::default();
        drop(violations.get_or_create(&STATE));
        Self {
            start: Instant::now(),
            beat: AtomicU64::new(0),
            has_leader: Level::default(),
            is_leader: Level::default(),
            term: Level::default(),
            leader_changes: Counter::default(),
            committed: Counter::default(),
            applied: Counter::default(),
            failed: Counter::default(),
            pending: Level::default(),
            apply_lag: Level::default(),
            log_entries: Level::default(),
            keys: Level::default(),
            keys_horizon: Gauge::default(),
            store_commit: Histogram::of_durations(),
            batch_commands: Histogram::of_counts(),
            read_index: Histogram::of_durations(),
            draws: Labelled::new("outcome", ["awarded", "fallback", "miss", "pool_empty", "refused", "replayed"]),
            rejected: Labelled::new(
                "reason",
                ["full", "client_full", "shed", "too_late", "reads_full", "draining", "malformed"],
            ),
            peer_dropped: Family::default(),
            violations,
            digest_mismatches: Counter::default(),
            snapshots: SnapshotMetrics::default(),
        }
    }
}

impl Metrics {
    /// Everything by its name. The names are a contract: added to, never changed.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The build that runs here", build);
        self.register_raft(&mut registry);
        self.register_work(&mut registry);
        self.register_snapshots(&mut registry);
        registry
    }

    /// What concerns the log and who leads.
    fn register_raft(&self, registry: &mut Registry) {
        let mut level = |name: &str, help: &str, level: &Level| registry.register(name, help, level.clone());
        level("raft_has_leader", "1 if this node knows who leads", &self.has_leader);
        level("raft_is_leader", "1 if this node leads", &self.is_leader);
        level("raft_term", "The newest term that this node has seen", &self.term);
        level("raft_proposals_pending", "Requests that this node accepted and has not answered", &self.pending);
        level("apply_lag_entries", "Entries that are committed and not applied here", &self.apply_lag);
        level("log_entries", "Entries in the log of this node", &self.log_entries);
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("raft_leader_changes", "How often this node saw somebody begin to lead", &self.leader_changes);
        counter("raft_proposals_committed", "The index up to which entries are committed", &self.committed);
        counter("raft_proposals_applied", "The index up to which entries are applied here", &self.applied);
        let help = "Requests that this node accepted and answered without an outcome: no leader in time, or unknown";
        counter("raft_proposals_failed", help, &self.failed);
    }

    /// What concerns requests, the disk and the peers.
    fn register_work(&self, registry: &mut Registry) {
        let mut durations = |name: &str, help: &str, of: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, of.clone());
        };
        durations(
            "store_commit_duration",
            "How long a transaction of the store took, its fsync included",
            &self.store_commit,
        );
        durations("read_index_duration", "How long a linearizable read took that was answered", &self.read_index);
        registry.register("batch_commands", "Commands in an entry that was proposed here", self.batch_commands.clone());
        registry.register("draws", "Draws by what this node told their callers", self.draws.family.clone());
        registry.register("key_table_entries", "Request keys that are remembered", self.keys.clone());
        let help = "How old a caller's request key may be, in the pool that remembers the least";
        registry.register_with_unit("key_horizon", help, Unit::Seconds, self.keys_horizon.clone());
        let help = "Requests turned away before anything was proposed";
        registry.register("admission_rejected", help, self.rejected.family.clone());
        let help = "Frames for a peer that did not leave this node, as its queue was full or no link was up";
        registry.register("peer_dropped", help, self.peer_dropped.clone());
        let help = "What a check of the state found not to hold";
        registry.register("invariant_violations", help, self.violations.clone());
        let help = "Checkpoints of peers whose history differs from this node's";
        registry.register("digest_mismatch", help, self.digest_mismatches.clone());
    }

    /// What concerns snapshots.
    fn register_snapshots(&self, registry: &mut Registry) {
        let SnapshotMetrics { sent, installed, failed, duration, .. } = &self.snapshots;
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("snapshot_sent", "Snapshots that peers have from this node", sent);
        counter("snapshot_installed", "Snapshots of peers that this node goes on from", installed);
        counter("snapshot_failed", "Snapshots that did not reach their peer", failed);
        let help = "How long it took to encode and stage a snapshot of this node's own";
        registry.register_with_unit("snapshot_duration", help, Unit::Seconds, duration.clone());
    }

    /// How long ago the node was started.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long ago the loop ran; `None` before it first did, while a long log is read back.
    pub fn since_beat(&self) -> Option<Duration> {
        let beat = self.beat.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.uptime().saturating_sub(Duration::from_millis(beat)))
    }

    /// The loop runs.
    pub(super) fn beat(&self) {
        let now = u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX - 1);
        self.beat.store(now + 1, Ordering::Relaxed);
    }

    /// A tick has passed; this is the replica with its keys, how many commands wait, and how many were turned away so far.
    pub(super) fn handle_tick(&self, status: &Status, keys: KeyStats, pending: usize, turned_away: TurnedAway) {
        let applied = status.digests.index;
        self.term.set(status.term.0);
        self.pending.set(pending as u64);
        self.apply_lag.set(status.commit.0.saturating_sub(applied.0));
        self.log_entries.set((status.last_index.0 + 1).saturating_sub(status.first_index.0));
        self.keys.set(keys.keys);
        self.keys_horizon.set(keys.horizon_ms as f64 / 1e3);
        catch_up(&self.committed, status.commit.0);
        catch_up(&self.applied, applied.0);
        let TurnedAway { full, client_full, shed, too_late } = turned_away;
        let counted = [
            (Rejection::Full, full),
            (Rejection::ClientFull, client_full),
            (Rejection::Shed, shed),
            (Rejection::TooLate, too_late),
        ];
        counted.into_iter().for_each(|(reason, total)| catch_up(&self.rejected.counters[reason as usize], total));
    }

    /// Another leader or term.
    pub(super) fn handle_view(&self, view: View) {
        self.has_leader.set(u64::from(view.leader != Leader::Unknown));
        self.is_leader.set(u64::from(view.leader == Leader::Here));
        self.term.set(view.term.0);
        if view.leader != Leader::Unknown {
            self.leader_changes.inc();
        }
    }

    /// A frame did not leave this node.
    pub(super) fn handle_dropped(&self, peer: ReplicaId) {
        self.peer_dropped.get_or_create(&[("peer", peer.0)]).inc();
    }

    /// A caller who asked for so many draws is answered.
    pub(super) fn handle_answer(&self, draws: u64, answer: &Result<Answered, Failure>) {
        let outcome = match answer {
            Ok(answered) => &answered.outcome,
            Err(failure) => {
                self.handle_failure(failure);
                return;
            }
        };
        let count = |outcome: DrawOutcome, draws: u64| _ = self.draws.counters[outcome as usize].inc_by(draws);
        match &outcome.result {
            _ if outcome.replayed => count(DrawOutcome::Replayed, draws),
            Err(_) => count(DrawOutcome::Refused, draws),
            Ok(Effect::Drawn { steps, .. }) => {
                let mut told = [0; 4];
                steps.iter().for_each(|step| told[outcome_of(step) as usize] += 1);
                for (counter, told) in self.draws.counters.iter().zip(told).filter(|(_, told)| *told > 0) {
                    counter.inc_by(told);
                }
            }
            Ok(_) => {}
        }
    }

    /// A linearizable read that took so long is answered.
    pub(super) fn handle_read(&self, took: Duration, answer: &Result<Read, Failure>) {
        match answer {
            Ok(_) => self.read_index.observe_duration(took),
            Err(Failure::NotApplied(NotApplied::Overloaded { .. })) => self.reject(Rejection::ReadsFull),
            Err(_) => {}
        }
    }

    /// A check of the state was answered.
    pub(super) fn handle_verification(&self, answer: &Result<Read, Failure>) {
        if let Ok(Read { answer: Answer::Verified(verification), .. }) = answer {
            self.violations.get_or_create(&STATE).inc_by(verification.violations.len() as u64);
        }
    }

    /// A peer told its digests; this node's history at that index is `own`, if it still knows.
    pub(super) fn handle_checkpoint(&self, Checkpoint(told): Checkpoint, own: Option<HistoryDigest>) {
        if own.is_some_and(|own| own != told.history) {
            self.digest_mismatches.inc();
        }
    }

    /// A snapshot of this node's own is begun.
    pub(super) fn handle_snapshot_begun(&self) {
        self.snapshots.begun.store(nanos(self.uptime()), Ordering::Relaxed);
    }

    /// What the replica is told of snapshots.
    pub(super) fn handle_snapshot(&self, input: &Input) {
        let SnapshotMetrics { sent, failed, duration, begun, .. } = &self.snapshots;
        match input {
            Input::SnapshotTaken { .. } => {
                duration.observe(nanos(self.uptime()).saturating_sub(begun.load(Ordering::Relaxed)));
            }
            Input::SnapshotReport { arrived: true, .. } => _ = sent.inc(),
            Input::SnapshotReport { arrived: false, .. } => _ = failed.inc(),
            _ => {}
        }
    }

    /// A peer's snapshot is settled.
    pub(super) fn handle_snapshot_settled(&self, installed: bool) {
        self.snapshots.installed.inc_by(u64::from(installed));
    }

    /// A command has no outcome. Whoever turns it away for overload counts that, and the loop tells: see
    /// [`Self::handle_tick`].
    fn handle_failure(&self, failure: &Failure) {
        match failure {
            Failure::NotApplied(NotApplied::Overloaded { .. }) => {}
            Failure::NotApplied(NotApplied::Draining) => self.reject(Rejection::Draining),
            Failure::NotApplied(NotApplied::Malformed(_)) => self.reject(Rejection::Malformed),
            _ => _ = self.failed.inc(),
        }
    }

    fn reject(&self, reason: Rejection) {
        self.rejected.counters[reason as usize].inc();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Brings a counter to a total that only rises, and that only the loop tells it.
fn catch_up(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn outcome_of<I>(step: Step<I>) -> DrawOutcome {
    match step {
        Step::Awarded(_) => DrawOutcome::Awarded,
        Step::Fallback(_) => DrawOutcome::Fallback,
        Step::Miss => DrawOutcome::Miss,
        Step::PoolEmpty => DrawOutcome::PoolEmpty,
    }
}

#[cfg(test)]
mod tests;
