//! Proposals, and who waits for them (raft-rs.md, section 4).
//!
//! A proposal that raft accepted is known by the index and term of its entry. It is answered when that index is applied:
//! with its outcome if the entry there has that term, as superseded if it does not. Losing leadership alone answers
//! nothing, since the entry may still be committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    pool::Outcome,
    types::{Index, Term},
};

/// Names a proposal at the replica that it was given to; chosen by the giver, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalId(pub u64);

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposalResult {
    /// Decided, durable on a majority, applied.
    Applied(Outcome),
    /// Not put into the log by this replica: it does not lead, hands leadership over, or has no room.
    /// The proposal is surely not applied; it may be given to the leader.
    NotProposed,
    /// This replica lost its entry: to another leader's, to its own of a later term, or with its whole log to a peer's
    /// snapshot, which may have the entry applied. Another one with the same key may be applied; and this one too: until an
    /// entry is applied at that index, from the disk of a third.
    Superseded,
}

/// Who waits for an entry.
#[derive(Debug)]
struct Waiting {
    /// The term in which it was proposed.
    term: Term,
    /// One for each command of its batch, in order.
    ids: Vec<ProposalId>,
}

/// The proposals that wait for their entry to be applied.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    waiting: BTreeMap<Index, Waiting>,
}

impl Proposals {
    /// raft accepted a batch as the entry at `index` of `term`. Whoever waited there before is superseded.
    pub fn accepted(&mut self, index: Index, term: Term, ids: Vec<ProposalId>) -> Vec<(ProposalId, ProposalResult)> {
        self.waiting.insert(index, Waiting { term, ids }).map(superseded).unwrap_or_default()
    }

    /// The log was written anew from `first` on; `term_at` is what it has now. Whoever waits for an entry that is not there
    /// any more is superseded.
    pub fn overwritten(
        &mut self,
        first: Index,
        term_at: impl Fn(Index) -> Option<Term>,
    ) -> Vec<(ProposalId, ProposalResult)> {
        let gone = self.waiting.extract_if(first.., |index, waiting| term_at(*index) != Some(waiting.term));
        gone.flat_map(|(_, waiting)| superseded(waiting)).collect()
    }

    /// The whole log is gone.
    pub fn supersede_all(&mut self) -> Vec<(ProposalId, ProposalResult)> {
        std::mem::take(&mut self.waiting).into_values().flat_map(superseded).collect()
    }

    /// Does anybody wait for the outcomes of the entry at `index`, of `term`?
    pub fn awaits(&self, index: Index, term: Term) -> bool {
        self.waiting.get(&index).is_some_and(|waiting| waiting.term == term)
    }

    /// The entry at `index`, of `term`, was applied with these outcomes; they may be left out if nobody waits for them
    /// ([`Self::awaits`]).
    pub fn applied(
        &mut self,
        index: Index,
        term: Term,
        outcomes: Option<Vec<Outcome>>,
    ) -> Vec<(ProposalId, ProposalResult)> {
        let Some(waiting) = self.waiting.remove(&index) else { return Vec::new() };
        if waiting.term != term {
            return superseded(waiting);
        }
        let (ids, outcomes) = (waiting.ids, outcomes.expect("somebody waits for the outcomes"));
        assert_eq!(ids.len(), outcomes.len(), "entry {index} has other outcomes than the batch that was proposed");
        ids.into_iter().zip(outcomes).map(|(id, outcome)| (id, ProposalResult::Applied(outcome))).collect()
    }
}

fn superseded(waiting: Waiting) -> Vec<(ProposalId, ProposalResult)> {
    waiting.ids.into_iter().map(|id| (id, ProposalResult::Superseded)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{Effect, Version},
        types::Millis,
    };

    fn outcome(index: u64) -> Outcome {
        let result = Ok(Effect::PoolSet { version: Version(1) });
        Outcome { index: Index(index), now: Millis(1), replayed: false, result }
    }

    #[test]
    fn line_30_an_entry_of_another_term_supersedes() {
        let mut proposals = Proposals::default();
        proposals.accepted(Index(5), Term(2), vec![ProposalId(1)]);
        proposals.accepted(Index(6), Term(2), vec![ProposalId(2)]);
        let awaited = [(5, 2), (6, 2), (6, 3), (7, 2)].map(|(index, term)| proposals.awaits(Index(index), Term(term)));
        assert_eq!(awaited, [true, true, false, false]);
        let applied = proposals.applied(Index(5), Term(2), Some(vec![outcome(5)]));
        assert_eq!(applied, [(ProposalId(1), ProposalResult::Applied(outcome(5)))]);
        assert_eq!(proposals.applied(Index(6), Term(3), None), [(ProposalId(2), ProposalResult::Superseded)]);
        assert_eq!(proposals.applied(Index(7), Term(3), Some(vec![outcome(7)])), []);
    }

    #[test]
    fn line_30_proposing_at_an_index_again_supersedes_who_waited_there() {
        let mut proposals = Proposals::default();
        assert_eq!(proposals.accepted(Index(5), Term(2), vec![ProposalId(1)]), []);
        let superseded = proposals.accepted(Index(5), Term(4), vec![ProposalId(2)]);
        assert_eq!(superseded, [(ProposalId(1), ProposalResult::Superseded)]);
    }
    #[test]
    fn line_30_an_entry_that_the_log_has_no_more_supersedes_who_waits_for_it() {
        let mut proposals = Proposals::default();
        for index in 4..=8 {
            proposals.accepted(Index(index), Term(2), vec![ProposalId(index)]);
        }
        // Another leader's log was written from 6 on, and ends at 7; its entry at 6 is ours after all.
        let gone = proposals
            .overwritten(Index(6), |index| (index <= Index(7)).then_some(Term(if index.0 == 6 { 2 } else { 3 })));
        assert_eq!(gone, [7, 8].map(|id| (ProposalId(id), ProposalResult::Superseded)));
        let gone = proposals.supersede_all();
        assert_eq!(gone, [4, 5, 6].map(|id| (ProposalId(id), ProposalResult::Superseded)));
        assert_eq!(proposals.supersede_all(), []);
    }
}
