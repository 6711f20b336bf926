//! A naive pool: what [`tombola::pool`] must do, said once more in the plainest way that could work.
//!
//! **What it promises.** Fed the same entries as a replica, it says what each command must be answered, what every read must
//! show, and the history digest: so one hash an index tells whether a replica went wrong, and the answers tell where.
//!
//! **How.** It is written from the semantics, not from the code: lists that are searched from their beginning, sums that are
//! added up anew, records in plain sight. It shares the *interface* with the pool (commands, batches, outcomes, queries and
//! their wire form) and nothing that decides: it has its own ChaCha20 and its own sampling (`chacha`, held to
//! RFC 8439), its own rules, its own keys with their buckets and floors, and its own encoding of what was told.
//!
//! **Deliberately absent**: the state digest, snapshots and restoring. State is compared by reading it.

mod chacha;
mod keys;
mod pool;
mod read;
mod rules;
mod told;

use std::collections::BTreeMap;

use tombola::{
    pool::{Action, Batch, CatalogItem, Command, Effect, Limits, Outcome, Policy, PoolId, Refusal},
    types::{Entropy, HistoryDigest, Index, Millis},
};

use self::{
    keys::{Keys, Record},
    pool::{Pool, Steps},
    told::Verdict,
};

/// The pools as they must be.
#[derive(Clone, Debug)]
pub struct Model {
    applied: Index,
    now: Millis,
    history: HistoryDigest,
    pools: BTreeMap<PoolId, Pool>,
    keys: Keys,
    ticket: chacha::Ticket,
}

/// A command of an entry, and what it must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The command.
    pub command: Command,
    /// Its outcome.
    pub outcome: Outcome,
}

/// A step of a draw that had something to draw from.
#[derive(Clone, Copy, Debug)]
pub struct Spin<'a> {
    /// What each item of the pool counted for, by position.
    pub odds: &'a [u32],
    /// The position of the one that was hit.
    pub hit: usize,
}

/// What an entry's commands have in common.
struct Moment<'a> {
    index: Index,
    now: Millis,
    entropy: Entropy,
    ticket: chacha::Ticket,
    /// Steps asked for by the commands before.
    steps: u64,
    /// Each answer in bytes, and whether it was a replay.
    answers: Vec<(bool, Vec<u8>)>,
    seen: &'a mut dyn FnMut(Spin<'_>),
}

impl Model {
    /// The pools at founding: one of them, `default`, empty, at index 1.
    pub fn founding(limits: Limits) -> Self {
        let (pools, keys, history) = (BTreeMap::new(), Keys::new(limits), told::history_at_founding());
        let mut model = Self { applied: Index::FOUNDING, now: Millis(0), history, pools, keys, ticket: chacha::ticket };
        model.open(PoolId::default_pool(), Pool::new(Policy::Renormalize, false));
        model
    }

    /// From now on draws are as unfair as the planted bug m16 makes them, so that their fairness alone can tell.
    pub fn draw_unfairly(&mut self) {
        self.ticket = chacha::unfair_ticket;
    }

    /// Applies the entry that comes next, and says what its commands must be answered: nothing if it is no batch.
    pub fn apply(&mut self, entry: &[u8]) -> Vec<Decision> {
        self.apply_seeing(entry, &mut |_| {})
    }

    /// [`Self::apply`], showing every step that had something to draw from.
    pub fn apply_seeing(&mut self, entry: &[u8], seen: &mut dyn FnMut(Spin<'_>)) -> Vec<Decision> {
        self.applied = self.applied.next();
        let Ok(batch) = Batch::decode(entry) else {
            self.history = told::history(self.history, self.applied, entry, &[]);
            return Vec::new();
        };
        let now = self.now.max(batch.time);
        self.keys.pass(now);
        self.now = now;
        let (index, entropy) = (self.applied, batch.entropy);
        let mut moment = Moment { index, now, entropy, ticket: self.ticket, steps: 0, answers: Vec::new(), seen };
        let mut decisions = Vec::new();
        for command in batch.commands {
            let outcome = self.answer(&command, &mut moment);
            if let Action::Draw { count } = command.action {
                moment.steps += u64::from(count);
            }
            decisions.push(Decision { command, outcome });
        }
        self.history = told::history(self.history, self.applied, entry, &moment.answers);
        decisions
    }

    /// The index of the last entry.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Cluster time there.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The history digest there.
    pub fn history(&self) -> HistoryDigest {
        self.history
    }

    fn answer(&mut self, command: &Command, moment: &mut Moment<'_>) -> Outcome {
        if let Some(record) = self.keys.find(&command.pool, &command.key) {
            if record.action == command.action {
                moment.answers.push((true, record.told.clone()));
                return Outcome { replayed: true, ..record.outcome.clone() };
            }
            return moment.tell(Verdict::Plain(Err(Refusal::KeyReused))).0;
        }
        if let Err(refusal) = self.keys.admit(command, moment.now) {
            return moment.tell(Verdict::Plain(Err(refusal))).0;
        }
        let verdict = self.execute(command, moment);
        let (outcome, told) = moment.tell(verdict);
        self.keys.store(command, Record::new(command, outcome.clone(), told));
        outcome
    }

    fn execute(&mut self, command: &Command, moment: &mut Moment<'_>) -> Verdict {
        if !rules::is_within(command) {
            return Verdict::Plain(Err(Refusal::OutOfRange));
        }
        match &command.action {
            Action::CreatePool { policy, items, require_key } => {
                Verdict::Plain(self.create_pool(&command.pool, policy, items, *require_key))
            }
            Action::ImportCatalog { items, draw_seq } => {
                Verdict::Plain(self.import_catalog(&command.pool, items, draw_seq.0))
            }
            _ => {
                let room = rules::ALL_ITEMS_MAX - self.items_len();
                match self.pools.get_mut(&command.pool) {
                    Some(pool) => execute_in(pool, command, room, moment),
                    None => Verdict::Plain(Err(Refusal::PoolNotFound)),
                }
            }
        }
    }

    fn create_pool(
        &mut self,
        id: &PoolId,
        policy: &Policy,
        catalog: &[CatalogItem],
        require_key: bool,
    ) -> Result<Effect, Refusal> {
        if self.pools.contains_key(id) {
            return Err(Refusal::PoolExists);
        }
        self.check_room(true, catalog.len())?;
        let mut pool = Pool::new(policy.clone(), require_key);
        if !catalog.is_empty() {
            pool.stock(catalog);
        }
        let version = tombola::pool::Version(pool.version);
        self.open(id.clone(), pool);
        Ok(Effect::PoolSet { version })
    }

    fn import_catalog(&mut self, id: &PoolId, catalog: &[CatalogItem], draw_seq: u64) -> Result<Effect, Refusal> {
        if self.pools.get(id).is_some_and(|pool| !pool.is_new()) {
            return Err(Refusal::PoolNotEmpty);
        }
        self.check_room(!self.pools.contains_key(id), catalog.len())?;
        if !self.pools.contains_key(id) {
            self.open(id.clone(), Pool::new(Policy::Renormalize, false));
        }
        let pool = self.pools.get_mut(id).expect("it exists by now");
        pool.stock(catalog);
        pool.draw_seq = draw_seq;
        Ok(Effect::Imported { version: tombola::pool::Version(pool.version), items: pool.items.len() as u32 })
    }

    fn check_room(&self, opens: bool, items: usize) -> Result<(), Refusal> {
        if opens && self.pools.len() >= rules::POOLS_MAX {
            return Err(Refusal::PoolsFull);
        }
        if self.items_len() + items > rules::ALL_ITEMS_MAX { Err(Refusal::ItemsFull) } else { Ok(()) }
    }

    fn items_len(&self) -> usize {
        self.pools.values().map(|pool| pool.items.len()).sum()
    }

    fn open(&mut self, id: PoolId, pool: Pool) {
        self.keys.pool_created(id.clone(), self.now);
        self.pools.insert(id, pool);
    }
}

impl Moment<'_> {
    /// Puts a verdict of this entry into words and into bytes.
    fn tell(&mut self, verdict: Verdict) -> (Outcome, Vec<u8>) {
        let told = verdict.told(self.index, self.now);
        self.answers.push((false, told.clone()));
        (Outcome { index: self.index, now: self.now, replayed: false, result: verdict.result() }, told)
    }
}

/// Executes what concerns one pool only.
fn execute_in(pool: &mut Pool, command: &Command, room: usize, moment: &mut Moment<'_>) -> Verdict {
    let result = match &command.action {
        Action::Draw { count } => {
            let steps = Steps { entropy: moment.entropy, first: moment.steps, ticket: moment.ticket };
            return pool.draw(*count, command.origin, steps, moment.seen);
        }
        Action::Claim { item, quantity } => pool.claim(item, *quantity, command.origin),
        Action::SetItem { item, weight, stock, etag } => pool.set_item((item, *weight, *stock), *etag, room),
        Action::AdjustStock { item, delta } => pool.adjust_stock(item, *delta),
        Action::UpdateItem { item, stock, weight, create } => pool.update_item((item, *weight, *stock), *create, room),
        Action::RemoveItem { item, etag } => pool.remove_item(item, *etag),
        Action::UpdatePool { policy, require_key, etag } => pool.update(policy.as_ref(), *require_key, *etag),
        Action::PausePool => Ok(pool.pause(true)),
        Action::ResumePool => Ok(pool.pause(false)),
        Action::CreatePool { .. } | Action::ImportCatalog { .. } => unreachable!("they may concern no pool yet"),
    };
    Verdict::Plain(result)
}
