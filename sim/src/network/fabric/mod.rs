//! The network as a machine: told what happens and what time it is, it says who has something to take, and when it wants to
//! be told the time again. No I/O, no clock, no task.
//!
//! | file | owns |
//! |---|---|
//! | `agenda` | what is still to come, by time |
//! | `way` | one directed link: queues, numbers, cuts, clogs |
//! | `connection` | one pair of nodes: who believes to be connected, dialing, endings |
//! | `traffic` | a message from its sending to its arrival |
//! | `inbox` | what has arrived and was not taken: of a node's life, of a client |
//! | `faults` | what the world does to all of it |
//!
//! Every call begins with [`Fabric::at`]. A call by a life that is over does nothing.

mod agenda;
mod connection;
mod faults;
mod inbox;
#[cfg(test)]
mod tests;
mod traffic;
mod way;

use std::{collections::BTreeMap, fmt, time::Duration};

use tombola::{transport::Lane, types::ReplicaId};

pub use self::inbox::Taken;
use self::{
    agenda::Agenda,
    connection::{Connection, Due as DueHere, Pair},
    faults::Healed,
    inbox::{Life, Mailbox},
    way::Way,
};
use super::{
    fate::{Name, is_reordered},
    kind::Party,
    wire::Wire,
};
use crate::{plan::NetworkOptions, trace::Trace};

/// Called when there is something new for somebody. Must not call the fabric.
pub type Wake = Box<dyn Fn() + Send>;

/// The network as a machine.
pub struct Fabric {
    seed: u64,
    options: NetworkOptions,
    trace: Trace,
    /// Faults that took effect.
    counts: BTreeMap<&'static str, u64>,
    /// What time it is.
    now: Duration,
    agenda: Agenda<Due>,
    /// Called when the agenda's first entry is earlier than it was.
    hurry: Wake,
    ways: BTreeMap<(Party, Party), Way>,
    connections: BTreeMap<Pair, Connection>,
    /// The nodes that live.
    lives: BTreeMap<ReplicaId, Life>,
    clients: BTreeMap<u64, Mailbox>,
    healed: Healed,
}

/// A message on its way.
#[derive(Debug)]
struct Message {
    name: Name,
    lane: Lane,
    /// What it travels on: a connection between nodes, or the life of the node that a client speaks with.
    session: u64,
    wire: Wire,
    /// When it was sent.
    sent: Duration,
    /// It is a second copy: it belongs to nothing, takes up no room, and comes to whoever is there.
    is_copy: bool,
}

/// Something on the agenda.
#[derive(Debug)]
enum Due {
    Message(Message),
    Connection(Pair, DueHere),
}

impl Fabric {
    /// A network that nobody has joined. `hurry` is called when [`Self::next_at`] has become earlier.
    pub fn new(seed: u64, options: NetworkOptions, trace: Trace, hurry: Wake) -> Self {
        Self {
            seed,
            options,
            trace,
            counts: BTreeMap::new(),
            now: Duration::ZERO,
            agenda: Agenda::new(),
            hurry,
            ways: BTreeMap::new(),
            connections: BTreeMap::new(),
            lives: BTreeMap::new(),
            clients: BTreeMap::new(),
            healed: Healed::default(),
        }
    }

    /// It is that time now.
    pub fn at(&mut self, now: Duration) -> &mut Self {
        self.now = self.now.max(now);
        self
    }

    /// Does what is due.
    pub fn advance(&mut self) {
        while let Some(due) = self.agenda.pop(self.now) {
            match due {
                Due::Message(message) => self.arrive(message),
                Due::Connection(pair, due) => self.handle_due(pair, due),
            }
        }
    }

    /// When [`Self::advance`] has something to do.
    pub fn next_at(&self) -> Option<Duration> {
        self.agenda.next_at()
    }

    /// Faults that took effect, by kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }

    fn schedule(&mut self, at: Duration, due: Due) {
        if self.agenda.push(at, due) {
            (self.hurry)();
        }
    }

    fn way(&mut self, from: Party, to: Party) -> &mut Way {
        let (seed, options) = (self.seed, &self.options);
        self.ways.entry((from, to)).or_insert_with(|| Way::new(is_reordered(seed, options, from, to)))
    }

    fn count(&mut self, fault: &'static str) {
        *self.counts.entry(fault).or_default() += 1;
    }

    /// A message met with a fault.
    fn fault(&mut self, fault: &'static str, name: Name) {
        self.count(fault);
        self.tell(name.from, fault, name);
    }

    /// Something became of a message.
    fn tell(&self, who: Party, what: &str, Name { from, to, kind, number }: Name) {
        self.event(who, what, format_args!("{} {from}>{to} #{number}", kind.name()));
    }

    /// It is handed over.
    fn tell_delivered(&self, who: Party, message: &Message) {
        let (Name { from, to, kind, number }, sent) = (message.name, message.sent);
        let (seconds, micros) = (sent.as_secs(), sent.subsec_micros());
        self.event(who, "deliver", format_args!("{} {from}>{to} #{number} sent={seconds}.{micros:06}", kind.name()));
    }

    fn event(&self, who: Party, what: &str, detail: fmt::Arguments<'_>) {
        let node = match who {
            Party::Node(id) => id.0,
            Party::Client(_) => 0,
        };
        self.trace.event(self.now, node, what, detail);
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lives: Vec<_> = self.lives.keys().collect();
        f.debug_struct("Fabric").field("now", &self.now).field("lives", &lives).finish_non_exhaustive()
    }
}
