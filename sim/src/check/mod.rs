//! Checkers: each holds one promise against a history, and says which one was broken.
//!
//! **A history** ([`History`]) is what was seen of a cluster from outside: what each replica applied, the digests and the
//! status it showed, what callers asked and when, what they were answered and when, and what was left at the end. It judges
//! what can be judged at once, and the rest in [`History::finish`], where the [model](crate::model) goes through the ledger
//! once more and says what should have been.
//!
//! | checker | DESIGN section 3 | breaks when |
//! |---|---|---|
//! | [`ledger`] | one history, contiguous | two replicas apply other bytes at an index, or one skips an index |
//! | [`digest`] | deterministic | digests at an index differ between replicas, or from the model's |
//! | [`raft`] | election safety | a term has two leaders, a leader lacks what was applied, a counter falls |
//! | [`matching`] | log matching | two logs have another entry under the same index and term |
//! | [`once`] | exactly once | a key is executed twice, answered differently, or taken for another request |
//! | [`stock`] | conservation | counters do not add up, or awards and answers are not the same |
//! | [`linear`] | linearizable | an answer is not the model's, or older than what had returned before it was asked |
//! | [`promise`] | what was said is kept | what leaves a node is not durable, or is not there after a crash |
//! | [`durable`] | durable | what was answered is not in what is left |
//! | [`phantom`] | nothing invented | a command was applied that nobody sent, or whose senders were told it never would be |
//! | [`time`] | nobody's clock alone | cluster time is ahead of all clocks but one |
//! | [`bounds`] | bounded | more waits in a node than may, or a log is not cut |
//! | [`live`] | alive | a healed quorum decides nothing |
//! | [`draw`] | fair | awards are not by weight (pooled over many histories) |
//!
//! Each file has the histories that its checker must refuse. They are written by hand, since a checker that cannot fail
//! proves nothing.

pub mod bounds;
pub mod digest;
pub mod draw;
pub mod durable;
mod history;
pub mod ledger;
pub mod linear;
pub mod live;
#[cfg(test)]
pub(crate) mod made_up;
pub mod matching;
pub mod once;
pub mod phantom;
pub mod promise;
pub mod raft;
pub mod stock;
pub mod time;

use std::fmt;

pub use self::history::{Ask, CallId, History, Keyless, Report, Told};
use tombola::{
    pool::{Effect, Refusal},
    types::ReplicaId,
};

/// A replica from one start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation {
    /// The replica.
    pub replica: ReplicaId,
    /// Which of its lives; chosen by whoever watches, never used twice.
    pub number: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {} in its life {}", self.replica, self.number)
    }
}

/// A point in time, by the clock of whoever watches: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{checker}: {invariant} is broken: {detail}")]
pub struct Violation {
    /// The checker that saw it.
    pub checker: &'static str,
    /// The promise.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    fn new(checker: &'static str, invariant: &'static str, detail: impl Into<String>) -> Self {
        Self { checker, invariant, detail: detail.into() }
    }
}

/// Is the result kept under its key? The refusals that are about the key itself are not.
fn is_stored(result: &Result<Effect, Refusal>) -> bool {
    !matches!(
        result,
        Err(Refusal::KeyReused | Refusal::KeyExpired { .. } | Refusal::KeyFromFuture { .. } | Refusal::KeyTableFull)
    )
}
