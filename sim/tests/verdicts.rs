//! A whole history, judged: a small cluster that does what it should, and the same with one thing wrong at a time.

use bytes::Bytes;
use tombola::{
    api::Read,
    durable::{Entry, EntryKind},
    pool::{
        Action, Actor, Batch, CatalogItem, Command, Effect, KeyOrigin, Limits, Outcome, PoolId, Query, RequestKey,
        StateMachine, Step, Stock, Weight,
    },
    types::{Entropy, Index, Millis, ReplicaId, Term},
};
use tombola_sim::check::{Ask, History, Incarnation, Moment, Report, Told, Violation};

const ROUNDS: u8 = 12;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A replica's machine has other limits than the cluster was founded with.
    Limits,
    /// All machines get other entropy than the ledger has.
    Entropy,
    /// A follower applies other bytes.
    Fork,
    /// A follower leaves one out.
    Gap,
    /// A draw is told as one that gave nothing.
    ToldAsLost,
    /// The same request is told to be decided twice.
    ToldTwice,
    /// A read is served before what had returned.
    OldRead,
    /// A read shows a pool as it was.
    FalseRead,
    /// A read is served at an index that nobody has applied.
    ReadAhead,
    /// A request that was told to be surely not applied is.
    Failed,
    /// A request that nobody made is applied.
    Invented,
    /// All that is left is without the last entry.
    Lost,
    /// Decided in another order than told.
    Reordered,
}

fn life(replica: u64) -> Incarnation {
    Incarnation { replica: ReplicaId(replica), number: 1 }
}

fn command(number: u8, action: Action) -> Command {
    let key = RequestKey::new(Millis(1_000), [number; 10]);
    Command { pool: PoolId::default_pool(), key, origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

fn catalog() -> Command {
    let item = |id: &str, stock, weight| CatalogItem { item: id.parse().unwrap(), stock, weight: Weight(weight) };
    let items = vec![item("gold", Stock::Finite(3), 10), item("mud", Stock::Unlimited, 20)];
    command(0, Action::ImportCatalog { items, draw_seq: Default::default() })
}

/// Three replicas in step, and one caller.
struct Cluster {
    wrong: Wrong,
    history: History,
    machine: StateMachine,
    clock: u64,
    told: Vec<Outcome>,
}

impl Cluster {
    fn new(wrong: Wrong) -> Self {
        let machine = StateMachine::founding(match wrong {
            Wrong::Limits => Limits { keys_age_ms_max: 1, ..Limits::default() },
            _ => Limits::default(),
        });
        let mut history = History::new(Limits::default());
        (1..=3).for_each(|replica| history.restored(life(replica), Index::FOUNDING));
        Self { wrong, history, machine, clock: 0, told: Vec::new() }
    }

    fn now(&mut self) -> Moment {
        self.clock += 1;
        Moment(self.clock)
    }

    /// Is this the round in which it goes wrong?
    fn is(&self, wrong: Wrong, number: u8) -> bool {
        self.wrong == wrong && number == 7
    }

    fn request(&mut self, number: u8, command: Command) {
        let asked = self.now();
        let call = self.history.invoke(asked, Ask::Request(command.clone()));
        let mut commands = vec![command.clone()];
        if self.is(Wrong::Invented, number) {
            commands.push(self::command(99, Action::Draw { count: 1 }));
        }
        let mut outcome = self.apply(number, commands).remove(0);
        if self.is(Wrong::ToldAsLost, number) {
            let Ok(Effect::Drawn { steps, .. }) = &mut outcome.result else { panic!("a draw: {outcome:?}") };
            *steps = std::iter::once(Step::Miss).chain(steps.iter().skip(1).map(Step::cloned)).collect();
        }
        if self.is(Wrong::Reordered, number) {
            outcome.index = Index(outcome.index.0 - 1);
        }
        self.told.push(outcome.clone());
        let returned = self.now();
        let failed = self.is(Wrong::Failed, number);
        let told = if failed { Told::NotApplied } else { Told::Outcome(outcome.clone()) };
        self.history.tell(returned, call, told);
        if self.is(Wrong::ToldTwice, number) {
            let asked = self.now();
            let again = self.history.invoke(asked, Ask::Request(command));
            let returned = self.now();
            self.history.tell(returned, again, Told::Outcome(Outcome { now: Millis(5), ..outcome }));
        }
    }

    /// All apply an entry; replica 3 may have its own idea of it.
    fn apply(&mut self, number: u8, commands: Vec<Command>) -> Vec<Outcome> {
        let index = self.machine.applied().next();
        let batch = Batch { version: Batch::VERSION, time: Millis(1_000), entropy: Entropy([number; 32]), commands };
        let mut other = batch.clone();
        other.entropy.0[0] ^= 1;
        let entry = |batch: &Batch| {
            let data = Bytes::from(batch.encode());
            Entry { index, term: Term(2), kind: EntryKind::Normal, data }
        };
        let fed = if self.is(Wrong::Entropy, number) { &other } else { &batch };
        let outcomes = self.machine.apply(index, &fed.encode());
        let digests = self.machine.digests();
        for replica in 1..=3 {
            match replica {
                3 if self.is(Wrong::Gap, number) => continue,
                3 if self.is(Wrong::Fork, number) => self.history.applied(life(3), &entry(&other)),
                _ => self.history.applied(life(replica), &entry(&batch)),
            }
            self.history.digested(life(replica), digests);
        }
        outcomes
    }

    fn read(&mut self, number: u8) {
        let query = Query::Pool(PoolId::default_pool());
        let before = (self.machine.applied(), self.machine.query(&query));
        if !self.is(Wrong::OldRead, number) && !self.is(Wrong::FalseRead, number) {
            let asked = self.now();
            let call = self.history.invoke(asked, Ask::Read(query));
            let index = if self.is(Wrong::ReadAhead, number) { Index(before.0.0 + 90) } else { before.0 };
            let returned = self.now();
            let read = Read { index, now: self.machine.now(), answer: before.1 };
            return self.history.tell(returned, call, Told::Read(read));
        }
        self.request(50, command(50, Action::Draw { count: 1 }));
        let asked = self.now();
        let call = self.history.invoke(asked, Ask::Read(query));
        let index = if self.wrong == Wrong::OldRead { before.0 } else { self.machine.applied() };
        let returned = self.now();
        let read = Read { index, now: self.machine.now(), answer: before.1 };
        self.history.tell(returned, call, Told::Read(read));
    }
}

fn run(wrong: Wrong) -> Result<Report, Violation> {
    let mut cluster = Cluster::new(wrong);
    cluster.request(0, catalog());
    let mut before_last = cluster.machine.digests();
    for number in 1..=ROUNDS {
        before_last = cluster.machine.digests();
        cluster.request(number, command(number, Action::Draw { count: 2 }));
        cluster.read(number);
    }
    let left = if wrong == Wrong::Lost { before_last } else { cluster.machine.digests() };
    (1..=3).for_each(|replica| cluster.history.survived(ReplicaId(replica), left));
    cluster.history.finish()
}

#[test]
fn a_history_with_nothing_wrong_is_well() {
    let report = run(Wrong::Nothing).unwrap();
    let counts = [report.entries, report.commands, report.executed, report.outcomes, report.reads];
    assert_eq!(counts, [13, 13, 13, 13, 12]);
    assert_eq!(report.draws.steps(), 24);
}

#[test]
fn each_thing_that_is_wrong_is_found_by_who_looks_for_it() {
    for (wrong, checkers) in [
        (Wrong::Limits, "linear"),
        (Wrong::Entropy, "digest"),
        (Wrong::Fork, "ledger"),
        (Wrong::Gap, "ledger"),
        (Wrong::ToldAsLost, "stock"),
        (Wrong::ToldTwice, "once"),
        (Wrong::OldRead, "linear"),
        (Wrong::FalseRead, "stock"),
        (Wrong::ReadAhead, "linear"),
        (Wrong::Failed, "phantom"),
        (Wrong::Invented, "phantom"),
        (Wrong::Lost, "durable"),
        (Wrong::Reordered, "linear"),
    ] {
        let violation = run(wrong).expect_err("something is wrong");
        assert_eq!(violation.checker, checkers, "{wrong:?}: {violation}");
    }
}
