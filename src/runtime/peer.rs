//! What nodes say to each other, and the check of a frame before anybody looks inside.
//!
//! The transport proves who sent a frame; its bytes are trusted for nothing. What is not a whole frame of this format, of
//! this cluster and shard, founded like this node, is dropped: it changes nothing and is answered by nothing. What a raft
//! message may say is checked further in, by the replica's gate.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::snapshots::BodyMessage;
use crate::{
    codec::{self, DecodeError},
    pool::Command,
    replica::{Checkpoint, ProposalId, ProposalResult, RaftBody, RaftMessage, founding::FoundingMessage},
    transport::{Lane, PEER_FRAME_BYTES_MAX},
    types::{ClusterId, Genesis, Millis, ReplicaId, ShardId},
};

/// Length up to which requests, or answers, share a frame; a longer one travels alone.
pub(super) const SHARED_FRAME_BYTES_MAX: usize = 1 << 20;
/// Longest reason of a peer's that is passed on to a caller, in characters.
pub(super) const REASON_CHARS_MAX: usize = 256;

/// A frame between peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFrame {
    /// Format of the frame.
    pub version: u16,
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The sender's wall time.
    pub wall: Millis,
    /// The sender's cluster, once it is founded: frames of another one are not for us.
    pub genesis: Option<Genesis>,
    /// What it says.
    pub message: PeerMessage,
}

/// What a frame says. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// For founders.
    Founding(FoundingMessage),
    /// For raft.
    Raft(RaftMessage),
    /// Requests that the sender accepted, for the leader to propose.
    Forward(Vec<(ProposalId, Command)>),
    /// What became of them.
    Forwarded(Vec<(ProposalId, ProposalResult)>),
    /// Somebody wishes the leader to hand over. It is granted when `to` leads.
    Transfer {
        /// The sender's number of the wish.
        wish: u64,
        /// Who shall lead.
        to: ReplicaId,
    },
    /// The leader will not.
    TransferRefused {
        /// The number of the wish.
        wish: u64,
        /// Why, for people; cut to 256 characters.
        why: String,
    },
    /// About a snapshot's body.
    Body(BodyMessage),
    /// The sender's digests at an index.
    Checkpoint(Checkpoint),
}

impl PeerMessage {
    /// How urgent it is.
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Raft(message) => match message.body {
                RaftBody::Append { .. } | RaftBody::AppendResponse { .. } => Lane::Log,
                _ => Lane::Urgent,
            },
            Self::Forward(_) | Self::Forwarded(_) => Lane::Log,
            Self::Body(BodyMessage::Chunk { .. }) => Lane::Bulk,
            Self::Founding(_)
            | Self::Transfer { .. }
            | Self::TransferRefused { .. }
            | Self::Body(_)
            | Self::Checkpoint(_) => Lane::Urgent,
        }
    }
}

/// A frame that is not for this node, or for nobody.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFrame {
    /// Not the bytes of a frame.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// A format of another build.
    #[error("frame format {0} is not known to this build")]
    Version(u16),
    /// Of another cluster.
    #[error("cluster {0} is not ours")]
    Cluster(ClusterId),
    /// Of another shard.
    #[error("shard {0} is not ours")]
    Shard(ShardId),
    /// Of a cluster of the same name that was founded apart, or that has not been founded yet.
    #[error("the sender's cluster was founded apart from ours, or is not founded")]
    Genesis,
    /// Of a cluster that is founded, while this node is not.
    #[error("this node is not founded yet")]
    NotFounded,
}

/// Wraps what this node says, and checks what it hears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// Once founded, by what.
    pub genesis: Option<Genesis>,
}

impl PeerFrame {
    /// The only format so far.
    pub const VERSION: u16 = 1;
}

impl Framing {
    /// A message on its way out.
    pub fn encode(&self, wall: Millis, message: PeerMessage) -> Bytes {
        let Self { cluster, shard, genesis } = *self;
        codec::encode(&PeerFrame { version: PeerFrame::VERSION, cluster, shard, wall, genesis, message }).into()
    }

    /// A message on its way in, with its sender's wall time.
    pub fn decode(&self, frame: &[u8]) -> Result<(Millis, PeerMessage), BadFrame> {
        // The version stands first, so that a later format is told from damage.
        let version = frame.first_chunk().map_or(PeerFrame::VERSION, |bytes| u16::from_le_bytes(*bytes));
        if version != PeerFrame::VERSION {
            return Err(BadFrame::Version(version));
        }
        let frame: PeerFrame = codec::decode(frame, PEER_FRAME_BYTES_MAX)?;
        if frame.cluster != self.cluster {
            return Err(BadFrame::Cluster(frame.cluster));
        }
        if frame.shard != self.shard {
            return Err(BadFrame::Shard(frame.shard));
        }
        let is_founding = matches!(frame.message, PeerMessage::Founding(_));
        match (self.genesis, frame.genesis) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            // Founders speak before they are founded, and are spoken to by those who are.
            (_, None) | (None, Some(_)) if is_founding => {}
            (None, Some(_)) => return Err(BadFrame::NotFounded),
            _ => return Err(BadFrame::Genesis),
        }
        Ok((frame.wall, frame.message))
    }
}

/// Splits `items` so that each part, encoded, shares one frame; one that is too long for that is a part of its own.
pub(super) fn in_frames<T: Serialize>(items: Vec<T>) -> Vec<Vec<T>> {
    let (mut frames, mut bytes) = (Vec::<Vec<T>>::new(), 0);
    for item in items {
        let len = codec::encoded_len(&item);
        match frames.last_mut() {
            Some(frame) if bytes + len <= SHARED_FRAME_BYTES_MAX => {
                bytes += len;
                frame.push(item);
            }
            _ => {
                bytes = len;
                frames.push(vec![item]);
            }
        }
    }
    frames
}

#[cfg(test)]
mod wrong_bytes;

#[cfg(test)]
mod tests {
    use super::{super::snapshots::ShipmentId, *};
    use crate::{
        durable::CHUNK_BYTES,
        types::{DiskId, Term},
    };

    const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

    fn framing(genesis: Option<u8>) -> Framing {
        Framing { cluster: CLUSTER, shard: ShardId::FIRST, genesis: genesis.map(|byte| Genesis([byte; 32])) }
    }

    fn hello() -> PeerMessage {
        PeerMessage::Founding(FoundingMessage::Hello { disk: DiskId([7; 16]) })
    }

    fn raft() -> PeerMessage {
        PeerMessage::Raft(RaftMessage {
            to: ReplicaId(2),
            from: ReplicaId(1),
            term: Term(3),
            body: RaftBody::TimeoutNow,
        })
    }

    fn crosses(message: PeerMessage, from: Option<u8>, to: Option<u8>) -> bool {
        framing(to).decode(&framing(from).encode(Millis(5), message)).is_ok()
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let mut expected = vec![1, 0];
        expected.extend([0xc1; 16]);
        expected.extend([0, 0, 0, 0]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        expected.push(0);
        expected.extend([4, 0, 0, 0]);
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let frame = framing(None).encode(Millis(5), PeerMessage::Transfer { wish: 9, to: ReplicaId(2) });
        assert_eq!(frame, expected);
    }

    fn of_a_body(bytes: usize) -> [PeerMessage; 3] {
        let (shipment, bytes) = (ShipmentId(1), vec![7; bytes].into());
        let PeerMessage::Raft(message) = raft() else { panic!("it is raft's") };
        [
            PeerMessage::Body(BodyMessage::Offer { shipment, message }),
            PeerMessage::Body(BodyMessage::Want { shipment, chunks: vec![1, 2, 3] }),
            PeerMessage::Body(BodyMessage::Chunk { shipment, number: 1, crc: 2, bytes }),
        ]
    }

    #[test]
    fn only_a_body_s_chunks_wait_for_everything_else_and_nothing_waits_for_them() {
        assert_eq!(of_a_body(9).map(|message| message.lane()), [Lane::Urgent, Lane::Urgent, Lane::Bulk]);
        assert!(of_a_body(9).iter().all(|message| codec::encode(message)[..4] == [6, 0, 0, 0]));
        let longest = framing(Some(1)).encode(Millis(0), of_a_body(CHUNK_BYTES)[2].clone());
        assert!(longest.len() <= PEER_FRAME_BYTES_MAX);
    }

    #[test]
    fn only_founding_crosses_between_who_is_founded_and_who_is_not() {
        for (from, to) in [(None, None), (None, Some(1)), (Some(1), None), (Some(1), Some(1))] {
            assert!(crosses(hello(), from, to), "hello from {from:?} to {to:?}");
            assert_eq!(crosses(raft(), from, to), from == Some(1) && to == Some(1), "raft from {from:?} to {to:?}");
        }
        assert!(!crosses(hello(), Some(1), Some(2)), "nothing crosses between clusters founded apart");
        assert!(!crosses(raft(), Some(1), Some(2)));
    }

    #[test]
    fn another_cluster_shard_or_format_is_dropped() {
        let ours = framing(Some(1));
        let foreign = Framing { cluster: ClusterId([1; 16]), ..ours };
        let other = Framing { shard: ShardId(1), ..ours };
        assert!(matches!(ours.decode(&foreign.encode(Millis(0), raft())), Err(BadFrame::Cluster(_))));
        assert!(matches!(ours.decode(&other.encode(Millis(0), raft())), Err(BadFrame::Shard(_))));
        let mut later = ours.encode(Millis(0), raft()).to_vec();
        later[0] = 2;
        assert!(matches!(ours.decode(&later), Err(BadFrame::Version(2))));
    }

    #[test]
    fn damaged_frames_are_dropped() {
        let ours = framing(Some(1));
        let frame = ours.encode(Millis(0), raft());
        for len in 0..frame.len() {
            assert!(ours.decode(&frame[..len]).is_err(), "cut to {len} bytes");
        }
        let longer = [&frame[..], &[0]].concat();
        assert!(ours.decode(&longer).is_err());
    }

    #[test]
    fn requests_share_frames_up_to_the_limit() {
        let items: Vec<Vec<u8>> = [300, 700, 400, 1_500, 10].map(|kib: usize| vec![0; kib << 10]).into();
        let lens: Vec<Vec<usize>> =
            in_frames(items).iter().map(|frame| frame.iter().map(|item| item.len() >> 10).collect()).collect();
        assert_eq!(lens, [vec![300, 700], vec![400], vec![1_500], vec![10]]);
    }
}
