//! The state machine itself: the order in which an entry is applied, and nothing about what its commands mean.

use std::collections::BTreeMap;

use super::{
    BadSnapshot, Digests, Garbage, KeyStats, Limits,
    command::{Action, Batch, CatalogItem, Command, Policy},
    digest::{self, Answers, Record, Sum},
    draw::Tickets,
    keys::{Keys, Told, write_told},
    names::{DrawSeq, PoolId},
    outcome::{Effect, Outcome, Refusal},
    restore::Restorer,
    snapshot::SnapshotHandle,
    state::Pool,
    verdict::Verdict,
};
use crate::{
    hooks,
    types::{HistoryDigest, Index, Millis, StateDigest},
};

/// Most pools of a group.
pub const POOLS_MAX: usize = 1_024;
/// Most items of a group, removed ones too.
pub const ITEMS_MAX: usize = 1_000_000;

/// Pools, items, request keys, counters, cluster time and digests.
#[derive(Debug)]
pub struct StateMachine {
    pub(super) limits: Limits,
    pub(super) applied: Index,
    pub(super) now: Millis,
    pub(super) history: HistoryDigest,
    /// Of everything below and `now`, as of `applied`.
    pub(super) state: StateDigest,
    pub(super) pools: BTreeMap<PoolId, Pool>,
    /// Items of all pools together.
    pub(super) items_len: usize,
    pub(super) keys: Keys,
    /// The sum over the records of pools and items, as of `applied`.
    pub(super) sum: Sum,
    /// Pools whose facts or items may have changed in this entry.
    pub(super) touched: Vec<PoolId>,
}

/// What whoever has an entry applied is to be given.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Outcomes,
    Nothing,
}

impl Wanted {
    /// Makes an outcome, if it is wanted.
    fn then<T>(self, make: impl FnOnce() -> T) -> Option<T> {
        match self {
            Self::Outcomes => Some(make()),
            Self::Nothing => None,
        }
    }
}

/// What one entry's commands have in common.
struct Moment {
    index: Index,
    now: Millis,
    wanted: Wanted,
    tickets: Tickets,
    /// Steps asked for by the commands before.
    steps: u64,
    answers: Answers,
    /// What is being told; kept for its capacity.
    told: Vec<u8>,
}

impl StateMachine {
    /// The state at founding: pool `default`, empty, at [`Index::FOUNDING`].
    pub fn founding(limits: Limits) -> Self {
        let mut machine = Self::bare(limits);
        machine.open(PoolId::default_pool(), Pool::new(Policy::Renormalize, false));
        machine.settle();
        machine
    }

    /// No pools at all, at [`Index::FOUNDING`].
    pub(super) fn bare(limits: Limits) -> Self {
        Self {
            limits,
            applied: Index::FOUNDING,
            now: Millis(0),
            history: digest::history_at_founding(),
            state: StateDigest::default(),
            pools: BTreeMap::new(),
            items_len: 0,
            keys: Keys::new(limits),
            sum: Sum::default(),
            touched: Vec::new(),
        }
    }

    /// Applies the entry at `index`: an encoded [`Batch`], or nothing, as a new leader appends. One outcome a command, in
    /// order. Bytes that are no batch do nothing, on every replica alike.
    ///
    /// # Panics
    /// If `index` is not the one after the last, or an invariant of the state does not hold: the node must not go on.
    pub fn apply(&mut self, index: Index, entry: &[u8]) -> Vec<Outcome> {
        self.apply_entry(index, entry, Wanted::Outcomes)
    }

    /// [`Self::apply`] where nobody waits for the outcomes, as on every replica but the one that proposed the entry: the
    /// state, the digests and what is remembered under each key are the same, and nothing is put into words.
    ///
    /// # Panics
    /// As [`Self::apply`] does.
    pub fn apply_unheard(&mut self, index: Index, entry: &[u8]) {
        self.apply_entry(index, entry, Wanted::Nothing);
    }

    fn apply_entry(&mut self, index: Index, entry: &[u8], wanted: Wanted) -> Vec<Outcome> {
        assert_eq!(index, self.applied.next(), "entries are applied one after the other");
        let (outcomes, answers) = match Batch::decode(entry) {
            Ok(batch) => self.apply_batch(index, &batch, wanted),
            Err(_) => (Vec::new(), Answers::default()),
        };
        self.applied = index;
        self.settle();
        self.history = digest::chain(self.history, index, entry, answers);
        outcomes
    }

    fn apply_batch(&mut self, index: Index, batch: &Batch, wanted: Wanted) -> (Vec<Outcome>, Answers) {
        let now = if hooks::is_planted("m35") { batch.time } else { self.now.max(batch.time) };
        self.keys.advance(self.now, now);
        self.now = now;
        if !batch.commands.is_empty() {
            self.keys.seed_once(&batch.entropy);
        }
        let tickets = Tickets::new(batch.entropy);
        let mut moment =
            Moment { index, now, wanted, tickets, steps: 0, answers: Answers::default(), told: Vec::new() };
        if hooks::is_planted("m14") {
            return (self.answer_in_any_order(&batch.commands, &mut moment), moment.answers);
        }
        let outcomes = batch.commands.iter().filter_map(|command| self.answer(command, &mut moment)).collect();
        (outcomes, moment.answers)
    }

    /// A planted bug: commands come out of a hash map.
    fn answer_in_any_order(&mut self, commands: &[Command], moment: &mut Moment) -> Vec<Outcome> {
        let map: BTreeMap<(u64, usize), &Command> =
            commands.iter().enumerate().map(|(at, command)| ((hooks::whim(), at), command)).collect();
        let answered = map.into_iter().filter_map(|((_, at), command)| Some((at, self.answer(command, moment)?)));
        answered.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Answers a command: out of memory, or by executing it. The outcome, if it is wanted.
    fn answer(&mut self, command: &Command, moment: &mut Moment) -> Option<Outcome> {
        let first_step = moment.steps;
        moment.steps += u64::from(command.draws());
        let fingerprint = command.fingerprint();
        let found = self.keys.find(&command.pool, &command.key);
        let is_stored = found.is_some();
        if let Some(record) = found.filter(|_| !hooks::is_planted("m08")) {
            if record.fingerprint() == fingerprint || hooks::is_planted("m11") {
                moment.answers.add(true, record.told_bytes());
                hooks::remembered(record.index());
                let told = || record.decode().expect("what was stored can be read");
                return moment.wanted.then(|| self.tell_again(&command.pool, told()));
            }
            hooks::sometimes("key_reuse_refused");
            return self.tell(command, moment, Verdict::Plain(Err(Refusal::KeyReused)));
        }
        if let Err(refusal) = self.keys.admit(command, moment.now) {
            if matches!(refusal, Refusal::KeyExpired { .. }) {
                hooks::sometimes("late_replay_refused");
            }
            return self.tell(command, moment, Verdict::Plain(Err(refusal)));
        }
        let verdict = self.execute(command, moment, first_step);
        let is_forgotten = is_stored && hooks::is_planted("m08") || hooks::is_planted("m12") && verdict.is_loss();
        let outcome = self.tell(command, moment, verdict);
        if !is_forgotten {
            self.keys.store(command, fingerprint, &moment.told);
        }
        outcome
    }

    /// What a command would be told again; for a planted bug, which asks before it proposes.
    pub(crate) fn recall_outcome(&self, command: &Command) -> Option<Outcome> {
        let record = self.keys.find(&command.pool, &command.key)?;
        let told = record.decode().filter(|_| record.fingerprint() == command.fingerprint())?;
        Some(self.tell_again(&command.pool, told))
    }

    /// Puts a verdict of this entry into words, if they are wanted, and its compact form into `moment.told` and the history.
    fn tell(&self, command: &Command, moment: &mut Moment, verdict: Verdict) -> Option<Outcome> {
        moment.told.clear();
        write_told(moment.index, moment.now, &verdict, &mut moment.told);
        moment.answers.add(false, &moment.told);
        moment.wanted.then(|| {
            let result = verdict.tell(|position| self.pools[&command.pool].items.id(position));
            Outcome { index: moment.index, now: moment.now, replayed: false, result }
        })
    }

    /// What an earlier command was told, in the same words.
    pub(super) fn tell_again(&self, pool: &PoolId, told: Told) -> Outcome {
        told.again(|position| self.pools[pool].items.id(position))
    }

    fn execute(&mut self, command: &Command, moment: &mut Moment, first_step: u64) -> Verdict {
        let plain = |result| Verdict::Plain(result);
        if command.check().is_err() {
            return plain(Err(Refusal::OutOfRange));
        }
        match &command.action {
            Action::CreatePool { policy, items, require_key } => {
                return plain(self.create_pool(&command.pool, policy, items, *require_key));
            }
            Action::ImportCatalog { items, draw_seq } => {
                return plain(self.import_catalog(&command.pool, items, *draw_seq));
            }
            _ => {}
        }
        let room = ITEMS_MAX - self.items_len;
        let Some(pool) = touch(&mut self.pools, &mut self.touched, &command.pool) else {
            return plain(Err(Refusal::PoolNotFound));
        };
        if let Action::Draw { count } = command.action {
            return pool.draw(count, command.origin, &mut moment.tickets, first_step);
        }
        let items_before = pool.items.len();
        let result = execute_in(pool, command, room);
        self.items_len += pool.items.len() - items_before;
        plain(result)
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
        self.check_room(1, catalog.len())?;
        let mut pool = Pool::new(policy.clone(), require_key);
        if !catalog.is_empty() {
            pool.stock(catalog);
        }
        let version = pool.facts.version;
        self.open(id.clone(), pool);
        Ok(Effect::PoolSet { version })
    }

    /// Stocks a new pool, and creates it if there is none.
    fn import_catalog(&mut self, id: &PoolId, catalog: &[CatalogItem], seq: DrawSeq) -> Result<Effect, Refusal> {
        let exists = match self.pools.get(id) {
            Some(pool) if !pool.is_new() => return Err(Refusal::PoolNotEmpty),
            found => found.is_some(),
        };
        self.check_room(usize::from(!exists), catalog.len())?;
        if !exists {
            self.open(id.clone(), Pool::new(Policy::Renormalize, false));
        }
        let pool = touch(&mut self.pools, &mut self.touched, id).expect("it exists, by now at least");
        pool.stock(catalog);
        pool.facts.draw_seq = seq;
        self.items_len += catalog.len();
        let items = u32::try_from(catalog.len()).expect("a catalog has at most 65 536 items");
        Ok(Effect::Imported { version: pool.facts.version, items })
    }

    fn check_room(&self, pools: usize, items: usize) -> Result<(), Refusal> {
        if self.pools.len() + pools > POOLS_MAX {
            return Err(Refusal::PoolsFull);
        }
        if self.items_len + items > ITEMS_MAX { Err(Refusal::ItemsFull) } else { Ok(()) }
    }

    fn open(&mut self, id: PoolId, pool: Pool) {
        self.items_len += pool.items.len();
        self.keys.open(id.clone(), self.now);
        self.adopt(id, pool);
    }

    /// Takes in a pool whose keys have their scope already.
    pub(super) fn adopt(&mut self, id: PoolId, pool: Pool) {
        self.pools.insert(id.clone(), pool);
        touch(&mut self.pools, &mut self.touched, &id);
    }

    /// Ends an entry: checks the counters it touched, and brings the state digest up to date.
    pub(super) fn settle(&mut self) {
        for id in self.touched.drain(..) {
            let pool = self.pools.get_mut(&id).expect("pools are never removed");
            let sum = &mut self.sum;
            pool.touched = false;
            let facts = Record::Pool { id: &id, facts: &pool.facts }.hash();
            sum.replace(std::mem::replace(&mut pool.hash, facts), facts);
            pool.items.settle(|position, item_id, item, hash| {
                assert!(
                    item.is_conserved(),
                    "invariant conservation is broken: item {item_id} of pool {id} is {item:?}"
                );
                let after = Record::Item { pool: &id, position, id: item_id, item }.hash();
                sum.replace(std::mem::replace(hash, after), after);
            });
        }
        let mut state = self.sum;
        if !hooks::is_planted("m06") {
            state.merge(self.keys.sum());
        }
        state.add(Record::Globals { now: self.now, limits: &self.limits, seed: self.keys.seed() }.hash());
        self.state = state.digest();
    }

    /// A view of the state as it is now, taken at once: time by the number of pools, and a little by that of items.
    pub fn snapshot(&self) -> SnapshotHandle {
        SnapshotHandle::of(self)
    }

    /// The state that a snapshot was taken of, recomputed and compared with the digest in it.
    pub fn restore(body: &[u8]) -> Result<Self, BadSnapshot> {
        let mut restorer = Restorer::default();
        restorer.push(body)?;
        restorer.finish()
    }

    /// What the entries since the last time have left to be thrown away; to be asked for after each, or it piles up.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        self.keys.take_garbage()
    }

    /// How full the tables of request keys are. Takes time by the number of pools.
    pub fn key_stats(&self) -> KeyStats {
        self.keys.stats(self.now)
    }

    /// Where the state stands.
    pub fn digests(&self) -> Digests {
        Digests { index: self.applied, history: self.history, state: self.state }
    }

    /// Cluster time at the applied index.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The applied index.
    pub fn applied(&self) -> Index {
        self.applied
    }
}

/// Finds a pool to change it: it is settled at the end of the entry.
fn touch<'a>(pools: &'a mut BTreeMap<PoolId, Pool>, touched: &mut Vec<PoolId>, id: &PoolId) -> Option<&'a mut Pool> {
    let pool = pools.get_mut(id)?;
    if !pool.touched {
        pool.touched = true;
        touched.push(id.clone());
    }
    Some(pool)
}

/// Executes what concerns one pool only, draws aside.
fn execute_in(pool: &mut Pool, command: &Command, room: usize) -> Result<Effect, Refusal> {
    match &command.action {
        Action::Claim { item, quantity } => pool.claim(item, *quantity, command.origin),
        Action::SetItem { item, weight, stock, etag } => pool.set_item(item, *weight, *stock, *etag, room),
        Action::AdjustStock { item, delta } => pool.adjust_stock(item, *delta),
        Action::UpdateItem { item, stock, weight, create } => pool.update_item(item, *stock, *weight, *create, room),
        Action::RemoveItem { item, etag } => pool.remove_item(item, *etag),
        Action::PausePool => Ok(pool.set_paused(true)),
        Action::ResumePool => Ok(pool.set_paused(false)),
        Action::UpdatePool { policy, require_key, etag } => pool.update(policy.as_ref(), *require_key, *etag),
        Action::Draw { .. } | Action::CreatePool { .. } | Action::ImportCatalog { .. } => {
            unreachable!("executed where more than one pool, or the entry's randomness, is at hand")
        }
    }
}
