//! Nothing invented: every command that was applied had been sent, byte for byte, by somebody who was not told that it never
//! would be. What nobody was told about may be applied or not: [`super::once`] sees to it that it is so once at most.

use std::collections::BTreeMap;

use tombola::{
    codec,
    pool::{Command, PoolId, RequestKey},
};

use super::Violation;
use crate::model::Decision;

const NAME: &str = "phantom";
const INVARIANT: &str = "nothing invented";

/// The commands that were sent.
#[derive(Debug, Default)]
pub struct PhantomCheck {
    /// How often each was sent, and how often of these it was surely not applied.
    sent: BTreeMap<(PoolId, RequestKey, Vec<u8>), (u32, u32)>,
}

impl PhantomCheck {
    /// A command was sent.
    pub fn sent(&mut self, command: &Command) {
        self.sent.entry(name_of(command)).or_default().0 += 1;
    }

    /// A command that was sent is surely not applied, its sender was told.
    pub fn not_applied(&mut self, command: &Command) {
        self.sent.entry(name_of(command)).or_default().1 += 1;
    }

    /// A command that the ledger has.
    pub fn decide(&self, decision: &Decision) -> Result<(), Violation> {
        let (command, index) = (&decision.command, decision.outcome.index);
        let why = match self.sent.get(&name_of(command)) {
            None => "was never sent",
            Some((sent, refused)) if sent == refused => "was told to be surely not applied",
            Some(_) => return Ok(()),
        };
        let detail = format!("key {} of pool {}, applied at {index}, {why}", command.key, command.pool);
        Err(Violation::new(NAME, INVARIANT, detail))
    }
}

fn name_of(command: &Command) -> (PoolId, RequestKey, Vec<u8>) {
    (command.pool.clone(), command.key, codec::encode(command))
}

#[cfg(test)]
mod tests {
    use tombola::pool::KeyOrigin;

    use super::*;
    use crate::check::made_up::{claim, decision, draw, drawn, refused};

    /// Key 1 was sent twice, of which one is surely not applied; key 2 once, and is surely not applied.
    fn check() -> PhantomCheck {
        let mut check = PhantomCheck::default();
        for command in [draw(1), draw(1), draw(2)] {
            check.sent(&command);
        }
        check.not_applied(&draw(1));
        check.not_applied(&draw(2));
        check
    }

    #[test]
    fn what_was_sent_may_be_applied() {
        check().decide(&decision(&draw(1), &drawn(2, 1, "gold"))).unwrap();
    }

    #[test]
    fn what_nobody_sent_is_found() {
        let other_origin = tombola::pool::Command { origin: KeyOrigin::Server, ..draw(1) };
        for invented in [draw(3), claim(1, "gold", 1), other_origin] {
            refused(check().decide(&decision(&invented, &drawn(2, 1, "gold"))), "phantom", "was never sent");
        }
    }

    #[test]
    fn an_unknown_outcome_told_as_a_failure_is_found() {
        refused(check().decide(&decision(&draw(2), &drawn(2, 1, "gold"))), "phantom", "surely not applied");
    }
}
