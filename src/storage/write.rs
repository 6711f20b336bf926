//! Writing WriteSets into an open transaction. Nothing here commits: who calls does, or drops it all.

use redb::{Table, WriteTransaction};
use serde::Serialize;

use super::{
    check::{Tail, check_founders, check_snapshot},
    error::StoreError,
    read, record,
    schema::{CHUNKS, LOG, LogKey, STATE, Slot, StateKey, log_key},
};
use crate::{
    durable::{Entry, Founders, FoundingWrite, HardState, Identity, Recovered, RecoveredState, Snapshot, WriteSet},
    types::Index,
};

/// How far a store has come: as much as the next WriteSet is checked against.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Not founded; perhaps bound to certain founders.
    Unfounded(Option<Founders>),
    /// Founded.
    Founded(Tail),
}

impl Stage {
    /// Where a store stands that holds this; the log's rules are checked on the way.
    pub(super) fn of(recovered: &Recovered) -> Result<Self, StoreError> {
        match &recovered.state {
            RecoveredState::Unfounded { prepared } => Ok(Self::Unfounded(prepared.clone())),
            RecoveredState::Founded(log) => read::check_log(&recovered.identity, log).map(Self::Founded),
        }
    }
}

/// A transaction being filled.
pub(super) struct Writer<'t> {
    transaction: &'t WriteTransaction,
    identity: &'t Identity,
    state: Table<'t, StateKey, &'static [u8]>,
    log: Table<'t, LogKey, &'static [u8]>,
}

impl<'t> Writer<'t> {
    /// Begins to fill `transaction`.
    pub(super) fn new(transaction: &'t WriteTransaction, identity: &'t Identity) -> Result<Self, StoreError> {
        let state = transaction.open_table(STATE)?;
        let log = transaction.open_table(LOG)?;
        Ok(Self { transaction, identity, state, log })
    }

    /// Writes one WriteSet after what `stage` says, and brings `stage` up to it.
    pub(super) fn write(&mut self, stage: &mut Stage, set: &WriteSet) -> Result<(), StoreError> {
        match &set.founding {
            Some(FoundingWrite::Prepare(founders)) => self.prepare(stage, founders)?,
            Some(FoundingWrite::Found(snapshot)) => self.found(stage, snapshot)?,
            None => {}
        }
        match stage {
            Stage::Founded(tail) => {
                self.append(tail, &set.entries)?;
                if let Some(hard_state) = set.hard_state {
                    self.promise(tail, hard_state)?;
                }
                tail.check().map_err(StoreError::Refused)
            }
            Stage::Unfounded(_) if set.entries.is_empty() && set.hard_state.is_none() => Ok(()),
            Stage::Unfounded(_) => Err(StoreError::Refused("entries or a hard state before the founding".into())),
        }
    }

    fn prepare(&mut self, stage: &mut Stage, founders: &Founders) -> Result<(), StoreError> {
        check_founders(self.identity, founders).map_err(StoreError::Refused)?;
        check_unbound(stage, founders)?;
        self.put(Slot::Prepared, founders)?;
        *stage = Stage::Unfounded(Some(founders.clone()));
        Ok(())
    }

    fn found(&mut self, stage: &mut Stage, snapshot: &Snapshot) -> Result<(), StoreError> {
        check_snapshot(self.identity, snapshot).map_err(StoreError::Refused)?;
        check_unbound(stage, &snapshot.meta.founders)?;
        if snapshot.meta.index != Index::FOUNDING {
            return Err(StoreError::Refused(format!("a founding snapshot at index {}", snapshot.meta.index)));
        }
        self.put(Slot::Genesis, &snapshot.meta.genesis())?;
        self.put(Slot::Snapshot, &snapshot.meta)?;
        // From here on the snapshot says who the founders are.
        self.state.remove(Slot::Prepared.key(self.identity.shard))?;
        let mut chunks = self.transaction.open_table(CHUNKS)?;
        for (number, chunk) in (0u32..).zip(&snapshot.body) {
            let key = (self.identity.shard.0, snapshot.meta.index.0, number);
            chunks.insert(key, record::seal("chunks", &key, chunk).as_slice())?;
        }
        *stage = Stage::Founded(Tail::new(snapshot));
        Ok(())
    }

    fn append(&mut self, tail: &mut Tail, entries: &[Entry]) -> Result<(), StoreError> {
        let Some(first) = entries.first() else { return Ok(()) };
        if first.index <= tail.last.0 {
            self.remove_from(tail, first.index)?;
        }
        for entry in entries {
            tail.append(entry).map_err(StoreError::Refused)?;
            let key = log_key(self.identity.shard, entry.index);
            self.log.insert(key, record::encode("log", &key, entry).as_slice())?;
        }
        Ok(())
    }

    /// Removes the entries at and above `first`, which is not above the last one.
    fn remove_from(&mut self, tail: &mut Tail, first: Index) -> Result<(), StoreError> {
        let shard = self.identity.shard;
        let kept = Index(first.0.saturating_sub(1));
        let kept = if kept <= tail.snapshot.0 {
            // At the snapshot its term is known; below it, truncate() refuses.
            (kept, tail.snapshot.1)
        } else {
            (kept, read::entry(&self.log, shard, kept)?.term)
        };
        let removed = log_key(shard, first)..=log_key(shard, tail.last.0);
        tail.truncate(kept).map_err(StoreError::Refused)?;
        self.log.retain_in(removed, |_, _| false)?;
        Ok(())
    }

    fn promise(&mut self, tail: &mut Tail, hard_state: HardState) -> Result<(), StoreError> {
        tail.promise(hard_state).map_err(StoreError::Refused)?;
        self.put(Slot::HardState, &hard_state)
    }

    /// Writes what there is one of.
    pub(super) fn put<T: Serialize>(&mut self, slot: Slot, value: &T) -> Result<(), StoreError> {
        let key = slot.key(self.identity.shard);
        self.state.insert(key, record::encode("state", &key, value).as_slice())?;
        Ok(())
    }
}

/// May a store at this stage found with these founders?
fn check_unbound(stage: &Stage, founders: &Founders) -> Result<(), StoreError> {
    match stage {
        Stage::Unfounded(None) => Ok(()),
        Stage::Unfounded(Some(bound)) if bound == founders => Ok(()),
        Stage::Unfounded(Some(_)) => Err(StoreError::Refused("it is bound to found with others".into())),
        Stage::Founded(_) => Err(StoreError::Refused("it is founded already".into())),
    }
}
