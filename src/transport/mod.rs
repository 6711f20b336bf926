//! Frames between nodes: bounded, lossy, unordered. The peer's identity is the transport's to prove.
//!
//! The node knows [`Transport`] alone. In production it is [`quic`], which stands on [`frame`] (bytes on a stream),
//! [`tls`] (who may speak) and [`identity`] (the names that certificates carry); [`certs`] makes the certificates. In
//! simulation none of these exist, and the simulated network is at least as cruel as QUIC.

use std::future::Future;

use bytes::Bytes;

use crate::types::ReplicaId;

#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the simulator never builds it")]
pub mod certs;
#[cfg(not(madsim))]
mod error;
#[cfg(not(madsim))]
pub mod frame;
#[cfg(not(madsim))]
pub mod identity;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the simulator never builds it")]
pub mod quic;
#[cfg(not(madsim))]
pub mod tls;

#[cfg(not(madsim))]
pub use error::SetupError;

/// Longest frame between peers in bytes: one log entry, with room to spare.
pub const PEER_FRAME_BYTES_MAX: usize = 4 << 20;

/// What the network tells a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
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
    /// Puts a frame into the peer's queue; never waits. `Err` if it was dropped: the queue is full, or nobody is there.
    fn send(&mut self, to: ReplicaId, frame: Bytes) -> Result<(), Dropped>;

    /// Waits for the next event; may be cancelled and called again. `None` when the transport is closed.
    fn receive(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// The frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame was dropped: its queue is full, or its peer is not connected")]
pub struct Dropped;
