//! What committed entries have made: the pools, and the digests of how they came to be.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, EntryType};

use super::BrokenInvariant;
use crate::{
    hooks,
    pool::{Garbage, Outcome, StateMachine},
    types::{HistoryDigest, Index, Term},
};

/// How many recent history digests are kept.
const HISTORY_KEPT_MAX: usize = 4_096;

/// The pools as of the last applied entry.
#[derive(Debug)]
pub(super) struct Applied {
    machine: StateMachine,
    /// History digests of the newest entries; the last one is that of the applied index.
    history: VecDeque<HistoryDigest>,
}

impl Applied {
    /// A state to go on from.
    pub fn new(machine: StateMachine) -> Self {
        hooks::restored(machine.applied());
        Self { history: VecDeque::from([machine.digests().history]), machine }
    }

    /// Applies a committed entry, which must be the next: raft-rs can skip silently (line 12). Its outcomes, if somebody
    /// waits for them.
    pub fn apply(&mut self, entry: &Entry, is_awaited: bool) -> Result<Option<Vec<Outcome>>, BrokenInvariant> {
        let (index, applied) = (Index(entry.index), self.machine.applied());
        if index != applied.next() {
            return Err(BrokenInvariant { name: "contiguous", detail: format!("entry {index} follows on {applied}") });
        }
        if entry.entry_type != EntryType::EntryNormal {
            let detail = format!("entry {index} changes membership, which this build cannot do");
            return Err(BrokenInvariant { name: "one history", detail });
        }
        hooks::crash_point("before_apply");
        let is_lost = self.history.len() == 1 && applied > Index::FOUNDING && hooks::is_planted("m17");
        let data = if is_lost { &[] } else { entry.data.as_ref() };
        let outcomes = if is_awaited {
            Some(self.machine.apply(index, data))
        } else {
            self.machine.apply_unheard(index, data);
            None
        };
        hooks::applied(index, Term(entry.term), &entry.data);
        if self.history.len() == HISTORY_KEPT_MAX {
            self.history.pop_front();
        }
        self.history.push_back(self.machine.digests().history);
        Ok(outcomes)
    }

    /// Takes what the state has forgotten and not freed.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        self.machine.take_garbage()
    }

    /// Goes on from a peer's snapshot; gives the state before it.
    pub fn restore(&mut self, machine: StateMachine) -> StateMachine {
        assert!(machine.applied() > self.machine.applied(), "a snapshot never takes a replica back");
        std::mem::replace(self, Self::new(machine)).machine
    }

    /// The state.
    pub fn machine(&self) -> &StateMachine {
        &self.machine
    }

    /// The history digest at an applied index, if it is one of the newest since the last restore.
    pub fn history_at(&self, index: Index) -> Option<HistoryDigest> {
        let back = self.machine.applied().0.checked_sub(index.0)?;
        let position = self.history.len().checked_sub(1 + usize::try_from(back).ok()?)?;
        self.history.get(position).copied()
    }
}
