//! Conservation: `added = remaining + reserved + awarded - returned` for every item whenever it is looked at; what an item
//! has awarded is what the ledger's commands were awarded, no draw number is given twice, and callers are told of no award
//! that the ledger does not have.

use std::collections::BTreeMap;

use tombola::{
    pool::{Action, Claim, Command, DrawSeq, Effect, ItemId, ItemState, Outcome, PoolId, PoolState, Step, Stock},
    types::Index,
};

use super::Violation;
use crate::model::Decision;

const NAME: &str = "stock";
const INVARIANT: &str = "conservation";
const QUANTITY_MAX: u64 = (1 << 53) - 1;

/// An award: whose number it has, and how many units of what it gave.
type Award = (DrawSeq, Option<(ItemId, u64)>);

/// What the ledger has awarded.
#[derive(Debug, Default)]
pub struct StockCheck {
    awards: BTreeMap<(PoolId, DrawSeq), Option<(ItemId, u64)>>,
    /// Units by item.
    units: BTreeMap<(PoolId, ItemId), u64>,
    /// Awarded and returned when last looked at.
    seen: BTreeMap<(PoolId, ItemId), (u64, u64)>,
}

impl StockCheck {
    /// A command's outcome where the ledger has it; in the order of the ledger.
    pub fn decide(&mut self, decision: &Decision) -> Result<(), Violation> {
        let Decision { command, outcome } = decision;
        if outcome.replayed {
            return Ok(());
        }
        for (seq, award) in awards(command, outcome) {
            if let Some((item, units)) = &award {
                *self.units.entry((command.pool.clone(), item.clone())).or_default() += units;
            }
            if self.awards.insert((command.pool.clone(), seq), award).is_some() {
                let detail = format!("number {seq} of pool {} is given again at {}", command.pool, outcome.index);
                return Err(Violation::new(NAME, INVARIANT, detail));
            }
        }
        Ok(())
    }

    /// The pool as it is after all that was decided so far; in the order of the ledger.
    pub fn look(&mut self, index: Index, pool: &PoolState) -> Result<(), Violation> {
        let id = &pool.summary.id;
        for item in &pool.items {
            let broken = |what: &str| {
                let detail = format!("at {index}, item {} of pool {id} {what}: {item:?}", item.id);
                Err(Violation::new(NAME, INVARIANT, detail))
            };
            if !is_conserved(item) {
                return broken("does not add up");
            }
            let name = (id.clone(), item.id.clone());
            if item.awarded != self.units.get(&name).copied().unwrap_or_default() {
                return broken("has awarded other than its commands were awarded");
            }
            let before = self.seen.insert(name, (item.awarded, item.returned)).unwrap_or_default();
            if item.awarded < before.0 || item.returned < before.1 {
                return broken("takes awards back");
            }
        }
        Ok(())
    }

    /// What a caller was told; once all is decided.
    pub fn answer(&self, command: &Command, outcome: &Outcome) -> Result<(), Violation> {
        for (seq, award) in awards(command, outcome) {
            if self.awards.get(&(command.pool.clone(), seq)) != Some(&award) {
                let detail = format!("key {} was told that {seq} gave {award:?}: the ledger has not", command.key);
                return Err(Violation::new(NAME, INVARIANT, detail));
            }
        }
        Ok(())
    }
}

/// Every number that an outcome gave, and what it gave with it.
fn awards(command: &Command, outcome: &Outcome) -> Vec<Award> {
    match (&outcome.result, &command.action) {
        (Ok(Effect::Drawn { first_seq, steps, .. }), _) => {
            let unit = |step: Step<&ItemId>| step.into_item().map(|item| (item.clone(), 1));
            steps.iter().zip(first_seq.0..).map(|(step, seq)| (DrawSeq(seq), unit(step))).collect()
        }
        (Ok(Effect::Claimed { seq, result }), Action::Claim { item, quantity }) => {
            let award = (*result == Claim::Awarded).then(|| (item.clone(), u64::from(*quantity)));
            vec![(*seq, award)]
        }
        _ => Vec::new(),
    }
}

fn is_conserved(item: &ItemState) -> bool {
    let ItemState { reserved, awarded, returned, added, .. } = *item;
    let remaining = match item.stock {
        Stock::Finite(remaining) => remaining,
        Stock::Unlimited => 0,
    };
    let (left, given) = (u128::from(remaining) + u128::from(reserved), u128::from(awarded));
    u128::from(added) + u128::from(returned) == left + given
        && returned <= awarded
        && [remaining, reserved, awarded, returned, added].iter().all(|&counter| counter <= QUANTITY_MAX)
}

#[cfg(test)]
mod tests {
    use tombola::pool::{Policy, PoolSummary, Version, Weight};

    use super::*;
    use crate::{
        check::made_up::{again, claim, claimed, decision, draw, drawn, item, pool, refused},
        model::Decision,
    };

    /// An item of ten units: so many left, so many awarded.
    fn gold(remaining: u64, awarded: u64) -> ItemState {
        let (stock, added) = (Stock::Finite(remaining), 10);
        ItemState {
            id: item("gold"),
            weight: Weight(1),
            stock,
            reserved: 0,
            awarded,
            returned: 0,
            added,
            rev: Version(1),
        }
    }

    fn state(items: Vec<ItemState>) -> PoolState {
        let (policy, version, draw_seq) = (Policy::Renormalize, Version(1), DrawSeq(0));
        let (items_len, key_floor) = (items.len() as u32, Default::default());
        let (paused, require_key) = (false, false);
        let summary =
            PoolSummary { id: pool(), paused, policy, require_key, version, draw_seq, items: items_len, key_floor };
        PoolState { summary, items }
    }

    fn won(index: u64, seq: u64) -> Decision {
        decision(&draw(seq as u8), &drawn(index, seq, "gold"))
    }

    /// Two units were drawn, and three claimed.
    fn check() -> StockCheck {
        let mut check = StockCheck::default();
        check.decide(&won(2, 1)).unwrap();
        check.decide(&won(3, 2)).unwrap();
        check.decide(&decision(&claim(9, "gold", 3), &claimed(4, 3))).unwrap();
        check.look(Index(4), &state(vec![gold(5, 5)])).unwrap();
        check
    }

    #[test]
    fn counters_that_add_up_are_well() {
        let mut check = check();
        check.decide(&decision(&draw(1), &again(&drawn(2, 1, "gold")))).unwrap();
        check.look(Index(5), &state(vec![gold(5, 5)])).unwrap();
        check.answer(&draw(1), &again(&drawn(2, 1, "gold"))).unwrap();
        check.answer(&claim(9, "gold", 3), &claimed(4, 3)).unwrap();
    }

    #[test]
    fn a_unit_that_is_lost_or_appears_is_found() {
        for (remaining, awarded) in [(4, 5), (6, 5)] {
            refused(check().look(Index(5), &state(vec![gold(remaining, awarded)])), "stock", "does not add up");
        }
        let held = ItemState { reserved: 1, ..gold(5, 5) };
        refused(check().look(Index(5), &state(vec![held])), "stock", "does not add up");
        let below_zero = ItemState { stock: Stock::Finite(u64::MAX), added: 4, ..gold(0, 5) };
        refused(check().look(Index(5), &state(vec![below_zero])), "stock", "does not add up");
    }

    #[test]
    fn awards_that_no_command_got_are_found() {
        refused(check().look(Index(5), &state(vec![gold(4, 6)])), "stock", "other than its commands");
        let mut one_more = check();
        one_more.decide(&won(5, 4)).unwrap();
        refused(one_more.look(Index(5), &state(vec![gold(5, 5)])), "stock", "other than its commands");
    }

    #[test]
    fn returned_units_do_not_come_back() {
        let mut check = check();
        let returned = ItemState { returned: 2, added: 8, ..gold(5, 5) };
        check.look(Index(5), &state(vec![returned])).unwrap();
        refused(check.look(Index(6), &state(vec![gold(5, 5)])), "stock", "takes awards back");
    }

    #[test]
    fn a_number_is_given_once() {
        refused(check().decide(&won(5, 2)), "stock", "number 2 of pool default is given again");
    }

    #[test]
    fn an_answer_that_the_ledger_has_not_is_found() {
        refused(check().answer(&draw(4), &drawn(5, 4, "gold")), "stock", "the ledger has not");
        refused(check().answer(&draw(1), &drawn(2, 1, "silver")), "stock", "the ledger has not");
        refused(check().answer(&claim(9, "gold", 4), &claimed(4, 3)), "stock", "the ledger has not");
    }
}
