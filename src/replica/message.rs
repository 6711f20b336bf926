//! What replicas say to each other: our own structs, so that protobuf never parses a byte from the network.

use bytes::Bytes;
use raft::eraftpb::{Entry as RaftEntry, EntryType, Message, MessageType, Snapshot as RaftSnapshot};
use serde::{Deserialize, Serialize};

use crate::{
    durable::{Entry, EntryKind, SnapshotMeta},
    types::{Index, ReplicaId, Term},
};

/// A raft message. `to` and `from` are the transport's to prove; the gate checks the rest before raft sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    /// Who it is for.
    pub to: ReplicaId,
    /// Who says it.
    pub from: ReplicaId,
    /// The sender's term; 0 for a ReadIndex alone.
    pub term: Term,
    /// What it says.
    pub body: RaftBody,
}

/// What a raft message says. Append only: the position of a variant is its wire form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftBody {
    /// The leader's log, from a position on.
    Append {
        /// The entry before the first one.
        index: Index,
        /// Its term.
        log_term: Term,
        /// How far the leader has committed.
        commit: Index,
        /// What follows, contiguous.
        entries: Vec<Entry>,
    },
    /// A follower's answer to it.
    AppendResponse {
        /// The log matches up to here; or, rejecting, the `index` of the append.
        index: Index,
        /// Rejecting: the term at `reject_hint`.
        log_term: Term,
        /// How far the follower has committed.
        commit: Index,
        /// The log does not match there.
        reject: bool,
        /// Rejecting: where it may.
        reject_hint: Index,
    },
    /// A candidate asks for a vote.
    RequestVote {
        /// Only whether one would be given.
        pre: bool,
        /// Its last entry.
        index: Index,
        /// The term of that.
        log_term: Term,
        /// How far it has committed.
        commit: Index,
        /// The term there.
        commit_term: Term,
        /// Leadership is being handed to it: leases do not count.
        transfer: bool,
    },
    /// The answer to it.
    RequestVoteResponse {
        /// As in the request.
        pre: bool,
        /// No.
        reject: bool,
        /// Rejecting: how far the answerer has committed.
        commit: Index,
        /// Rejecting: the term there.
        commit_term: Term,
    },
    /// The leader is alive.
    Heartbeat {
        /// How far it has committed, of what the follower has.
        commit: Index,
        /// Empty, or a read that the answer confirms.
        context: Bytes,
    },
    /// The answer to it.
    HeartbeatResponse {
        /// How far the follower has committed.
        commit: Index,
        /// As in the heartbeat.
        context: Bytes,
    },
    /// A follower asks at which index reads may be served.
    ReadIndex {
        /// Names the question.
        context: Bytes,
    },
    /// The answer to it.
    ReadIndexResponse {
        /// At this index.
        index: Index,
        /// Names the question.
        context: Bytes,
    },
    /// Campaign at once: leadership is being handed to you.
    TimeoutNow,
    /// A snapshot in place of entries that are compacted away. Its body travels beside it.
    Snapshot {
        /// What it is of.
        meta: SnapshotMeta,
    },
}

/// The context of a campaign that ignores leases, since the leader asked for it (raft-rs: `CAMPAIGN_TRANSFER`).
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

impl RaftMessage {
    /// What raft-rs wants said; `newest` is the snapshot that it may speak of. `None` for a type that no replica here may
    /// say.
    pub(super) fn from_raft(message: Message, newest: &SnapshotMeta) -> Option<Self> {
        let (index, log_term, commit) = (Index(message.index), Term(message.log_term), Index(message.commit));
        let (commit_term, reject) = (Term(message.commit_term), message.reject);
        let read_context = || message.entries.first().map(|entry| entry.data.clone());
        let body = match message.msg_type {
            MessageType::MsgAppend => {
                let entries = message.entries.iter().map(our_entry).collect();
                RaftBody::Append { index, log_term, commit, entries }
            }
            MessageType::MsgAppendResponse => {
                let reject_hint = Index(message.reject_hint);
                RaftBody::AppendResponse { index, log_term, commit, reject, reject_hint }
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => RaftBody::RequestVote {
                pre: message.msg_type == MessageType::MsgRequestPreVote,
                index,
                log_term,
                commit,
                commit_term,
                transfer: message.context == CAMPAIGN_TRANSFER,
            },
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                let pre = message.msg_type == MessageType::MsgRequestPreVoteResponse;
                RaftBody::RequestVoteResponse { pre, reject, commit, commit_term }
            }
            MessageType::MsgHeartbeat => RaftBody::Heartbeat { commit, context: message.context },
            MessageType::MsgHeartbeatResponse => RaftBody::HeartbeatResponse { commit, context: message.context },
            MessageType::MsgReadIndex => RaftBody::ReadIndex { context: read_context()? },
            MessageType::MsgReadIndexResp => RaftBody::ReadIndexResponse { index, context: read_context()? },
            MessageType::MsgTimeoutNow => RaftBody::TimeoutNow,
            MessageType::MsgSnapshot => {
                let index = Index(message.get_snapshot().get_metadata().index);
                assert_eq!(index, newest.index, "raft sends another snapshot than the newest");
                RaftBody::Snapshot { meta: newest.clone() }
            }
            _ => return None,
        };
        Some(Self { to: ReplicaId(message.to), from: ReplicaId(message.from), term: Term(message.term), body })
    }

    /// As raft-rs takes it. Only the gate calls this, after its checks.
    pub(super) fn into_raft(self) -> Message {
        let mut message = Message::default();
        (message.to, message.from, message.term) = (self.to.0, self.from.0, self.term.0);
        let vote = |asks, pre: bool| match (asks, pre) {
            (true, false) => MessageType::MsgRequestVote,
            (true, true) => MessageType::MsgRequestPreVote,
            (false, false) => MessageType::MsgRequestVoteResponse,
            (false, true) => MessageType::MsgRequestPreVoteResponse,
        };
        message.msg_type = match self.body {
            RaftBody::Append { index, log_term, commit, entries } => {
                (message.index, message.log_term, message.commit) = (index.0, log_term.0, commit.0);
                message.set_entries(entries.iter().map(raft_entry).collect::<Vec<_>>().into());
                MessageType::MsgAppend
            }
            RaftBody::AppendResponse { index, log_term, commit, reject, reject_hint } => {
                (message.index, message.log_term, message.commit) = (index.0, log_term.0, commit.0);
                (message.reject, message.reject_hint) = (reject, reject_hint.0);
                MessageType::MsgAppendResponse
            }
            RaftBody::RequestVote { pre, index, log_term, commit, commit_term, transfer } => {
                (message.index, message.log_term, message.commit) = (index.0, log_term.0, commit.0);
                message.commit_term = commit_term.0;
                message.context = Bytes::from_static(if transfer { CAMPAIGN_TRANSFER } else { b"" });
                vote(true, pre)
            }
            RaftBody::RequestVoteResponse { pre, reject, commit, commit_term } => {
                (message.reject, message.commit, message.commit_term) = (reject, commit.0, commit_term.0);
                vote(false, pre)
            }
            RaftBody::Heartbeat { commit, context } => {
                (message.commit, message.context) = (commit.0, context);
                MessageType::MsgHeartbeat
            }
            RaftBody::HeartbeatResponse { commit, context } => {
                (message.commit, message.context) = (commit.0, context);
                MessageType::MsgHeartbeatResponse
            }
            RaftBody::ReadIndex { context } => {
                message.set_entries(vec![read_entry(context)].into());
                MessageType::MsgReadIndex
            }
            RaftBody::ReadIndexResponse { index, context } => {
                message.index = index.0;
                message.set_entries(vec![read_entry(context)].into());
                MessageType::MsgReadIndexResp
            }
            RaftBody::TimeoutNow => MessageType::MsgTimeoutNow,
            RaftBody::Snapshot { meta } => {
                message.set_snapshot(raft_snapshot(&meta));
                MessageType::MsgSnapshot
            }
        };
        message
    }
}

/// raft-rs carries a read's context as the data of one entry.
fn read_entry(context: Bytes) -> RaftEntry {
    RaftEntry { data: context, ..RaftEntry::default() }
}

/// A snapshot as raft-rs sees one: where it is, and who votes there. What it holds is none of raft's business.
pub(super) fn raft_snapshot(meta: &SnapshotMeta) -> RaftSnapshot {
    let mut snapshot = RaftSnapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (meta.index.0, meta.term.0);
    metadata.mut_conf_state().set_voters(meta.voters.iter().map(|voter| voter.0).collect());
    snapshot
}

/// An entry of ours as raft-rs's; the data is shared, not copied.
pub(super) fn raft_entry(entry: &Entry) -> RaftEntry {
    RaftEntry {
        entry_type: match entry.kind {
            EntryKind::Normal => EntryType::EntryNormal,
            EntryKind::Membership => EntryType::EntryConfChangeV2,
        },
        index: entry.index.0,
        term: entry.term.0,
        data: entry.data.clone(),
        ..RaftEntry::default()
    }
}

/// An entry of raft-rs's as ours; the data is shared, not copied.
pub(super) fn our_entry(entry: &RaftEntry) -> Entry {
    Entry {
        index: Index(entry.index),
        term: Term(entry.term),
        kind: match entry.entry_type {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Membership,
        },
        data: entry.data.clone(),
    }
}
