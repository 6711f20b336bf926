//! One pair of nodes: whether they are connected, which of them believes so, and how they come to be connected again.
//!
//! The node with the greater id dials, as in production. It dials a short random while after the last thing that stood in
//! its way: that one of them was not there, that a direction was cut, that it had not heard of the end of the last
//! connection. After refusals it waits longer and longer, as production does.
//!
//! An end is heard by each side in its own time. Until then that side is *half-open*: what it sends is taken, and vanishes.
//! It hears of the end at the latest when the peer comes with a new connection.

use std::time::Duration;

use bytes::Bytes;
use tombola::{
    transport::{HELLO_BYTES_MAX, Lane, REASON_BYTES_MAX},
    types::ReplicaId,
};

use super::{
    Due as Anything, Fabric, Wake,
    inbox::{Delivery, Life, News},
};
use crate::{
    chance::{happens, number},
    network::{
        fate::{DELAY_MIN, exponential, uniform},
        kind::Party,
    },
};

/// A connection that hears nothing for so long is given up; production's.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(10);
/// Longest time before a peer that can be reached is dialed; production's.
const DIAL_MS_MAX: u32 = 2_000;
/// Most dials come sooner.
const DIAL_SOON_MS_MAX: u32 = 200;
/// Shortest and longest time before a peer is dialed after a refusal, by either; production's.
const REFUSED_MS_MIN: u32 = 50;
const REFUSED_MS_MAX: u32 = 30_000;
/// Of the connections that break, those of whose end one side hears late.
const HALF_OPEN_PPM: u32 = 250_000;
/// How late.
const HALF_OPEN_MS_MAX: u32 = 5_000;

/// Two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    lesser: ReplicaId,
    greater: ReplicaId,
}

impl Pair {
    pub(super) fn of(one: ReplicaId, other: ReplicaId) -> Self {
        Self { lesser: one.min(other), greater: one.max(other) }
    }

    fn has(self, node: ReplicaId) -> bool {
        node == self.lesser || node == self.greater
    }

    pub(super) fn parties(self) -> [Party; 2] {
        [Party::Node(self.lesser), Party::Node(self.greater)]
    }

    /// The lesser side's node, or the greater's.
    fn node(self, is_lesser: bool) -> ReplicaId {
        if is_lesser { self.lesser } else { self.greater }
    }
}

/// What is between two nodes.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The number of the last connection; 0 for none so far.
    session: u64,
    /// It is up.
    is_live: bool,
    /// What was on its way on connections up to this one is lost.
    void: u64,
    /// The connection that each side believes to be up: the greater, the lesser.
    known: [Option<u64>; 2],
    /// The greater is going to dial.
    is_dialing: bool,
    dials: u64,
    /// How often in a row a connection was refused.
    refusals: u32,
}

impl Connection {
    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refusals > 0
    }

    /// The connection that a side believes to be up.
    pub(super) fn session_of(&self, is_lesser: bool) -> Option<u64> {
        self.known[usize::from(is_lesser)]
    }

    /// Does what was sent on that connection still arrive where it is believed to be up?
    pub(super) fn carries(&self, session: u64) -> bool {
        session > self.void
    }
}

/// What is still to come between two nodes.
#[derive(Debug)]
pub(super) enum Due {
    /// The greater dials.
    Dial,
    /// One side meets the other.
    Meet { is_lesser: bool, session: u64, hello: Bytes },
    /// One side hears that a connection is over, and why, if it was refused.
    Hear { is_lesser: bool, session: u64, refusal: Option<String> },
    /// If the connection has been cut all the time since then, it is given up.
    Idle { session: u64, since: Duration },
}

impl Fabric {
    /// A node's next life begins. The wakes are called when there is an event, and when there is a request.
    ///
    /// # Panics
    /// If an incarnation comes again.
    pub fn join(&mut self, node: ReplicaId, incarnation: u64, wake_link: Wake, wake_door: Wake) {
        let before = self.lives.get(&node).map(|life| life.incarnation);
        assert!(before.is_none_or(|before| before < incarnation), "incarnation {incarnation} after {before:?}");
        self.fence(node);
        let others: Vec<_> = self.lives.keys().copied().collect();
        for other in others {
            self.connections.entry(Pair::of(node, other)).or_default();
        }
        self.lives.insert(node, Life::new(incarnation, wake_link, wake_door));
    }

    /// A node's present life is over, without a word: it changes nothing any more.
    pub fn fence(&mut self, node: ReplicaId) {
        if let Some(life) = self.lives.remove(&node) {
            life.end();
            self.detach(node, true);
        }
    }

    /// A node's life gives up its transport, and says so to its peers.
    pub fn leave(&mut self, node: ReplicaId, incarnation: u64) {
        if let Some(life) = self.life(node, incarnation) {
            life.unlink();
            self.detach(node, false);
        }
    }

    /// What a node's life says of itself from now on.
    ///
    /// # Panics
    /// If it is too long.
    pub fn introduce(&mut self, node: ReplicaId, incarnation: u64, hello: Bytes) {
        assert!(hello.len() <= HELLO_BYTES_MAX, "an introduction of {} bytes", hello.len());
        let Some(life) = self.life(node, incarnation) else { return };
        if life.hello.replace(hello).is_some() {
            return;
        }
        for pair in self.pairs_of(node) {
            // Who believes to be connected to an earlier life is told otherwise, if it can be: a stateless reset.
            let (is_lesser, connection) = (node < pair.greater, &self.connections[&pair]);
            let stale = connection.session_of(!is_lesser).filter(|_| !connection.is_live);
            let is_cut = self.is_cut(pair);
            if let Some(session) = stale.filter(|_| !is_cut) {
                let after = uniform(self.draw("stateless reset", pair, session), 100);
                self.hear(pair, !is_lesser, session, None, after);
            }
            if node == pair.greater {
                // A dialer that is new knows of no refusals.
                self.connections.entry(pair).or_default().refusals = 0;
            }
            self.dial_soon(pair);
        }
    }

    /// A node's life refuses a peer: production's [`tombola::transport::Transport::refuse`].
    pub fn refuse(&mut self, node: ReplicaId, incarnation: u64, peer: ReplicaId, reason: &str) {
        let Some(session) = self.life(node, incarnation).and_then(|life| life.refuse(peer)) else { return };
        let (pair, is_lesser) = (Pair::of(node, peer), node < peer);
        let is_cut = self.is_cut(pair);
        let Some(connection) = self.connections.get_mut(&pair) else { return };
        if connection.session_of(is_lesser) != Some(session) {
            return;
        }
        connection.known[usize::from(is_lesser)] = None;
        if connection.is_live {
            connection.is_live = false;
            connection.void = session;
            connection.refusals += 1;
            let (refusal, after) = match is_cut {
                true => (None, IDLE_MAX),
                false => (Some(one_line(reason)), self.usual_delay("refuse", pair, session)),
            };
            self.hear(pair, !is_lesser, session, refusal, after);
        }
        self.event(Party::Node(node), "refuse", format_args!("n{peer} session {session}"));
        self.dial_soon(pair);
    }

    /// A connection breaks: what was on its way is lost, and both sides hear of it, in their own time.
    pub(super) fn end(&mut self, pair: Pair) {
        let Some(connection) = self.connections.get_mut(&pair).filter(|connection| connection.is_live) else { return };
        connection.is_live = false;
        connection.refusals = 0;
        let session = connection.session;
        connection.void = session;
        let [one, other] = pair.parties();
        self.event(one, "break", format_args!("{one} {other} session {session}"));
        let late = self.draw("half-open", pair, session);
        let is_half_open = happens(late, HALF_OPEN_PPM) && !self.healed.covers(one, other);
        for is_lesser in [true, false] {
            let usual = self.usual_delay(if is_lesser { "lesser hears" } else { "greater hears" }, pair, session);
            let is_late = is_half_open && late.is_multiple_of(2) == is_lesser;
            let after = match is_late {
                true => usual + uniform(self.draw("hears late", pair, session), HALF_OPEN_MS_MAX),
                false => usual,
            };
            self.hear(pair, is_lesser, session, None, after);
        }
    }

    pub(super) fn handle_due(&mut self, pair: Pair, due: Due) {
        match due {
            Due::Dial => self.dial(pair),
            Due::Meet { is_lesser, session, hello } => self.handle_met(pair, is_lesser, session, hello),
            Due::Hear { is_lesser, session, refusal } => self.handle_heard(pair, is_lesser, session, refusal),
            Due::Idle { session, since } => {
                let [one, other] = pair.parties();
                let has_lasted =
                    [(one, other), (other, one)].iter().any(|(from, to)| self.way(*from, *to).is_cut_since(since));
                if has_lasted && self.connections.get(&pair).is_some_and(|connection| connection.session == session) {
                    self.end(pair);
                }
            }
        }
    }

    /// The greater dials soon, if nothing stands in its way.
    pub(super) fn dial_soon(&mut self, pair: Pair) {
        if !self.can_dial(pair) {
            return;
        }
        let [one, other] = pair.parties();
        let is_healed = self.healed.covers(one, other);
        let (refusals, dials) = (self.connections[&pair].refusals, self.connections[&pair].dials);
        let drawn = self.draw("dial", pair, dials);
        let after = if refusals > 0 {
            let ceiling = REFUSED_MS_MIN.saturating_mul(2_u32.saturating_pow(refusals)).min(REFUSED_MS_MAX);
            Duration::from_millis(REFUSED_MS_MIN.into()) + uniform(drawn, ceiling - REFUSED_MS_MIN)
        } else if is_healed {
            DELAY_MIN
        } else {
            uniform(drawn, if drawn.is_multiple_of(4) { DIAL_MS_MAX } else { DIAL_SOON_MS_MAX })
        };
        let connection = self.connections.get_mut(&pair).expect("it can be dialed");
        connection.is_dialing = true;
        connection.dials += 1;
        self.schedule(self.now + after, Anything::Connection(pair, Due::Dial));
    }

    fn can_dial(&mut self, pair: Pair) -> bool {
        let is_there = |node| self.lives.get(&node).is_some_and(|life| life.hello.is_some());
        let are_there = is_there(pair.lesser) && is_there(pair.greater);
        let is_free = |connection: &Connection| {
            !connection.is_live && !connection.is_dialing && connection.session_of(false).is_none()
        };
        are_there && self.connections.get(&pair).is_some_and(is_free) && !self.is_cut(pair)
    }

    fn dial(&mut self, pair: Pair) {
        self.connections.entry(pair).or_default().is_dialing = false;
        if !self.can_dial(pair) {
            // Whatever stands in the way, its end brings the next dial.
            return;
        }
        let connection = self.connections.get_mut(&pair).expect("it can be dialed");
        connection.session += 1;
        connection.is_live = true;
        let session = connection.session;
        if let Some(stale) = connection.known[usize::from(true)].take() {
            self.push(pair, true, stale, News::Ended);
        }
        let [lesser, greater] = pair.parties();
        let after = self.usual_delay("meet", pair, session);
        let is_lesser_late = self.draw("meets late", pair, session).is_multiple_of(2);
        for is_lesser in [true, false] {
            let meets_at = if is_lesser == is_lesser_late { self.now + after } else { self.now };
            let (from, to) = if is_lesser { (greater, lesser) } else { (lesser, greater) };
            self.way(from, to).begin(session, meets_at);
            let hello = self.lives.get(&pair.node(!is_lesser)).and_then(|life| life.hello.clone()).unwrap_or_default();
            if meets_at > self.now {
                self.schedule(meets_at, Anything::Connection(pair, Due::Meet { is_lesser, session, hello }));
            } else {
                self.handle_met(pair, is_lesser, session, hello);
            }
        }
    }

    fn handle_met(&mut self, pair: Pair, is_lesser: bool, session: u64, hello: Bytes) {
        let Some(connection) = self.connections.get_mut(&pair) else { return };
        if connection.is_live && connection.session == session {
            connection.known[usize::from(is_lesser)] = Some(session);
            let peer = pair.node(!is_lesser);
            self.event(Party::Node(pair.node(is_lesser)), "met", format_args!("n{peer} session {session}"));
            self.push(pair, is_lesser, session, News::Met { hello });
        }
    }

    fn handle_heard(&mut self, pair: Pair, is_lesser: bool, session: u64, refusal: Option<String>) {
        let Some(connection) = self.connections.get_mut(&pair) else { return };
        let knows = connection.session_of(is_lesser) == Some(session);
        if knows {
            connection.known[usize::from(is_lesser)] = None;
        }
        if let Some(reason) = refusal.filter(|_| connection.session == session) {
            self.push(pair, is_lesser, session, News::Refused { reason });
        }
        if knows {
            let peer = pair.node(!is_lesser);
            self.event(Party::Node(pair.node(is_lesser)), "unreachable", format_args!("n{peer} session {session}"));
            self.push(pair, is_lesser, session, News::Ended);
        }
        self.dial_soon(pair);
    }

    /// A node is gone from all its connections. Its peers hear of it soon if it says so; if not, perhaps only when they have
    /// heard nothing for long.
    fn detach(&mut self, node: ReplicaId, is_silent: bool) {
        for pair in self.pairs_of(node) {
            let is_lesser = node == pair.lesser;
            let connection = self.connections.get_mut(&pair).expect("it is one of its pairs");
            connection.known[usize::from(is_lesser)] = None;
            if !connection.is_live {
                continue;
            }
            (connection.is_live, connection.refusals) = (false, 0);
            let session = connection.session;
            let [one, other] = pair.parties();
            let silence = self.draw("silence", pair, session);
            let after = match is_silent && silence.is_multiple_of(2) && !self.healed.covers(one, other) {
                true => uniform(silence, IDLE_MAX.as_millis() as u32),
                false => self.usual_delay("goodbye", pair, session),
            };
            self.hear(pair, !is_lesser, session, None, after);
        }
    }

    fn hear(&mut self, pair: Pair, is_lesser: bool, session: u64, refusal: Option<String>, after: Duration) {
        let due = Due::Hear { is_lesser, session, refusal };
        self.schedule(self.now + after, Anything::Connection(pair, due));
    }

    fn push(&mut self, pair: Pair, is_lesser: bool, session: u64, news: News) {
        if let Some(life) = self.lives.get_mut(&pair.node(is_lesser)) {
            life.push(Lane::Urgent, Delivery { peer: pair.node(!is_lesser), session, news });
        }
    }

    fn pairs_of(&self, node: ReplicaId) -> Vec<Pair> {
        self.connections.keys().copied().filter(|pair| pair.has(node)).collect()
    }

    /// Is one of the directions cut?
    pub(super) fn is_cut(&mut self, pair: Pair) -> bool {
        let [one, other] = pair.parties();
        self.way(one, other).is_cut() || self.way(other, one).is_cut()
    }

    /// A connection begins to starve: cut for long enough, it ends.
    pub(super) fn starve(&mut self, pair: Pair) {
        if let Some(Connection { session, is_live: true, .. }) = self.connections.get(&pair) {
            let due = Due::Idle { session: *session, since: self.now };
            self.schedule(self.now + IDLE_MAX, Anything::Connection(pair, due));
        }
    }

    /// How long something takes between two nodes that talk.
    fn usual_delay(&self, purpose: &str, pair: Pair, session: u64) -> Duration {
        let [one, other] = pair.parties();
        if self.healed.covers(one, other) {
            return DELAY_MIN;
        }
        exponential(self.draw(purpose, pair, session), self.options.delay_ms_mean)
    }

    fn draw(&self, purpose: &str, pair: Pair, session: u64) -> u64 {
        number(self.seed, purpose, &[pair.lesser.0, pair.greater.0, session])
    }
}

/// The text on one line, without control characters, and cut to its bound: as production has it.
fn one_line(text: &str) -> String {
    let mut line = text.replace(char::is_control, " ");
    line.truncate(line.floor_char_boundary(REASON_BYTES_MAX));
    line
}
