//! The book of a run: what the hooks, the network, the disks and the clients saw, judged as it comes in.
//!
//! **Whose life it is** that a hook speaks of, the running task says: each life of a node is a madsim node of its own, and
//! the world registers it with [`Book::started`]. Once [`Book::fenced`], a life has no say any more: a poll that was under
//! way when the power was cut goes on, and what it says then never happened.
//!
//! **What is fed**: the [history](crate::check::History), with moments of a clock that only counts; what nodes promise and
//! what their disks have; the bounds; the marks; and hits of crash points, of which the planned ones call the world back.
//! What can be judged at once is: the world looks at [`Book::violation`] and ends the run early.
//!
//! **Cost.** Hooks come with each turn of each node's loop, so whatever shows nothing new ends at a comparison.

mod lines;
mod lives;
mod rare;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use madsim::{task::NodeId, time::TimeHandle};
use tombola::{
    api::Vitals,
    durable::{FoundingWrite, Recovered, RecoveredState, SnapshotWrite, WriteSet},
    pool::{Action, Actor, Batch, Digests, DrawSeq, Limits, PoolId},
    runtime::PeerFrame,
    types::{Index, Millis, ReplicaId},
};

use self::{
    lives::{Lives, Shipment},
    rare::{Rare, is_rolled_back},
};
use crate::{
    chance,
    check::{
        Ask, CallId, History, Incarnation, Keyless, Moment, Report, Told, Violation,
        bounds::BoundsCheck,
        matching::MatchingCheck,
        promise::PromiseCheck,
        time::{ClockOf, TimeCheck},
    },
    clock::START_MS,
    plan::{ClockOptions, FaultKind, Plan, When},
    store::Writing,
    trace::Trace,
};

/// Memory of a store for pages, `None` as usual: with little, pages are written before they have to be, and read again.
const CACHES_BYTES: [Option<usize>; 6] = [None, None, None, Some(64 << 10), Some(32 << 10), Some(8 << 10)];

/// What is called when a node comes to a planned crash point for the planned time.
pub type OnHit = Box<dyn Fn(ReplicaId, &'static str, u32) + Send>;

/// The book of a run. Clones are the same book.
#[derive(Clone)]
pub struct Book {
    pages: Arc<Mutex<Pages>>,
    /// Apart from the pages: whoever is called may write into them.
    on_hit: Arc<Mutex<Option<OnHit>>>,
}

struct Pages {
    /// Until it is judged.
    history: History,
    /// What comes in from now on is nobody's: tasks that were due in the very moment of the verdict still run.
    is_judged: bool,
    /// Counts what is written into the history.
    clock: u64,
    lives: Lives,
    voters: usize,
    limits: Limits,
    /// Whose disk holds the founding snapshot, or what came after.
    founded: BTreeSet<ReplicaId>,
    bounds: BoundsCheck,
    matching: MatchingCheck,
    promises: PromiseCheck,
    time: TimeCheck,
    /// What was handed to each node's store and is not reported yet.
    handed: BTreeMap<ReplicaId, Vec<WriteSet>>,
    /// The first that was seen beside the history.
    violation: Option<Violation>,
    marks: BTreeMap<&'static str, u64>,
    rare: Rare,
    /// Nodes whose power was cut in the middle of a commit, and that have not come back.
    half_done: BTreeSet<ReplicaId>,
    /// Most memory of a store for pages, if it is less than usual.
    cache_bytes: Option<usize>,
    hits: BTreeMap<(ReplicaId, &'static str), u32>,
    /// Hits that the plan waits for.
    planned: BTreeSet<(String, u32)>,
    bug: Option<String>,
    /// How many numbers each node took out of the air, for a planted bug.
    whims: BTreeMap<ReplicaId, u64>,
    trace: Trace,
}

impl Book {
    /// The book of a run of that plan, nothing seen yet; with that bug planted, if any.
    pub fn new(plan: &Plan, bug: Option<String>, trace: Trace) -> Self {
        let mut history = History::new(plan.options.limits);
        let (pool, actor) = (PoolId::default_pool(), Actor::default());
        let action = Action::ImportCatalog { items: plan.options.catalog.clone(), draw_seq: DrawSeq(0) };
        history.may_ask_itself(Keyless { pool, actor, action });
        if bug.as_deref() == Some("m16") {
            history.expect_unfair_draws();
        }
        let planned = plan.faults.iter().filter_map(|fault| match &fault.when {
            When::Hit { point, nth } => Some((point.clone(), *nth)),
            When::At(_) => None,
        });
        let pages = Pages {
            history,
            is_judged: false,
            clock: 0,
            lives: Lives::default(),
            voters: plan.options.clocks.len(),
            limits: plan.options.limits,
            founded: BTreeSet::new(),
            bounds: BoundsCheck::new(plan.options.snapshots, plan.options.flow.pending_commands_max),
            matching: MatchingCheck::default(),
            promises: PromiseCheck::new(plan.options.clocks.len()),
            time: TimeCheck::new(clocks(plan)),
            handed: BTreeMap::new(),
            violation: None,
            marks: BTreeMap::new(),
            rare: Rare::default(),
            half_done: BTreeSet::new(),
            cache_bytes: CACHES_BYTES
                [chance::number(plan.seed, "memory of the store", &[]) as usize % CACHES_BYTES.len()],
            hits: BTreeMap::new(),
            planned: planned.collect(),
            bug,
            whims: BTreeMap::new(),
            trace,
        };
        Self { pages: Arc::new(Mutex::new(pages)), on_hit: Arc::default() }
    }

    /// Calls this when a node comes to a crash point for a time that the plan waits for: on the node's task, with nothing
    /// of the book held.
    pub fn on_hit(&self, call: OnHit) {
        *self.on_hit.lock().expect("nothing panics under this lock") = Some(call);
    }

    /// A node begins a life on that madsim node, with what its disk has. Before its first task is spawned. `false` if its
    /// disk is damaged, and of what it promised something is lost, but not all.
    pub fn started(&self, node: ReplicaId, incarnation: u64, on: NodeId, recovered: &Recovered) -> bool {
        let pages = &mut *self.pages();
        let life = Incarnation { replica: node, number: incarnation };
        pages.lives.start(on, life, pages.rare.applied_by(node));
        let handed = pages.handed.remove(&node).unwrap_or_default();
        if pages.half_done.remove(&node) && is_rolled_back(&handed, recovered) {
            pages.mark("commit_rolled_back");
        }
        let has_kept = pages.promises.recovered(node, &recovered.state).unwrap_or_else(|violation| {
            pages.note(Err(violation));
            true
        });
        let snapshot = match &recovered.state {
            RecoveredState::Founded(log) => {
                pages.founded.insert(node);
                let meta = &log.snapshot.meta;
                pages.history().snapshot(life, meta.index, meta.body_sha256);
                meta.index.0
            }
            RecoveredState::Unfounded { .. } => 0,
        };
        pages.bounds.recovered(node, recovered);
        let result = pages.matching.recovered(node, recovered);
        pages.note(result);
        pages.line(node.0, "start", format_args!("life={incarnation} snap={snapshot}"));
        // Who comes with an empty disk is for the product to refuse.
        has_kept || matches!(recovered.state, RecoveredState::Unfounded { .. })
    }

    /// A node's life is over: nothing that it does counts any more.
    pub fn fenced(&self, node: ReplicaId) {
        let pages = &mut *self.pages();
        let Some(life) = pages.lives.end(node) else { return };
        let (number, shipment, has_lonely_tail) = (life.who.number, life.shipment, life.has_lonely_tail);
        if has_lonely_tail {
            pages.mark("leader_crash_with_unacknowledged_tail");
        }
        match shipment {
            Shipment::None => {}
            Shipment::Staged => pages.mark("crash_between_stage_and_install"),
            Shipment::Installed => pages.mark("crash_between_install_and_restore"),
        }
        pages.line(node.0, "end", format_args!("life={number}"));
    }

    /// A node's power was cut in the middle of a commit, and it is about to start again.
    pub fn half_done(&self, node: ReplicaId) {
        self.pages().half_done.insert(node);
    }

    /// A node comes back after its disk was damaged, or with another one.
    pub fn damaged(&self, node: ReplicaId) {
        self.pages().promises.damaged(node);
    }

    /// A frame leaves a node.
    pub fn sent(&self, from: ReplicaId, frame: &PeerFrame) {
        let pages = &mut *self.pages();
        let result = pages.promises.said(from, frame);
        pages.note(result);
        let mark = pages.rare.sent(frame);
        mark.into_iter().for_each(|mark| pages.mark(mark));
    }

    /// A life's store is handed something, or says that what it was handed is durable.
    pub fn writing(&self, node: ReplicaId, incarnation: u64, writing: Writing<'_>) {
        let pages = &mut *self.pages();
        if pages.lives.of(node).is_none_or(|life| life.number != incarnation) {
            return;
        }
        match writing {
            Writing::Handed(writes) => {
                writes.iter().for_each(|write| pages.promises.wrote(node, write));
                pages.handed.insert(node, writes.to_vec());
            }
            Writing::Durable => {
                let result = pages.promises.reported(node);
                pages.note(result);
                pages.handed.remove(&node).unwrap_or_default().iter().for_each(|write| pages.wrote(node, write));
            }
            Writing::Staged => pages.ships(node, Shipment::Staged),
        }
    }

    /// A node shows how it does, when nobody asks it for anything.
    pub fn idle(&self, node: ReplicaId, vitals: &Vitals) -> Result<(), Violation> {
        let bounds = &self.pages().bounds;
        bounds.vitals(node, vitals).and(bounds.idle(node, vitals))
    }

    /// A caller asks for something.
    pub fn invoke(&self, ask: Ask) -> CallId {
        let pages = &mut *self.pages();
        let now = pages.now();
        let words = lines::asks(&ask);
        let claim = matches!(&ask, Ask::Request(command) if matches!(command.action, Action::Claim { .. }));
        let claim = claim.then(|| ask.clone());
        let call = pages.history().invoke(now, ask);
        if let Some(ask) = claim {
            pages.rare.asked(now, call, &ask);
        }
        pages.line(0, "ask", format_args!("#{} {words}", call.0));
        call
    }

    /// A caller is told something.
    pub fn tell(&self, call: CallId, told: Told) {
        let pages = &mut *self.pages();
        let now = pages.now();
        pages.line(0, "told", format_args!("#{} {}", call.0, lines::told(&told)));
        pages.rare.told(now, call, &told).into_iter().for_each(|mark| pages.mark(mark));
        if !pages.is_judged {
            pages.history().tell(now, call, told);
        }
    }

    /// After the last power cycle a replica has these digests.
    pub fn survived(&self, replica: ReplicaId, digests: Digests) {
        self.pages().history().survived(replica, digests);
    }

    /// Something happened to a node; 0 is nobody.
    pub fn event(&self, node: u64, kind: &str, detail: fmt::Arguments<'_>) {
        self.pages().line(node, kind, detail);
    }

    /// A rare state was reached, as the world sees it.
    pub fn mark(&self, name: &'static str) {
        self.pages().mark(name);
    }

    /// Rare states that were reached, and how often.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.pages().marks.clone()
    }

    /// Has every voter founded the cluster on its disk?
    pub fn is_founded(&self) -> bool {
        let pages = &*self.pages();
        pages.founded.len() == pages.voters
    }

    /// What was found so far: enough to end the run.
    pub fn violation(&self) -> Option<Violation> {
        let pages = &*self.pages();
        let in_history = pages.history.violation();
        in_history.or(pages.violation.as_ref()).cloned()
    }

    /// Judges it all.
    ///
    /// # Errors
    /// The first promise found broken.
    ///
    /// # Panics
    /// If it was judged before.
    pub fn finish(&self) -> Result<Report, Violation> {
        let (history, violation) = {
            let pages = &mut *self.pages();
            assert!(!pages.is_judged, "a history is judged once");
            pages.is_judged = true;
            let beyond = History::new(pages.limits);
            (std::mem::replace(&mut pages.history, beyond), pages.violation.clone())
        };
        match violation {
            Some(violation) => Err(violation),
            None => history.finish(),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("nothing panics under this lock")
    }
}

/// How the voters' clocks go, in the order of their ids.
fn clocks(plan: &Plan) -> Vec<ClockOf> {
    let jumps = |id| plan.faults.iter().any(|fault| matches!(fault.what, FaultKind::Step { node, .. } if node == id));
    let clock = |(id, clock): (u64, &ClockOptions)| ClockOf {
        start: Millis(START_MS.saturating_add_signed(clock.offset_ms)),
        rate_ppm: clock.rate_ppm,
        is_steady: !jumps(ReplicaId(id)),
    };
    (1..).zip(&plan.options.clocks).map(clock).collect()
}

impl Pages {
    fn history(&mut self) -> &mut History {
        &mut self.history
    }

    fn now(&mut self) -> Moment {
        self.clock += 1;
        Moment(self.clock)
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }

    /// A node has come so far with a peer's snapshot.
    fn ships(&mut self, node: ReplicaId, shipment: Shipment) {
        if let Some(life) = self.lives.of_mut(node) {
            life.shipment = shipment;
        }
    }

    fn note(&mut self, result: Result<(), Violation>) {
        self.violation = self.violation.take().or(result.err());
    }

    /// A node applied an entry: may it have this time?
    fn applied(&mut self, index: Index, data: &[u8]) {
        if let Ok(batch) = Batch::decode(data) {
            if batch.commands.len() >= 1_000 {
                self.mark("thousand_commands_an_entry");
            }
            let elapsed_ms = TimeHandle::current().elapsed().as_millis() as u64;
            let result = self.time.applied(index, batch.time, elapsed_ms);
            self.note(result);
        }
    }

    /// A WriteSet of a node is durable.
    fn wrote(&mut self, node: ReplicaId, write: &WriteSet) {
        if let Some(FoundingWrite::Found(_)) = write.founding {
            self.founded.insert(node);
        }
        if let Some(SnapshotWrite::Installed { .. }) = write.snapshot {
            self.ships(node, Shipment::Installed);
        }
        let result = self.bounds.wrote(node, write).and(self.matching.wrote(node, write));
        self.note(result);
        if let (Some(SnapshotWrite::Taken { meta, .. } | SnapshotWrite::Installed { meta }), Some(life)) =
            (&write.snapshot, self.lives.of(node))
        {
            self.history().snapshot(life, meta.index, meta.body_sha256);
        }
    }

    fn line(&self, node: u64, kind: &str, detail: fmt::Arguments<'_>) {
        self.trace.event(TimeHandle::current().elapsed(), node, kind, detail);
    }
}
