//! The disk keeps what was said: what left a node is durable when it leaves, and still there after any crash.
//!
//! **How.** For each node there is an outline of what is durable: what its last start found, and every WriteSet since that
//! was handed to its store and *reported* durable. Three things are held against it.
//!
//! - *At saying.* A term, a vote, an accepted log, a snapshot and a founding must be in the outline at the moment in
//!   which they leave the node; an answer that names an index, in those of a majority. So what is let go before its commit
//!   came back is seen at once, without a crash.
//! - *At a start.* What is found is the outline, or the outline with all that was handed over in the one transaction that
//!   had not come back. So nothing that was reported is lost, and no transaction is done by half.
//! - *At writing.* No WriteSet takes back what was said: a term or a commit that falls, another vote in a term, an entry
//!   that was accepted from a leader and overwritten without a later one.
//!
//! Together they keep every promise to the end: it is in the outline when made, no write takes it out, and no crash does.
//!
//! **Damaged disks** may lose what they promised. Then they are told apart, not refused: a node that lost something must not
//! go on as if it had not. Whoever runs the cluster has to leave it down, or the cluster to leave it out: it promises
//! nothing any more.

mod kept;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tombola::{
    durable::{Founders, RecoveredState, WriteSet},
    replica::{ProposalResult, RaftBody, RaftMessage, founding::FoundingMessage},
    runtime::{BodyMessage, PeerFrame, PeerMessage},
    types::{Index, ReplicaId, Term},
};

use self::kept::{Broken, Kept};
use super::Violation;

const NAME: &str = "promise";

/// Something that a node said, and has to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It knows of this term.
    Term(Term),
    /// In this term it voted so.
    Vote(Term, ReplicaId),
    /// In this term its log matches the leader's up to here.
    Log(Term, Index),
    /// It has a snapshot of this index, or a later one.
    Snapshot(Index),
    /// It founds with these founders and no others.
    Bound(Founders),
    /// It has founded.
    Founded,
    /// What this index holds is decided.
    Decided(Index),
}

/// What nodes said and what their stores hold.
#[derive(Clone, Debug)]
pub struct PromiseCheck {
    /// How many voters there are.
    voters: usize,
    nodes: BTreeMap<ReplicaId, Node>,
    damaged: BTreeSet<ReplicaId>,
    /// Who started without something that it had promised to keep.
    forgetful: BTreeSet<ReplicaId>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// What is durable.
    kept: Kept,
    /// What was handed over and is not reported yet.
    handed: Vec<WriteSet>,
    /// The newest term in which it accepted a leader's log, and how far.
    acked: (Term, Index),
    /// In which terms a later leader's log took the place of its own, and from where on.
    cuts: BTreeMap<Term, Index>,
}

impl Node {
    /// What was handed over is durable.
    fn write(&mut self, handed: &[WriteSet]) -> Result<(), Broken> {
        for set in handed {
            if let Some(index) = self.kept.write(set, self.acked)? {
                let cut = self.cuts.entry(self.kept.hard_state.term).or_insert(index);
                *cut = index.min(*cut);
            }
        }
        Ok(())
    }

    /// Is, or was, its log durable up to here, as a leader of that term had it?
    fn has_log(&self, term: Term, index: Index) -> bool {
        // A later leader may have overwritten it in the very transaction that made it durable.
        let is_cut = self.cuts.iter().any(|(later, cut)| *later > term && *cut <= index);
        self.kept.hard_state.term >= term && (self.kept.last() >= index || is_cut)
    }
}

impl PromiseCheck {
    /// Nothing was said so far; there are so many voters.
    pub fn new(voters: usize) -> Self {
        Self { voters, nodes: BTreeMap::new(), damaged: BTreeSet::new(), forgetful: BTreeSet::new() }
    }

    /// A WriteSet is handed to the store of a node.
    pub fn wrote(&mut self, node: ReplicaId, set: &WriteSet) {
        self.nodes.entry(node).or_default().handed.push(set.clone());
    }

    /// All that was handed over is reported durable.
    pub fn reported(&mut self, node: ReplicaId) -> Result<(), Violation> {
        let state = self.nodes.entry(node).or_default();
        let handed = std::mem::take(&mut state.handed);
        state.write(&handed).map_err(|what| broken("nothing is taken back", format!("replica {node} writes: {what}")))
    }

    /// A node starts with what its store holds. `false` if its disk is damaged, and what it lost it had promised to keep.
    pub fn recovered(&mut self, node: ReplicaId, found: &RecoveredState) -> Result<bool, Violation> {
        let state = self.nodes.entry(node).or_default();
        let found = Kept::of(found);
        let handed = std::mem::take(&mut state.handed);
        if state.kept == found {
            return Ok(true);
        }
        let before = state.kept.clone();
        if state.write(&handed).is_ok() && state.kept == found {
            return Ok(true);
        }
        let difference = difference(&before, &found);
        state.kept = found;
        if self.damaged.contains(&node) {
            self.forgetful.insert(node);
            return Ok(false);
        }
        let detail = format!("replica {node} starts, and of what was reported durable {difference}");
        Err(broken("what was reported durable is there", detail))
    }

    /// The disk of a node is damaged.
    pub fn damaged(&mut self, node: ReplicaId) {
        self.damaged.insert(node);
    }

    /// A frame leaves a node.
    pub fn said(&mut self, node: ReplicaId, frame: &PeerFrame) -> Result<(), Violation> {
        promises(&frame.message).try_for_each(|promise| self.promised(node, &promise))
    }

    /// A node answers somebody that this index is decided.
    pub fn answered(&mut self, node: ReplicaId, index: Index) -> Result<(), Violation> {
        self.promised(node, &Promise::Decided(index))
    }

    /// A node promises something.
    pub fn promised(&mut self, node: ReplicaId, promise: &Promise) -> Result<(), Violation> {
        if self.forgetful.contains(&node) {
            let detail = format!("replica {node}, which has forgotten what it had promised, promises {promise:?}");
            return Err(broken("who has forgotten a promise makes none", detail));
        }
        let decided = match promise {
            Promise::Decided(index) => self.holders(*index) > self.voters / 2,
            _ => true,
        };
        let state = self.nodes.entry(node).or_default();
        if let Promise::Log(term, index) = *promise {
            state.acked = state.acked.max((term, index));
        }
        let kept = &state.kept;
        let is_kept = match *promise {
            Promise::Term(term) => kept.hard_state.term >= term,
            Promise::Vote(term, _) if kept.hard_state.term > term => true,
            Promise::Vote(term, to) => (kept.hard_state.term, kept.hard_state.vote) == (term, to),
            Promise::Log(term, index) => state.has_log(term, index),
            Promise::Snapshot(index) => kept.snapshot.0 >= index,
            Promise::Bound(ref founders) => kept.is_founded || kept.prepared.as_ref() == Some(founders),
            Promise::Founded => kept.is_founded,
            Promise::Decided(_) => decided,
        };
        if is_kept {
            return Ok(());
        }
        let has = format!("{:?}, a log up to {}, a snapshot of {}", kept.hard_state, kept.last(), kept.snapshot.0);
        let detail = match promise {
            Promise::Decided(index) => {
                let holders = self.holders(*index);
                format!("replica {node} says that {index} is decided, which {holders} of {} disks have", self.voters)
            }
            promise => format!("replica {node} promises {promise:?}, and durable is {has}"),
        };
        Err(broken("nothing is said before it is durable", detail))
    }

    /// On how many disks an index is, with the same term; a damaged one may have had it.
    fn holders(&self, index: Index) -> usize {
        let is_sure = |id: &ReplicaId, node: &Node| node.kept.truncated.0 >= index || self.damaged.contains(id);
        let (sure, others): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|(id, node)| is_sure(id, node));
        let mut terms = BTreeMap::<Term, usize>::new();
        for term in others.iter().filter_map(|(_, node)| node.kept.term_at(index)) {
            *terms.entry(term).or_default() += 1;
        }
        sure.len() + terms.into_values().max().unwrap_or_default()
    }
}

/// What a message promises.
fn promises(message: &PeerMessage) -> impl Iterator<Item = Promise> {
    let (first, second) = match message {
        PeerMessage::Raft(message) | PeerMessage::Body(BodyMessage::Offer { message, .. }) => of_raft(message),
        PeerMessage::Founding(FoundingMessage::Prepared { founders }) => (Some(Promise::Bound(founders.clone())), None),
        PeerMessage::Founding(FoundingMessage::Founded { .. }) => (Some(Promise::Founded), None),
        PeerMessage::Founding(FoundingMessage::Hello { .. })
        | PeerMessage::Forward(_)
        | PeerMessage::Forwarded(_)
        | PeerMessage::Transfer { .. }
        | PeerMessage::TransferRefused { .. }
        | PeerMessage::Body(_)
        | PeerMessage::Checkpoint(_) => (None, None),
    };
    let results = match message {
        PeerMessage::Forwarded(results) => results.as_slice(),
        _ => &[],
    };
    let decided = results.iter().filter_map(|(_, result)| match result {
        ProposalResult::Applied(outcome) => Some(Promise::Decided(outcome.index)),
        ProposalResult::NotProposed | ProposalResult::Superseded => None,
    });
    first.into_iter().chain(second).chain(decided)
}

/// What a message of raft's promises: its sender's term, and what depends on what it says. A candidate, and a leader, have
/// voted for themselves. Nobody promises anything by a pre-vote, whose term is none yet, or by a question for a read.
fn of_raft(message: &RaftMessage) -> (Option<Promise>, Option<Promise>) {
    let RaftMessage { to, from, term, body } = message;
    let term = *term;
    match body {
        RaftBody::RequestVote { pre: true, .. }
        | RaftBody::RequestVoteResponse { pre: true, reject: false, .. }
        | RaftBody::ReadIndex { .. } => (None, None),
        RaftBody::RequestVote { pre: false, .. }
        | RaftBody::Append { .. }
        | RaftBody::Heartbeat { .. }
        | RaftBody::TimeoutNow => (Some(Promise::Vote(term, *from)), None),
        RaftBody::RequestVoteResponse { pre: false, reject: false, .. } => (Some(Promise::Vote(term, *to)), None),
        RaftBody::AppendResponse { index, reject: false, .. } => (Some(Promise::Log(term, *index)), None),
        RaftBody::Snapshot { meta } => (Some(Promise::Term(term)), Some(Promise::Snapshot(meta.index))),
        RaftBody::RequestVoteResponse { .. }
        | RaftBody::AppendResponse { .. }
        | RaftBody::HeartbeatResponse { .. }
        | RaftBody::ReadIndexResponse { .. } => (Some(Promise::Term(term)), None),
    }
}

/// What is missing, in words.
fn difference(before: &Kept, found: &Kept) -> String {
    if before.is_founded != found.is_founded || before.prepared != found.prepared {
        return format!("a founding is missing: founded is {}, and was {}", found.is_founded, before.is_founded);
    }
    if before.hard_state != found.hard_state {
        return format!("{:?} is left as {:?}", before.hard_state, found.hard_state);
    }
    let log = |kept: &Kept| {
        format!("entries {} to {}, a snapshot of {}", kept.truncated.0.next(), kept.last(), kept.snapshot.0)
    };
    let last = before.last().min(found.last());
    let first = before.truncated.0.max(found.truncated.0).next();
    let differs = (first.0..=last.0).map(Index).find(|index| before.term_at(*index) != found.term_at(*index));
    let differs = differs.map_or_else(String::new, |index| format!(", other terms from {index} on"));
    format!("{} is left as {}{differs}", log(before), log(found))
}

fn broken(invariant: &'static str, detail: String) -> Violation {
    Violation::new(NAME, invariant, detail)
}
