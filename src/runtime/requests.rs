//! The requests that this node accepted: their keys, deadlines and waiters. Sans-I/O.
//!
//! Whoever accepts a request owns it until it is answered. It is proposed here or forwarded to the leader; when the leader
//! or the term changes, the link is lost, the leader says no, or it says nothing for too long, the same command is sent
//! again under the same key, until the deadline. That is safe because the key makes a command happen at most once however
//! often its bytes reach the log; so nothing here needs to know which of its copies did.
//!
//! **Before it is first sent** a request can be turned away, surely not applied: on arrival, if it finds a standing queue
//! (`pace`); and when its turn comes, if its deadline leaves less time than a command usually takes. It is still sent when
//! nothing else is on its way, or what is usual would never be measured again. A second send of an open request attaches to
//! the first and waits beside the others. Once sent, nothing is taken back.
//!
//! **Forwarding** keeps no more on its way to the leader than that takes of one node, so the rest waits where it can be
//! turned away.
//!
//! At the deadline three things are kept apart: it was *decided* (answered before), it is *surely not applied* (it never
//! left this node, and no proposal of it is open), or it is *unknown*.
//!
//! An answer to any copy but the last one sent is ignored: the last one's will say the same.
//!
//! **A refusal that leaves no trace** says something of its own copy alone. What a peer was brought may come to it twice, so
//! one that may pass (KEY_FROM_FUTURE, KEY_TABLE_FULL) is not final from there: the command is sent once more, and refused
//! again it is *unknown*. KEY_EXPIRED never passes, nor does a key that is hours ahead.
//!
//! **Keys of the node's own making**, for callers that bring none, are made when a request is first sent, from the newest
//! cluster time that this node has applied; never from its wall clock, which may be wrong. Before there is a cluster time
//! nothing is sent: the leader's first tick brings it. If one is refused for its time all the same, and no earlier copy is
//! about, nothing was done under it and nothing ever will be: the request goes on under a fresh one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustc_hash::FxHashMap;
use siphasher::sip::SipHasher13;
use slab::Slab;

use super::{
    admission::{Permit, overloaded},
    answer::AnswerTo,
    batch::Measured,
    clock::{Now, Tick},
    forwards::{FORWARDED_BYTES_MAX, FORWARDED_COMMANDS_MAX},
    pace::Pace,
    server_keys::ServerKeys,
    view::{Leader, View},
};
use crate::{
    api::{Answered, Failure, NotApplied, TurnedAway},
    hooks,
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
/// A key further ahead of the cluster's time than this does not come of age while a copy of its command is on its way.
const PASSES_MS_MAX: u64 = 60 * 60 * 1_000;
/// Most commands, and bytes, that are on their way to the leader: half of what it takes, which leaves room for copies.
const WINDOW_COMMANDS_MAX: usize = FORWARDED_COMMANDS_MAX / 2;
const WINDOW_BYTES_MAX: usize = FORWARDED_BYTES_MAX / 2;

/// In the order of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RequestId {
    number: u64,
    /// Where it is in [`Requests::open`], as long as it is.
    slot: usize,
}

/// Who waits for a request's answer.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Where the answer goes.
    pub reply: AnswerTo<Answered>,
    /// How long it is of use.
    pub deadline: Tick,
    /// Its place among those who wait.
    pub permit: Permit,
}

impl Waiter {
    fn answer(self, answer: Result<Answered, Failure>) {
        let Self { reply, permit, .. } = self;
        // First, so that whoever hears the answer finds the place free.
        if hooks::is_planted("m40") && answer.is_err() {
            std::mem::forget(permit);
        } else {
            drop(permit);
        }
        reply.answer(answer);
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
    id: RequestId,
    command: Measured,
    /// Its key's hash, if its caller made the key: under that it is in [`Requests::keyed`], unless another was there first.
    hash: Option<u64>,
    /// At least one.
    waiters: Vec<Waiter>,
    place: Place,
    /// When it was accepted, and when its last copy was sent.
    accepted: Duration,
    sent_at: Duration,
    /// How often it was sent. One without a caller's key gets its key when that is 0.
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
        if self.is_possibly_applied() && !hooks::is_planted("m32") {
            Failure::Unknown { key: self.command.command.key }
        } else {
            Failure::NotApplied(otherwise)
        }
    }

    /// `usual` is how many ticks an answer usually takes.
    fn patience(&self, usual: u64) -> u64 {
        PATIENCE_TICKS.max(2 * usual) << self.sent.min(PATIENCE_DOUBLED_MAX)
    }

    /// When the last one stops waiting.
    fn deadline(&self) -> Tick {
        self.waiters.iter().map(|waiter| waiter.deadline).max().unwrap_or_default()
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
#[derive(Debug)]
pub(super) struct Requests {
    keys: ServerKeys,
    /// The newest cluster time that this node knows; 0 before there is one.
    seen: Millis,
    pace: Pace,
    turned_away: TurnedAway,
    open: Slab<Open>,
    accepted: u64,
    /// The ones to be sent, oldest first.
    queue: BTreeSet<RequestId>,
    /// The last copy of each that was sent.
    proposals: FxHashMap<ProposalId, RequestId>,
    /// Bytes of the commands among them.
    sent_bytes: usize,
    /// Requests under a caller's key, by its hash: what a second send of one attaches to. Of two keys of one hash the later has
    /// nothing to attach to, which does no harm.
    keyed: FxHashMap<u64, RequestId>,
    /// Key of that hash, so that nobody outside can choose keys that collide.
    hash_seed: u64,
    /// When to look at which again. A request may be looked at in vain, never too late.
    alarms: BTreeMap<Tick, Vec<RequestId>>,
    /// Those accepted since the last tick, answered or not. There is no alarm for the deadline of whoever asked first: most are
    /// answered before they need one.
    young: Vec<RequestId>,
    view: View,
    is_stopping: bool,
}

impl Requests {
    /// None yet. Nobody outside knows the seed.
    pub fn new(keys: ServerKeys, pace: Pace, hash_seed: u64) -> Self {
        Self {
            hash_seed,
            keys,
            seen: Millis(0),
            pace,
            turned_away: TurnedAway::default(),
            open: Slab::new(),
            accepted: 0,
            queue: BTreeSet::new(),
            proposals: FxHashMap::default(),
            sent_bytes: 0,
            keyed: FxHashMap::default(),
            alarms: BTreeMap::new(),
            young: Vec::new(),
            view: View::default(),
            is_stopping: false,
        }
    }

    /// How fast it goes.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// How many were turned away here.
    pub fn turned_away(&self) -> TurnedAway {
        self.turned_away
    }

    /// Cluster time as far as it is applied here.
    pub fn handle_time(&mut self, now: Millis) {
        self.seen = now;
    }

    /// A fresh key of this node's making.
    pub fn make_key(&mut self) -> RequestKey {
        self.keys.make(self.seen)
    }

    /// Accepts a request, or turns it away. If the very same one is open it is not sent again: the waiter joins those of
    /// the first.
    pub fn accept(&mut self, command: Measured, mut waiter: Waiter, now: Now) {
        let hash = self.hash_of(&command.command);
        let twin = hash
            .and_then(|hash| self.keyed.get(&hash).copied())
            .filter(|id| self.open[id.slot].command.command == command.command);
        if let Some(id) = twin {
            hooks::sometimes("duplicate_attached_in_flight");
            waiter.permit.step_aside();
            self.alarms.entry(waiter.deadline).or_default().push(id);
            self.open[id.slot].waiters.push(waiter);
            return;
        }
        if waiter.permit.is_beside() || self.pace.is_standing() {
            let met = &mut self.turned_away;
            *(if waiter.permit.is_beside() { &mut met.full } else { &mut met.shed }) += 1;
            waiter.answer(Err(overloaded(self.pace.retry_after_ms()).into()));
            return;
        }
        let id = RequestId { number: self.accepted, slot: self.open.vacant_key() };
        self.accepted += 1;
        self.young.push(id);
        if let Some(hash) = hash {
            self.keyed.entry(hash).or_insert(id);
        }
        self.queue.insert(id);
        let (accepted, sent_at) = (now.at, Duration::ZERO);
        let (waiters, place) = (vec![waiter], Place::Queued);
        self.open.insert(Open { id, command, hash, waiters, place, accepted, sent_at, sent: 0, astray: false });
    }

    /// The hash of a caller's key.
    fn hash_of(&self, command: &Command) -> Option<u64> {
        let hasher = SipHasher13::new_with_keys(self.hash_seed, 0);
        (command.origin == KeyOrigin::Caller).then(|| hasher.hash(command.key.as_bytes()))
    }

    /// How many wait to be sent.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Is nobody waiting?
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The oldest request that is to be sent; turns away those before it that it is too late for. None before there is a
    /// cluster time.
    pub fn peek(&mut self, now: Now) -> Option<&Measured> {
        let id = loop {
            let id = *self.queue.first().filter(|_| self.seen > Millis(0))?;
            if !self.is_too_late(id, now) {
                break id;
            }
            self.pace.handle_taken(self.open[id.slot].accepted, now);
            self.turned_away.too_late += 1;
            let failure = overloaded(self.pace.retry_after_ms()).into();
            self.fail(id, failure);
        };
        Some(&self.open[id.slot].command)
    }

    /// As [`Self::peek`], while there may be more on its way to the leader.
    pub fn peek_forward(&mut self, now: Now) -> Option<&Measured> {
        let (commands, sent_bytes) = (self.proposals.len(), self.sent_bytes);
        let has_room = |next: &&Measured| {
            commands == 0 || (commands < WINDOW_COMMANDS_MAX && sent_bytes + next.bytes <= WINDOW_BYTES_MAX)
        };
        self.peek(now).filter(has_room)
    }

    fn is_too_late(&self, id: RequestId, now: Now) -> bool {
        let open = &self.open[id.slot];
        let in_time = open.deadline() >= now.tick.plus(self.pace.usual_ticks());
        !in_time && !open.is_possibly_applied() && !self.proposals.is_empty()
    }

    /// Takes what [`Self::peek`] shows, to be proposed here.
    pub fn propose(&mut self, id: ProposalId, now: Now) -> Measured {
        let term = self.view.term;
        self.send(id, Place::Proposed { id, term }, now)
    }

    /// Takes what [`Self::peek_forward`] shows, to be forwarded to the leader `to`.
    pub fn forward(&mut self, id: ProposalId, to: ReplicaId, now: Now) -> Measured {
        let (term, request) = (self.view.term, *self.queue.first().expect("what is taken was seen by peek"));
        let until = now.tick.plus(self.open[request.slot].patience(self.pace.usual_ticks()));
        self.alarms.entry(until).or_default().push(request);
        self.send(id, Place::Forwarded { id, to, term, until }, now)
    }

    fn send(&mut self, id: ProposalId, place: Place, now: Now) -> Measured {
        let request = *self.queue.first().expect("what is taken was seen by peek");
        let open = &mut self.open[request.slot];
        if open.sent == 0 {
            self.pace.handle_taken(open.accepted, now);
        }
        if open.command.command.origin == KeyOrigin::Server && (open.sent == 0 || hooks::is_planted("m41")) {
            open.command.command.key = self.keys.make(self.seen);
        }
        (open.place, open.sent_at) = (place, now.at);
        open.sent += 1;
        self.sent_bytes += open.command.bytes;
        self.proposals.insert(id, request);
        let command = open.command.clone();
        self.leave_queue(request);
        command
    }

    /// However the last one leaves the queue, it stands no more: nobody comes after it who could say so.
    fn leave_queue(&mut self, id: RequestId) {
        if self.queue.remove(&id) && self.queue.is_empty() && !hooks::is_planted("m42") {
            self.pace.handle_empty();
        }
    }

    /// The node stops: what is surely not applied is refused now, rather than sent late. What was sent is pursued.
    pub fn handle_stop(&mut self) {
        self.is_stopping = true;
        let unsent = self.select(|open| !open.is_possibly_applied());
        unsent.into_iter().for_each(|id| self.fail(id, NotApplied::Draining.into()));
    }

    /// The leader or the term may have changed: what was sent under the old ones is sent again.
    pub fn handle_view(&mut self, view: View) {
        self.view = view;
        let old = self.select(|open| match open.place {
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
        let lost = self.select(|open| matches!(open.place, Place::Forwarded { to, .. } if to == peer));
        let pause = Place::Pausing { until: now.plus(PAUSE_TICKS) };
        if hooks::is_planted("m38") {
            return lost.into_iter().for_each(|id| self.place(id, pause));
        }
        lost.into_iter().for_each(|id| self.give_up(id, pause));
    }

    /// Something became of a proposal.
    pub fn handle_result(&mut self, id: ProposalId, teller: Teller, result: ProposalResult, now: Now) {
        let Some(&request) = self.proposals.get(&id) else { return };
        let open = &self.open[request.slot];
        let asked = match open.place {
            Place::Proposed { .. } => Teller::Here,
            Place::Forwarded { to, .. } => Teller::Peer(to),
            Place::Queued | Place::Pausing { .. } => unreachable!("proposals hold what is sent"),
        };
        if teller != asked {
            return;
        }
        let pause = Place::Pausing { until: now.tick.plus(PAUSE_TICKS) };
        match (result, teller) {
            (ProposalResult::Applied(outcome), _) => {
                let is_final = open.astray || teller == Teller::Here || !may_pass(&open.command.command, &outcome);
                self.pace.handle_decided(open.sent_at, now);
                if is_final { self.decided(request, outcome) } else { self.give_up(request, pause) }
            }
            // This replica's word is final for what it did not propose. A peer's is not, nor is its word for a refusal that
            // may pass: the network may deliver a copy twice.
            (ProposalResult::NotProposed, Teller::Here) => self.place(request, pause),
            (ProposalResult::NotProposed | ProposalResult::Superseded, _) => self.give_up(request, pause),
        }
    }

    fn decided(&mut self, id: RequestId, outcome: Outcome) {
        let open = &mut self.open[id.slot];
        match (&outcome.result, open.command.command.origin) {
            // These leave no trace: an earlier copy may have been in time, and forgotten since, or may be yet. Whoever
            // waits must not take it for surely not applied, and ask again under another key.
            (Err(Refusal::KeyExpired { .. } | Refusal::KeyFromFuture { .. } | Refusal::KeyTableFull), _)
                if open.astray =>
            {
                drop(self.close(id));
            }
            (Err(Refusal::KeyExpired { now, .. } | Refusal::KeyFromFuture { now, .. }), KeyOrigin::Server) => {
                open.command.command.key = self.keys.make(*now);
                self.place(id, Place::Queued);
            }
            _ => self.answer(id, outcome),
        }
    }

    /// Answers whom it is too late for, and sends again what was awaited too long.
    pub fn handle_tick(&mut self, now: Tick) {
        for id in self.young.drain(..) {
            let open = self.open.get(id.slot).filter(|open| open.id == id);
            // Whoever joined the first has an alarm.
            if let Some(first) = open.and_then(|open| open.waiters.first()) {
                self.alarms.entry(first.deadline).or_default().push(id);
            }
        }
        while let Some(alarm) = self.alarms.first_entry().filter(|alarm| *alarm.key() <= now) {
            alarm.remove().into_iter().for_each(|id| self.look_at(id, now));
        }
    }

    fn look_at(&mut self, id: RequestId, now: Tick) {
        let retry_after_ms = self.pace.retry_after_ms();
        let Some(open) = self.open.get_mut(id.slot).filter(|open| open.id == id) else { return };
        let has_leader = self.view.leader != Leader::Unknown;
        let is_crowded = open.place == Place::Queued && has_leader;
        let otherwise = if is_crowded { overloaded(retry_after_ms) } else { NotApplied::NoLeader };
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

    fn answer(&mut self, id: RequestId, outcome: Outcome) {
        let mut open = self.close(id);
        let answered = Answered { key: open.command.command.key, outcome };
        // Most have one waiter, who is told without a copy.
        let last = open.waiters.pop();
        open.waiters.drain(..).for_each(|waiter| waiter.answer(Ok(answered.clone())));
        if let Some(last) = last {
            last.answer(Ok(answered));
        }
    }

    fn fail(&mut self, id: RequestId, failure: Failure) {
        let mut open = self.close(id);
        open.waiters.drain(..).for_each(|waiter| waiter.answer(Err(failure.clone())));
    }

    fn close(&mut self, id: RequestId) -> Open {
        let open = self.open.remove(id.slot);
        if open.place == Place::Queued {
            self.leave_queue(id);
        }
        if let Some(proposal) = open.proposal() {
            self.proposals.remove(&proposal);
            self.sent_bytes -= open.command.bytes;
        }
        if let Some(hash) = open.hash
            && self.keyed.get(&hash) == Some(&id)
        {
            self.keyed.remove(&hash);
        }
        open
    }

    /// Those of a kind, in the order of acceptance.
    fn select(&self, is_it: impl Fn(&Open) -> bool) -> Vec<RequestId> {
        let mut ids: Vec<_> =
            self.open.iter().map(|(_, open)| open).filter(|open| is_it(open)).map(|open| open.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Stops waiting for the copy that was sent, which may be applied all the same.
    fn give_up(&mut self, id: RequestId, place: Place) {
        self.open[id.slot].astray = true;
        self.place(id, place);
    }

    /// Puts a request where it waits to be sent again.
    fn place(&mut self, id: RequestId, place: Place) {
        let open = &mut self.open[id.slot];
        if let Some(proposal) = open.proposal() {
            self.proposals.remove(&proposal);
            self.sent_bytes -= open.command.bytes;
        }
        open.place = place;
        if self.is_stopping && !open.is_possibly_applied() {
            return self.fail(id, NotApplied::Draining.into());
        }
        match place {
            Place::Queued => _ = self.queue.insert(id),
            Place::Pausing { until } => self.alarms.entry(until).or_default().push(id),
            Place::Proposed { .. } | Place::Forwarded { .. } => unreachable!("this one is sent"),
        }
    }
}

/// Leaves no trace, and need not be what a copy meets that comes a little later. A key far ahead of the cluster's time will
/// not be met by it so soon: its caller's clock is wrong, and is to hear so.
fn may_pass(command: &Command, outcome: &Outcome) -> bool {
    match outcome.result {
        Err(Refusal::KeyFromFuture { now, .. }) => command.key.time().0 < now.0.saturating_add(PASSES_MS_MAX),
        Err(Refusal::KeyTableFull) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
