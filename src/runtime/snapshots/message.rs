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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec,
        replica::RaftBody,
        types::{ReplicaId, Term},
    };

    #[test]
    fn messages_have_these_bytes() {
        let shipment = ShipmentId(0x0102);
        let raft = RaftMessage { to: ReplicaId(1), from: ReplicaId(2), term: Term(3), body: RaftBody::TimeoutNow };
        let id = [2, 1, 0, 0, 0, 0, 0, 0];
        let golden: [(BodyMessage, Vec<u8>); 4] = [
            (
                BodyMessage::Offer { shipment, message: raft.clone() },
                [&[0, 0, 0, 0], &id[..], &codec::encode(&raft)].concat(),
            ),
            (
                BodyMessage::Want { shipment, chunks: vec![7, 9] },
                [&[1, 0, 0, 0], &id[..], &[2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0]].concat(),
            ),
            (
                BodyMessage::Chunk { shipment, number: 5, crc: 0x0403_0201, bytes: Bytes::from_static(b"ab") },
                [&[2, 0, 0, 0], &id[..], &[5, 0, 0, 0, 1, 2, 3, 4, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']].concat(),
            ),
            (BodyMessage::Ended { shipment, arrived: true }, [&[3, 0, 0, 0], &id[..], &[1]].concat()),
        ];
        for (message, bytes) in golden {
            assert_eq!(codec::encode(&message), bytes, "{message:?}");
            assert_eq!(codec::decode::<BodyMessage>(&bytes, 1_000).unwrap(), message);
        }
    }
}
