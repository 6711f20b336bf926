//! Reads that wait until they may be answered.
//!
//! A linearizable read is answered when the replica says that its state reflects whatever had been answered before the read
//! was asked, and with the state as it is then; a stale one at once. Before the cluster is founded there is no state: both
//! wait. At its deadline a read is refused: bounded, whether or not there is a leader, and never with an older answer.

use std::collections::BTreeMap;

use super::{admission::overloaded, answer::AnswerTo, clock::Tick};
use crate::{
    api::{Consistency, NotApplied, Read},
    pool::{Query, StateMachine},
    replica::ReadId,
};

/// Most reads that wait.
pub(super) const READS_MAX: usize = 16_384;

/// A read as it was asked.
#[derive(Debug)]
pub(super) struct ReadAsk {
    /// What is asked.
    pub query: Query,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// How long it is of use.
    pub deadline: Tick,
    /// Where the answer goes.
    pub reply: AnswerTo<Read>,
}

impl ReadAsk {
    /// Answers from the state as it is now.
    pub fn answer(self, machine: &StateMachine) {
        let read = Read { index: machine.applied(), now: machine.now(), answer: machine.query(&self.query) };
        self.tell(read);
    }

    /// Gives the answer.
    pub fn tell(self, read: Read) {
        self.reply.answer(Ok(read));
    }

    /// Gives none.
    pub fn refuse(self, why: NotApplied) {
        self.reply.answer(Err(why.into()));
    }
}

/// The reads that wait.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: BTreeMap<ReadId, ReadAsk>,
    asked: u64,
    deadlines: BTreeMap<Tick, Vec<ReadId>>,
}

impl Reads {
    /// A read waits; under this id, unless there are too many: then it may come again after so long.
    pub fn add(&mut self, ask: ReadAsk, retry_after_ms: u32) -> Option<ReadId> {
        if self.waiting.len() >= READS_MAX {
            ask.refuse(overloaded(retry_after_ms));
            return None;
        }
        self.asked += 1;
        let id = ReadId(self.asked);
        self.deadlines.entry(ask.deadline).or_default().push(id);
        self.waiting.insert(id, ask);
        Some(id)
    }

    /// Takes a read to answer it, if it still waits.
    pub fn take(&mut self, id: ReadId) -> Option<ReadAsk> {
        self.waiting.remove(&id)
    }

    /// Takes all of them, in the order of asking.
    pub fn take_all(&mut self) -> impl Iterator<Item = ReadAsk> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }

    /// Refuses the reads whose deadline has passed; the replica need not pursue them.
    pub fn handle_tick(&mut self, now: Tick) -> Vec<ReadId> {
        let mut late = Vec::new();
        while let Some(due) = self.deadlines.first_entry().filter(|due| *due.key() <= now) {
            for id in due.remove() {
                if let Some(ask) = self.waiting.remove(&id) {
                    ask.refuse(NotApplied::NoQuorum);
                    late.push(id);
                }
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::pool::Query;

    #[test]
    fn a_read_is_refused_at_its_deadline_and_no_earlier() {
        let (reply, mut answer) = oneshot::channel();
        let mut reads = Reads::default();
        let ask = ReadAsk {
            query: Query::first_pools(),
            consistency: Consistency::Linearizable,
            deadline: Tick(5),
            reply: AnswerTo::from(reply),
        };
        let id = reads.add(ask, 10).unwrap();
        assert_eq!(reads.handle_tick(Tick(4)), []);
        assert!(answer.try_recv().is_err());
        assert_eq!(reads.handle_tick(Tick(5)), [id]);
        assert_eq!(answer.try_recv().unwrap(), Err(NotApplied::NoQuorum.into()));
        assert!(reads.take(id).is_none());
    }

    #[test]
    fn the_reads_that_wait_are_bounded() {
        let mut reads = Reads::default();
        let mut ask = || {
            let (reply, answer) = oneshot::channel();
            let (query, consistency) = (Query::first_pools(), Consistency::Linearizable);
            let reply = AnswerTo::from(reply);
            (reads.add(ReadAsk { query, consistency, deadline: Tick(5), reply }, 10), answer)
        };
        assert!((0..READS_MAX).all(|_| ask().0.is_some()));
        let (id, mut answer) = ask();
        assert_eq!((id, answer.try_recv().unwrap()), (None, Err(overloaded(10).into())));
    }
}
