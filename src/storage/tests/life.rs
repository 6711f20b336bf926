//! A life of a store, act by act, and what it must hold after each: the naive way.

use std::fmt;

use super::*;
use crate::durable::SnapshotWrite;

/// One call, or a shutdown and a start.
#[derive(Clone)]
pub(super) enum Act {
    Commit(Vec<WriteSet>),
    Begin(Staging),
    Stage(u32, Bytes),
    Clean,
    /// Whoever was offered a part of the journal takes it over.
    Fold,
    Reopen,
}

impl Act {
    /// Does it.
    pub(super) fn on(&self, disk: &Disk, store: Store) -> Result<Store, StoreError> {
        let mut store = store;
        match self {
            Self::Commit(sets) => store.commit(sets)?,
            Self::Begin(staging) => drop(store.begin(staging)?),
            Self::Stage(number, chunk) => store.stage(*number, chunk)?,
            Self::Clean => drop(store.clean()?),
            Self::Fold => store.fold().iter().for_each(Fold::run),
            Self::Reopen => {
                drop(store);
                store = Store::open(disk.clone(), wanted(), |_| {})?.0;
            }
        }
        Ok(store)
    }
}

/// What a store holds: all that a restart brings back.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) recovered: Recovered,
    /// The body that is being received, as far as it is there.
    pub(super) staged: Option<(SnapshotMeta, Vec<Bytes>)>,
}

/// What a store must hold.
#[derive(Clone)]
pub(super) struct Model {
    recovered: Recovered,
    staged: Option<(Staging, Vec<Bytes>)>,
}

impl Model {
    /// A store that was created and nothing more.
    pub(super) fn new() -> Self {
        let state = RecoveredState::Unfounded { prepared: None };
        Self { recovered: Recovered { identity: identity(), state }, staged: None }
    }

    /// The model after each of these acts, and before the first.
    pub(super) fn along(acts: &[Act]) -> Vec<Self> {
        let mut models = vec![Self::new()];
        for act in acts {
            let mut next = models.last().unwrap().clone();
            next.act(act);
            models.push(next);
        }
        models
    }

    pub(super) fn act(&mut self, act: &Act) {
        match act {
            Act::Commit(sets) => sets.iter().for_each(|set| self.commit(set)),
            Act::Begin(staging) => {
                let goes_on = matches!(staging, Staging::Received(_));
                if !goes_on || self.staged.as_ref().is_none_or(|(before, _)| before != staging) {
                    self.staged = Some((staging.clone(), Vec::new()));
                }
            }
            Act::Stage(number, chunk) => {
                let (_, chunks) = self.staged.as_mut().unwrap();
                assert_eq!(*number as usize, chunks.len());
                chunks.push(chunk.clone());
            }
            Act::Clean | Act::Fold => {}
            Act::Reopen => self.staged = self.content().staged.map(|(meta, body)| (Staging::Received(meta), body)),
        }
    }

    pub(super) fn commit(&mut self, set: &WriteSet) {
        match &set.founding {
            Some(FoundingWrite::Prepare(founders)) => {
                self.recovered.state = RecoveredState::Unfounded { prepared: Some(founders.clone()) };
            }
            Some(FoundingWrite::Found(snapshot)) => {
                self.recovered.state = RecoveredState::Founded(RecoveredLog {
                    genesis: snapshot.meta.genesis(),
                    hard_state: HardState::default(),
                    snapshot: snapshot.clone(),
                    truncated: (snapshot.meta.index, snapshot.meta.term),
                    entries: Vec::new(),
                });
            }
            None => {}
        }
        if let RecoveredState::Founded(log) = &mut self.recovered.state {
            match &set.snapshot {
                Some(SnapshotWrite::Taken { meta, truncated }) => {
                    log.snapshot = Snapshot { meta: meta.clone(), body: self.staged.take().unwrap().1 };
                    log.truncated = *truncated;
                    log.entries.retain(|entry| entry.index > truncated.0);
                }
                Some(SnapshotWrite::Installed { meta }) => {
                    log.snapshot = Snapshot { meta: meta.clone(), body: self.staged.take().unwrap().1 };
                    log.truncated = (meta.index, meta.term);
                    log.entries.clear();
                }
                None => {}
            }
            if let Some(first) = set.entries.first() {
                log.entries.retain(|entry| entry.index < first.index);
            }
            log.entries.extend(set.entries.iter().cloned());
            log.hard_state = set.hard_state.unwrap_or(log.hard_state);
        }
    }

    pub(super) fn content(&self) -> Content {
        let staged = match &self.staged {
            Some((Staging::Received(meta), body)) => Some((meta.clone(), body.clone())),
            // An own snapshot begins anew.
            Some((Staging::Own { .. }, _)) | None => None,
        };
        Content { recovered: self.recovered.clone(), staged }
    }
}

impl Content {
    /// What a start finds.
    pub(super) fn found(store: &mut Store, recovered: Recovered) -> Self {
        let reading = store.database.begin_read().unwrap();
        let begun = read::begun(&reading.open_table(STATE).unwrap(), ShardId::FIRST).unwrap();
        drop(reading);
        let Some(Begun { staging: Staging::Received(meta), .. }) = begun else {
            return Self { recovered, staged: None };
        };
        let chunks = store.begin(&Staging::Received(meta.clone())).unwrap();
        let body = (0..chunks).map(|number| store.chunk(meta.index, number).unwrap().unwrap()).collect();
        Self { recovered, staged: Some((meta, body)) }
    }
}

impl fmt::Debug for Content {
    /// In outline: bodies are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let staged = self.staged.as_ref().map(|(meta, body)| (meta.index, body.len()));
        match &self.recovered.state {
            RecoveredState::Founded(log) => {
                let (snapshot, chunks) = (log.snapshot.meta.index, log.snapshot.body.len());
                let entries: Vec<_> = log.entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect();
                write!(f, "snapshot {snapshot} of {chunks} chunks, truncated {:?}, ", log.truncated)?;
                write!(f, "{:?}, entries {entries:?}, staged {staged:?}", log.hard_state)
            }
            unfounded => write!(f, "{unfounded:?}, staged {staged:?}"),
        }
    }
}

/// A snapshot at `index`, of `term`, whose body has `bytes` bytes of its own.
pub(super) fn snapshot(index: u64, term: u64, bytes: usize) -> Snapshot {
    let body: Vec<u8> = (0..bytes).map(|at| (at / 5) as u8 ^ index as u8).collect();
    let meta = SnapshotMeta {
        index: Index(index),
        term: Term(term),
        body_bytes: bytes as u64,
        body_sha256: sha2::Sha256::digest(&body).into(),
        ..founding(0).meta
    };
    Snapshot { meta, body: body.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect() }
}

/// Appends entry by entry, in term 5: each three behind its number, and a page or three long.
fn steps(numbers: std::ops::RangeInclusive<u64>) -> Vec<Act> {
    let step = |number: u64| {
        append(number, entries(number + 3..=number + 3, 5, if number.is_multiple_of(4) { 9000 } else { 60 }))
    };
    numbers.map(|number| Act::Commit(vec![step(number)])).collect()
}

/// Stages these chunks of it.
pub(super) fn stage(snapshot: &Snapshot, numbers: std::ops::Range<u32>) -> Vec<Act> {
    numbers.map(|number| Act::Stage(number, snapshot.body[number as usize].clone())).collect()
}

pub(super) fn taken(number: u64, snapshot: &Snapshot, truncated: (u64, u64)) -> WriteSet {
    let truncated = (Index(truncated.0), Term(truncated.1));
    let taken = SnapshotWrite::Taken { meta: snapshot.meta.clone(), truncated };
    WriteSet { number, snapshot: Some(taken), ..WriteSet::default() }
}

pub(super) fn installed(number: u64, snapshot: &Snapshot, hard_state: HardState) -> WriteSet {
    let installed = SnapshotWrite::Installed { meta: snapshot.meta.clone() };
    WriteSet { number, snapshot: Some(installed), hard_state: Some(hard_state), promise: true, ..WriteSet::default() }
}

pub(super) fn own(snapshot: &Snapshot) -> Act {
    Act::Begin(Staging::Own { index: snapshot.meta.index })
}

pub(super) fn received(snapshot: &Snapshot) -> Act {
    Act::Begin(Staging::Received(snapshot.meta.clone()))
}

/// Founding, votes, appends and conflicts, snapshots taken with appends between their chunks, one given up, one received
/// over a restart and installed over a longer log, cleaning, restarts; the journal taken over from both halves, beside the
/// commits and by the store; in the end one is half received.
pub(super) fn life() -> Vec<Act> {
    use Act::{Clean, Commit, Fold, Reopen};
    let first = snapshot(5, 2, CHUNK_BYTES + 700);
    let given_up = snapshot(9, 3, 900);
    let foreign = snapshot(20, 4, CHUNK_BYTES + 300);
    let last = snapshot(21, 4, 2000);
    let half = snapshot(90, 6, CHUNK_BYTES + 1);
    let conflict =
        WriteSet { hard_state: Some(hard_state(3, 0, 5)), promise: true, ..append(6, entries(7..=8, 3, 99)) };
    let install = WriteSet { entries: entries(21..=21, 4, 50), ..installed(15, &foreign, hard_state(4, 2, 20)) };
    [
        vec![Commit(vec![prepare()]), Commit(vec![found(3000)]), Commit(vec![promise(1, hard_state(2, 1, 1))])],
        vec![Commit(vec![append(2, entries(2..=5, 2, 200))]), Reopen],
        vec![Commit(vec![append(3, entries(6..=9, 2, 4096)), commit_to(4, hard_state(2, 1, 5))])],
        vec![own(&first)],
        stage(&first, 0..1),
        vec![Commit(vec![conflict])],
        stage(&first, 1..2),
        vec![Commit(vec![append(7, entries(9..=9, 3, 30)), taken(8, &first, (3, 2))])],
        vec![Commit(vec![append(9, entries(10..=25, 3, 65_000)), commit_to(10, hard_state(3, 0, 9))]), Clean],
        vec![own(&given_up)],
        stage(&given_up, 0..1),
        vec![received(&foreign)],
        stage(&foreign, 0..1),
        vec![Reopen, received(&foreign)],
        stage(&foreign, 1..2),
        vec![Commit(vec![promise(14, hard_state(4, 0, 9))]), Commit(vec![install]), Clean],
        vec![Commit(vec![append(16, entries(21..=22, 4, 60)), commit_to(17, hard_state(4, 2, 21))]), Reopen],
        vec![Commit(vec![promise(18, hard_state(5, 1, 21)), append(19, entries(22..=24, 5, 70))])],
        vec![own(&last)],
        stage(&last, 0..1),
        vec![Commit(vec![taken(20, &last, (21, 4))]), received(&half)],
        stage(&half, 0..1),
        vec![Clean, Clean, Commit(vec![append(21, entries(25..=25, 5, 10))]), Reopen],
        vec![Commit(vec![commit_to(22, hard_state(5, 1, 25))])],
        steps(23..=35),
        vec![Fold],
        // One half more, and the first record behind it.
        steps(36..=41),
        steps(42..=51),
    ]
    .concat()
}
