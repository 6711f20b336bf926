//! Where everything that can be judged is seen, in the order in which it happened: [`Observer::see`] is called for each
//! thing that a replica applied, installed or answered, and for each thing that it was asked. It puts that into the words of
//! the checkers; what they can tell at once ends the run there, the rest is told by [`Observer::verdict`].

use std::collections::{BTreeMap, BTreeSet};

use tombola::{
    api::Read,
    durable::Entry,
    pool::{Command, Limits, Outcome, PoolId, Query, RequestKey, StateMachine},
    replica::{ProposalId, ProposalResult, ReadId, Status},
    types::{HistoryDigest, Index, ReplicaId},
};
use tombola_sim::check::{Ask, CallId, History, Incarnation, Moment, Report, Told};

/// One thing that happened at a replica.
#[derive(Debug)]
pub enum Seen<'a> {
    /// It started, from a snapshot at this index.
    Started { at: Index },
    /// It applied an entry. The history digest there holds what every replica answered.
    Applied { entry: &'a Entry, history: HistoryDigest },
    /// A peer's snapshot took the place of its state.
    Installed { at: Index },
    /// It came to rest after an input.
    Rested { status: &'a Status },
    /// It took a snapshot of its own.
    Snapshot { index: Index, body_sha256: [u8; 32] },
    /// A client's command was given to it.
    Proposed { id: ProposalId, command: &'a Command },
    /// It answered that.
    Answered { id: ProposalId, result: &'a ProposalResult },
    /// A client asked it for a read.
    ReadAsked { id: ReadId },
    /// It served that from this state.
    ReadServed { id: ReadId, machine: &'a StateMachine },
    /// All faults are healed, and this is what it has.
    Survived { machine: &'a StateMachine },
}

/// What was seen, and who waits for what.
pub struct Observer {
    history: History,
    /// How many things were seen: the clock that calls are timed by.
    seen: u64,
    /// Which life each replica is in.
    lives: BTreeMap<ReplicaId, u64>,
    /// Which call a proposal belongs to, and what it asks for.
    proposals: BTreeMap<ProposalId, (CallId, PoolId, RequestKey)>,
    /// Which call a read belongs to, and what it asks for.
    reads: BTreeMap<ReadId, (CallId, Query)>,
    /// The outcome told for a command, by whoever was first.
    pub told: BTreeMap<(PoolId, RequestKey), Outcome>,
    pub reads_served: usize,
    /// Replicas whose disk was damaged on purpose: what they do is not judged, and they may stop.
    pub damaged: BTreeSet<ReplicaId>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            history: History::new(Limits::default()),
            seen: 0,
            lives: BTreeMap::new(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            told: BTreeMap::new(),
            reads_served: 0,
            damaged: BTreeSet::new(),
        }
    }
}

impl Observer {
    /// # Panics
    /// If it breaks a promise that needs no model to be seen broken.
    pub fn see(&mut self, replica: ReplicaId, seen: &Seen<'_>) {
        if self.damaged.contains(&replica) {
            return;
        }
        self.seen += 1;
        let now = Moment(self.seen);
        match seen {
            Seen::Started { at } => {
                *self.lives.entry(replica).or_default() += 1;
                self.history.restored(self.life(replica), *at);
            }
            Seen::Installed { at } => self.history.restored(self.life(replica), *at),
            Seen::Applied { entry, history } => self.history.applied(self.life(replica), entry, *history),
            Seen::Rested { status } => self.history.status(self.life(replica), status),
            Seen::Snapshot { index, body_sha256 } => self.history.snapshot(self.life(replica), *index, *body_sha256),
            Seen::Proposed { id, command } => {
                let call = self.history.invoke(now, Ask::Request((*command).clone()));
                self.proposals.insert(*id, (call, command.pool.clone(), command.key));
            }
            Seen::Answered { id, result } => self.answered(now, *id, result),
            Seen::ReadAsked { id } => {
                let query = self.some_query(*id);
                let call = self.history.invoke(now, Ask::Read(query.clone()));
                self.reads.insert(*id, (call, query));
            }
            Seen::ReadServed { id, machine } => {
                let (call, query) = &self.reads[id];
                self.history.tell(now, *call, Told::Read(read(machine, query)));
                self.reads_served += 1;
            }
            Seen::Survived { machine } => self.survived(now, replica, machine),
        }
        if let Some(violation) = self.history.violation() {
            panic!("{violation}");
        }
    }

    /// Has all that was seen judged.
    ///
    /// # Panics
    /// If it breaks a promise.
    pub fn verdict(&mut self) -> Report {
        let history = std::mem::replace(&mut self.history, History::new(Limits::default()));
        history.finish().unwrap_or_else(|violation| panic!("{violation}"))
    }

    fn life(&self, replica: ReplicaId) -> Incarnation {
        Incarnation { replica, number: self.lives[&replica] }
    }

    fn answered(&mut self, now: Moment, id: ProposalId, result: &ProposalResult) {
        let (call, pool, key) = &self.proposals[&id];
        match result {
            ProposalResult::Applied(outcome) => {
                self.told.entry((pool.clone(), *key)).or_insert_with(|| outcome.clone());
                self.history.tell(now, *call, Told::Outcome(outcome.clone()));
            }
            ProposalResult::NotProposed => self.history.tell(now, *call, Told::NotApplied),
            // It may be applied yet: its sender knows nothing.
            ProposalResult::Superseded => {}
        }
    }

    /// The pool, the list of pools, or what became of a command.
    fn some_query(&self, id: ReadId) -> Query {
        let asked = self.proposals.values().nth(id.0 as usize % self.proposals.len().max(1));
        match asked {
            Some((_, pool, key)) if id.0 % 3 == 0 => Query::Outcome(pool.clone(), *key),
            _ if id.0 % 3 == 1 => Query::first_pools(),
            _ => Query::Pool(PoolId::default_pool()),
        }
    }

    /// Asks a replica for all that it has, and for every command that anybody was told of.
    fn survived(&mut self, now: Moment, replica: ReplicaId, machine: &StateMachine) {
        let told = self.told.keys().map(|(pool, key)| Query::Outcome(pool.clone(), *key));
        for query in told.chain([Query::Pool(PoolId::default_pool()), Query::Verify]) {
            let call = self.history.invoke(now, Ask::StaleRead(query.clone()));
            self.history.tell(now, call, Told::Read(read(machine, &query)));
        }
        self.history.survived(replica, machine.digests());
    }
}

fn read(machine: &StateMachine, query: &Query) -> Read {
    Read { index: machine.applied(), now: machine.now(), answer: machine.query(query) }
}
