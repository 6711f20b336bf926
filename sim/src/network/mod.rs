//! The simulated network: at least as cruel as QUIC, and never worse than what [`tombola::transport`] promises.
//!
//! **What it promises.** Each directed link loses, delays, doubles, reorders and damages messages as the plan says, each
//! message by a fate that is a pure function of its [name](fate::Name): seed, link, kind, number. Frames cross as the bytes
//! that production's codec makes of them. What a node sees of a connection is what production shows it: met with the peer's
//! introduction, frames, perhaps refused, then the end; one side may hear of an end long after the other, and what it sends
//! until then vanishes. Queues are bounded a lane; who does not take its frames is felt by those who send. A life that is
//! over changes nothing any more: [`fabric::Fabric::fence`].
//!
//! **How.** All of it is one machine without I/O, clock or task of its own, the [`fabric`]: it is told what happens and what
//! time it is, and keeps an agenda of what is still to come. Around it are thin ends: a [`Transport`] for a node, a door for
//! its clients, a mailbox for each client, and one task, the dispatcher, that sleeps until the agenda's next entry is due.
//! So its rules are tested in plain `cargo test`, without a simulation.
//!
//! **Crueler than QUIC**: a frame may be lost, or be doubled, on a connection that goes on; may be overtaken by one of its own
//! lane; and its copy may come to the next incarnation's connection, as if it had been sent there.
//!
//! **Absent**: bandwidth (a frame's size costs no time), packet loss below messages, addresses, and TLS: who is at the other end
//! is given.
//!
//! [`Transport`]: tombola::transport::Transport

#[cfg(madsim)]
mod ends;
pub mod fabric;
pub mod fate;
pub mod kind;
pub mod wire;

#[cfg(madsim)]
pub use ends::{ClientEnd, Door, Link, Network, Replier};

/// For tests: nothing goes wrong, and everything is prompt.
#[cfg(test)]
const CALM: crate::plan::NetworkOptions = crate::plan::NetworkOptions {
    loss_ppm: 0,
    delay_ms_mean: 5,
    tail_ppm: 0,
    tail_ms_max: 0,
    reordered_links_ppm: 0,
    duplicate_ppm: 0,
    late_ms_max: 0,
    corrupt_ppm: 0,
    queue_max: 1_000,
};
