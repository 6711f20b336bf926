//! The receiver's side of a shipment. Sans-I/O.
//!
//! One at a time; a newer offer takes the place of an older shipment, and goes on with what that one brought if it is of the
//! same snapshot. An offer is newer by its term, then by its snapshot's index; one that is older came late, and takes
//! nobody's place. An offer is checked before anything is staged. Then chunks are asked for, [`WINDOW_CHUNKS`] ahead of what is
//! durable, and asked for again when they do not come; they are staged in order, so those that overtake others wait, at most
//! a window of them. When all are durable the body is read back and looked at ([`super::checking`]), and only what is found
//! whole goes to raft. Whatever the node spends its time on, the sender hears every [`REPEAT`] that it is at work.
//!
//! A body that is whole, and is not what the message says, is forgotten with a loud word, and exactly that one is not asked
//! for again within [`SPOILED_REST`]: whichever disk spoiled it, another try at once would end no better.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{
    IDLE_MAX, REPEAT, WINDOW_CHUNKS, chunk_bytes,
    message::{BodyMessage, ShipmentId},
    offer::Own,
    throttle::Times,
};
use crate::{
    durable::SnapshotMeta,
    hooks,
    pool::StateMachine,
    replica::RaftMessage,
    runtime::{
        clock::Tick,
        persist::{Ticket, Tickets},
    },
    types::{Index, ReplicaId},
};

/// How long a body that was found spoiled is not asked for again.
const SPOILED_REST: Duration = Duration::from_secs(60);

/// A body that is whole is not what the message says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoiled(pub String);

/// What is to be done for a shipment.
#[derive(Debug)]
pub(super) enum ReceiveStep {
    /// Tell the peer.
    Say { to: ReplicaId, message: BodyMessage },
    /// Begin to stage, or go on with it; then [`Receiving::handle_begun`].
    Begin { ticket: Ticket, meta: SnapshotMeta },
    /// Stage a chunk; then [`Receiving::handle_staged`].
    Stage { ticket: Ticket, number: u32, bytes: Bytes },
    /// Read the body back and look at it; then [`Receiving::handle_checked`].
    Check { ticket: Ticket, meta: SnapshotMeta },
    /// Forget what is staged.
    Forget { ticket: Ticket, index: Index },
    /// Give this to raft.
    Install { from: ReplicaId, message: RaftMessage, machine: Box<StateMachine> },
}

/// How far a shipment has come.
#[derive(Debug)]
enum Phase {
    /// The store is asked what it has of it.
    Beginning,
    /// Chunks are coming.
    Collecting(Window),
    /// It is whole and durable, and being looked at.
    Checking,
    /// raft has it.
    Installing,
}

/// The chunks that are under way: those from `staged` to `next`, at most [`WINDOW_CHUNKS`].
#[derive(Debug)]
struct Window {
    /// So many are durable.
    staged: u32,
    /// The one after them is on its way to the store.
    is_staging: bool,
    /// The first that was never asked for.
    next: u32,
    /// Asked for last at that time, and not here.
    asked: BTreeMap<u32, Tick>,
    /// Here, and not on their way to the store.
    waiting: BTreeMap<u32, Bytes>,
}

/// The shipment under way.
#[derive(Debug)]
struct Incoming {
    from: ReplicaId,
    shipment: ShipmentId,
    message: RaftMessage,
    meta: SnapshotMeta,
    ticket: Ticket,
    phase: Phase,
    /// When a chunk last came that was asked for.
    heard: Tick,
    /// When the sender was last told anything.
    said: Tick,
}

/// The receiver's side.
#[derive(Debug)]
pub(super) struct Receiving {
    current: Option<Incoming>,
    /// One that was found spoiled, and until when it is not asked for.
    spoiled: Option<(SnapshotMeta, Tick)>,
    tickets: Tickets,
    times: Times,
    steps: VecDeque<ReceiveStep>,
}

impl Receiving {
    /// Nothing to receive.
    pub fn new(tickets: Tickets, times: Times) -> Self {
        Self { current: None, spoiled: None, tickets, times, steps: VecDeque::new() }
    }

    /// Is nothing being received?
    pub fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    /// The next thing to do.
    pub fn poll_step(&mut self) -> Option<ReceiveStep> {
        self.steps.pop_front()
    }

    /// A peer offers a snapshot. A bad or an old offer is dropped.
    pub fn handle_offer(
        &mut self,
        from: ReplicaId,
        shipment: ShipmentId,
        message: RaftMessage,
        own: Own<'_>,
        now: Tick,
    ) {
        let meta = match own.check(from, &message) {
            Ok(meta) => meta,
            Err(reason) => {
                tracing::debug!(from = from.0, reason, "dropped the offer of a snapshot");
                return;
            }
        };
        if meta.index <= own.applied {
            hooks::sometimes("snapshot_fast_forwarded");
            return self.answer(from, shipment, true);
        }
        if self.spoiled.as_ref().is_some_and(|(spoiled, until)| *spoiled == meta && now < *until) {
            return self.answer(from, shipment, false);
        }
        match &mut self.current {
            // One leader's snapshots grow newer: this offer is late, or its sender leads no more.
            Some(current) if (current.message.term, current.meta.index) > (message.term, meta.index) => {}
            Some(current) if current.meta == meta => {
                (current.from, current.shipment, current.message) = (from, shipment, message);
                self.ask_again(now);
            }
            // raft needs what is staged now.
            Some(Incoming { phase: Phase::Installing, .. }) => {}
            current => {
                if current.is_some() {
                    hooks::sometimes("snapshot_aborted_midway");
                }
                self.begin(from, shipment, message, meta, now);
            }
        }
    }

    fn begin(&mut self, from: ReplicaId, shipment: ShipmentId, message: RaftMessage, meta: SnapshotMeta, now: Tick) {
        tracing::info!(from = from.0, index = meta.index.0, bytes = meta.body_bytes, "receiving a snapshot");
        let ticket = self.tickets.draw();
        self.steps.push_back(ReceiveStep::Begin { ticket, meta: meta.clone() });
        let phase = Phase::Beginning;
        self.current = Some(Incoming { from, shipment, message, meta, ticket, phase, heard: now, said: now });
    }

    /// The store has so many chunks of it.
    pub fn handle_begun(&mut self, ticket: Ticket, staged: u32, now: Tick) {
        let Some(current) = self.find(ticket) else { return };
        let staged = staged.min(current.meta.chunks());
        if staged > 0 {
            tracing::info!(index = current.meta.index.0, staged, "going on with a snapshot that was begun before");
        }
        let (asked, waiting) = (BTreeMap::new(), BTreeMap::new());
        current.phase = Phase::Collecting(Window { staged, is_staging: false, next: staged, asked, waiting });
        current.heard = now;
        self.go_on(now);
    }

    /// A chunk came. One that was not asked for, or is damaged, is dropped.
    pub fn handle_chunk(
        &mut self,
        from: ReplicaId,
        shipment: ShipmentId,
        number: u32,
        crc: u32,
        bytes: Bytes,
        now: Tick,
    ) {
        let current = self.current.as_mut().filter(|current| (current.from, current.shipment) == (from, shipment));
        let Some(Incoming { phase: Phase::Collecting(window), meta, heard, .. }) = current else { return };
        if !window.asked.contains_key(&number) {
            return;
        }
        if bytes.len() != chunk_bytes(meta, number) || crc32fast::hash(&bytes) != crc {
            tracing::warn!(from = from.0, index = meta.index.0, number, "dropped a damaged chunk of a snapshot");
            return;
        }
        window.asked.remove(&number);
        window.waiting.insert(number, bytes);
        *heard = now;
        self.go_on(now);
    }

    /// The chunk that was on its way to the store is durable.
    pub fn handle_staged(&mut self, ticket: Ticket, now: Tick) {
        let Some(Incoming { phase: Phase::Collecting(window), .. }) = self.find(ticket) else { return };
        window.is_staging = false;
        window.staged += 1;
        self.go_on(now);
    }

    /// The whole body was looked at.
    pub fn handle_checked(&mut self, ticket: Ticket, found: Result<Box<StateMachine>, Spoiled>, now: Tick) {
        let rest = self.times.ticks(SPOILED_REST);
        let Some(current) = self.find(ticket) else { return };
        let (from, index) = (current.from, current.meta.index);
        match found {
            Ok(machine) => {
                hooks::sometimes("snapshot_sent");
                tracing::info!(from = from.0, index = index.0, "a snapshot is whole");
                current.phase = Phase::Installing;
                let message = current.message.clone();
                self.steps.push_back(ReceiveStep::Install { from, message, machine });
            }
            Err(Spoiled(why)) => {
                tracing::error!(from = from.0, index = index.0, why, "a snapshot is refused: its body is spoiled");
                self.spoiled = Some((current.meta.clone(), now.plus(rest)));
                self.forget(index);
                self.end(false);
            }
        }
    }

    /// raft has installed the snapshot at this index, or has no use for it; and this replica has applied so much.
    ///
    /// What is staged stays as long as the replica is behind it: most likely the term has changed on the way, and the next
    /// leader, or the same one, offers it again.
    pub fn handle_settled(&mut self, index: Index, installed: bool, applied: Index) {
        let is_this = |current: &Incoming| matches!(current.phase, Phase::Installing) && current.meta.index == index;
        if self.current.as_ref().is_some_and(is_this) {
            if !installed && applied >= index {
                self.forget(index);
            }
            self.end(installed);
        }
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Tick) {
        let Some(current) = &mut self.current else { return };
        if let Phase::Collecting(window) = &current.phase
            && window.asked.is_empty()
        {
            // It waits for its own disk.
            current.heard = now;
        }
        let is_collecting = matches!(current.phase, Phase::Collecting(_));
        if is_collecting && now >= current.heard.plus(self.times.ticks(IDLE_MAX)) {
            tracing::warn!(from = current.from.0, index = current.meta.index.0, "a snapshot does not come");
            hooks::sometimes("snapshot_aborted_midway");
            return self.end(false);
        }
        self.go_on(now);
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Incoming> {
        self.current.as_mut().filter(|current| current.ticket == ticket)
    }

    /// Ends what is under way.
    fn end(&mut self, arrived: bool) {
        if let Some(Incoming { from, shipment, .. }) = self.current.take() {
            self.answer(from, shipment, arrived);
        }
    }

    /// What is staged is worth nothing.
    fn forget(&mut self, index: Index) {
        self.steps.push_back(ReceiveStep::Forget { ticket: self.tickets.draw(), index });
    }

    fn answer(&mut self, to: ReplicaId, shipment: ShipmentId, arrived: bool) {
        self.steps.push_back(ReceiveStep::Say { to, message: BodyMessage::Ended { shipment, arrived } });
    }

    /// The sender may not know what was asked for: tells it all again.
    fn ask_again(&mut self, now: Tick) {
        let Some(current) = &mut self.current else { return };
        current.heard = now;
        let chunks = match &mut current.phase {
            Phase::Collecting(window) => window.ask_again(|_| true, now),
            Phase::Beginning | Phase::Checking | Phase::Installing => Vec::new(),
        };
        self.want(chunks, now);
    }

    /// Stages what can be, asks for what is missing, and says that it is at work when there is nothing else to say.
    fn go_on(&mut self, now: Tick) {
        let repeat = self.times.ticks(REPEAT);
        let Some(current) = &mut self.current else { return };
        let (ticket, is_silent) = (current.ticket, now >= current.said.plus(repeat));
        let mut chunks = Vec::new();
        if let Phase::Collecting(window) = &mut current.phase {
            if let Some((number, bytes)) = window.take_next() {
                self.steps.push_back(ReceiveStep::Stage { ticket, number, bytes });
            }
            let enough = current.meta.chunks().div_ceil(if hooks::is_planted("m33") { 2 } else { 1 });
            if window.staged >= enough {
                self.steps.push_back(ReceiveStep::Check { ticket, meta: current.meta.clone() });
                current.phase = Phase::Checking;
            } else {
                chunks = window.ask_again(|asked| now >= asked.plus(repeat), now);
                chunks.extend(window.ask(current.meta.chunks(), now));
            }
        }
        if is_silent || !chunks.is_empty() {
            self.want(chunks, now);
        }
    }

    fn want(&mut self, chunks: Vec<u32>, now: Tick) {
        let Some(current) = &mut self.current else { return };
        current.said = now;
        let message = BodyMessage::Want { shipment: current.shipment, chunks };
        self.steps.push_back(ReceiveStep::Say { to: current.from, message });
    }
}

impl Window {
    /// Takes the chunk that is to be staged next, if it is here and the store is free.
    fn take_next(&mut self) -> Option<(u32, Bytes)> {
        if self.is_staging {
            return None;
        }
        let bytes = self.waiting.remove(&self.staged)?;
        self.is_staging = true;
        Some((self.staged, bytes))
    }

    /// Asks for more, as far as there is room; `chunks` is how many the body has.
    fn ask(&mut self, chunks: u32, now: Tick) -> Vec<u32> {
        let until = chunks.min(self.staged.saturating_add(WINDOW_CHUNKS as u32));
        let asked: Vec<_> = (self.next..until).collect();
        self.asked.extend(asked.iter().map(|number| (*number, now)));
        self.next = self.next.max(until);
        asked
    }

    /// Asks again for what was asked for at such a time.
    fn ask_again(&mut self, at: impl Fn(Tick) -> bool, now: Tick) -> Vec<u32> {
        let due = self.asked.iter_mut().filter(|(_, asked)| at(**asked));
        due.map(|(number, asked)| {
            *asked = now;
            *number
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
