//! Exactly once: a key of a pool is executed at one index at most; whatever else is answered under it is that outcome, or a
//! refusal that changes nothing. A key found too old stays too old, and a key is never taken for another request.

use std::collections::{BTreeMap, BTreeSet};

use tombola::{
    pool::{Action, Command, Outcome, PoolId, Refusal, RequestKey},
    types::Index,
};

use super::{Violation, is_stored};
use crate::model::Decision;

const NAME: &str = "once";
const INVARIANT: &str = "exactly once";

/// What is known of a key.
#[derive(Clone, Debug)]
struct Effective {
    action: Action,
    outcome: Outcome,
}

/// The keys of a history.
#[derive(Debug, Default)]
pub struct Once {
    /// As decided along the ledger.
    executed: BTreeMap<(PoolId, RequestKey), Effective>,
    expired: BTreeSet<(PoolId, RequestKey)>,
    /// As told to callers.
    told: BTreeMap<(PoolId, RequestKey), Effective>,
}

impl Once {
    /// A command's outcome where the ledger has it; in the order of the ledger.
    pub fn decide(&mut self, decision: &Decision) -> Result<(), Violation> {
        let Decision { command, outcome } = decision;
        let name = (command.pool.clone(), command.key);
        let first = self.executed.get(&name);
        match (&outcome.result, first) {
            (result, first) if is_stored(result) => {
                if outcome.replayed {
                    return expect_same(first, command, outcome);
                }
                if self.expired.contains(&name) || first.is_some() {
                    return Err(broken(
                        command,
                        format!("it is executed at {}, though it was done with", outcome.index),
                    ));
                }
                let effective = Effective { action: command.action.clone(), outcome: outcome.clone() };
                self.executed.insert(name, effective);
                Ok(())
            }
            (Err(Refusal::KeyExpired { floor, .. }), _) => {
                self.expired.insert(name);
                let is_old = command.key.time() <= *floor;
                if is_old { Ok(()) } else { Err(broken(command, format!("expired, but younger than {floor}"))) }
            }
            (Err(Refusal::KeyReused), first) if first.is_none_or(|first| first.action == command.action) => {
                Err(broken(command, "it is refused as another request's".to_owned()))
            }
            (Err(Refusal::KeyReused), _) => Ok(()),
            (_, None) => Ok(()),
            (result, Some(_)) => Err(broken(command, format!("known, but answered {result:?}"))),
        }
    }

    /// What a caller was told, in any order.
    pub fn answer(&mut self, command: &Command, outcome: &Outcome) -> Result<(), Violation> {
        if !is_stored(&outcome.result) {
            return Ok(());
        }
        let effective = Effective { action: command.action.clone(), outcome: outcome.clone() };
        let first = self.told.entry((command.pool.clone(), command.key)).or_insert(effective);
        expect_same(Some(first), command, outcome)
    }

    /// How many keys were executed.
    pub fn executed(&self) -> usize {
        self.executed.len()
    }

    /// Where a key was executed.
    pub fn executed_at(&self, pool: &PoolId, key: &RequestKey) -> Option<Index> {
        self.executed.get(&(pool.clone(), *key)).map(|effective| effective.outcome.index)
    }
}

fn expect_same(first: Option<&Effective>, command: &Command, outcome: &Outcome) -> Result<(), Violation> {
    let Some(Effective { action, outcome: first }) = first else {
        return Err(broken(command, "it is told again, and never was before".to_owned()));
    };
    if *action != command.action {
        return Err(broken(command, format!("{:?} is answered with the outcome of {action:?}", command.action)));
    }
    let same = (first.index, first.now, &first.result) == (outcome.index, outcome.now, &outcome.result);
    if same { Ok(()) } else { Err(broken(command, format!("it is told {outcome:?}, and was told {first:?}"))) }
}

fn broken(command: &Command, detail: String) -> Violation {
    Violation::new(NAME, INVARIANT, format!("key {} of pool {}: {detail}", command.key, command.pool))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::{again, claim, decision, draw, drawn, expired, outcome, refused};

    /// Key 1 was executed at 2.
    fn once() -> Once {
        let mut once = Once::default();
        once.decide(&decision(&draw(1), &drawn(2, 1, "gold"))).unwrap();
        once.answer(&draw(1), &drawn(2, 1, "gold")).unwrap();
        once
    }

    #[test]
    fn replays_and_refusals_are_well() {
        let mut once = once();
        once.decide(&decision(&draw(1), &again(&drawn(2, 1, "gold")))).unwrap();
        once.decide(&decision(&claim(1, "gold", 1), &outcome(4, Err(Refusal::KeyReused)))).unwrap();
        once.decide(&decision(&draw(1), &expired(5))).unwrap();
        once.decide(&decision(&claim(1, "gold", 1), &expired(6))).unwrap();
        once.answer(&draw(1), &again(&drawn(2, 1, "gold"))).unwrap();
        once.answer(&draw(1), &expired(5)).unwrap();
        // Refused for want of room, a key may be executed later.
        once.decide(&decision(&draw(2), &outcome(7, Err(Refusal::KeyTableFull)))).unwrap();
        once.decide(&decision(&draw(2), &drawn(8, 2, "gold"))).unwrap();
        assert_eq!(once.executed(), 2);
        assert_eq!(once.executed_at(&draw(2).pool, &draw(2).key), Some(Index(8)));
    }

    #[test]
    fn a_key_is_not_executed_twice() {
        refused(once().decide(&decision(&draw(1), &drawn(3, 2, "gold"))), "once", "executed at 3");
        refused(once().decide(&decision(&claim(1, "gold", 1), &drawn(3, 2, "gold"))), "once", "executed at 3");
    }

    #[test]
    fn a_key_that_was_too_old_is_not_executed_later() {
        let mut once = once();
        once.decide(&decision(&draw(2), &expired(3))).unwrap();
        refused(once.decide(&decision(&draw(2), &drawn(4, 2, "gold"))), "once", "executed at 4");
        let young = Refusal::KeyExpired { floor: tombola::types::Millis(999), now: tombola::types::Millis(1_000) };
        refused(once.decide(&decision(&draw(3), &outcome(5, Err(young)))), "once", "younger than 999");
    }

    #[test]
    fn another_request_does_not_get_the_outcome() {
        let stolen = decision(&claim(1, "gold", 1), &again(&drawn(2, 1, "gold")));
        refused(once().decide(&stolen), "once", "is answered with the outcome of Draw");
        refused(once().answer(&claim(1, "gold", 1), &drawn(2, 1, "gold")), "once", "is answered with the outcome of");
    }

    #[test]
    fn a_replay_tells_what_was_told() {
        refused(once().decide(&decision(&draw(1), &again(&drawn(2, 1, "mud")))), "once", "and was told");
        refused(once().decide(&decision(&draw(2), &again(&drawn(2, 1, "gold")))), "once", "never was before");
    }

    #[test]
    fn answers_to_one_key_are_one_answer() {
        refused(once().answer(&draw(1), &drawn(3, 1, "gold")), "once", "and was told");
        refused(once().answer(&draw(1), &again(&drawn(2, 1, "mud"))), "once", "and was told");
    }

    #[test]
    fn a_key_s_own_request_is_not_refused_as_another_s() {
        refused(once().decide(&decision(&draw(1), &outcome(3, Err(Refusal::KeyReused)))), "once", "another request's");
        refused(once().decide(&decision(&draw(2), &outcome(3, Err(Refusal::KeyReused)))), "once", "another request's");
        let full = outcome(3, Err(Refusal::KeyTableFull));
        refused(once().decide(&decision(&draw(1), &full)), "once", "known, but answered");
    }
}
