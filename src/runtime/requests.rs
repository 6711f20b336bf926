//! The requests that this node accepted: their keys, deadlines and waiters. Sans-I/O.
//!
//! Whoever accepts a request owns it until it is answered. It is proposed here or forwarded to the leader; when the leader
//! or the term changes, the link is lost, the leader says no, or it says nothing for too long, the same command is sent
//! again under the same key, until the deadline. That is safe because the key makes a command happen at most once however
//! often its bytes reach the log; so nothing here needs to know which of its copies did.
//!
//! At the deadline three things are kept apart: it was *decided* (answered before), it is *surely not applied* (it never
//! left this node, and no proposal of it is open), or it is *unknown*.
//!
//! An answer to any copy but the last one sent is ignored: the last one's will say the same.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use super::{
    admission::{Permit, overloaded},
    batch::Measured,
    clock::Tick,
    view::{Leader, View},
};
use crate::{
    api::{Answered, Failure, NotApplied},
    pool::{Command, KeyOrigin, Outcome, Refusal, RequestKey},
    replica::{ProposalId, ProposalResult},
    types::{Millis, ReplicaId, Term},
};

/// How long to wait before sending again what was turned away, in ticks: long enough not to spin.
const PAUSE_TICKS: u64 = 1;
/// How long the first forward of a request is awaited, in ticks; each later one twice as long as the one before it.
const PATIENCE_TICKS: u64 = 10;
/// How often patience doubles.
const PATIENCE_DOUBLED_MAX: u32 = 3;

/// In the order of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RequestId(u64);

/// Who waits for a request's answer.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answered, Failure>>,
    /// How long it is of use.
    pub deadline: Tick,
    /// Its place among those who wait.
    pub permit: Permit,
}

impl Waiter {
    fn answer(self, answer: Result<Answered, Failure>) {
        let Self { reply, permit, .. } = self;
        // First, so that whoever hears the answer finds the place free.
        drop(permit);
        // Whoever no longer listens does not mind.
        let _ = reply.send(answer);
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To be sent.
    Queued,
    /// To be sent after a pause.
    Pausing { until: Tick },
    /// Proposed by this replica.
    Proposed { id: ProposalId, term: Term },
    /// Sent to a leader, and awaited until then.
    Forwarded { id: ProposalId, to: ReplicaId, term: Term, until: Tick },
}

/// A request that is not answered.
#[derive(Debug)]
struct Open {
    command: Measured,
    /// At least one.
    waiters: Vec<Waiter>,
    place: Place,
    /// How often it was sent.
    sent: u32,
    /// An earlier copy under its present key may be in a log, or on its way to one.
    astray: bool,
}

impl Open {
    fn proposal(&self) -> Option<ProposalId> {
        match self.place {
            Place::Queued | Place::Pausing { .. } => None,
            Place::Proposed { id, .. } | Place::Forwarded { id, .. } => Some(id),
        }
    }

    /// Might it be applied, for all this node knows?
    fn is_possibly_applied(&self) -> bool {
        self.astray || self.proposal().is_some()
    }

    /// The answer when there is none; `otherwise` if it is surely not applied.
    fn failure(&self, otherwise: NotApplied) -> Failure {
        if self.is_possibly_applied() {
            Failure::Unknown { key: self.command.command.key }
        } else {
            Failure::NotApplied(otherwise)
        }
    }

    fn patience(&self) -> u64 {
        PATIENCE_TICKS << self.sent.min(PATIENCE_DOUBLED_MAX)
    }
}

impl Drop for Open {
    /// However a node ends, whoever waits hears the truth.
    fn drop(&mut self) {
        let failure = self.failure(NotApplied::Draining);
        self.waiters.drain(..).for_each(|waiter| waiter.answer(Err(failure.clone())));
    }
}

/// Who says what became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// This replica.
    Here,
    /// A peer.
    Peer(ReplicaId),
}

/// Every request that this node accepted and has not answered.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, Open>,
    accepted: u64,
    /// The ones to be sent, oldest first.
    queue: BTreeSet<RequestId>,
    /// The last copy of each that was sent.
    proposals: BTreeMap<ProposalId, RequestId>,
    /// Requests under a caller's key, by key: what a second send of one attaches to.
    keyed: BTreeMap<RequestKey, RequestId>,
    /// When to look at which again. A request may be looked at in vain, never too late.
    alarms: BTreeMap<Tick, Vec<RequestId>>,
    view: View,
}

impl Requests {
    /// Accepts a request. If the very same one is open it is not sent again: the waiter joins those of the first.
    pub fn accept(&mut self, command: Measured, waiter: Waiter) {
        let Command { key, origin, .. } = command.command;
        let twin = self.keyed.get(&key).copied().filter(|id| self.open[id].command.command == command.command);
        let id = twin.unwrap_or(RequestId(self.accepted));
        self.alarms.entry(waiter.deadline).or_default().push(id);
        if let Some(open) = twin.and_then(|id| self.open.get_mut(&id)) {
            open.waiters.push(waiter);
            return;
        }
        self.accepted += 1;
        if origin == KeyOrigin::Caller {
            self.keyed.entry(key).or_insert(id);
        }
        self.queue.insert(id);
        self.open.insert(id, Open { command, waiters: vec![waiter], place: Place::Queued, sent: 0, astray: false });
    }

    /// Is nobody waiting?
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many are not answered.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// The oldest request that is to be sent.
    pub fn peek(&self) -> Option<&Measured> {
        self.queue.first().map(|id| &self.open[id].command)
    }

    /// Takes what [`Self::peek`] shows, to be proposed here.
    pub fn propose(&mut self, id: ProposalId) -> Measured {
        let term = self.view.term;
        self.send(id, Place::Proposed { id, term })
    }

    /// Takes what [`Self::peek`] shows, to be forwarded to the leader `to`.
    pub fn forward(&mut self, id: ProposalId, to: ReplicaId, now: Tick) -> Measured {
        let (term, request) = (self.view.term, *self.queue.first().expect("what is taken was seen by peek"));
        let until = now.plus(self.open[&request].patience());
        self.alarms.entry(until).or_default().push(request);
        self.send(id, Place::Forwarded { id, to, term, until })
    }

    fn send(&mut self, id: ProposalId, place: Place) -> Measured {
        let request = self.queue.pop_first().expect("what is taken was seen by peek");
        let open = self.open.get_mut(&request).expect("what is queued is open");
        open.place = place;
        open.sent += 1;
        self.proposals.insert(id, request);
        open.command.clone()
    }

    /// The leader or the term may have changed: what was sent under the old ones is sent again.
    pub fn handle_view(&mut self, view: View) {
        self.view = view;
        let old = self.sent(|place| match place {
            Place::Queued | Place::Pausing { .. } => false,
            Place::Proposed { term, .. } => (term, Leader::Here) != (view.term, view.leader),
            Place::Forwarded { to, term, .. } => (term, Leader::Peer(to)) != (view.term, view.leader),
        });
        old.into_iter().for_each(|id| self.give_up(id, Place::Queued));
    }

    /// This copy, which was to be forwarded, did not leave the node.
    pub fn handle_dropped(&mut self, id: ProposalId, now: Tick) {
        if let Some(&request) = self.proposals.get(&id) {
            self.place(request, Place::Pausing { until: now.plus(PAUSE_TICKS) });
        }
    }

    /// The link to a peer was lost: what was forwarded to it may be lost too.
    pub fn handle_unreachable(&mut self, peer: ReplicaId, now: Tick) {
        let lost = self.sent(|place| matches!(place, Place::Forwarded { to, .. } if to == peer));
        lost.into_iter().for_each(|id| self.give_up(id, Place::Pausing { until: now.plus(PAUSE_TICKS) }));
    }

    /// Something became of a proposal. `fresh_key` makes a key of the given cluster time.
    pub fn handle_result(
        &mut self,
        id: ProposalId,
        teller: Teller,
        result: ProposalResult,
        now: Tick,
        fresh_key: impl FnOnce(Millis) -> RequestKey,
    ) {
        let Some(&request) = self.proposals.get(&id) else { return };
        let open = &self.open[&request];
        let asked = match open.place {
            Place::Proposed { .. } => Teller::Here,
            Place::Forwarded { to, .. } => Teller::Peer(to),
            Place::Queued | Place::Pausing { .. } => unreachable!("proposals hold what is sent"),
        };
        if teller != asked {
            return;
        }
        let pause = Place::Pausing { until: now.plus(PAUSE_TICKS) };
        match (result, teller) {
            (ProposalResult::Applied(outcome), _) => self.decided(request, outcome, fresh_key),
            // This replica's word is final for what it did not propose. A peer's is not: the network may deliver a copy
            // twice.
            (ProposalResult::NotProposed { .. }, Teller::Here) => self.place(request, pause),
            (ProposalResult::NotProposed { .. } | ProposalResult::Superseded, _) => self.give_up(request, pause),
        }
    }

    fn decided(&mut self, id: RequestId, outcome: Outcome, fresh_key: impl FnOnce(Millis) -> RequestKey) {
        let open = self.open.get_mut(&id).expect("the caller has just seen it");
        match (&outcome.result, open.command.command.origin) {
            // These leave no trace: an earlier copy may have been in time, and forgotten since, or may be yet. Whoever
            // waits must not take it for surely not applied, and ask again under another key.
            (Err(Refusal::KeyExpired { .. } | Refusal::KeyFromFuture { .. } | Refusal::KeyTableFull), _)
                if open.astray =>
            {
                drop(self.close(id));
            }
            // A key made here was too old: nothing was done under it and nothing ever will be.
            (Err(Refusal::KeyExpired { now, .. }), KeyOrigin::Server) => {
                open.command.command.key = fresh_key(*now);
                self.place(id, Place::Queued);
            }
            _ => self.answer(id, &outcome),
        }
    }

    /// Answers whom it is too late for, and sends again what was awaited too long.
    pub fn handle_tick(&mut self, now: Tick) {
        while let Some(alarm) = self.alarms.first_entry().filter(|alarm| *alarm.key() <= now) {
            alarm.remove().into_iter().for_each(|id| self.look_at(id, now));
        }
    }

    fn look_at(&mut self, id: RequestId, now: Tick) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let has_leader = self.view.leader != Leader::Unknown;
        let otherwise = if open.place == Place::Queued && has_leader { overloaded() } else { NotApplied::NoLeader };
        let failure = open.failure(otherwise);
        for late in open.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            late.answer(Err(failure.clone()));
        }
        if open.waiters.is_empty() {
            self.close(id);
            return;
        }
        match open.place {
            Place::Pausing { until } if until <= now => self.place(id, Place::Queued),
            Place::Forwarded { until, .. } if until <= now => {
                self.give_up(id, Place::Queued);
            }
            _ => {}
        }
    }

    fn answer(&mut self, id: RequestId, outcome: &Outcome) {
        let Some(mut open) = self.close(id) else { return };
        let answered = Answered { key: open.command.command.key, outcome: outcome.clone() };
        open.waiters.drain(..).for_each(|waiter| waiter.answer(Ok(answered.clone())));
    }

    fn close(&mut self, id: RequestId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.queue.remove(&id);
        open.proposal().and_then(|proposal| self.proposals.remove(&proposal));
        if self.keyed.get(&open.command.command.key) == Some(&id) {
            self.keyed.remove(&open.command.command.key);
        }
        Some(open)
    }

    fn sent(&self, which: impl Fn(Place) -> bool) -> Vec<RequestId> {
        self.proposals.values().copied().filter(|id| which(self.open[id].place)).collect()
    }

    /// Stops waiting for the copy that was sent, which may be applied all the same.
    fn give_up(&mut self, id: RequestId, place: Place) {
        self.open.get_mut(&id).expect("only open requests are given up").astray = true;
        self.place(id, place);
    }

    /// Puts a request where it waits to be sent again.
    fn place(&mut self, id: RequestId, place: Place) {
        let open = self.open.get_mut(&id).expect("only open requests are placed");
        if let Some(proposal) = open.proposal() {
            self.proposals.remove(&proposal);
        }
        open.place = place;
        match place {
            Place::Queued => _ = self.queue.insert(id),
            Place::Pausing { until } => self.alarms.entry(until).or_default().push(id),
            Place::Proposed { .. } | Place::Forwarded { .. } => unreachable!("this one is sent"),
        }
    }
}

#[cfg(test)]
mod tests;
