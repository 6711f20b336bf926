//! What was seen of a cluster, and the verdict on it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use tombola::{
    api::{Answered, Read},
    durable::Entry,
    pool::{Action, Actor, Answer, Command, Digests, KeyOrigin, Limits, Outcome, PoolId, Query, RequestKey},
    replica::Status,
    types::{HistoryDigest, Index, ReplicaId},
};

use super::{
    Incarnation, Moment, Violation,
    digest::DigestCheck,
    draw::Tally,
    durable::DurableCheck,
    ledger::{Ledger, Recorded},
    linear::LinearCheck,
    once::Once,
    phantom::PhantomCheck,
    raft::RaftCheck,
    stock::StockCheck,
};
use crate::model::{Decision, Model};

/// Names a call; in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub usize);

/// What a caller asks for, each time it does.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A request. Sent again under its key, it is another call.
    Request(Command),
    /// A request without a key: whoever accepts it makes one.
    Keyless(Keyless),
    /// A linearizable read.
    Read(Query),
    /// A read of one node's own state.
    StaleRead(Query),
}

/// A request without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyless {
    /// The pool.
    pub pool: PoolId,
    /// Who asks.
    pub actor: Actor,
    /// For what.
    pub action: Action,
}

impl Keyless {
    /// The command that it became.
    fn under(&self, key: RequestKey) -> Command {
        let Self { pool, actor, action } = self.clone();
        Command { pool, key, origin: KeyOrigin::Server, actor, action }
    }
}

/// What a caller is told. A call that is never told anything may or may not have been applied.
#[derive(Clone, Debug)]
pub enum Told {
    /// A request's outcome.
    Outcome(Outcome),
    /// The same, and under which key: of a keyless request nothing else says.
    Answered(Answered),
    /// That a keyless request may have been applied, under this key.
    MaybeUnder(RequestKey),
    /// A read's answer.
    Read(Read),
    /// Surely not applied.
    NotApplied,
}

/// A call, and what came of it.
#[derive(Debug)]
struct Call {
    ask: Ask,
    invoked: Moment,
    told: Option<(Moment, Told)>,
}

/// When it returned, and with what; if it did.
type Returned = Option<(Moment, Outcome)>;

impl Call {
    /// The command that it sent, if it is a request whose key is known; and its outcome, if it was told.
    fn as_command(&self) -> Option<(Cow<'_, Command>, Returned)> {
        let told = self.told.as_ref();
        match &self.ask {
            Ask::Request(command) => {
                let returned = told.and_then(|(at, told)| match told {
                    Told::Outcome(outcome) | Told::Answered(Answered { outcome, .. }) => Some((*at, outcome.clone())),
                    _ => None,
                });
                Some((Cow::Borrowed(command), returned))
            }
            Ask::Keyless(keyless) => match told? {
                (at, Told::Answered(Answered { key, outcome })) => {
                    Some((Cow::Owned(keyless.under(*key)), Some((*at, outcome.clone()))))
                }
                (_, Told::MaybeUnder(key)) => Some((Cow::Owned(keyless.under(*key)), None)),
                _ => None,
            },
            Ask::Read(_) | Ask::StaleRead(_) => None,
        }
    }
}

/// What was seen of a cluster.
#[derive(Debug)]
pub struct History {
    limits: Limits,
    draws_unfairly: bool,
    ledger: Ledger,
    digests: DigestCheck,
    raft: RaftCheck,
    calls: Vec<Call>,
    /// What the cluster asks of itself, as often as it likes.
    own: Vec<Keyless>,
    survivors: BTreeMap<ReplicaId, Digests>,
    /// The first one seen while the history went on.
    violation: Option<Violation>,
}

/// What a history that breaks no promise had in it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Entries applied.
    pub entries: usize,
    /// Commands in them.
    pub commands: usize,
    /// Keys executed.
    pub executed: usize,
    /// Outcomes told, replays too.
    pub outcomes: usize,
    /// Reads answered.
    pub reads: usize,
    /// Steps of draws: to be merged with those of other histories, and judged.
    pub draws: Tally,
}

impl History {
    /// Of a cluster founded with these limits; nothing seen yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            draws_unfairly: false,
            ledger: Ledger::default(),
            digests: DigestCheck::default(),
            raft: RaftCheck::default(),
            calls: Vec::new(),
            own: Vec::new(),
            survivors: BTreeMap::new(),
            violation: None,
        }
    }

    /// A replica starts from, or installs, a state of that index: its founding one, or a snapshot.
    pub fn restored(&mut self, who: Incarnation, at: Index) {
        let result = self.ledger.restore(who, at);
        self.note(result);
    }

    /// A replica applies an entry.
    pub fn applied(&mut self, who: Incarnation, entry: &Entry) {
        let recorded = Recorded { term: entry.term, data: entry.data.clone() };
        let result = self.ledger.apply(who, entry.index, recorded);
        self.note(result);
    }

    /// A replica has this history at an index that it has applied.
    pub fn chained(&mut self, who: Incarnation, index: Index, history: HistoryDigest) {
        let result = self.digests.history(who, index, history);
        self.note(result);
    }

    /// A replica has these digests.
    pub fn digested(&mut self, who: Incarnation, Digests { index, history, state }: Digests) {
        self.chained(who, index, history);
        let result = self.digests.state(who, index, state);
        self.note(result);
    }

    /// A replica has a snapshot of that index whose body has that SHA-256.
    pub fn snapshot(&mut self, who: Incarnation, index: Index, sha256: [u8; 32]) {
        let result = self.digests.snapshot(who, index, sha256);
        self.note(result);
    }

    /// A replica shows its status.
    pub fn status(&mut self, who: Incarnation, status: &Status) {
        let result = self.raft.observe(who, status);
        self.note(result);
        self.digested(who, status.digests);
    }

    /// The cluster may ask this of itself, as often as it likes.
    pub fn may_ask_itself(&mut self, own: Keyless) {
        self.own.push(own);
    }

    /// The cluster draws as unfairly as the planted bug m16 makes it: nothing but the fairness of its draws shall tell.
    pub fn expect_unfair_draws(&mut self) {
        self.draws_unfairly = true;
    }

    /// A caller asks for something.
    pub fn invoke(&mut self, at: Moment, ask: Ask) -> CallId {
        self.calls.push(Call { ask, invoked: at, told: None });
        CallId(self.calls.len() - 1)
    }

    /// A caller is told something, once.
    ///
    /// # Panics
    /// If it was told before: whoever watches has mixed up its calls.
    pub fn tell(&mut self, at: Moment, call: CallId, told: Told) {
        if let (Ask::Request(command), Told::Answered(answered)) = (&self.calls[call.0].ask, &told)
            && command.key != answered.key
        {
            let detail = format!("key {} is answered as if it were {}", command.key, answered.key);
            self.note(Err(Violation { checker: "once", invariant: "exactly once", detail }));
        }
        let before = self.calls[call.0].told.replace((at, told));
        assert!(before.is_none(), "call {} is answered once", call.0);
    }

    /// After the last power cycle, with all faults healed and all that was sent settled, a replica has these digests.
    pub fn survived(&mut self, replica: ReplicaId, digests: Digests) {
        self.survivors.insert(replica, digests);
    }

    /// What was found so far, without the model.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn note(&mut self, result: Result<(), Violation>) {
        self.violation = self.violation.take().or(result.err());
    }

    /// Judges it all: goes through the ledger with the model, then through what callers were told.
    ///
    /// # Errors
    /// The first promise found broken.
    pub fn finish(self) -> Result<Report, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let mut judge = Judge::of(&self.calls, &self.own);
        let mut model = Model::founding(self.limits);
        if self.draws_unfairly {
            model.draw_unfairly();
        }
        judge.replay(&self.ledger, &self.digests, model)?;
        judge.check_answers(&self.calls, self.survivors)
    }
}

/// The checkers that need the model.
#[derive(Default)]
struct Judge<'a> {
    once: Once,
    stock: StockCheck,
    linear: LinearCheck,
    durable: DurableCheck,
    phantom: PhantomCheck,
    /// Reads that were answered, by the index they were served at.
    reads: BTreeMap<Index, Vec<(CallId, &'a Call, &'a Read)>>,
    report: Report,
}

impl<'a> Judge<'a> {
    /// Takes the calls in: what the ledger may have, and which reads to look at on the way.
    fn of(calls: &'a [Call], own: &[Keyless]) -> Self {
        let mut judge = Self::default();
        own.iter().for_each(|own| judge.phantom.may_be_the_cluster_s_own(own));
        for (number, call) in calls.iter().enumerate() {
            let told = call.told.as_ref().map(|(_, told)| told);
            match (&call.ask, told) {
                (Ask::Request(command), told) => judge.phantom.sent(command, told),
                (Ask::Keyless(keyless), told) => judge.phantom.sent_keyless(keyless, told),
                (_, Some(Told::Read(read))) => {
                    judge.reads.entry(read.index).or_default().push((CallId(number), call, read));
                }
                _ => {}
            }
        }
        judge
    }

    fn replay(&mut self, ledger: &Ledger, digests: &DigestCheck, mut model: Model) -> Result<(), Violation> {
        self.visit(&model, digests, &[])?;
        for entry in ledger.entries() {
            let draws = &mut self.report.draws;
            let decisions = model.apply_seeing(&entry.data, &mut |spin| draws.add(spin));
            self.report.entries += 1;
            self.report.commands += decisions.len();
            for decision in &decisions {
                self.phantom.decide(decision)?;
                self.once.decide(decision)?;
                self.stock.decide(decision)?;
                self.linear.decide(decision);
            }
            self.visit(&model, digests, &decisions)?;
        }
        match self.reads.keys().next() {
            Some(index) => {
                let detail =
                    format!("a read was served at {index}, and nobody has applied more than {}", ledger.last());
                Err(Violation { checker: "linear", invariant: "linearizable", detail })
            }
            None => Ok(()),
        }
    }

    /// Looks at the model's state after an entry, and at whoever read or showed it.
    fn visit(&mut self, model: &Model, digests: &DigestCheck, decisions: &[Decision]) -> Result<(), Violation> {
        let index = model.applied();
        digests.judge(index, model.history())?;
        self.durable.judge(index, model.history());
        let touched: BTreeSet<&PoolId> = decisions.iter().map(|decision| &decision.command.pool).collect();
        for pool in touched {
            if let Answer::Pool(state) = model.answer_query(&Query::Pool(pool.clone())) {
                self.stock.look(index, &state)?;
            }
        }
        for (id, call, read) in self.reads.remove(&index).unwrap_or_default() {
            self.read(model, id, call, read)?;
        }
        Ok(())
    }

    fn read(&mut self, model: &Model, id: CallId, call: &Call, read: &Read) -> Result<(), Violation> {
        self.report.reads += 1;
        if let Answer::Pool(state) = &read.answer {
            self.stock.look(read.index, state)?;
        }
        let returned = call.told.as_ref().map(|(returned, _)| *returned);
        let (query, span) = match &call.ask {
            Ask::Read(query) => (query, returned.map(|returned| (call.invoked, returned))),
            Ask::StaleRead(query) => (query, None),
            Ask::Request(_) | Ask::Keyless(_) => panic!("call {} is no read", id.0),
        };
        let expected = (&model.answer_query(query), model.now());
        self.linear.read(id, read, expected, span)
    }

    fn check_answers(mut self, calls: &[Call], survivors: BTreeMap<ReplicaId, Digests>) -> Result<Report, Violation> {
        for call in calls {
            let Some((command, returned)) = call.as_command() else { continue };
            if let Some((_, outcome)) = &returned {
                self.report.outcomes += 1;
                self.once.answer(&command, outcome)?;
                self.stock.answer(&command, outcome)?;
                self.durable.answer(&command, outcome);
            }
            self.linear.sent(&command, call.invoked, returned);
        }
        self.linear.finish()?;
        survivors.into_iter().for_each(|(replica, digests)| self.durable.survive(replica, digests));
        self.durable.finish()?;
        self.report.executed = self.once.executed();
        Ok(self.report)
    }
}
