//! Frames between nodes: bounded, lossy, unordered. The peer's identity is the transport's to prove.
//!
//! The node knows [`Transport`] alone. In production it is [`quic`], which stands on [`frame`] (bytes on a stream),
//! [`greeting`] (its first frame), [`tls`] (who may speak), [`identity`] (the names that certificates carry) and [`seats`]
//! (how many may come); [`certs`] makes the certificates. In simulation only the frames exist, and the simulated network that
//! carries them is at least as cruel as QUIC.
//!
//! **What a node sees of a connection**: [`Event::Met`], then frames, then perhaps [`Event::Refused`], then
//! [`Event::Unreachable`]; nothing of it after that, and nothing of it before the end of the one that it replaces. A node
//! that [refuses](Transport::refuse) a peer hears nothing more of that connection, not even its end.

use std::future::Future;

use bytes::Bytes;

use crate::types::ReplicaId;

#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the simulator never builds it")]
pub mod certs;
#[cfg(not(madsim))]
mod error;
pub mod frame;
pub mod greeting;
#[cfg(not(madsim))]
pub mod identity;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the simulator never builds it")]
pub mod quic;
#[cfg(not(madsim))]
pub mod seats;
#[cfg(not(madsim))]
pub mod tls;

#[cfg(not(madsim))]
pub use error::SetupError;

/// Longest frame between peers in bytes, on any lane: one log entry, with room to spare.
pub const PEER_FRAME_BYTES_MAX: usize = 4 << 20;

/// How urgent a frame is. Frames of one lane do not wait for those of a less urgent one; nothing else is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Small, and late is as bad as lost: heartbeats, votes, questions for a read index, and their answers.
    Urgent,
    /// The log, and requests on their way to the leader.
    Log,
    /// Chunks of snapshots: whatever is left.
    Bulk,
}

impl Lane {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Log, Self::Bulk];

    /// Longest frame on this lane in bytes. Longer ones are dropped by who sends them, and end the connection of who sends
    /// them nevertheless.
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Urgent => 64 << 10,
            Self::Log => PEER_FRAME_BYTES_MAX,
            Self::Bulk => 1 << 20,
        }
    }
}

/// Longest introduction in bytes.
pub const HELLO_BYTES_MAX: usize = 1 << 10;

/// Longest reason of a refusal in bytes; the rest is cut off.
pub const REASON_BYTES_MAX: usize = 512;

/// What the network tells a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection to this peer is up: the first event of it. The peer's certificate is proved; what it says of itself is
    /// for the node to check, and to [`Transport::refuse`].
    Met {
        /// The peer.
        peer: ReplicaId,
        /// What it [introduced](Transport::introduce) itself with. Its bytes are not trusted.
        hello: Bytes,
    },
    /// The peer does not accept this node, and has closed the connection, or did not let it come about. Told at each
    /// attempt.
    Refused {
        /// The peer.
        peer: ReplicaId,
        /// Its reason, for people: one line of at most [`REASON_BYTES_MAX`]. Not trusted.
        reason: String,
    },
    /// A frame from a peer whose identity is proved. Its bytes are not trusted.
    Frame {
        /// The peer.
        from: ReplicaId,
        /// The frame.
        frame: Bytes,
    },
    /// A connection to this peer was lost, or frames for it were dropped.
    Unreachable {
        /// The peer.
        peer: ReplicaId,
    },
}

/// A node's way to its peers.
pub trait Transport: Send + 'static {
    /// What this node says of itself at the beginning of every connection that is made from now on; at most
    /// [`HELLO_BYTES_MAX`], or it panics. Until the first call none is made.
    fn introduce(&mut self, hello: Bytes);

    /// Closes the connection to a peer whose introduction is not acceptable, and tells it why. Nothing more is told of that
    /// connection. The peer may come again, in a while; then it is [met](Event::Met) anew.
    fn refuse(&mut self, peer: ReplicaId, reason: &str);

    /// Puts a frame into the peer's queue of this lane; never waits. `Err` if it was dropped: the queue is full, the frame
    /// longer than the lane takes, or nobody is there.
    fn send(&mut self, to: ReplicaId, lane: Lane, frame: Bytes) -> Result<(), Dropped>;

    /// Waits for the next event; may be cancelled and called again. `None` when the transport is closed.
    fn receive(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// The frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame was dropped: its queue is full, or its peer is not connected")]
pub struct Dropped;
