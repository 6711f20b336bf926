//! Linearizable reads by ReadIndex (raft-rs.md, section 5), on whichever replica was asked.
//!
//! One question is out at a time; a read that comes meanwhile joins the *next* one, since the answer to the present one may
//! be older than it. raft-rs drops questions silently (no leader known, a leader that has not committed in its term, a
//! change of leader, a lost message), so each lasts only so many ticks and is then put anew, under a context never used
//! before. A read whose index is known stays answerable whatever happens to the leader.

use std::collections::{BTreeMap, BTreeSet};

use super::gate::READ_CONTEXT_BYTES;
use crate::{
    hooks,
    types::{Index, ReplicaId, Term},
};

/// Names a read at the replica that it was given to; chosen by the giver, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A question that is out.
#[derive(Debug)]
struct Attempt {
    /// What its answer will carry.
    context: [u8; READ_CONTEXT_BYTES],
    /// Whom it was put to.
    leader: ReplicaId,
    /// In which term.
    term: Term,
    /// How much longer an answer is awaited.
    ticks_left: usize,
    /// The reads that it is for.
    reads: BTreeSet<ReadId>,
}

/// Reads on their way.
#[derive(Debug)]
pub(super) struct Reads {
    /// This replica.
    me: ReplicaId,
    /// This incarnation.
    boot_nonce: u64,
    /// Questions put so far.
    asked: u64,
    /// How long an answer is awaited.
    attempt_ticks: usize,
    /// The reads that join the next question.
    waiting: BTreeSet<ReadId>,
    /// The question that is out.
    attempt: Option<Attempt>,
    /// The reads that wait for an index to be applied.
    confirmed: BTreeSet<(Index, ReadId)>,
    /// That index, by the read.
    confirmed_at: BTreeMap<ReadId, Index>,
}

impl Reads {
    /// None yet.
    pub fn new(me: ReplicaId, boot_nonce: u64, attempt_ticks: usize) -> Self {
        let (waiting, confirmed, confirmed_at) = Default::default();
        Self { me, boot_nonce, asked: 0, attempt_ticks, waiting, attempt: None, confirmed, confirmed_at }
    }

    /// A read was asked for.
    pub fn add(&mut self, read: ReadId) {
        self.waiting.insert(read);
    }

    /// Nobody waits for it any more.
    pub fn forget(&mut self, read: ReadId) {
        self.waiting.remove(&read);
        if let Some(attempt) = &mut self.attempt {
            attempt.reads.remove(&read);
        }
        if let Some(index) = self.confirmed_at.remove(&read) {
            self.confirmed.remove(&(index, read));
        }
    }

    /// A tick has passed.
    pub fn tick(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ticks_left -= 1;
            if attempt.ticks_left == 0 {
                self.give_up();
            }
        }
    }

    /// The context of a question to put now, if reads wait for one and none is out. `leader` and `term` are what this
    /// replica knows; `None` when a question would be dropped. A question to another leader or term is given up.
    pub fn ask(&mut self, leader: Option<ReplicaId>, term: Term) -> Option<[u8; READ_CONTEXT_BYTES]> {
        if self.attempt.as_ref().is_some_and(|attempt| (Some(attempt.leader), attempt.term) != (leader, term)) {
            if self.attempt.as_ref().is_some_and(|attempt| attempt.leader == self.me && !attempt.reads.is_empty()) {
                hooks::sometimes("stale_leader_read_refused");
            }
            self.give_up();
        }
        let leader = leader?;
        if self.waiting.is_empty() || self.attempt.is_some() {
            return None;
        }
        self.asked += u64::from(!hooks::is_planted("m28"));
        let mut context = [0; READ_CONTEXT_BYTES];
        for (part, number) in context.chunks_exact_mut(8).zip([self.me.0, self.boot_nonce, self.asked]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        let reads = std::mem::take(&mut self.waiting);
        self.attempt = Some(Attempt { context, leader, term, ticks_left: self.attempt_ticks, reads });
        Some(context)
    }

    /// The answer to a question; an unknown one is ignored.
    pub fn answered(&mut self, context: &[u8], index: Index) {
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.context == context) {
            self.confirmed.extend(attempt.reads.iter().map(|read| (index, *read)));
            self.confirmed_at.extend(attempt.reads.iter().map(|read| (*read, index)));
        }
    }

    /// Takes the reads that may be served, now that `applied` is applied.
    pub fn take_ready(&mut self, applied: Index) -> Vec<ReadId> {
        let mut ready = Vec::new();
        while self.confirmed.first().is_some_and(|(index, _)| *index <= applied) {
            let (_, read) = self.confirmed.pop_first().expect("it was just there");
            self.confirmed_at.remove(&read);
            ready.push(read);
        }
        ready
    }

    /// Puts the reads of the question that is out back among those that wait for one.
    fn give_up(&mut self) {
        if let Some(mut attempt) = self.attempt.take() {
            if !attempt.reads.is_empty() {
                hooks::sometimes("read_retried_with_new_context");
            }
            self.waiting.append(&mut attempt.reads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: Option<ReplicaId> = Some(ReplicaId(2));

    fn reads() -> Reads {
        Reads::new(ReplicaId(1), 99, 3)
    }

    #[test]
    fn line_37_a_read_joins_the_next_question_never_the_present_one() {
        let mut reads = reads();
        reads.add(ReadId(1));
        let first = reads.ask(LEADER, Term(4)).unwrap();
        reads.add(ReadId(2));
        assert_eq!(reads.ask(LEADER, Term(4)), None);
        reads.answered(&first, Index(7));
        assert_eq!(reads.take_ready(Index(6)), []);
        assert_eq!(reads.take_ready(Index(7)), [ReadId(1)]);
        let second = reads.ask(LEADER, Term(4)).unwrap();
        reads.answered(&second, Index(7));
        assert_eq!(reads.take_ready(Index(7)), [ReadId(2)]);
    }

    #[test]
    fn line_36_an_unanswered_question_is_put_again_under_a_new_context() {
        let mut reads = reads();
        reads.add(ReadId(1));
        let first = reads.ask(LEADER, Term(4)).unwrap();
        (0..3).for_each(|_| reads.tick());
        let second = reads.ask(LEADER, Term(4)).unwrap();
        assert_ne!(first, second);
        reads.answered(&first, Index(1));
        assert_eq!(reads.take_ready(Index(9)), [], "line 35: an unknown context is ignored");
        reads.answered(&second, Index(9));
        assert_eq!(reads.take_ready(Index(9)), [ReadId(1)]);
    }

    #[test]
    fn line_36_a_change_of_leader_or_term_puts_the_question_again() {
        let mut reads = reads();
        reads.add(ReadId(1));
        let first = reads.ask(LEADER, Term(4)).unwrap();
        assert_eq!(reads.ask(None, Term(4)), None);
        assert_ne!(reads.ask(LEADER, Term(5)).unwrap(), first);
        assert_ne!(reads.ask(Some(ReplicaId(3)), Term(5)).unwrap(), first);
    }

    #[test]
    fn a_forgotten_read_is_not_served_wherever_it_waits() {
        let mut reads = reads();
        for id in 1..=5 {
            reads.add(ReadId(id));
        }
        reads.forget(ReadId(5));
        let context = reads.ask(LEADER, Term(4)).unwrap();
        reads.forget(ReadId(1));
        reads.answered(&context, Index(7));
        reads.forget(ReadId(4));
        reads.forget(ReadId(99));
        assert_eq!(reads.take_ready(Index(6)), []);
        assert_eq!(reads.take_ready(Index(7)), [ReadId(2), ReadId(3)]);
        assert!(reads.waiting.is_empty() && reads.confirmed.is_empty() && reads.confirmed_at.is_empty());
    }

    /// Linear in all reads together it would take minutes.
    #[test]
    fn forgetting_many_late_reads_takes_a_moment() {
        let mut reads = reads();
        let many = 200_000;
        (0..many).for_each(|id| reads.add(ReadId(id)));
        let context = reads.ask(LEADER, Term(4)).unwrap();
        (many..2 * many).for_each(|id| reads.add(ReadId(id)));
        reads.answered(&context, Index(7));
        (0..2 * many).rev().for_each(|id| reads.forget(ReadId(id)));
        assert_eq!(reads.take_ready(Index(7)), []);
    }
}
