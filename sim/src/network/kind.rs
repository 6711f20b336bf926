//! What a message is called, and who speaks: the names that fates hang on.

use std::fmt;

use tombola::{
    replica::RaftBody,
    runtime::{BodyMessage, PeerMessage},
    types::ReplicaId,
};

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A node.
    Node(ReplicaId),
    /// A client, by its number.
    Client(u64),
}

impl Party {
    /// Its number among all parties.
    pub fn id(self) -> u64 {
        match self {
            Self::Node(id) => id.0,
            Self::Client(number) => 1 << 63 | number,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "n{id}"),
            Self::Client(number) => write!(f, "c{number}"),
        }
    }
}

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// What sort of message it is; never what is in it.
        #[allow(missing_docs, reason = "each is named after the message")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in traces.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

// Append only: a kind's position is part of the name of its fates, and old plans shall keep theirs.
kinds! {
    Unreadable "unreadable",
    Request "request",
    Answer "answer",
    Founding "founding",
    Append "append",
    AppendResponse "append-response",
    PreVote "pre-vote",
    PreVoteResponse "pre-vote-response",
    Vote "vote",
    VoteResponse "vote-response",
    Heartbeat "heartbeat",
    HeartbeatResponse "heartbeat-response",
    ReadIndex "read-index",
    ReadIndexResponse "read-index-response",
    TimeoutNow "timeout-now",
    Snapshot "snapshot",
    Forward "forward",
    Forwarded "forwarded",
    Transfer "transfer",
    TransferRefused "transfer-refused",
    Offer "offer",
    Want "want",
    Chunk "chunk",
    ShipmentEnded "shipment-ended",
    Checkpoint "checkpoint",
}

impl Kind {
    /// The kind of a message between nodes.
    pub fn of(message: &PeerMessage) -> Self {
        match message {
            PeerMessage::Founding(_) => Self::Founding,
            PeerMessage::Raft(message) => Self::of_raft(&message.body),
            PeerMessage::Forward(_) => Self::Forward,
            PeerMessage::Forwarded(_) => Self::Forwarded,
            PeerMessage::Transfer { .. } => Self::Transfer,
            PeerMessage::TransferRefused { .. } => Self::TransferRefused,
            PeerMessage::Body(BodyMessage::Offer { .. }) => Self::Offer,
            PeerMessage::Body(BodyMessage::Want { .. }) => Self::Want,
            PeerMessage::Body(BodyMessage::Chunk { .. }) => Self::Chunk,
            PeerMessage::Body(BodyMessage::Ended { .. }) => Self::ShipmentEnded,
            PeerMessage::Checkpoint(_) => Self::Checkpoint,
        }
    }

    fn of_raft(body: &RaftBody) -> Self {
        match body {
            RaftBody::Append { .. } => Self::Append,
            RaftBody::AppendResponse { .. } => Self::AppendResponse,
            RaftBody::RequestVote { pre: true, .. } => Self::PreVote,
            RaftBody::RequestVote { .. } => Self::Vote,
            RaftBody::RequestVoteResponse { pre: true, .. } => Self::PreVoteResponse,
            RaftBody::RequestVoteResponse { .. } => Self::VoteResponse,
            RaftBody::Heartbeat { .. } => Self::Heartbeat,
            RaftBody::HeartbeatResponse { .. } => Self::HeartbeatResponse,
            RaftBody::ReadIndex { .. } => Self::ReadIndex,
            RaftBody::ReadIndexResponse { .. } => Self::ReadIndexResponse,
            RaftBody::TimeoutNow => Self::TimeoutNow,
            RaftBody::Snapshot { .. } => Self::Snapshot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_positions_and_parties_do_not_share_a_number() {
        for (position, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, position, "{}", kind.name());
        }
        assert_ne!(Party::Node(ReplicaId(3)).id(), Party::Client(3).id());
        assert_eq!([Party::Node(ReplicaId(3)), Party::Client(4)].map(|party| party.to_string()), ["n3", "c4"]);
    }
}
