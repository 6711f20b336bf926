//! What a store holds, in outline: enough to tell whether it kept its word, and whether what it is handed takes any back.

use std::collections::VecDeque;

use tombola::{
    durable::{Entry, Founders, FoundingWrite, HardState, RecoveredState, SnapshotWrite, WriteSet},
    types::{Index, ReplicaId, Term},
};

/// What was taken back, in words.
pub type Broken = String;

/// The outline of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whom it is bound to found with, until it has.
    pub prepared: Option<Founders>,
    pub is_founded: bool,
    pub hard_state: HardState,
    /// The newest snapshot.
    pub snapshot: (Index, Term),
    /// The last entry that is compacted away.
    pub truncated: (Index, Term),
    /// Terms of the entries after it.
    terms: VecDeque<Term>,
}

impl Kept {
    /// What a start found.
    pub fn of(state: &RecoveredState) -> Self {
        match state {
            RecoveredState::Unfounded { prepared } => Self { prepared: prepared.clone(), ..Self::default() },
            RecoveredState::Founded(log) => Self {
                prepared: None,
                is_founded: true,
                hard_state: log.hard_state,
                snapshot: (log.snapshot.meta.index, log.snapshot.meta.term),
                truncated: log.truncated,
                terms: log.entries.iter().map(|entry| entry.term).collect(),
            },
        }
    }

    /// The last entry, or what was compacted away last.
    pub fn last(&self) -> Index {
        Index(self.truncated.0.0 + self.terms.len() as u64)
    }

    /// The term of an entry that is there.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let behind = index.0.checked_sub(self.truncated.0.0 + 1)?;
        self.terms.get(usize::try_from(behind).ok()?).copied()
    }

    /// Takes a WriteSet as well. `acked` is the newest term in which a leader was told how far the log matches, and how far:
    /// that leader's log never loses an entry, so only one of a later term takes any of it back. Gives where the log is
    /// written anew, if it is.
    pub fn write(&mut self, set: &WriteSet, acked: (Term, Index)) -> Result<Option<Index>, Broken> {
        match &set.founding {
            Some(FoundingWrite::Prepare(founders)) => self.prepared = Some(founders.clone()),
            Some(FoundingWrite::Found(snapshot)) => {
                let newest = (snapshot.meta.index, snapshot.meta.term);
                *self = Self { is_founded: true, snapshot: newest, truncated: newest, ..Self::default() };
            }
            None => {}
        }
        let before = self.hard_state;
        self.hard_state = set.hard_state.unwrap_or(before);
        self.check_hard_state(before)?;
        let kept = if acked.0 >= self.hard_state.term { acked.1 } else { Index(0) };
        let kept = kept.max(before.commit);
        let last = self.last();
        let installed = match &set.snapshot {
            Some(SnapshotWrite::Taken { meta, truncated }) => {
                self.snapshot = (meta.index, meta.term);
                self.truncate(*truncated);
                None
            }
            Some(SnapshotWrite::Installed { meta }) => {
                // Whatever the snapshot covers may go, and the rest with it, unless it is owed.
                check_cut(meta.index.next(), last.min(kept), &self.hard_state)?;
                self.snapshot = (meta.index, meta.term);
                (self.truncated, self.terms) = (self.snapshot, VecDeque::new());
                (last > meta.index).then(|| meta.index.next())
            }
            None => None,
        };
        Ok(installed.or(self.append(&set.entries, kept)?))
    }

    fn check_hard_state(&self, before: HardState) -> Result<(), Broken> {
        let now = self.hard_state;
        let other_vote = now.term == before.term && before.vote != ReplicaId(0) && now.vote != before.vote;
        match now.term < before.term || other_vote || now.commit < before.commit {
            true => Err(format!("{before:?} becomes {now:?}")),
            false => Ok(()),
        }
    }

    fn truncate(&mut self, truncated: (Index, Term)) {
        let gone = truncated.0.0.saturating_sub(self.truncated.0.0) as usize;
        self.terms.drain(..gone.min(self.terms.len()));
        self.truncated = truncated;
    }

    /// Appends; nothing up to `kept` may change. Gives the first entry that does.
    fn append(&mut self, entries: &[Entry], kept: Index) -> Result<Option<Index>, Broken> {
        let Some(first) = entries.first() else { return Ok(None) };
        let Some(stays) = first.index.0.checked_sub(self.truncated.0.0 + 1) else {
            return Err(format!("entry {} is written, and up to {} all is compacted", first.index, self.truncated.0));
        };
        if first.index > self.last().next() {
            return Err(format!("entry {} is written after entry {}", first.index, self.last()));
        }
        let (last, same) = (self.last(), |entry: &&Entry| self.term_at(entry.index) == Some(entry.term));
        let changed = Index(first.index.0 + entries.iter().take_while(same).count() as u64);
        check_cut(changed, last.min(kept), &self.hard_state)?;
        self.terms.truncate(stays as usize);
        self.terms.extend(entries.iter().map(|entry| entry.term));
        Ok((changed <= last).then_some(changed))
    }
}

/// Entries from `first` on change, and those up to `kept` may not.
fn check_cut(first: Index, kept: Index, now: &HardState) -> Result<(), Broken> {
    match first <= kept {
        true => Err(format!("entries from {first} on are overwritten in term {}, and {kept} was accepted", now.term)),
        false => Ok(()),
    }
}
