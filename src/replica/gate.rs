//! Every check before raft-rs sees a peer's message (raft-rs.md, section 9): a peer cannot make a node panic.
//!
//! Three verdicts: pass; drop, with the reason (bad or stale input, never fatal); or proof that a disk lost something,
//! which stops the node under the name of the invariant rather than in one of raft-rs's own panics.

use super::{BrokenInvariant, RaftBody, RaftMessage, Role, log::Log};
use crate::{
    durable::{Entry, EntryKind, Founders, SnapshotMeta},
    types::{Index, ReplicaId, Term},
};

/// Bytes of a read's context.
pub(super) const READ_CONTEXT_BYTES: usize = 24;
/// Terms stay below this, so that no peer can bring one to its end.
const TERM_MAX: u64 = 1 << 60;
/// Most entries in one append.
const APPEND_ENTRIES_MAX: usize = 65_536;
/// Most bytes of data in one append: a message of raft's 256 KiB, or one entry that alone is longer.
const APPEND_BYTES_MAX: usize = 2 << 20;

/// What the gate knows of the replica.
pub(super) struct Gate<'a> {
    pub me: ReplicaId,
    pub role: Role,
    pub term: Term,
    pub leader: Option<ReplicaId>,
    pub commit: Index,
    pub last: Index,
    /// Something of raft's is on its way to the disk.
    pub is_persisting: bool,
    pub founders: &'a Founders,
    pub log: &'a Log,
}

/// Why a message does not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// It is dropped.
    Dropped(&'static str),
    /// The node stops.
    Broken(BrokenInvariant),
}

/// Drops the message unless the condition holds.
fn ensure(condition: bool, reason: &'static str) -> Result<(), Rejected> {
    if condition { Ok(()) } else { Err(Rejected::Dropped(reason)) }
}

impl Gate<'_> {
    /// Checks a message that the transport says is from `from`.
    pub fn check(&self, from: ReplicaId, message: &RaftMessage) -> Result<(), Rejected> {
        self.check_envelope(from, message)?;
        match &message.body {
            RaftBody::Append { index, log_term, entries, .. } => self.check_append(message, *index, *log_term, entries),
            RaftBody::AppendResponse { index, reject_hint, .. } => {
                let ours = message.term == self.term;
                ensure(!ours || (*index).max(*reject_hint) <= self.last, "it answers what was never sent")
            }
            RaftBody::Heartbeat { commit, context } => self.check_heartbeat(message, *commit, context),
            RaftBody::HeartbeatResponse { context, .. } => self.check_context(context.is_empty(), context),
            RaftBody::ReadIndex { context } => {
                ensure(self.role == Role::Leader, "we do not lead")?;
                self.check_context(false, context)
            }
            RaftBody::ReadIndexResponse { context, .. } => {
                ensure(self.leader == Some(from), "it is not from the leader")?;
                self.check_context(false, context)
            }
            RaftBody::TimeoutNow => {
                ensure(message.term == self.term && self.leader == Some(from), "it is not from the leader")
            }
            // Our vote for ourselves is asked for once it is durable, and so is all that was written before it. raft-rs
            // panics at a leader whose log is not.
            RaftBody::RequestVoteResponse { pre: false, reject: false, .. } => {
                ensure(!self.is_persisting, "it gives a vote that was not asked for")
            }
            RaftBody::RequestVote { .. } | RaftBody::RequestVoteResponse { .. } => Ok(()),
            RaftBody::Snapshot { .. } => ensure(false, "it comes without its body"),
        }
    }

    /// Checks a snapshot whose body was found to hold the state at `applied`; says what it is of.
    pub fn check_snapshot<'m>(
        &self,
        from: ReplicaId,
        message: &'m RaftMessage,
        applied: Index,
    ) -> Result<&'m SnapshotMeta, Rejected> {
        self.check_envelope(from, message)?;
        let RaftBody::Snapshot { meta } = &message.body else {
            return Err(Rejected::Dropped("it is of another kind than a snapshot"));
        };
        ensure(meta.index == applied, "its body is of another index than it says")?;
        ensure(meta.index.0 > 0 && meta.index.0 < u64::MAX, "its index is out of range")?;
        ensure(meta.term.0 > 0 && meta.term <= message.term, "it is of no term, or of a later one than its own")?;
        ensure(meta.voters.first().is_some_and(|first| first.0 > 0), "it has no voters")?;
        ensure(meta.voters.is_sorted_by(|one, next| one < next), "its voters are not sorted, or twice there")?;
        ensure(meta.founders == *self.founders, "it is of a cluster with other founders")?;
        self.check_leader(message)?;
        self.check_committed(message, [(meta.index, meta.term)])?;
        Ok(meta)
    }

    /// What every message says of itself.
    fn check_envelope(&self, from: ReplicaId, message: &RaftMessage) -> Result<(), Rejected> {
        ensure(message.from == from, "it claims another sender")?;
        ensure(message.to == self.me, "it is for another replica")?;
        ensure(from != self.me, "it claims to be ours")?;
        let is_read_index = matches!(message.body, RaftBody::ReadIndex { .. });
        ensure((message.term.0 == 0) == is_read_index, "its term is that of another kind of message")?;
        ensure(message.term.0 < TERM_MAX, "its term is out of range")
    }

    /// It says that its sender leads.
    fn check_leader(&self, message: &RaftMessage) -> Result<(), Rejected> {
        ensure(!(message.term == self.term && self.role == Role::Leader), "a second leader of our own term")
    }

    /// A leader of our term or a later one has these at these indexes. At what is committed here they are the same.
    fn check_committed(
        &self,
        message: &RaftMessage,
        theirs: impl IntoIterator<Item = (Index, Term)>,
    ) -> Result<(), Rejected> {
        let committed = theirs.into_iter().filter(|(index, _)| message.term >= self.term && *index <= self.commit);
        for (index, term) in committed {
            if let Some(ours) = self.log.term_at(index).filter(|ours| *ours != term) {
                let detail = format!("the leader's entry {index} is of term {term}, ours, committed, of term {ours}");
                return Err(Rejected::Broken(BrokenInvariant { name: "durable", detail }));
            }
        }
        Ok(())
    }

    fn check_context(&self, may_be_empty: bool, context: &[u8]) -> Result<(), Rejected> {
        ensure(may_be_empty || context.len() == READ_CONTEXT_BYTES, "its read context has another length")
    }

    fn check_append(
        &self,
        message: &RaftMessage,
        index: Index,
        log_term: Term,
        entries: &[Entry],
    ) -> Result<(), Rejected> {
        ensure(entries.len() <= APPEND_ENTRIES_MAX, "it has too many entries")?;
        ensure(entries.iter().map(|entry| entry.data.len()).sum::<usize>() <= APPEND_BYTES_MAX, "it is too long")?;
        // raft-rs takes what lies beyond its log for an entry of term 0, so term 0 would match there.
        ensure(log_term.0 > 0 && log_term <= message.term, "it appends to no term, or to a later one than its own")?;
        ensure(index.0 < u64::MAX - entries.len() as u64, "its index is out of range")?;
        let mut before = (index, log_term);
        for entry in entries {
            ensure(entry.index == before.0.next(), "its entries are not contiguous")?;
            ensure(entry.term >= before.1 && entry.term <= message.term, "its entries' terms fall, or pass its own")?;
            ensure(entry.kind == EntryKind::Normal, "it changes membership, which nothing here does yet")?;
            before = (entry.index, entry.term);
        }
        self.check_leader(message)?;
        let entries = entries.iter().map(|entry| (entry.index, entry.term));
        self.check_committed(message, entries.chain([(index, log_term)]))
    }

    fn check_heartbeat(&self, message: &RaftMessage, commit: Index, context: &[u8]) -> Result<(), Rejected> {
        self.check_context(context.is_empty(), context)?;
        self.check_leader(message)?;
        if message.term >= self.term && commit > self.last {
            let detail =
                format!("replica {} says that entry {commit} is on this disk; it ends at {}", message.from, self.last);
            return Err(Rejected::Broken(BrokenInvariant { name: "durable", detail }));
        }
        Ok(())
    }
}
