//! Marks that no single line of the product knows of: rare states that show when what was seen is put together.

use std::collections::{BTreeMap, BTreeSet};

use tombola::{
    durable::{Recovered, RecoveredState, WriteSet},
    pool::{Action, Claim, Effect, ItemId, PoolId, Refusal, Step},
    replica::{RaftBody, Role, Status},
    runtime::{PeerFrame, PeerMessage},
    types::{Index, ReplicaId, Term},
};

use super::lives::Life;
use crate::check::{Ask, CallId, Moment, Told};

/// What has to be remembered for that.
#[derive(Default)]
pub struct Rare {
    /// The terms of what was applied.
    terms: BTreeMap<Index, Term>,
    /// Who led, by term.
    leaders: BTreeMap<Term, ReplicaId>,
    /// The last index that a node applied, in any of its lives.
    applied: BTreeMap<ReplicaId, Index>,
    /// Who was told to stand for election at once, in which term.
    successors: BTreeSet<(ReplicaId, Term)>,
    /// Claims that are not answered, and since when they are under way.
    claims: BTreeMap<CallId, (Moment, PoolId, ItemId)>,
    /// When it was last answered that units of an item were taken.
    taken: BTreeMap<(PoolId, ItemId), Moment>,
}

impl Rare {
    /// The last index that a node has applied so far.
    pub fn applied_by(&self, node: ReplicaId) -> Index {
        self.applied.get(&node).copied().unwrap_or_default()
    }

    /// A life applied an entry.
    pub fn applied(&mut self, life: &Life, index: Index, term: Term) -> Option<&'static str> {
        self.terms.insert(index, term);
        self.applied.insert(life.who.replica, index);
        // It led before this turn, and had not committed the entry then.
        let led = life.shown.as_ref().filter(|shown| shown.role == Role::Leader);
        led.is_some_and(|shown| term < shown.term && index > shown.commit).then_some("prior_term_entry_committed")
    }

    /// A life answers a key out of memory; it was executed at that index.
    pub fn remembered(&self, life: &Life, index: Index) -> Vec<&'static str> {
        // Only what a leader answers is told to anybody.
        let Some(shown) = life.shown.as_ref().filter(|shown| shown.role == Role::Leader) else { return Vec::new() };
        let executed = self.terms.get(&index).copied().unwrap_or(shown.term);
        let by = self.leaders.get(&executed).copied();
        [
            ("key_hit_same_leader", executed == shown.term),
            ("key_hit_new_leader", by.is_some_and(|by| by != life.who.replica)),
            ("key_hit_after_restart", index <= life.applied_before),
            ("key_hit_after_snapshot", index <= life.restored),
        ]
        .into_iter()
        .filter_map(|(name, is_so)| is_so.then_some(name))
        .collect()
    }

    /// A life shows something new; `others` is what the other nodes that live showed last.
    pub fn turned<'a>(
        &mut self,
        before: Option<&Status>,
        now: &Status,
        mut others: impl Iterator<Item = &'a Status>,
    ) -> Vec<&'static str> {
        let mut marks = Vec::new();
        let led = before.is_some_and(|before| before.role == Role::Leader);
        let same_term = before.is_some_and(|before| before.term == now.term);
        let leads = now.role == Role::Leader;
        if leads && !(led && same_term) {
            self.leaders.insert(now.term, now.replica);
            if others.any(|other| other.role == Role::Leader && other.term != now.term) {
                marks.push("two_leaders_in_different_terms");
            }
            if self.successors.remove(&(now.replica, Term(now.term.0 - 1))) {
                marks.push("transfer_done");
            }
        }
        if led && same_term && !leads {
            marks.push("check_quorum_step_down");
        }
        if led && same_term && leads && before.is_some_and(|before| before.transferring) && !now.transferring {
            marks.push("transfer_timed_out");
        }
        marks
    }

    /// A frame leaves a node.
    pub fn sent(&mut self, frame: &PeerFrame) -> Option<&'static str> {
        let PeerMessage::Raft(message) = &frame.message else { return None };
        match message.body {
            RaftBody::TimeoutNow => {
                self.successors.insert((message.to, message.term));
                None
            }
            RaftBody::RequestVoteResponse { pre: true, reject: true, .. } => Some("pre_vote_refused"),
            _ => None,
        }
    }

    /// A caller asks for something.
    pub fn asked(&mut self, now: Moment, call: CallId, ask: &Ask) {
        if let Ask::Request(command) = ask
            && let Action::Claim { item, .. } = &command.action
        {
            self.claims.insert(call, (now, command.pool.clone(), item.clone()));
        }
    }

    /// A caller is told something.
    pub fn told(&mut self, now: Moment, call: CallId, told: &Told) -> Vec<&'static str> {
        let outcome = match told {
            Told::Outcome(outcome) => outcome,
            Told::Answered(answered) => &answered.outcome,
            Told::MaybeUnder(_) | Told::Read(_) | Told::NotApplied => return Vec::new(),
        };
        let claim = self.claims.remove(&call);
        let is_taken = matches!(outcome.result, Ok(Effect::Claimed { result: Claim::Awarded, .. }));
        if !is_out(&outcome.result) {
            if let Some((_, pool, item)) = claim.filter(|_| is_taken && !outcome.replayed) {
                self.taken.insert((pool, item), now);
            }
            return Vec::new();
        }
        let mut marks = vec!["stock_out_answer"];
        // Somebody who asked at the same time got what this one did not.
        if claim.is_some_and(|(since, pool, item)| self.taken.get(&(pool, item)).is_some_and(|taken| *taken > since)) {
            marks.push("last_unit_by_race");
        }
        marks
    }
}

/// Does it say that nothing was left?
fn is_out(result: &Result<Effect, Refusal>) -> bool {
    match result {
        Ok(Effect::Claimed { result: Claim::OutOfStock { .. }, .. }) => true,
        Ok(Effect::Drawn { steps, .. }) => steps.iter().any(|step| step == Step::PoolEmpty),
        _ => false,
    }
}

/// Is anything of what was handed to the store not there?
pub fn is_rolled_back(handed: &[WriteSet], recovered: &Recovered) -> bool {
    let RecoveredState::Founded(log) = &recovered.state else { return false };
    let last = log.entries.last().map_or(log.snapshot.meta.index, |entry| entry.index);
    handed.iter().any(|write| {
        let has_lost = write.entries.last().is_some_and(|entry| entry.index > last);
        has_lost || write.hard_state.is_some_and(|state| state.term > log.hard_state.term)
    })
}

/// Does it lead with entries at its log's end that none of the others has acknowledged?
pub fn has_lonely_tail(status: &Status) -> bool {
    let others = status.matched.iter().filter(|(voter, _)| *voter != status.replica);
    let farthest = others.map(|(_, matched)| *matched).max();
    status.role == Role::Leader && farthest.is_some_and(|farthest| farthest < status.last_index)
}

#[cfg(test)]
mod tests;
