//! Linearizable: there is an order of all requests and reads, in which each has what it was answered, and which never turns
//! round two of which one had returned before the other was asked.
//!
//! Every answer carries the index it was decided at, so the order is given and only has to be checked: a request decided at
//! `i` has the rank (i, write), a read served at `i` the rank (i, read), and the model says what is answered at each. Then
//! one sweep through time in O(n log n): a write's rank is greater than that of whatever had returned before it was asked, a
//! read's is not smaller. If that holds, a linearization exists; if not, answers break a promise stronger than that.
//!
//! A request is one from the first time it is sent to the first time its outcome is told, however often it is sent. A refusal
//! that is about the key itself is not kept, so each one is an operation of its own. What was never answered is free.

use std::collections::BTreeMap;

use tombola::{
    api::Read,
    codec,
    pool::{Answer, Command, Outcome, PoolId, RequestKey},
    types::{Index, Millis},
};

use super::{CallId, Moment, Violation, is_stored};
use crate::model::Decision;

const NAME: &str = "linear";
const INVARIANT: &str = "linearizable";

/// Where in the order of all operations one stands. Writes of one entry stand together, its reads after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The index it was decided or served at.
    pub index: Index,
    /// Does it only read?
    pub is_read: bool,
}

/// One operation that was answered.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When it was asked.
    pub invoked: Moment,
    /// When it was answered.
    pub returned: Moment,
    /// Where it stands.
    pub rank: Rank,
}

/// Checks that no operation stands before one that had returned before it was asked.
pub fn sweep(operations: &[Operation]) -> Result<(), Violation> {
    let (mut by_invoked, mut by_returned): (Vec<&Operation>, Vec<&Operation>) =
        (operations.iter().collect(), operations.iter().collect());
    by_invoked.sort_by_key(|operation| operation.invoked);
    by_returned.sort_by_key(|operation| operation.returned);
    let mut returned = by_returned.into_iter().peekable();
    let mut newest = Rank::default();
    for operation in by_invoked {
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned < operation.invoked) {
            newest = newest.max(earlier.rank);
        }
        let rank = operation.rank;
        if rank < newest || (rank == newest && !rank.is_read) {
            let kind = if rank.is_read { "a read served" } else { "a request decided" };
            let (at, asked) = (rank.index, operation.invoked.0);
            let detail = format!("{kind} at {at} was asked at {asked}, after what stands at {newest:?} had returned");
            return Err(Violation::new(NAME, INVARIANT, detail));
        }
    }
    Ok(())
}

/// One time that a request was sent, and what came of it.
#[derive(Debug)]
struct Send {
    invoked: Moment,
    returned: Option<(Moment, Outcome)>,
}

/// Names a request: its pool, its key, and what it asks for.
type Name = (PoolId, RequestKey, Vec<u8>);

/// Requests and reads of a history, and what the model says of them.
#[derive(Debug, Default)]
pub struct LinearCheck {
    sends: BTreeMap<Name, Vec<Send>>,
    reads: Vec<Operation>,
    /// Decisions that are no replays, by index. In one entry a copy of a request may be refused for want of room, and
    /// another executed, once something has made room in between.
    decided: BTreeMap<(Index, Name), Vec<Outcome>>,
}

impl LinearCheck {
    /// A request was sent, and perhaps answered.
    pub fn sent(&mut self, command: &Command, invoked: Moment, returned: Option<(Moment, Outcome)>) {
        self.sends.entry(name_of(command)).or_default().push(Send { invoked, returned });
    }

    /// A command's outcome where the ledger has it.
    pub fn decide(&mut self, decision: &Decision) {
        let Decision { command, outcome } = decision;
        if !outcome.replayed {
            self.decided.entry((outcome.index, name_of(command))).or_default().push(outcome.clone());
        }
    }

    /// A read was answered, where the model's answer and time at the same index are these. Only a linearizable one has its
    /// place in time.
    pub fn read(
        &mut self,
        call: CallId,
        read: &Read,
        expected: (&Answer, Millis),
        span: Option<(Moment, Moment)>,
    ) -> Result<(), Violation> {
        if (&read.answer, read.now) != expected {
            let (at, answer) = (read.index, &read.answer);
            let detail = format!("read {} shows {answer:?} at {at}; the model shows {expected:?}", call.0);
            return Err(Violation::new(NAME, INVARIANT, detail));
        }
        let rank = Rank { index: read.index, is_read: true };
        self.reads.extend(span.map(|(invoked, returned)| Operation { invoked, returned, rank }));
        Ok(())
    }

    /// Checks every answer against what was decided, and their order against time.
    pub fn finish(self) -> Result<(), Violation> {
        let mut operations = self.reads;
        for (name, sends) in &self.sends {
            for (_, outcome) in sends.iter().filter_map(|send| send.returned.as_ref()) {
                check_answer(&self.decided, name, outcome)?;
            }
            operations.extend(operations_of(sends));
        }
        sweep(&operations)
    }
}

fn name_of(command: &Command) -> Name {
    (command.pool.clone(), command.key, codec::encode(&command.action))
}

/// The entry at the answer's index holds the request, and its answer there is this one.
fn check_answer(
    decided: &BTreeMap<(Index, Name), Vec<Outcome>>,
    name: &Name,
    outcome: &Outcome,
) -> Result<(), Violation> {
    let expected = decided.get(&(outcome.index, name.clone()));
    if expected.is_some_and(|expected| expected.contains(&Outcome { replayed: false, ..outcome.clone() })) {
        return Ok(());
    }
    let detail = format!("key {} of pool {} was told {outcome:?}; the model says {expected:?}", name.1, name.0);
    Err(Violation::new(NAME, INVARIANT, detail))
}

/// The operations that the times a request was sent amount to.
fn operations_of(sends: &[Send]) -> Vec<Operation> {
    let first = sends.iter().map(|send| send.invoked).min();
    let answers = sends.iter().filter_map(|send| send.returned.as_ref().map(|returned| (send, returned)));
    let mut operations = Vec::new();
    let mut kept: Option<Operation> = None;
    for (send, (returned, outcome)) in answers {
        let rank = Rank { index: outcome.index, is_read: false };
        if is_stored(&outcome.result) {
            let returned = kept.map_or(*returned, |kept| kept.returned.min(*returned));
            kept = first.map(|invoked| Operation { invoked, returned, rank });
        } else {
            // A node may let a second send wait with a first that is still under way.
            let under_way = |other: &&Send| other.returned.as_ref().is_none_or(|(until, _)| *until >= send.invoked);
            let since = sends.iter().filter(under_way).map(|other| other.invoked).min().unwrap_or(send.invoked);
            operations.push(Operation { invoked: since.min(send.invoked), returned: *returned, rank });
        }
    }
    operations.extend(kept);
    operations
}

#[cfg(test)]
mod search;
#[cfg(test)]
mod tests;
