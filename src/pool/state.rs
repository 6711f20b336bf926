//! One pool, and what each command does to it.
//!
//! Questions of order, where more than one refusal would fit, are answered the same way throughout: first the pool, then
//! the item, then the caller's etag, then what the pool's policy forbids, then the numbers.

use serde::{Deserialize, Serialize};

use super::{
    check::ITEMS_PER_POOL_MAX,
    command::{CatalogItem, KeyOrigin, Policy},
    draw::Tickets,
    names::{DrawSeq, ItemId, Stock, Version, Weight},
    outcome::{Claim, Effect, Refusal},
    stock::{Item, Items},
    verdict::{Pick, write_drawn},
};

/// A pool but for its items and keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) policy: Policy,
    pub(super) require_key: bool,
    pub(super) paused: bool,
    /// Rises by 1 whenever its definition, or an item's, changes. Pausing is no change of definition: it leaves the odds alone.
    pub(super) version: Version,
    pub(super) draw_seq: DrawSeq,
}

/// A pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) facts: Facts,
    pub(super) items: Items,
    /// Hash of the facts' record as of the last entry; 0 before its first.
    pub(super) hash: u128,
    /// Stands in the machine's list of touched pools.
    pub(super) touched: bool,
}

impl Pool {
    /// A pool without items, unpaused, at version 0.
    pub(super) fn new(policy: Policy, require_key: bool) -> Self {
        Self::restore(Facts { policy, require_key, paused: false, version: Version(0), draw_seq: DrawSeq(0) })
    }

    /// A pool as it was, but for its items.
    pub(super) fn restore(facts: Facts) -> Self {
        Self { items: Items::new(facts.policy == Policy::Renormalize), facts, hash: 0, touched: false }
    }

    /// Has nothing happened in it that a catalog would spoil?
    pub(super) fn is_new(&self) -> bool {
        self.facts.version == Version(0) && self.facts.draw_seq == DrawSeq(0)
    }

    /// The items of a new pool, all at once: one change of definition.
    pub(super) fn stock(&mut self, catalog: &[CatalogItem]) {
        assert!(self.items.len() == 0, "a catalog is for a pool without items");
        let rev = self.change();
        for CatalogItem { item, stock, weight } in catalog {
            self.items.push(item.clone(), Item::new(*weight, *stock, rev));
        }
    }

    /// Draws `count` times, and writes what that gave; `first_step` is the number of the first step within the entry.
    pub(super) fn draw(
        &mut self,
        count: u16,
        origin: KeyOrigin,
        tickets: &mut Tickets,
        first_step: u64,
        told: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        self.check_open(origin)?;
        let fallback = self.fallback();
        write_drawn(self.number(count.into()), self.facts.version, count, told);
        for step in first_step..first_step + u64::from(count) {
            self.draw_once(tickets, step, fallback).write(told);
        }
        Ok(())
    }

    #[inline]
    fn draw_once(&mut self, tickets: &mut Tickets, step: u64, fallback: Option<u32>) -> Pick {
        let total = self.items.weight_total();
        if total == 0 {
            return Pick::PoolEmpty;
        }
        let hit = self.items.hit(tickets.ticket(step, total));
        if self.items.give(hit, 1) {
            return Pick::Awarded(hit);
        }
        match (&self.facts.policy, fallback) {
            (Policy::Renormalize, _) => unreachable!("an item that cannot be awarded is not in the sum"),
            (Policy::Miss, _) => Pick::Miss,
            (Policy::Fallback(_), Some(fallback)) if self.items.give(fallback, 1) => Pick::Fallback(fallback),
            // Its counters are at their end, 9 * 10^15 awards on: nothing can be awarded.
            (Policy::Fallback(_), _) => Pick::PoolEmpty,
        }
    }

    /// Takes `quantity` units of an item, or none.
    pub(super) fn claim(&mut self, id: &ItemId, quantity: u32, origin: KeyOrigin) -> Result<Effect, Refusal> {
        self.check_open(origin)?;
        let position = self.find(id)?;
        let units = u64::from(quantity);
        let item = self.items.get(position);
        if item.unlimited && !item.can_give(units) {
            return Err(Refusal::StockOverflow);
        }
        let remaining = item.remaining;
        let given = self.items.give(position, units);
        let result = if given { Claim::Awarded } else { Claim::OutOfStock { remaining } };
        Ok(Effect::Claimed { seq: self.number(1), result })
    }

    /// Creates an item, or changes its definition. `room` is how many items the group can still take.
    pub(super) fn set_item(
        &mut self,
        id: &ItemId,
        weight: Weight,
        stock: Stock,
        etag: Option<Version>,
        room: usize,
    ) -> Result<Effect, Refusal> {
        let Some(etag) = etag else {
            return self.create_item(id, weight, stock, room);
        };
        let position = self.find(id)?;
        let mut item = *self.items.get(position);
        check_etag(&item, Some(etag))?;
        self.check_fallback(id, stock)?;
        item.weight = weight;
        item.set_unlimited(stock == Stock::Unlimited);
        Ok(self.redefine(position, item))
    }

    /// The predecessor's absolute set.
    pub(super) fn update_item(
        &mut self,
        id: &ItemId,
        stock: Stock,
        weight: Weight,
        create: bool,
        room: usize,
    ) -> Result<Effect, Refusal> {
        let position = match self.find(id) {
            Err(Refusal::ItemNotFound) if create => return self.create_item(id, weight, stock, room),
            found => found?,
        };
        self.check_fallback(id, stock)?;
        let mut item = *self.items.get(position);
        item.weight = weight;
        item.set_stock(stock)?;
        Ok(self.redefine(position, item))
    }

    /// Adds to or takes from a finite stock.
    pub(super) fn adjust_stock(&mut self, id: &ItemId, delta: i64) -> Result<Effect, Refusal> {
        let position = self.find(id)?;
        let mut item = *self.items.get(position);
        let remaining = item.adjust(delta)?;
        self.items.put(position, item);
        Ok(Effect::Adjusted { remaining })
    }

    /// Takes an item out for good.
    pub(super) fn remove_item(&mut self, id: &ItemId, etag: Option<Version>) -> Result<Effect, Refusal> {
        let position = self.find(id)?;
        let mut item = *self.items.get(position);
        check_etag(&item, etag)?;
        if self.fallback() == Some(position) {
            return Err(Refusal::IsFallback);
        }
        item.remove();
        item.rev = self.change();
        self.items.put(position, item);
        Ok(Effect::ItemRemoved { version: self.facts.version })
    }

    /// Pauses or resumes it.
    pub(super) fn set_paused(&mut self, paused: bool) -> Effect {
        self.facts.paused = paused;
        Effect::PoolSet { version: self.facts.version }
    }

    /// Changes its definition, its items aside; the version moves only if that makes a difference.
    pub(super) fn update(
        &mut self,
        policy: Option<&Policy>,
        require_key: Option<bool>,
        etag: Version,
    ) -> Result<Effect, Refusal> {
        let fallback = match policy {
            Some(Policy::Fallback(id)) => Some(*self.items.get(self.find(id)?)),
            _ => None,
        };
        if etag != self.facts.version {
            return Err(Refusal::EtagMismatch { current: self.facts.version });
        }
        if fallback.is_some_and(|item| !item.unlimited) {
            return Err(Refusal::FallbackFinite);
        }
        let policy = policy.unwrap_or(&self.facts.policy).clone();
        let require_key = require_key.unwrap_or(self.facts.require_key);
        if (&policy, require_key) != (&self.facts.policy, self.facts.require_key) {
            self.items.set_renormalize(policy == Policy::Renormalize);
            (self.facts.policy, self.facts.require_key) = (policy, require_key);
            self.change();
        }
        Ok(Effect::PoolSet { version: self.facts.version })
    }

    /// The position of the fallback item.
    pub(super) fn fallback(&self) -> Option<u32> {
        match &self.facts.policy {
            Policy::Fallback(id) => self.items.position(id),
            Policy::Renormalize | Policy::Miss => None,
        }
    }

    fn create_item(&mut self, id: &ItemId, weight: Weight, stock: Stock, room: usize) -> Result<Effect, Refusal> {
        if self.items.position(id).is_some() {
            return Err(Refusal::ItemExists);
        }
        if self.items.len() >= ITEMS_PER_POOL_MAX || room == 0 {
            return Err(Refusal::ItemsFull);
        }
        let item = Item::new(weight, stock, self.change());
        self.items.push(id.clone(), item);
        Ok(Effect::ItemSet(item.state(id)))
    }

    /// Changes an item; the version moves only with weight or flag.
    fn redefine(&mut self, position: u32, mut item: Item) -> Effect {
        let before = self.items.get(position);
        if (before.weight, before.unlimited) != (item.weight, item.unlimited) {
            item.rev = self.change();
        }
        self.items.put(position, item);
        Effect::ItemSet(item.state(self.items.id(position)))
    }

    fn check_open(&self, origin: KeyOrigin) -> Result<(), Refusal> {
        if self.facts.paused {
            return Err(Refusal::PoolPaused);
        }
        if self.facts.require_key && origin == KeyOrigin::Server { Err(Refusal::KeyRequired) } else { Ok(()) }
    }

    fn check_fallback(&self, id: &ItemId, stock: Stock) -> Result<(), Refusal> {
        let made_finite = stock != Stock::Unlimited && self.facts.policy == Policy::Fallback(id.clone());
        if made_finite { Err(Refusal::IsFallback) } else { Ok(()) }
    }

    fn find(&self, id: &ItemId) -> Result<u32, Refusal> {
        self.items.position(id).filter(|&position| !self.items.get(position).removed).ok_or(Refusal::ItemNotFound)
    }

    /// Takes the next `count` draw numbers; says the first.
    fn number(&mut self, count: u64) -> DrawSeq {
        let first = DrawSeq(self.facts.draw_seq.0 + 1);
        self.facts.draw_seq.0 += count;
        first
    }

    fn change(&mut self) -> Version {
        self.facts.version.0 += 1;
        self.facts.version
    }
}

fn check_etag(item: &Item, etag: Option<Version>) -> Result<(), Refusal> {
    match etag {
        Some(etag) if etag != item.rev => Err(Refusal::EtagMismatch { current: item.rev }),
        _ => Ok(()),
    }
}
