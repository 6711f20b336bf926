//! Where everything that can be judged is seen, in the order in which it happened: [`Observer::see`] is called for each
//! thing that a replica applied, installed or answered, and for each thing that it was asked. Checkers belong here.

use std::collections::{BTreeMap, btree_map::Entry as Slot};

use bytes::Bytes;
use tombola::{
    durable::Entry,
    pool::{Command, Digests, Outcome, PoolId, RequestKey, StateMachine},
    replica::{ProposalId, ProposalResult, ReadId},
    types::{HistoryDigest, Index, ReplicaId, StateDigest, Term},
};

/// One thing that happened at a replica.
#[derive(Debug)]
pub enum Seen<'a> {
    /// It started, from a snapshot at this index.
    Started { at: Index },
    /// It applied an entry. The history digest there holds what every replica answered.
    Applied { entry: &'a Entry, history: HistoryDigest },
    /// A peer's snapshot took the place of its state.
    Installed { at: Index },
    /// It came to rest after an input, with this state.
    Rested { digests: Digests },
    /// It took a snapshot of its own.
    Snapshot { index: Index, body_sha256: [u8; 32] },
    /// A client's command was given to it.
    Proposed { id: ProposalId, command: &'a Command },
    /// It answered that.
    Answered { id: ProposalId, result: &'a ProposalResult },
    /// A client asked it for a read.
    ReadAsked { id: ReadId },
    /// It served that from this state.
    ReadServed { id: ReadId, machine: &'a StateMachine },
}

/// What all replicas have in common, by whoever was first.
#[derive(Default)]
pub struct Observer {
    entries: BTreeMap<Index, (Term, Bytes, HistoryDigest)>,
    states: BTreeMap<Index, StateDigest>,
    bodies: BTreeMap<Index, [u8; 32]>,
    /// Where each replica stands in this incarnation.
    applied: BTreeMap<ReplicaId, Index>,
    /// What a proposal is a try of.
    tries: BTreeMap<ProposalId, (PoolId, RequestKey)>,
    /// The outcome told for a command, by whoever was first.
    pub told: BTreeMap<(PoolId, RequestKey), Outcome>,
    /// The greatest index told so far.
    told_up_to: Index,
    /// The same when a read was asked for.
    reads: BTreeMap<ReadId, Index>,
    pub reads_served: usize,
}

impl Observer {
    pub fn see(&mut self, replica: ReplicaId, seen: &Seen<'_>) {
        match seen {
            Seen::Started { at } => _ = self.applied.insert(replica, *at),
            Seen::Installed { at } => {
                let before = self.applied.insert(replica, *at).expect("it has started");
                assert!(before < *at, "replica {replica} goes back from {before} to a snapshot at {at}");
            }
            Seen::Applied { entry, history } => {
                let before = self.applied.insert(replica, entry.index).expect("it has started");
                assert_eq!(before.next(), entry.index, "contiguous: replica {replica}");
                let ours = (entry.term, entry.data.clone(), *history);
                same(&mut self.entries, entry.index, ours, || format!("one history: replica {replica}"));
            }
            Seen::Rested { digests: Digests { index, history, state } } => {
                assert_eq!(self.applied[&replica], *index, "replica {replica} says where it stands");
                let known = self.entries.get(index);
                assert!(known.is_none_or(|known| known.2 == *history), "one history: replica {replica} at {index}");
                same(&mut self.states, *index, *state, || format!("one history: the state of replica {replica}"));
            }
            Seen::Snapshot { index, body_sha256 } => {
                same(&mut self.bodies, *index, *body_sha256, || format!("the snapshot that replica {replica} took"));
            }
            Seen::Proposed { id, command } => _ = self.tries.insert(*id, (command.pool.clone(), command.key)),
            Seen::Answered { id, result: ProposalResult::Applied(outcome) } => self.check_told(*id, outcome),
            Seen::Answered { .. } => {}
            Seen::ReadAsked { id } => _ = self.reads.insert(*id, self.told_up_to),
            Seen::ReadServed { id, machine } => {
                let (told, at) = (self.reads[id], machine.applied());
                assert!(at >= told, "linearizable: a read at {at} misses what was told at {told}");
                self.reads_served += 1;
            }
        }
    }

    fn check_told(&mut self, id: ProposalId, outcome: &Outcome) {
        self.told_up_to = self.told_up_to.max(outcome.index);
        let told = self.told.entry(self.tries[&id].clone()).or_insert_with(|| outcome.clone());
        assert_eq!((told.index, &told.result), (outcome.index, &outcome.result), "exactly once: one key, one outcome");
    }
}

/// What was seen first at an index is seen there ever after.
fn same<T: PartialEq + std::fmt::Debug>(
    known: &mut BTreeMap<Index, T>,
    index: Index,
    now: T,
    what: impl FnOnce() -> String,
) {
    match known.entry(index) {
        Slot::Vacant(slot) => _ = slot.insert(now),
        Slot::Occupied(first) => assert_eq!(*first.get(), now, "{} at {index}", what()),
    }
}
