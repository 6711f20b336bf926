//! Words for histories made by hand.

use tombola::{
    pool::{
        Action, Actor, Claim, Command, Digests, DrawSeq, Effect, ItemId, KeyOrigin, Outcome, PoolId, Refusal,
        RequestKey, Step, Version,
    },
    types::{HistoryDigest, Index, Millis, ReplicaId, StateDigest},
};

use super::{Incarnation, Violation};
use crate::model::Decision;

/// The refusal of a history, in the checker's words.
#[track_caller]
pub fn refused(result: Result<(), Violation>, checker: &str, detail: &str) {
    let violation = result.expect_err("it must be refused");
    assert_eq!(violation.checker, checker);
    assert!(violation.detail.contains(detail), "{violation}");
}

pub fn life(replica: u64, number: u64) -> Incarnation {
    Incarnation { replica: ReplicaId(replica), number }
}

pub fn item(id: &str) -> ItemId {
    id.parse().expect("a legal id")
}

pub fn pool() -> PoolId {
    PoolId::default_pool()
}

pub fn key(number: u8) -> RequestKey {
    RequestKey::new(Millis(1_000), [number; 10])
}

pub fn command(number: u8, action: Action) -> Command {
    Command { pool: pool(), key: key(number), origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

/// Draws once, under a key of that number.
pub fn draw(number: u8) -> Command {
    command(number, Action::Draw { count: 1 })
}

pub fn claim(number: u8, id: &str, quantity: u32) -> Command {
    command(number, Action::Claim { item: item(id), quantity })
}

pub fn outcome(index: u64, result: Result<Effect, Refusal>) -> Outcome {
    Outcome { index: Index(index), now: Millis(1_000), replayed: false, result }
}

/// A draw's outcome: its number, and the item that it gave.
pub fn drawn(index: u64, seq: u64, id: &str) -> Outcome {
    let steps = [Step::Awarded(item(id))].into_iter().collect();
    outcome(index, Ok(Effect::Drawn { first_seq: DrawSeq(seq), version: Version(1), steps }))
}

pub fn claimed(index: u64, seq: u64) -> Outcome {
    outcome(index, Ok(Effect::Claimed { seq: DrawSeq(seq), result: Claim::Awarded }))
}

pub fn again(outcome: &Outcome) -> Outcome {
    Outcome { replayed: true, ..outcome.clone() }
}

pub fn expired(index: u64) -> Outcome {
    outcome(index, Err(Refusal::KeyExpired { floor: Millis(2_000), now: Millis(3_000) }))
}

pub fn decision(command: &Command, outcome: &Outcome) -> Decision {
    Decision { command: command.clone(), outcome: outcome.clone() }
}

pub fn digests(index: u64, history: u8, state: u128) -> Digests {
    Digests { index: Index(index), history: HistoryDigest([history; 32]), state: StateDigest(state) }
}
