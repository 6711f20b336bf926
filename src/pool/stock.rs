//! Items: their counters, and the weights they are drawn by.
//!
//! Every change goes through one of two doors, which keep the selector in step: [`Items::put`] takes the item as it shall be,
//! and [`Items::give`] awards units of it, once a draw. An item that an entry changes is copied aside, changed there as often
//! as it takes, and written back where snapshots see it when the entry is settled. What an operation does to the counters
//! is said on [`Item`], in plain arithmetic; `added = remaining + reserved + awarded - returned` holds before and after each,
//! and an unlimited item keeps `remaining` at 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    command::BATCH_DRAWS_MAX,
    names::{ItemId, QUANTITY_MAX, Stock, Version, Weight},
    outcome::{ItemState, Refusal},
    paged::Paged,
    selector::Selector,
};
use crate::hooks;

/// An item but for its name. A removed one keeps its position and its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) weight: Weight,
    pub(super) unlimited: bool,
    pub(super) removed: bool,
    pub(super) remaining: u64,
    pub(super) reserved: u64,
    pub(super) awarded: u64,
    pub(super) returned: u64,
    pub(super) added: u64,
    pub(super) rev: Version,
}

impl Item {
    pub(super) fn new(weight: Weight, stock: Stock, rev: Version) -> Self {
        let (unlimited, quantity) = match stock {
            Stock::Finite(quantity) => (false, quantity),
            Stock::Unlimited => (true, 0),
        };
        let (remaining, added) = (quantity, quantity);
        Self { weight, unlimited, removed: false, remaining, reserved: 0, awarded: 0, returned: 0, added, rev }
    }

    /// Are there so many units to give? An unlimited item ends where its counters do.
    pub(super) fn can_give(&self, units: u64) -> bool {
        if self.unlimited {
            self.added + units <= QUANTITY_MAX
        } else {
            units + u64::from(hooks::is_planted("m15")) <= self.remaining
        }
    }

    /// Awards units that [`Self::can_give`].
    fn give(&mut self, units: u64) {
        if self.unlimited {
            self.added += units;
        } else {
            self.remaining -= units;
        }
        self.awarded += units;
    }

    /// Adds to or takes from a finite stock; says what is left.
    pub(super) fn adjust(&mut self, delta: i64) -> Result<u64, Refusal> {
        if self.unlimited {
            return Err(Refusal::ItemUnlimited);
        }
        let Some(remaining) = self.remaining.checked_add_signed(delta) else {
            return Err(Refusal::InsufficientStock { remaining: self.remaining });
        };
        self.set_remaining(remaining)?;
        Ok(remaining)
    }

    /// Sets the stock, whatever it was.
    pub(super) fn set_stock(&mut self, stock: Stock) -> Result<(), Refusal> {
        match stock {
            Stock::Finite(quantity) => self.set_remaining(quantity)?,
            Stock::Unlimited => self.withdraw(),
        }
        self.unlimited = stock == Stock::Unlimited;
        Ok(())
    }

    /// Changes only whether it is unlimited: what a finite stock had is withdrawn, and it starts again at 0.
    pub(super) fn set_unlimited(&mut self, unlimited: bool) {
        if unlimited {
            self.withdraw();
        }
        self.unlimited = unlimited;
    }

    /// Takes it out for good.
    pub(super) fn remove(&mut self) {
        self.withdraw();
        self.weight = Weight(0);
        self.removed = true;
    }

    fn set_remaining(&mut self, quantity: u64) -> Result<(), Refusal> {
        let added = (self.added - self.remaining).checked_add(quantity);
        self.added = added.filter(|&added| added <= QUANTITY_MAX).ok_or(Refusal::StockOverflow)?;
        self.remaining = quantity;
        Ok(())
    }

    fn withdraw(&mut self) {
        self.added -= self.remaining;
        self.remaining = 0;
    }

    /// Does `added = remaining + reserved + awarded - returned` hold, within the range of each?
    pub(super) fn is_conserved(&self) -> bool {
        let counters = [self.remaining, self.reserved, self.awarded, self.returned, self.added];
        counters.iter().all(|&counter| counter <= QUANTITY_MAX)
            && self.returned <= self.awarded
            && self.added + self.returned == self.remaining + self.reserved + self.awarded
            && !(self.unlimited && self.remaining > 0)
            && !(self.removed && (self.remaining > 0 || self.weight.0 > 0))
    }

    /// The item as a reader sees it.
    pub(super) fn state(&self, id: &ItemId) -> ItemState {
        ItemState {
            id: id.clone(),
            weight: self.weight,
            stock: if self.unlimited { Stock::Unlimited } else { Stock::Finite(self.remaining) },
            reserved: self.reserved,
            awarded: self.awarded,
            returned: self.returned,
            added: self.added,
            rev: self.rev,
        }
    }
}

/// An item with what the digest needs to follow it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    item: Item,
    /// Hash of its record as of the last entry; 0 before its first.
    hash: u128,
}

/// Most changed items that room is kept for between entries: as many as an entry draws.
const CHANGED_KEPT_MAX: usize = BATCH_DRAWS_MAX;

/// A pool's items by position, which is the order of their creation.
#[derive(Debug)]
pub(super) struct Items {
    /// Does an item that cannot be awarded leave the sum of weights?
    renormalize: bool,
    list: ItemList,
    positions: BTreeMap<ItemId, u32>,
    /// How many are removed.
    removed: usize,
    selector: Selector,
    /// The items that were changed since the last [`Items::settle`], as they are now, and their positions.
    changed: Vec<(u32, Item)>,
    /// For each position its place in `changed`, from 1; 0 if it is not there.
    places: Vec<u32>,
}

/// A pool's items by position: what all else about them is derived from. A clone is a view that outlives changes.
#[derive(Clone, Debug)]
pub(super) struct ItemList {
    ids: Paged<ItemId>,
    slots: Paged<Slot>,
}

impl ItemList {
    /// Names and items, by position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ItemId, &Item)> {
        self.ids.iter().zip(self.slots.iter().map(|slot| &slot.item))
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

impl Items {
    pub(super) fn new(renormalize: bool) -> Self {
        Self {
            renormalize,
            list: ItemList { ids: Paged::new(), slots: Paged::new() },
            positions: BTreeMap::new(),
            removed: 0,
            selector: Selector::default(),
            changed: Vec::new(),
            places: Vec::new(),
        }
    }

    /// How many there are, removed ones too.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Where the item of that name stands, removed or not.
    pub(super) fn position(&self, id: &ItemId) -> Option<u32> {
        self.positions.get(id).copied()
    }

    pub(super) fn get(&self, position: u32) -> &Item {
        match self.places[position as usize] {
            0 => &self.list.slots.get(position as usize).item,
            place => &self.changed[place as usize - 1].1,
        }
    }

    pub(super) fn id(&self, position: u32) -> &ItemId {
        self.list.ids.get(position as usize)
    }

    /// Names and items, by position, as of the last [`Self::settle`].
    pub(super) fn list(&self) -> &ItemList {
        &self.list
    }

    /// How many there are, removed ones left out.
    pub(super) fn listed_len(&self) -> usize {
        self.len() - self.removed
    }

    /// Those from a position on, as a reader sees them, removed ones left out.
    pub(super) fn listed(&self, from: u32) -> impl Iterator<Item = ItemState> {
        let all = (from..self.end()).map(|at| (self.id(at), self.get(at)));
        all.filter(|(_, item)| !item.removed).map(|(id, item)| item.state(id))
    }

    /// Whether items that cannot be awarded leave the sum of weights from now on.
    pub(super) fn set_renormalize(&mut self, renormalize: bool) {
        if self.renormalize != renormalize {
            self.renormalize = renormalize;
            let mut selector = Selector::default();
            (0..self.end()).for_each(|at| selector.push(self.odds(self.get(at))));
            self.selector = selector;
        }
    }

    /// Adds an item whose name is new.
    pub(super) fn push(&mut self, id: ItemId, item: Item) -> u32 {
        let position = self.end();
        let earlier = self.positions.insert(id.clone(), position);
        assert!(earlier.is_none(), "an item's name is unique in its pool");
        self.list.ids.push(id);
        self.list.slots.push(Slot { item, hash: 0 });
        self.selector.push(self.odds(&item));
        self.removed += usize::from(item.removed);
        self.places.push(0);
        self.change(position);
        position
    }

    /// Changes an item into `item`.
    pub(super) fn put(&mut self, position: u32, item: Item) {
        let odds = self.odds(&item);
        self.selector.set(position as usize, odds);
        let before = std::mem::replace(self.change(position), item);
        assert!(item.removed || !before.removed, "a removed item does not come back");
        self.removed += usize::from(item.removed && !before.removed);
    }

    /// Awards units of an item, if it has them.
    pub(super) fn give(&mut self, position: u32, units: u64) -> bool {
        let item = self.change(position);
        let enough = item.can_give(units);
        if enough {
            item.give(units);
            // Weights stay as they are, but for the last of an item that leaves the sum.
            if !item.can_give(1) && self.renormalize {
                self.selector.set(position as usize, 0);
            }
        }
        enough
    }

    /// The item, to be changed: as a copy, until it is settled.
    fn change(&mut self, position: u32) -> &mut Item {
        let place = &mut self.places[position as usize];
        if *place == 0 {
            self.changed.push((position, self.list.slots.get(position as usize).item));
            *place = u32::try_from(self.changed.len()).expect("no more are changed than there are");
        }
        &mut self.changed[*place as usize - 1].1
    }

    /// The position after the last.
    fn end(&self) -> u32 {
        u32::try_from(self.len()).expect("a pool has at most 65 536 items")
    }

    /// The sum of weights that tickets are drawn from; 0 if nothing can be drawn.
    pub(super) fn weight_total(&self) -> u64 {
        self.selector.total()
    }

    /// The item that a ticket hits.
    pub(super) fn hit(&self, ticket: u64) -> u32 {
        u32::try_from(self.selector.find(ticket)).expect("a pool has at most 65 536 items")
    }

    /// The weight by which an item is drawn now.
    fn odds(&self, item: &Item) -> u32 {
        if self.renormalize && !item.can_give(1) { 0 } else { item.weight.0 }
    }

    /// Writes back what was changed since the last time, and visits it: position, name, item and its hash, which the visitor
    /// brings up to date.
    pub(super) fn settle(&mut self, mut visit: impl FnMut(u32, &ItemId, &Item, &mut u128)) {
        for (position, item) in self.changed.drain(..) {
            self.places[position as usize] = 0;
            let slot = self.list.slots.get_mut(position as usize);
            slot.item = item;
            visit(position, self.list.ids.get(position as usize), &slot.item, &mut slot.hash);
        }
        self.changed.shrink_to(CHANGED_KEPT_MAX);
    }

    /// What does not hold of index and weights, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let odds: Vec<u32> = self.list.iter().map(|(_, item)| self.odds(item)).collect();
        if self.selector.weights() != odds {
            return Err("the weights drawn by are not those of the items".into());
        }
        let total: u64 = odds.iter().map(|&weight| u64::from(weight)).sum();
        if self.selector.total() != total {
            return Err(format!("the sum of weights is {total}, drawn from is {}", self.selector.total()));
        }
        if let Some(last) = odds.iter().rposition(|&weight| weight > 0)
            && self.selector.find(total - 1) != last
        {
            return Err("the greatest ticket does not hit the last item".into());
        }
        if self.list.iter().filter(|(_, item)| item.removed).count() != self.removed {
            return Err("the removed items are miscounted".into());
        }
        let found = self.list.ids.iter().zip(0u32..).all(|(id, at)| self.position(id) == Some(at));
        if found && self.positions.len() == self.len() { Ok(()) } else { Err("the index of names is wrong".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(stock: Stock) -> Item {
        Item::new(Weight(7), stock, Version(1))
    }

    #[test]
    fn an_unlimited_item_ends_where_its_counters_do() {
        let mut almost = item(Stock::Unlimited);
        (almost.awarded, almost.added) = (QUANTITY_MAX - 1, QUANTITY_MAX - 1);
        assert!(almost.can_give(1) && !almost.can_give(2));
        almost.give(1);
        assert!(almost.is_conserved() && !almost.can_give(1));

        let mut items = Items::new(true);
        items.push("vast".to_owned().try_into().unwrap(), almost);
        assert_eq!(items.weight_total(), 0);
        assert!(!items.give(0, 1));
    }

    #[test]
    fn what_is_held_or_came_back_is_part_of_the_sum() {
        let mut held = item(Stock::Finite(10));
        held.give(4);
        (held.reserved, held.remaining) = (3, 3);
        assert!(held.is_conserved());
        (held.returned, held.remaining) = (2, 5);
        assert!(held.is_conserved());
        held.remaining += 1;
        assert!(!held.is_conserved());
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing() {
        let mut items = Items::new(true);
        let position = items.push("gold".to_owned().try_into().unwrap(), item(Stock::Finite(5)));
        let before = *items.get(position);
        assert!(!items.give(position, 6));
        assert_eq!(*items.get(position), before);
        let mut copy = before;
        assert_eq!(copy.adjust(-6), Err(Refusal::InsufficientStock { remaining: 5 }));
        assert_eq!(copy.adjust(i64::MAX), Err(Refusal::StockOverflow));
        assert_eq!(copy.adjust(i64::MIN), Err(Refusal::InsufficientStock { remaining: 5 }));
        assert_eq!(copy.set_stock(Stock::Finite(QUANTITY_MAX + 1)), Err(Refusal::StockOverflow));
        assert_eq!(copy, before);
    }

    /// The checks that `verify` relies on are able to fail.
    #[test]
    fn weights_that_are_not_those_of_the_items_are_found() {
        let mut items = Items::new(true);
        items.push("gold".to_owned().try_into().unwrap(), item(Stock::Finite(5)));
        assert_eq!(items.check(), Ok(()));
        items.list.slots.get_mut(0).item.weight = Weight(8);
        assert!(items.check().is_err());
    }
}
