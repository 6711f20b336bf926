//! What the world does to the network.

use std::collections::BTreeSet;

use tombola::types::ReplicaId;

use super::{Due, Fabric, connection::Due as DueHere, connection::Pair};
use crate::network::{fate::DELAY_MIN, kind::Party};

/// Between whom nothing goes wrong any more.
#[derive(Clone, Debug, Default)]
pub(super) enum Healed {
    #[default]
    Nobody,
    /// These nodes, and clients.
    Core(BTreeSet<ReplicaId>),
    Everybody,
}

impl Healed {
    pub(super) fn covers(&self, one: Party, other: Party) -> bool {
        let has = |party| match (self, party) {
            (Self::Nobody, _) => false,
            (Self::Everybody, _) | (_, Party::Client(_)) => true,
            (Self::Core(core), Party::Node(id)) => core.contains(&id),
        };
        has(one) && has(other)
    }
}

impl Fabric {
    /// Nothing comes from one node to the other, until it is [mended](Self::mend) as often as it was cut. A connection
    /// survives that for a while. Links that are healed cannot be cut.
    pub fn cut(&mut self, from: ReplicaId, to: ReplicaId) {
        let (now, [from, to], pair) = (self.now, [from, to].map(Party::Node), Pair::of(from, to));
        if !self.healed.covers(from, to) {
            self.way(from, to).cut(now);
            self.event(from, "cut-off", format_args!("{from}>{to}"));
            self.starve(pair);
        }
    }

    /// Takes back one cut.
    pub fn mend(&mut self, from: ReplicaId, to: ReplicaId) {
        self.way(Party::Node(from), Party::Node(to)).mend(false);
        self.dial_soon(Pair::of(from, to));
    }

    /// Takes back all cuts.
    pub fn mend_all(&mut self) {
        self.ways.values_mut().for_each(|way| way.mend(true));
        self.dial_all();
    }

    /// The connection between two nodes breaks, if there is one.
    pub fn reset(&mut self, one: ReplicaId, other: ReplicaId) {
        let pair = Pair::of(one, other);
        let is_live = self.connections.get(&pair).is_some_and(|connection| connection.is_live());
        if is_live && !self.healed.covers(Party::Node(one), Party::Node(other)) {
            self.count("reset");
            self.end(pair);
        }
    }

    /// A directed link takes frames and delivers none, until it is unclogged as often as it was clogged.
    pub fn clog(&mut self, from: ReplicaId, to: ReplicaId, more: bool) {
        let (from, to) = (Party::Node(from), Party::Node(to));
        if more && self.healed.covers(from, to) {
            return;
        }
        self.way(from, to).clog(more);
        self.unpark(from, to);
    }

    /// From now on nothing goes wrong within the core, and between it and clients; without a core, anywhere. What is on its
    /// way there arrives at once.
    pub fn heal(&mut self, core: Option<&BTreeSet<ReplicaId>>) {
        self.healed = match core {
            Some(core) => Healed::Core(core.clone()),
            None => Healed::Everybody,
        };
        let ways: Vec<_> = self.ways.keys().copied().filter(|(from, to)| self.healed.covers(*from, *to)).collect();
        for (from, to) in ways {
            self.way(from, to).heal();
            self.unpark(from, to);
        }
        let (healed, connections) = (&self.healed, &self.connections);
        self.agenda.hasten(self.now + DELAY_MIN, |due| match due {
            Due::Message(message) => healed.covers(message.name.from, message.name.to),
            Due::Connection(_, DueHere::Idle { .. }) => false,
            Due::Connection(pair, due) => {
                let [one, other] = pair.parties();
                let is_patient = matches!(due, DueHere::Dial) && connections[pair].is_refused();
                healed.covers(one, other) && !is_patient
            }
        });
        self.dial_all();
        (self.hurry)();
    }

    /// What waited for a clogged link arrives, if it is not clogged any more.
    fn unpark(&mut self, from: Party, to: Party) {
        while !self.way(from, to).is_clogged()
            && let Some(message) = self.way(from, to).parked.pop_front()
        {
            self.arrive(message);
        }
    }

    fn dial_all(&mut self) {
        let pairs: Vec<_> = self.connections.keys().copied().collect();
        pairs.into_iter().for_each(|pair| self.dial_soon(pair));
    }
}
