//! One pool: semantics.md, sections 2 to 4, with a list of items that is searched from its beginning.
//!
//! Where semantics.md leaves room, this is how it was decided. The version moves with an item's coming, its going, its
//! weight and its being unlimited; pausing, stock and a catalog that replaces nothing leave it alone. An unlimited item whose
//! counters are at their end counts as exhausted. A fallback item that cannot be awarded leaves the pool empty.

use tombola::{
    pool::{
        CatalogItem, Claim, DrawSeq, Effect, ItemId, ItemState, KeyOrigin, Policy, Refusal, Step, Stock, Version,
        Weight,
    },
    types::Entropy,
};

use super::{
    Spin, chacha,
    rules::{POOL_ITEMS_MAX, QUANTITY_MAX},
    told::Verdict,
};

/// An item, removed or not.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: ItemId,
    pub(super) weight: u32,
    pub(super) unlimited: bool,
    pub(super) removed: bool,
    pub(super) remaining: u64,
    pub(super) awarded: u64,
    pub(super) added: u64,
    pub(super) rev: Version,
}

impl Item {
    fn new(id: ItemId, weight: Weight, stock: Stock, rev: Version) -> Self {
        let (unlimited, quantity) = match stock {
            Stock::Finite(quantity) => (false, quantity),
            Stock::Unlimited => (true, 0),
        };
        let (weight, remaining, added) = (weight.0, quantity, quantity);
        Self { id, weight, unlimited, removed: false, remaining, awarded: 0, added, rev }
    }

    fn has(&self, units: u64) -> bool {
        !self.removed && if self.unlimited { self.added + units <= QUANTITY_MAX } else { self.remaining >= units }
    }

    fn award(&mut self, units: u64) {
        match self.unlimited {
            true => self.added += units,
            false => self.remaining -= units,
        }
        self.awarded += units;
    }

    /// Sets what is left; `added` moves by the difference.
    fn restock(&mut self, quantity: u64) -> Result<(), Refusal> {
        let added = self.added - self.remaining + quantity;
        if added > QUANTITY_MAX {
            return Err(Refusal::StockOverflow);
        }
        (self.added, self.remaining) = (added, quantity);
        Ok(())
    }

    fn withdraw(&mut self) {
        self.added -= self.remaining;
        self.remaining = 0;
    }

    /// As a reader sees it.
    pub(super) fn state(&self) -> ItemState {
        ItemState {
            id: self.id.clone(),
            weight: Weight(self.weight),
            stock: if self.unlimited { Stock::Unlimited } else { Stock::Finite(self.remaining) },
            reserved: 0,
            awarded: self.awarded,
            returned: 0,
            added: self.added,
            rev: self.rev,
        }
    }
}

/// A pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) policy: Policy,
    pub(super) require_key: bool,
    pub(super) paused: bool,
    pub(super) version: u64,
    pub(super) draw_seq: u64,
    /// In the order of their creation, removed ones too.
    pub(super) items: Vec<Item>,
}

/// A step's place in its entry: the entropy and the number that its ticket is made of.
pub(super) struct Steps {
    pub(super) entropy: Entropy,
    pub(super) first: u64,
    pub(super) ticket: chacha::Ticket,
}

impl Pool {
    pub(super) fn new(policy: Policy, require_key: bool) -> Self {
        Self { policy, require_key, paused: false, version: 0, draw_seq: 0, items: Vec::new() }
    }

    pub(super) fn is_new(&self) -> bool {
        self.version == 0 && self.draw_seq == 0
    }

    /// All items of a new pool: one change of its definition.
    pub(super) fn stock(&mut self, catalog: &[CatalogItem]) {
        self.version += 1;
        for CatalogItem { item, stock, weight } in catalog {
            self.items.push(Item::new(item.clone(), *weight, *stock, Version(self.version)));
        }
    }

    pub(super) fn draw(
        &mut self,
        count: u16,
        origin: KeyOrigin,
        steps: Steps,
        seen: &mut dyn FnMut(Spin<'_>),
    ) -> Verdict {
        if let Err(refusal) = self.check_open(origin) {
            return Verdict::Plain(Err(refusal));
        }
        let first_seq = DrawSeq(self.draw_seq + 1);
        let all = (0..u64::from(count)).map(|at| self.draw_once(&steps, steps.first + at, seen)).collect();
        self.draw_seq += u64::from(count);
        Verdict::Drawn { first_seq, version: Version(self.version), steps: all }
    }

    fn draw_once(&mut self, steps: &Steps, step: u64, seen: &mut dyn FnMut(Spin<'_>)) -> (Step, Option<u32>) {
        let counts = |item: &Item| self.policy != Policy::Renormalize || item.has(1);
        let odds = self.items.iter().map(|item| if counts(item) { item.weight } else { 0 });
        let odds: Vec<u32> = odds.collect();
        let total: u64 = odds.iter().map(|&weight| u64::from(weight)).sum();
        if total == 0 {
            return (Step::PoolEmpty, None);
        }
        let ticket = (steps.ticket)(&steps.entropy.0, step, total);
        let mut running = 0;
        let exceeds = |weight: &u32| {
            running += u64::from(*weight);
            running > ticket
        };
        let hit = odds.iter().position(exceeds).expect("a ticket is below the total");
        seen(Spin { odds: &odds, hit });
        if self.items[hit].has(1) {
            return self.award(hit, Step::Awarded);
        }
        match &self.policy {
            Policy::Renormalize => unreachable!("an item without stock has no odds"),
            Policy::Miss => (Step::Miss, None),
            Policy::Fallback(id) => match self.items.iter().position(|item| item.id == *id && item.has(1)) {
                Some(fallback) => self.award(fallback, Step::Fallback),
                None => (Step::PoolEmpty, None),
            },
        }
    }

    fn award(&mut self, at: usize, step: fn(ItemId) -> Step) -> (Step, Option<u32>) {
        self.items[at].award(1);
        (step(self.items[at].id.clone()), Some(at as u32))
    }

    pub(super) fn claim(&mut self, id: &ItemId, quantity: u32, origin: KeyOrigin) -> Result<Effect, Refusal> {
        self.check_open(origin)?;
        let at = self.find(id)?;
        let (item, units) = (&mut self.items[at], u64::from(quantity));
        let result = match (item.has(units), item.unlimited) {
            (true, _) => Claim::Awarded,
            (false, true) => return Err(Refusal::StockOverflow),
            (false, false) => Claim::OutOfStock { remaining: item.remaining },
        };
        if result == Claim::Awarded {
            item.award(units);
        }
        self.draw_seq += 1;
        Ok(Effect::Claimed { seq: DrawSeq(self.draw_seq), result })
    }

    /// Creates an item (no etag), or changes the definition of one. `room` is how many items the group can still take.
    pub(super) fn set_item(
        &mut self,
        (id, weight, stock): (&ItemId, Weight, Stock),
        etag: Option<Version>,
        room: usize,
    ) -> Result<Effect, Refusal> {
        let Some(etag) = etag else {
            return self.create(id, weight, stock, room);
        };
        let at = self.find(id)?;
        if self.items[at].rev != etag {
            return Err(Refusal::EtagMismatch { current: self.items[at].rev });
        }
        self.check_fallback_stays(id, stock)?;
        if stock == Stock::Unlimited {
            self.items[at].withdraw();
        }
        Ok(self.define(at, weight, stock == Stock::Unlimited))
    }

    /// The predecessor's absolute set.
    pub(super) fn update_item(
        &mut self,
        (id, weight, stock): (&ItemId, Weight, Stock),
        create: bool,
        room: usize,
    ) -> Result<Effect, Refusal> {
        let at = match self.find(id) {
            Err(_) if create => return self.create(id, weight, stock, room),
            found => found?,
        };
        self.check_fallback_stays(id, stock)?;
        match stock {
            Stock::Finite(quantity) => self.items[at].restock(quantity)?,
            Stock::Unlimited => self.items[at].withdraw(),
        }
        Ok(self.define(at, weight, stock == Stock::Unlimited))
    }

    pub(super) fn adjust_stock(&mut self, id: &ItemId, delta: i64) -> Result<Effect, Refusal> {
        let at = self.find(id)?;
        let item = &mut self.items[at];
        if item.unlimited {
            return Err(Refusal::ItemUnlimited);
        }
        let remaining = i128::from(item.remaining) + i128::from(delta);
        let remaining =
            u64::try_from(remaining).map_err(|_| Refusal::InsufficientStock { remaining: item.remaining })?;
        item.restock(remaining)?;
        Ok(Effect::Adjusted { remaining })
    }

    pub(super) fn remove_item(&mut self, id: &ItemId, etag: Option<Version>) -> Result<Effect, Refusal> {
        let at = self.find(id)?;
        let item = &mut self.items[at];
        if etag.is_some_and(|etag| etag != item.rev) {
            return Err(Refusal::EtagMismatch { current: item.rev });
        }
        if self.policy == Policy::Fallback(id.clone()) {
            return Err(Refusal::IsFallback);
        }
        self.version += 1;
        item.withdraw();
        (item.removed, item.weight, item.rev) = (true, 0, Version(self.version));
        Ok(Effect::ItemRemoved { version: item.rev })
    }

    /// Under the version that the caller saw; the version moves if anything does.
    pub(super) fn update(
        &mut self,
        policy: Option<&Policy>,
        require_key: Option<bool>,
        etag: Version,
    ) -> Result<Effect, Refusal> {
        let is_finite = match policy {
            Some(Policy::Fallback(id)) => !self.items[self.find(id)?].unlimited,
            _ => false,
        };
        if etag.0 != self.version {
            return Err(Refusal::EtagMismatch { current: Version(self.version) });
        }
        if is_finite {
            return Err(Refusal::FallbackFinite);
        }
        let before = (self.policy.clone(), self.require_key);
        self.policy = policy.cloned().unwrap_or(before.0.clone());
        self.require_key = require_key.unwrap_or(before.1);
        if (&self.policy, self.require_key) != (&before.0, before.1) {
            self.version += 1;
        }
        Ok(Effect::PoolSet { version: Version(self.version) })
    }

    pub(super) fn pause(&mut self, paused: bool) -> Effect {
        self.paused = paused;
        Effect::PoolSet { version: Version(self.version) }
    }

    fn create(&mut self, id: &ItemId, weight: Weight, stock: Stock, room: usize) -> Result<Effect, Refusal> {
        if self.items.iter().any(|item| item.id == *id) {
            return Err(Refusal::ItemExists);
        }
        if self.items.len() >= POOL_ITEMS_MAX || room == 0 {
            return Err(Refusal::ItemsFull);
        }
        self.version += 1;
        let item = Item::new(id.clone(), weight, stock, Version(self.version));
        let state = item.state();
        self.items.push(item);
        Ok(Effect::ItemSet(state))
    }

    fn define(&mut self, at: usize, weight: Weight, unlimited: bool) -> Effect {
        let item = &mut self.items[at];
        if (item.weight, item.unlimited) != (weight.0, unlimited) {
            self.version += 1;
            (item.weight, item.unlimited, item.rev) = (weight.0, unlimited, Version(self.version));
        }
        Effect::ItemSet(item.state())
    }

    fn check_open(&self, origin: KeyOrigin) -> Result<(), Refusal> {
        if self.paused {
            return Err(Refusal::PoolPaused);
        }
        if self.require_key && origin == KeyOrigin::Server { Err(Refusal::KeyRequired) } else { Ok(()) }
    }

    fn check_fallback_stays(&self, id: &ItemId, stock: Stock) -> Result<(), Refusal> {
        let is_fallback = self.policy == Policy::Fallback(id.clone());
        if is_fallback && stock != Stock::Unlimited { Err(Refusal::IsFallback) } else { Ok(()) }
    }

    fn find(&self, id: &ItemId) -> Result<usize, Refusal> {
        self.items.iter().position(|item| item.id == *id && !item.removed).ok_or(Refusal::ItemNotFound)
    }
}
