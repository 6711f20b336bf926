//! What nodes say to each other about the body of a snapshot.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::replica::RaftMessage;

/// One journey of one body from a node to another, by the sender's number: random at first, then counted up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentId(pub u64);

/// What nodes say to each other about a shipment. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyMessage {
    /// The sender has a snapshot for the peer. Said again while the peer is silent.
    Offer {
        /// The shipment.
        shipment: ShipmentId,
        /// What raft says with it, of kind [`crate::replica::RaftBody::Snapshot`].
        message: RaftMessage,
    },
    /// The peer wants these chunks; none: it is alive, and busy with what it has.
    Want {
        /// The shipment.
        shipment: ShipmentId,
        /// Their numbers; at most [`super::WINDOW_CHUNKS`].
        chunks: Vec<u32>,
    },
    /// A chunk.
    Chunk {
        /// The shipment.
        shipment: ShipmentId,
        /// Its number.
        number: u32,
        /// CRC-32 (IEEE) of its bytes.
        crc: u32,
        /// Its bytes.
        bytes: Bytes,
    },
    /// The peer wants nothing more.
    Ended {
        /// The shipment.
        shipment: ShipmentId,
        /// It has the snapshot, or what is newer.
        arrived: bool,
    },
}
