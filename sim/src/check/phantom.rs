//! Nothing invented: every command that was applied had been sent, byte for byte, by somebody who was not told that it never
//! would be. What nobody was told about may be applied or not: [`super::once`] sees to it that it is so once at most.
//!
//! **Surely without effect** is told in two ways: that a request is surely not applied, and by a refusal of its key that the
//! cluster does not keep. A request of which each send was told one or the other may not have an effect all the same.
//!
//! A request without a key has the one that a node made. So it is known by what it asks for, and as many keys of nodes may
//! be executed for that as it was sent without one, and not told to be surely not applied.

use std::collections::BTreeMap;

use tombola::{
    codec,
    pool::{Command, KeyOrigin, PoolId, RequestKey},
};

use super::{Keyless, Told, Violation, is_stored};
use crate::model::Decision;

const NAME: &str = "phantom";
const INVARIANT: &str = "nothing invented";

/// What became of the sends of one request.
#[derive(Clone, Copy, Debug, Default)]
struct Sends {
    /// How often it was sent.
    all: u32,
    /// How many of these were told to be surely not applied.
    not_applied: u32,
    /// How many were told a refusal that is not kept.
    unrecorded: u32,
}

/// Requests without a key that ask for the same.
#[derive(Clone, Copy, Debug, Default)]
struct Nameless {
    sends: Sends,
    /// The cluster may ask for it itself.
    is_own: bool,
    /// Keys of nodes that were executed for it.
    executed: u32,
}

/// The commands that were sent.
#[derive(Debug, Default)]
pub struct PhantomCheck {
    sent: BTreeMap<(PoolId, RequestKey, Vec<u8>), Sends>,
    keyless: BTreeMap<Vec<u8>, Nameless>,
}

impl Sends {
    fn add(&mut self, told: Option<&Told>) {
        self.all += 1;
        self.not_applied += u32::from(matches!(told, Some(Told::NotApplied)));
        let outcome = match told {
            Some(Told::Outcome(outcome)) => Some(outcome),
            Some(Told::Answered(answered)) => Some(&answered.outcome),
            _ => None,
        };
        self.unrecorded += u32::from(outcome.is_some_and(|outcome| !is_stored(&outcome.result)));
    }
}

impl PhantomCheck {
    /// A command was sent, and perhaps its sender was told something.
    pub fn sent(&mut self, command: &Command, told: Option<&Told>) {
        self.sent.entry(name_of(command)).or_default().add(told);
    }

    /// A request was sent without a key.
    pub fn sent_keyless(&mut self, keyless: &Keyless, told: Option<&Told>) {
        self.keyless.entry(words_of(keyless)).or_default().sends.add(told);
    }

    /// The cluster may ask this of itself.
    pub fn may_be_the_cluster_s_own(&mut self, own: &Keyless) {
        self.keyless.entry(words_of(own)).or_default().is_own = true;
    }

    /// A command that the ledger has.
    pub fn decide(&mut self, decision: &Decision) -> Result<(), Violation> {
        let (command, outcome) = (&decision.command, &decision.outcome);
        let has_effect = is_stored(&outcome.result) && !outcome.replayed;
        let why = match self.sent.get(&name_of(command)) {
            Some(Sends { all, not_applied, .. }) if all == not_applied => "was told to be surely not applied",
            Some(Sends { all, not_applied, unrecorded }) if has_effect && *all == not_applied + unrecorded => {
                "was refused, without being kept, at its every send"
            }
            Some(_) => return Ok(()),
            None if command.origin == KeyOrigin::Server => match self.decide_keyless(command, has_effect) {
                Some(why) => why,
                None => return Ok(()),
            },
            None => "was never sent",
        };
        let detail = format!("key {} of pool {}, applied at {}, {why}", command.key, command.pool, outcome.index);
        Err(Violation::new(NAME, INVARIANT, detail))
    }

    /// A node made its key: what is wrong with it, if anything is.
    fn decide_keyless(&mut self, command: &Command, has_effect: bool) -> Option<&'static str> {
        let Command { pool, actor, action, .. } = command.clone();
        let Some(nameless) = self.keyless.get_mut(&words_of(&Keyless { pool, actor, action })) else {
            return Some("was never sent");
        };
        let open = nameless.sends.all - nameless.sends.not_applied;
        nameless.executed += u32::from(has_effect);
        let is_well = nameless.is_own || (open > 0 && nameless.executed <= open);
        (!is_well).then_some("is executed for more keyless requests than were sent and may have been applied")
    }
}

fn name_of(command: &Command) -> (PoolId, RequestKey, Vec<u8>) {
    (command.pool.clone(), command.key, codec::encode(command))
}

fn words_of(Keyless { pool, actor, action }: &Keyless) -> Vec<u8> {
    codec::encode(&(pool, actor, action))
}

#[cfg(test)]
mod tests {
    use tombola::pool::{Action, Actor, Refusal};

    use super::*;
    use crate::check::made_up::{claim, decision, draw, drawn, outcome, pool, refused};

    /// Key 1 was sent twice, of which one is surely not applied; key 2 once, and is surely not applied; key 3 was refused
    /// once, and is surely not applied once.
    fn check() -> PhantomCheck {
        let mut check = PhantomCheck::default();
        let full = Told::Outcome(outcome(2, Err(Refusal::KeyTableFull)));
        check.sent(&draw(1), None);
        check.sent(&draw(1), Some(&Told::NotApplied));
        check.sent(&draw(2), Some(&Told::NotApplied));
        check.sent(&draw(3), Some(&full));
        check.sent(&draw(3), Some(&Told::NotApplied));
        check
    }

    fn keyless(count: u16) -> Keyless {
        Keyless { pool: pool(), actor: Actor::default(), action: Action::Draw { count } }
    }

    fn made_by_a_node(number: u8) -> Decision {
        decision(&Command { origin: KeyOrigin::Server, ..draw(number) }, &drawn(2, 1, "gold"))
    }

    #[test]
    fn what_was_sent_may_be_applied() {
        check().decide(&decision(&draw(1), &drawn(2, 1, "gold"))).unwrap();
        check().decide(&decision(&draw(3), &outcome(2, Err(Refusal::KeyTableFull)))).unwrap();
    }

    #[test]
    fn what_nobody_sent_is_found() {
        let other_origin = Command { origin: KeyOrigin::Server, ..draw(1) };
        for invented in [draw(4), claim(1, "gold", 1), other_origin] {
            refused(check().decide(&decision(&invented, &drawn(2, 1, "gold"))), "phantom", "was never sent");
        }
    }

    #[test]
    fn an_unknown_outcome_told_as_a_failure_is_found() {
        refused(check().decide(&decision(&draw(2), &drawn(2, 1, "gold"))), "phantom", "surely not applied");
    }

    #[test]
    fn what_was_refused_without_being_kept_has_no_effect_later() {
        refused(check().decide(&decision(&draw(3), &drawn(3, 1, "gold"))), "phantom", "at its every send");
        let mut sent_again = check();
        sent_again.sent(&draw(3), None);
        sent_again.decide(&decision(&draw(3), &drawn(3, 1, "gold"))).unwrap();
    }

    #[test]
    fn a_keyless_request_is_executed_once_at_most() {
        let mut check = PhantomCheck::default();
        check.sent_keyless(&keyless(1), None);
        check.sent_keyless(&keyless(1), Some(&Told::MaybeUnder(draw(1).key)));
        check.sent_keyless(&keyless(1), Some(&Told::NotApplied));
        check.decide(&made_by_a_node(1)).unwrap();
        let again = decision(&made_by_a_node(1).command, &crate::check::made_up::again(&drawn(2, 1, "gold")));
        check.decide(&again).unwrap();
        check.decide(&made_by_a_node(2)).unwrap();
        refused(check.decide(&made_by_a_node(3)), "phantom", "more keyless requests");
    }

    #[test]
    fn a_keyless_request_that_is_surely_not_applied_is_not_in_the_ledger() {
        let mut check = PhantomCheck::default();
        check.sent_keyless(&keyless(1), Some(&Told::NotApplied));
        refused(check.decide(&made_by_a_node(1)), "phantom", "more keyless requests");
    }

    #[test]
    fn what_the_cluster_asks_of_itself_is_its_own_business() {
        let mut check = PhantomCheck::default();
        check.may_be_the_cluster_s_own(&keyless(1));
        (1..4).for_each(|number| check.decide(&made_by_a_node(number)).unwrap());
    }
}
