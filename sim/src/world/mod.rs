//! A run: machines with a node each, what goes wrong with them, and the verdict.
//!
//! **Four phases** (simulation.md section 5). *Safety*: clients call and faults happen, as planned; then perhaps a quiet time
//! without clients. *Healing*: a random quorum of intact voters becomes faultless; what is wrong outside of it stays wrong
//! for ever. *Liveness*: the core elects, decides and agrees in time. *Power cycle*: all machines lose power in the same
//! instant, start again, agree once more; what is then left is judged.
//!
//! **Stopping is no failure if something explains it**: a failing disk, a damaged one, a lost one. Such a node is started
//! again like a service manager would, unless it must stay out. Anything else that ends a node fails the run, as does a
//! panic.
//!
//! The world decides nothing by itself: all is in the plan, or in a stream of chance that the plan's seed names.

mod ending;
mod faults;
pub mod machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use madsim::{Config, runtime::Runtime};
use tokio::time::{Instant, sleep};
use tombola::{hooks, runtime::Stopped, types::ReplicaId};

use self::machine::{End, Machine, Surroundings};
use crate::{
    book::Book,
    chance, clients,
    disk::{Failing, atlas::Atlas},
    network::Network,
    plan::{DiskOperation, Keep, Plan},
    trace::Trace,
    verdict::{Failure, FailureKind, Verdict},
};

/// How often the world looks after its machines.
const ROUND: Duration = Duration::from_millis(100);
/// How long a service manager waits before it starts a node again that stopped.
const RESTART_MS: std::ops::Range<u64> = 200..3_000;
/// A run that simulates more than its plan asks for, and this, has got stuck.
const OVERTIME: Duration = Duration::from_secs(600);

/// How a plan is to be run.
#[derive(Clone, Default)]
pub struct Run {
    /// The bug that is planted in the product.
    pub bug: Option<String>,
    /// Where the events go.
    pub trace: Trace,
}

/// Runs a plan, and judges it. A panic is a verdict too.
pub fn run(plan: &Plan, run: Run) -> Verdict {
    let trace = run.trace.clone();
    let result = catch_unwind(AssertUnwindSafe(|| simulate(plan, run)));
    hooks::install(None);
    result.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let detail = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned();
        let failure = Failure { kind: FailureKind::Panic, checker: "panic".to_owned(), detail };
        Verdict { failure: Some(failure), trace: trace.hash(), ..Verdict::default() }
    })
}

fn simulate(plan: &Plan, run: Run) -> Verdict {
    let mut runtime = Runtime::with_seed_and_config(plan.seed, Config::default());
    let planned = Duration::from_millis(plan.options.safety_ms + plan.options.quiet_ms);
    runtime.set_time_limit(planned + OVERTIME);
    runtime.block_on(async {
        let world = World::new(plan, run);
        let failure = world.play().await.err();
        world.verdict(failure)
    })
}

/// The machines and what is around them. Clones are the same world.
#[derive(Clone)]
struct World {
    around: Surroundings,
    inner: Arc<Mutex<Inner>>,
    begun: Instant,
}

struct Inner {
    machines: BTreeMap<ReplicaId, Machine>,
    atlas: Atlas,
    /// Machines that are to be started at these times.
    restarts: BTreeMap<ReplicaId, Instant>,
    /// Faults that the world brought about itself, by kind.
    faults: BTreeMap<&'static str, u64>,
    /// No more faults.
    is_healed: bool,
    /// The quorum that was healed.
    core: BTreeSet<ReplicaId>,
}

impl World {
    fn new(plan: &Plan, run: Run) -> Self {
        let plan = Arc::new(plan.clone());
        let network = Network::new(plan.seed, plan.options.network, run.trace.clone());
        let book = Book::new(&plan, run.bug, run.trace.clone());
        let frames = book.clone();
        network.watch(Box::new(move |from, _to, frame| frames.sent(from, frame)));
        hooks::install(Some(Arc::new(book.clone())));
        let voters: Vec<_> = (1..=plan.options.voters).map(ReplicaId).collect();
        let machines: BTreeMap<_, _> = voters.iter().map(|id| (*id, Machine::new(*id, &plan))).collect();
        // Not the product's bug but the simulator's own: does anybody see it?
        let is_fence_off = hooks::is_planted("m24");
        machines.values().for_each(|machine: &Machine| machine.disk.set_fence_off(is_fence_off));
        let inner = Inner {
            machines,
            atlas: Atlas::new(voters.iter().copied()),
            restarts: BTreeMap::new(),
            faults: BTreeMap::new(),
            is_healed: false,
            core: BTreeSet::new(),
        };
        let around = Surroundings { plan, network, book, trace: run.trace };
        Self { around, inner: Arc::new(Mutex::new(inner)), begun: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic holds it")
    }

    fn plan(&self) -> &Plan {
        &self.around.plan
    }

    /// Something that the world did; a fault of that kind.
    fn note(&self, node: ReplicaId, kind: &'static str) {
        *self.lock().faults.entry(kind).or_default() += 1;
        self.around.trace.event(self.begun.elapsed(), node.0, "fault", format_args!("{kind}"));
    }

    async fn play(&self) -> Result<(), Failure> {
        drop(tokio::spawn(self.around.network.clone().dispatch()));
        let ids: Vec<_> = self.lock().machines.keys().copied().collect();
        ids.into_iter().for_each(|id| self.start(id));
        drop(tokio::spawn(self.clone().bring_about()));
        let clients = clients::run_all(&self.around.plan, &self.around.network, &self.around.book);
        self.look_after(Duration::from_millis(self.plan().options.safety_ms)).await?;
        clients.abort();
        self.look_after(Duration::from_millis(self.plan().options.quiet_ms)).await?;
        self.heal();
        self.check_alive("after healing", &self.core(), ending::PROBER).await?;
        self.check_idle().await?;
        self.cycle_power().await?;
        self.take_survivors().await
    }

    /// Lets time go by; starts nodes again that stopped for a reason.
    async fn look_after(&self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep(ROUND.min(until - Instant::now())).await;
            self.look()?;
        }
        Ok(())
    }

    /// Looks once after everything.
    fn look(&self) -> Result<(), Failure> {
        self.check_disks()?;
        if let Some(violation) = self.around.book.violation() {
            return Err(violation.into());
        }
        let ends: Vec<_> = {
            let inner = self.lock();
            let ended =
                inner.machines.values().filter(|machine| !machine.is_fenced).filter_map(|machine| {
                    machine.life.as_ref().and_then(machine::Life::end).map(|end| (machine.id, end))
                });
            ended.collect()
        };
        for (id, end) in ends {
            self.handle_end(id, end)?;
        }
        let due: Vec<_> = {
            let mut inner = self.lock();
            let now = Instant::now();
            let due: Vec<_> = inner.restarts.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
            due.iter().for_each(|id| _ = inner.restarts.remove(id));
            due
        };
        due.into_iter().for_each(|id| self.start(id));
        self.welcome_back();
        Ok(())
    }

    /// No life that is over has changed a disk: else nothing that was seen proves anything.
    fn check_disks(&self) -> Result<(), Failure> {
        for (id, machine) in &self.lock().machines {
            if let Err(changes) = machine.disk.check() {
                let detail = format!("lives of node {id} that were over changed its disk {changes} times");
                return Err(Failure { kind: FailureKind::Harness, checker: "disk".to_owned(), detail });
            }
        }
        Ok(())
    }

    /// A node ended of itself: that is well if something explains it.
    fn handle_end(&self, id: ReplicaId, end: End) -> Result<(), Failure> {
        let (is_damaged, failed) = {
            let inner = self.lock();
            let machine = &inner.machines[&id];
            (inner.atlas.damaged().contains(&id), machine.disk.failed())
        };
        let is_explained = is_damaged || failed.is_some() || matches!(end, End::Stopped(Stopped::Asked));
        if !is_explained {
            let detail = match end {
                End::Refused(why) | End::Unopened(why) => {
                    format!("node {id} does not start, and nothing explains it: {why}")
                }
                End::Stopped(why) => format!("node {id} stopped, and nothing explains it: {why}"),
            };
            let (kind, checker) = (FailureKind::Correctness, "stopped".to_owned());
            return Err(Failure { kind, checker, detail });
        }
        match (&end, failed) {
            (End::Refused(_), _) if is_damaged => self.around.book.mark("rot_refused_at_start"),
            (End::Stopped(Stopped::Store(_)), Some(Failing::Operation(DiskOperation::Sync))) => {
                self.around.book.mark("sync_error_stops");
            }
            (_, Some(Failing::Full)) => {
                self.lock().machines.get_mut(&id).expect("every voter has one").was_full = true;
            }
            _ => {}
        }
        self.around.trace.event(self.begun.elapsed(), id.0, "ended", format_args!("{}", word(&end)));
        // A damaged machine waits for a human; any other is started again.
        self.cut_power(id, Keep::All);
        match is_damaged {
            true => self.put_out(id),
            false => self.restart_later(id),
        }
        Ok(())
    }

    /// Those whose disk was full, and that serve again.
    fn welcome_back(&self) {
        let mut inner = self.lock();
        let machines = inner.machines.values_mut().filter(|machine| machine.was_full && !machine.disk.is_full());
        machines.filter(|machine| machine.handle().is_some()).for_each(|machine| {
            machine.was_full = false;
            self.around.book.mark("disk_full_then_recovery");
        });
    }

    /// A machine is kept down from now on.
    fn put_out(&self, id: ReplicaId) {
        self.lock().machines.get_mut(&id).expect("every voter has one").is_out = true;
    }

    fn restart_later(&self, id: ReplicaId) {
        let number = chance::number(self.plan().seed, "restart", &[id.0, self.begun.elapsed().as_micros() as u64]);
        let after = RESTART_MS.start + number % (RESTART_MS.end - RESTART_MS.start);
        self.lock().restarts.insert(id, Instant::now() + Duration::from_millis(after));
    }

    /// Switches a machine on, unless it is on, or has to stay out.
    fn start(&self, id: ReplicaId) {
        let around = self.around.clone();
        let mut inner = self.lock();
        let is_in_core = !inner.is_healed || inner.core.contains(&id);
        let machine = inner.machines.get_mut(&id).expect("every voter has one");
        if machine.life.is_none() && !machine.is_out && is_in_core {
            machine.start(&around);
            around.trace.event(self.begun.elapsed(), id.0, "start", format_args!("life"));
        }
    }

    /// Cuts a machine's power: nothing of what it does from now on has an effect; its disk keeps what it likes.
    fn cut_power(&self, id: ReplicaId, keep: Keep) {
        let mut inner = self.lock();
        inner.restarts.remove(&id);
        let machine = inner.machines.get_mut(&id).expect("every voter has one");
        if machine.life.is_none() {
            return;
        }
        machine.fence(&self.around);
        machine.disk.crash(keep);
        machine.bury();
        drop(inner);
        self.around.trace.event(self.begun.elapsed(), id.0, "crash", format_args!("{keep:?}"));
    }

    fn core(&self) -> BTreeSet<ReplicaId> {
        self.lock().core.clone()
    }

    fn verdict(&self, failure: Option<Failure>) -> Verdict {
        let mut faults = self.lock().faults.clone();
        let disks: Vec<_> = self.lock().machines.values().map(|machine| machine.disk.counts()).collect();
        let others = disks.into_iter().chain([self.around.network.counts()]);
        others.flatten().for_each(|(kind, count)| *faults.entry(kind).or_default() += count);
        for (kind, mark) in [("disk: sector torn", "torn_sector"), ("disk: length dropped", "pending_length_dropped")] {
            if faults.contains_key(kind) {
                self.around.book.mark(mark);
            }
        }
        let judged = match failure.or(self.check_disks().err()) {
            Some(failure) => Err(failure),
            None => self.around.book.finish().map_err(Failure::from),
        };
        let (failure, report) = match judged {
            Ok(report) => (None, report),
            Err(failure) => (Some(failure), Default::default()),
        };
        let marks = self.around.book.marks();
        Verdict { failure, trace: self.around.trace.hash(), simulated: self.begun.elapsed(), faults, marks, report }
    }
}

fn word(end: &End) -> String {
    match end {
        End::Refused(why) | End::Unopened(why) => format!("not opened: {why}"),
        End::Stopped(why) => why.to_string(),
    }
}
