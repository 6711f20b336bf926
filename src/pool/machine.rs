//! The state machine itself: the order in which an entry is applied, and nothing about what its commands mean.

use std::collections::BTreeMap;

use super::{
    BadSnapshot, Digests, Garbage, KeyStats, Limits,
    check::Fingerprint,
    command::{Action, Batch, CatalogItem, Command, Policy},
    digest::{self, Answers, Record, Sum},
    draw::Tickets,
    keys::{Keys, Told},
    names::{DrawSeq, PoolId},
    outcome::{Effect, Outcome, Refusal},
    restore::Restorer,
    snapshot::SnapshotHandle,
    state::Pool,
    verdict::write_plain,
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
    /// None between entries; kept for their room.
    answers: Answers,
}

/// What whoever has an entry applied is to be given.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Outcomes,
    Nothing,
}

impl Wanted {
    /// Makes an outcome, or room for some, if they are wanted.
    fn then<T>(self, make: impl FnOnce() -> T) -> Option<T> {
        match self {
            Self::Outcomes => Some(make()),
            Self::Nothing => None,
        }
    }
}

/// What one entry's commands have in common.
struct Moment<'a> {
    index: Index,
    now: Millis,
    wanted: Wanted,
    tickets: Tickets,
    /// Steps asked for by the commands before.
    steps: u64,
    answers: &'a mut Answers,
    /// The command before, and its fingerprint.
    previous: Option<(&'a Command, Fingerprint)>,
}

impl<'a> Moment<'a> {
    /// The fingerprint of the next command. It is a hash, and neighbours often ask for the same.
    fn fingerprint(&mut self, command: &'a Command) -> Fingerprint {
        let fingerprint = match self.previous {
            Some((previous, known)) if previous.asks_as(command) => known,
            _ => command.fingerprint(),
        };
        self.previous = Some((command, fingerprint));
        fingerprint
    }

    /// Begins an answer to be given for the first time; its verdict is to be written next.
    fn begin_answer(&mut self) -> &mut Vec<u8> {
        let told = self.answers.begin(false);
        Told::begin(self.index, self.now, told);
        told
    }
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
            answers: Answers::default(),
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
        let mut answers = std::mem::take(&mut self.answers);
        let outcomes = match Batch::decode(entry) {
            Ok(batch) => self.apply_batch(index, &batch, wanted, &mut answers),
            Err(_) => Vec::new(),
        };
        self.applied = index;
        self.settle();
        self.history = digest::chain(self.history, index, entry, &answers);
        answers.clear();
        self.answers = answers;
        outcomes
    }

    fn apply_batch(&mut self, index: Index, batch: &Batch, wanted: Wanted, answers: &mut Answers) -> Vec<Outcome> {
        let now = if hooks::is_planted("m35") { batch.time } else { self.now.max(batch.time) };
        self.keys.advance(self.now, now);
        self.now = now;
        if !batch.commands.is_empty() {
            self.keys.seed_once(&batch.entropy);
        }
        let tickets = Tickets::new(batch.entropy);
        let mut moment = Moment { index, now, wanted, tickets, steps: 0, answers, previous: None };
        if hooks::is_planted("m14") {
            return self.answer_in_any_order(&batch.commands, &mut moment);
        }
        let mut outcomes = wanted.then(|| Vec::with_capacity(batch.commands.len())).unwrap_or_default();
        outcomes.extend(batch.commands.iter().filter_map(|command| self.answer(command, &mut moment)));
        outcomes
    }

    /// A planted bug: commands come out of a hash map.
    fn answer_in_any_order<'a>(&mut self, commands: &'a [Command], moment: &mut Moment<'a>) -> Vec<Outcome> {
        let map: BTreeMap<(u64, usize), &Command> =
            commands.iter().enumerate().map(|(at, command)| ((hooks::whim(), at), command)).collect();
        let answered = map.into_iter().filter_map(|((_, at), command)| Some((at, self.answer(command, moment)?)));
        answered.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Answers a command: out of memory, or by executing it. The outcome, if it is wanted.
    fn answer<'a>(&mut self, command: &'a Command, moment: &mut Moment<'a>) -> Option<Outcome> {
        let first_step = moment.steps;
        moment.steps += u64::from(command.draws());
        let fingerprint = moment.fingerprint(command);
        let spot = self.keys.spot(&command.pool, &command.key);
        let found = self.keys.find_at(&spot, &command.pool, &command.key);
        let is_stored = found.is_some();
        if let Some(record) = found.filter(|_| !hooks::is_planted("m08")) {
            if record.fingerprint() == fingerprint || hooks::is_planted("m11") {
                moment.answers.begin(true).extend_from_slice(record.told_bytes());
                hooks::remembered(record.index());
                return self.tell(command, moment, true);
            }
            hooks::sometimes("key_reuse_refused");
            return self.refuse(command, moment, Refusal::KeyReused);
        }
        if let Err(refusal) = self.keys.admit(&spot, command, moment.now) {
            if matches!(refusal, Refusal::KeyExpired { .. }) {
                hooks::sometimes("late_replay_refused");
            }
            return self.refuse(command, moment, refusal);
        }
        moment.begin_answer();
        self.execute(command, moment, first_step);
        let outcome = self.tell(command, moment, false);
        let told = moment.answers.told();
        let is_loss = || Told::decode(told).is_some_and(|told| told.verdict.is_loss());
        if is_stored && hooks::is_planted("m08") || hooks::is_planted("m12") && is_loss() {
            return outcome;
        }
        self.keys.store(&spot, command, fingerprint, told);
        outcome
    }

    /// What a command would be told again; for a planted bug, which asks before it proposes.
    pub(crate) fn recall_outcome(&self, command: &Command) -> Option<Outcome> {
        let record = self.keys.find(&command.pool, &command.key)?;
        let told = record.decode().filter(|_| record.fingerprint() == command.fingerprint())?;
        Some(self.outcome(&command.pool, true, told))
    }

    /// Answers a command that is not executed, and whose key is not stored.
    fn refuse(&self, command: &Command, moment: &mut Moment<'_>, refusal: Refusal) -> Option<Outcome> {
        write_plain(&Err(refusal), moment.begin_answer());
        self.tell(command, moment, false)
    }

    /// Ends an answer: its outcome, if it is wanted.
    fn tell(&self, command: &Command, moment: &mut Moment<'_>, replayed: bool) -> Option<Outcome> {
        let told = moment.answers.end();
        moment.wanted.then(|| {
            let told = Told::decode(told).expect("what was written can be read");
            self.outcome(&command.pool, replayed, told)
        })
    }

    /// Puts what was told, now or earlier, into words.
    pub(super) fn outcome(&self, pool: &PoolId, replayed: bool, told: Told<'_>) -> Outcome {
        // A command without its pool names no items.
        let items = self.pools.get(pool).map(|pool| &pool.items);
        told.outcome(replayed, |position| items.expect("items are those of a pool").id(position))
    }

    /// Executes a command, and writes what that gave.
    fn execute(&mut self, command: &Command, moment: &mut Moment<'_>, first_step: u64) {
        let told = moment.answers.told_mut();
        let drawn = match command.action {
            _ if command.check().is_err() => Err(Refusal::OutOfRange),
            Action::Draw { count } => match touch(&mut self.pools, &mut self.touched, &command.pool) {
                Some(pool) => pool.draw(count, command.origin, &mut moment.tickets, first_step, told),
                None => Err(Refusal::PoolNotFound),
            },
            _ => return write_plain(&self.execute_plain(command), told),
        };
        if let Err(refusal) = drawn {
            write_plain(&Err(refusal), told);
        }
    }

    /// Executes anything but a draw.
    fn execute_plain(&mut self, command: &Command) -> Result<Effect, Refusal> {
        match &command.action {
            Action::CreatePool { policy, items, require_key } => {
                return self.create_pool(&command.pool, policy, items, *require_key);
            }
            Action::ImportCatalog { items, draw_seq } => return self.import_catalog(&command.pool, items, *draw_seq),
            _ => {}
        }
        let room = ITEMS_MAX - self.items_len;
        let pool = touch(&mut self.pools, &mut self.touched, &command.pool).ok_or(Refusal::PoolNotFound)?;
        let items_before = pool.items.len();
        let result = execute_in(pool, command, room);
        self.items_len += pool.items.len() - items_before;
        result
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
