//! Writing WriteSets into an open transaction. Nothing here commits: who calls does, or drops it all.

use redb::{Table, WriteTransaction};
use serde::Serialize;

use super::{
    check::{Tail, check_founders, check_meta, check_snapshot},
    error::StoreError,
    journal::Journaled,
    read, record,
    schema::{Begun, Body, LOG, LogKey, Newest, RecordNumber, STATE, Slot, StateKey, log_key},
    staging,
    standing::{Founded, Standing},
};
use crate::{
    durable::{
        Entry, Founders, FoundingWrite, HardState, Identity, Snapshot, SnapshotMeta, SnapshotWrite, Staging, WriteSet,
    },
    hooks,
    types::{Index, Term},
};

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

    /// Writes one WriteSet after what `standing` says, and brings `standing` up to it.
    pub(super) fn write(&mut self, standing: &mut Standing, set: &WriteSet) -> Result<(), StoreError> {
        match &set.founding {
            Some(FoundingWrite::Prepare(founders)) => self.prepare(standing, founders)?,
            Some(FoundingWrite::Found(snapshot)) => self.found(standing, snapshot)?,
            None => {}
        }
        match standing {
            Standing::Founded(founded) => {
                if let Some(snapshot) = &set.snapshot {
                    self.flip(founded, snapshot)?;
                }
                self.append(founded, &set.entries)?;
                if let Some(hard_state) = set.hard_state {
                    self.promise(&mut founded.tail, hard_state)?;
                }
                if hooks::is_planted("m20") {
                    return Ok(());
                }
                founded.tail.check().map_err(StoreError::Refused)
            }
            Standing::Unfounded(_) if set.entries.is_empty() && set.hard_state.is_none() && set.snapshot.is_none() => {
                Ok(())
            }
            Standing::Unfounded(_) => {
                Err(StoreError::Refused("entries, a hard state or a snapshot before the founding".into()))
            }
        }
    }

    /// Takes over what the journal says of this log. It was checked when it went there.
    pub(super) fn fold(&mut self, log: Body, journaled: &Journaled) -> Result<(), StoreError> {
        self.insert(log, &journaled.entries)?;
        journaled.hard_state.map_or(Ok(()), |hard_state| self.put(Slot::HardState, &hard_state))
    }

    /// Says that the tables hold the journal's records up to this one.
    pub(super) fn begin_records(&mut self, first: RecordNumber) -> Result<(), StoreError> {
        let first = match hooks::is_planted("m44") {
            true => RecordNumber(first.0 - 1),
            false => first,
        };
        self.put(Slot::FirstRecord, &first)
    }

    fn insert(&mut self, log: Body, entries: &[Entry]) -> Result<(), StoreError> {
        for entry in entries {
            let key = log_key(self.identity.shard, log, entry.index);
            self.log.insert(key, record::encode("log", &key, entry).as_slice())?;
        }
        Ok(())
    }

    fn prepare(&mut self, standing: &mut Standing, founders: &Founders) -> Result<(), StoreError> {
        check_founders(self.identity, founders).map_err(StoreError::Refused)?;
        check_unbound(standing, founders)?;
        self.put(Slot::Prepared, founders)?;
        *standing = Standing::Unfounded(Some(founders.clone()));
        Ok(())
    }

    fn found(&mut self, standing: &mut Standing, snapshot: &Snapshot) -> Result<(), StoreError> {
        check_snapshot(self.identity, snapshot).map_err(StoreError::Refused)?;
        check_unbound(standing, &snapshot.meta.founders)?;
        if snapshot.meta.index != Index::FOUNDING {
            return Err(StoreError::Refused(format!("a founding snapshot at index {}", snapshot.meta.index)));
        }
        let newest = Newest {
            meta: snapshot.meta.clone(),
            body: Body::FOUNDING,
            log: Body::FOUNDING,
            truncated: (snapshot.meta.index, snapshot.meta.term),
        };
        self.put(Slot::Genesis, &snapshot.meta.genesis())?;
        self.put(Slot::Newest, &newest)?;
        // From here on the snapshot says who the founders are.
        self.state.remove(Slot::Prepared.key(self.identity.shard))?;
        for (number, chunk) in (0..).zip(&snapshot.body) {
            staging::write(self.transaction, self.identity.shard, newest.body, number, chunk)?;
        }
        *standing = Standing::Founded(Box::new(Founded { tail: Tail::new(&newest), newest, staged: None }));
        Ok(())
    }

    /// The staged body becomes the newest snapshot's. Moves and removes nothing, however much there is of it.
    fn flip(&mut self, founded: &mut Founded, write: &SnapshotWrite) -> Result<(), StoreError> {
        let newest = match write {
            SnapshotWrite::Taken { meta, truncated } => {
                let begun = self.take_staged(founded, meta, &Staging::Own { index: meta.index })?;
                let snapshot = (meta.index, meta.term);
                for (index, term) in [snapshot, *truncated] {
                    let in_log = self.term(founded, index)?;
                    if in_log != term {
                        let broken = format!("the snapshot says term {term} of index {index}, and the log {in_log}");
                        return Err(StoreError::Refused(broken));
                    }
                }
                founded.tail.compact(snapshot, *truncated).map_err(StoreError::Refused)?;
                Newest { meta: meta.clone(), body: begun.body, log: founded.newest.log, truncated: *truncated }
            }
            SnapshotWrite::Installed { meta } => {
                let begun = self.take_staged(founded, meta, &Staging::Received(meta.clone()))?;
                let snapshot = (meta.index, meta.term);
                founded.tail.install(snapshot).map_err(StoreError::Refused)?;
                Newest { meta: meta.clone(), body: begun.body, log: begun.body, truncated: snapshot }
            }
        };
        self.put(Slot::Newest, &newest)?;
        self.state.remove(Slot::Begun.key(self.identity.shard))?;
        founded.newest = newest;
        Ok(())
    }

    /// The staged body, which must be this snapshot's, whole; it is staged no longer.
    fn take_staged(&self, founded: &mut Founded, meta: &SnapshotMeta, wanted: &Staging) -> Result<Begun, StoreError> {
        let refused = StoreError::Refused;
        check_meta(self.identity, meta).map_err(refused)?;
        if meta.founders != founded.newest.meta.founders {
            return Err(refused("the snapshot's founders are not the cluster's".into()));
        }
        let staged = founded.staged.take().ok_or_else(|| refused("a snapshot whose body is not staged".into()))?;
        if staged.begun.staging != *wanted {
            return Err(refused(format!("the staged body is not of the snapshot at {}", meta.index)));
        }
        if !hooks::is_planted("m33") {
            staged.check_whole(meta).map_err(refused)?;
        }
        Ok(staged.begun)
    }

    fn append(&mut self, founded: &mut Founded, entries: &[Entry]) -> Result<(), StoreError> {
        let Some(first) = entries.first() else { return Ok(()) };
        if first.index <= founded.tail.last.0 {
            self.remove_from(founded, first.index)?;
        }
        entries.iter().try_for_each(|entry| founded.tail.append(entry)).map_err(StoreError::Refused)?;
        self.insert(founded.newest.log, entries)
    }

    /// Removes the entries at and above `first`, which is not above the last one.
    fn remove_from(&mut self, founded: &mut Founded, first: Index) -> Result<(), StoreError> {
        let (shard, log) = (self.identity.shard, founded.newest.log);
        let kept = Index(first.0.saturating_sub(1));
        // What the log began after says of which term it was; what lies below is committed, and truncate() refuses.
        let kept = if kept < founded.tail.truncated.0 { (kept, Term(0)) } else { (kept, self.term(founded, kept)?) };
        let removed = log_key(shard, log, first)..=log_key(shard, log, founded.tail.last.0);
        founded.tail.truncate(kept).map_err(StoreError::Refused)?;
        if !hooks::is_planted("m18") {
            self.log.retain_in(removed, |_, _| false)?;
        }
        Ok(())
    }

    /// The term of the log at `index`.
    fn term(&self, founded: &Founded, index: Index) -> Result<Term, StoreError> {
        let tail = &founded.tail;
        if index == tail.truncated.0 {
            return Ok(tail.truncated.1);
        }
        if index < tail.truncated.0 || index > tail.last.0 {
            let broken =
                format!("index {index} is not in the log, which goes from {} to {}", tail.truncated.0, tail.last.0);
            return Err(StoreError::Refused(broken));
        }
        Ok(read::entry(&self.log, self.identity.shard, founded.newest.log, index)?.term)
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

/// May a store that stands here found with these founders?
fn check_unbound(standing: &Standing, founders: &Founders) -> Result<(), StoreError> {
    match standing {
        Standing::Unfounded(None) => Ok(()),
        Standing::Unfounded(Some(bound)) if bound == founders => Ok(()),
        Standing::Unfounded(Some(_)) => Err(StoreError::Refused("it is bound to found with others".into())),
        Standing::Founded(_) => Err(StoreError::Refused("it is founded already".into())),
    }
}
