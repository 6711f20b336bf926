//! One directed link: what it holds, what it has seen, and what is wrong with it.

use std::{collections::VecDeque, time::Duration};

use tombola::transport::Lane;

use super::Message;
use crate::network::kind::Kind;

/// Bytes that a lane holds between sender and receiver, at most: production's outbox and inbox together.
const fn lane_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Urgent => 512 << 10,
        Lane::Log => 20 << 20,
        Lane::Bulk => 3 << 20,
    }
}

/// One directed link.
#[derive(Debug)]
pub(super) struct Way {
    /// A message may overtake another.
    pub(super) is_reordered: bool,
    /// How many cuts hold at present.
    cuts: u32,
    /// Since when it is cut without a break.
    cut_since: Option<Duration>,
    /// How many clogs hold at present.
    clogs: u32,
    /// What would have arrived while it was clogged.
    pub(super) parked: VecDeque<Message>,
    /// Messages seen of each kind.
    numbers: [u64; Kind::ALL.len()],
    /// What the queues are of: a connection, or a node's life. What another one held is gone.
    session: u64,
    /// Nothing arrives earlier.
    not_before: Duration,
    queues: [Queue; Lane::ALL.len()],
}

/// What one lane holds: from the sending until the receiver takes it.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    messages: usize,
    bytes: usize,
    /// When the last of them arrives.
    last: Duration,
}

impl Way {
    pub(super) fn new(is_reordered: bool) -> Self {
        Self {
            is_reordered,
            cuts: 0,
            cut_since: None,
            clogs: 0,
            parked: VecDeque::new(),
            numbers: [0; Kind::ALL.len()],
            session: 0,
            not_before: Duration::ZERO,
            queues: Default::default(),
        }
    }

    /// The queues are empty, and nothing arrives before that time.
    pub(super) fn begin(&mut self, session: u64, not_before: Duration) {
        self.session = session;
        self.not_before = not_before;
        self.queues = Default::default();
    }

    /// As [`Self::begin`], unless it has begun.
    pub(super) fn ensure(&mut self, session: u64) {
        if self.session != session {
            self.begin(session, Duration::ZERO);
        }
    }

    /// Is there room for one more?
    pub(super) fn has_room(&self, lane: Lane, bytes: usize, messages_max: usize) -> bool {
        let queue = &self.queues[lane as usize];
        queue.messages < messages_max && queue.bytes + bytes <= lane_bytes_max(lane)
    }

    /// Takes up room until it is given [back](Self::release).
    pub(super) fn hold(&mut self, lane: Lane, bytes: usize) {
        let queue = &mut self.queues[lane as usize];
        queue.messages += 1;
        queue.bytes += bytes;
    }

    /// Gives back the room of something that was sent in that session.
    pub(super) fn release(&mut self, session: u64, lane: Lane, bytes: usize) {
        if self.session == session {
            let queue = &mut self.queues[lane as usize];
            queue.messages -= 1;
            queue.bytes -= bytes;
        }
    }

    /// When something arrives that would by itself arrive then; and whether it overtakes something.
    pub(super) fn arrival(&mut self, lane: Lane, at: Duration) -> (Duration, bool) {
        let last = &mut self.queues[lane as usize].last;
        let at = at.max(self.not_before);
        let overtakes = self.is_reordered && at < *last;
        let at = if self.is_reordered { at } else { at.max(*last) };
        *last = at.max(*last);
        (at, overtakes)
    }

    /// The number of the next message of a kind.
    pub(super) fn next_number(&mut self, kind: Kind) -> u64 {
        let next = &mut self.numbers[kind as usize];
        *next += 1;
        *next - 1
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cuts > 0
    }

    /// Has it been cut since then without a break?
    pub(super) fn is_cut_since(&self, then: Duration) -> bool {
        self.cut_since.is_some_and(|since| since <= then)
    }

    pub(super) fn cut(&mut self, now: Duration) {
        self.cuts += 1;
        self.cut_since.get_or_insert(now);
    }

    /// Takes back one cut, or all.
    pub(super) fn mend(&mut self, all: bool) {
        self.cuts = if all { 0 } else { self.cuts.saturating_sub(1) };
        if self.cuts == 0 {
            self.cut_since = None;
        }
    }

    pub(super) fn is_clogged(&self) -> bool {
        self.clogs > 0
    }

    /// One clog more, or less.
    pub(super) fn clog(&mut self, more: bool) {
        self.clogs = if more { self.clogs + 1 } else { self.clogs.saturating_sub(1) };
    }

    /// Nothing is wrong with it any more.
    pub(super) fn heal(&mut self) {
        self.mend(true);
        self.clogs = 0;
        self.is_reordered = false;
        self.not_before = Duration::ZERO;
        self.queues.iter_mut().for_each(|queue| queue.last = Duration::ZERO);
    }
}
