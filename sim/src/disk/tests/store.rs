//! A real store on the disk: what it reported durable is there after any crash, or it says that it is damaged.

use bytes::Bytes;
use rand::RngExt;
use sha2::{Digest, Sha256};
use tombola::{
    durable::{
        Entry, EntryKind, Founders, FoundingWrite, HardState, RecoveredState, Snapshot, SnapshotMeta, SnapshotWrite,
        Staging, WriteSet,
    },
    pool::Limits,
    types::{ClusterId, Index, ShardId, Term},
};

use super::*;

const CLUSTER: ClusterId = ClusterId([9; 16]);
const DISK: DiskId = DiskId([3; 16]);
const WANTED: Wanted = Wanted { cluster: CLUSTER, shard: ShardId::FIRST, replica: NODE };
const KEEPS: [Keep; 4] = [Keep::All, Keep::Nothing, Keep::Some, Keep::Torn];

fn founders() -> Founders {
    Founders { cluster: CLUSTER, limits: Limits::default(), disks: [(NODE, DISK)].into() }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let body = Bytes::from(vec![index as u8; 900]);
    let meta = SnapshotMeta {
        index: Index(index),
        term: Term(term),
        voters: vec![NODE],
        founders: founders(),
        body_bytes: body.len() as u64,
        body_sha256: Sha256::digest(&body).into(),
    };
    Snapshot { meta, body: vec![body] }
}

fn founding() -> [WriteSet; 2] {
    let found = WriteSet {
        founding: Some(FoundingWrite::Found(snapshot(1, 1))),
        hard_state: Some(HardState { term: Term(1), vote: ReplicaId(0), commit: Index(1) }),
        ..WriteSet::default()
    };
    [WriteSet { founding: Some(FoundingWrite::Prepare(founders())), ..WriteSet::default() }, found]
}

/// What a founded store must hold, the naive way: hard state, snapshot, and the term and length of every entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    hard_state: HardState,
    snapshot: u64,
    entries: Vec<(u64, u64, usize)>,
}

impl Kept {
    fn of(recovered: &Recovered) -> Option<Self> {
        let RecoveredState::Founded(log) = &recovered.state else { return None };
        let entries = log.entries.iter().map(|entry| (entry.index.0, entry.term.0, entry.data.len())).collect();
        Some(Self { hard_state: log.hard_state, snapshot: log.snapshot.meta.index.0, entries })
    }

    fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot, |entry| entry.0)
    }

    /// Takes the set as well.
    fn write(&mut self, set: &WriteSet) {
        if let Some(SnapshotWrite::Taken { meta, truncated }) = &set.snapshot {
            self.snapshot = meta.index.0;
            self.entries.retain(|entry| entry.0 > truncated.0.0);
        }
        if let Some(first) = set.entries.first() {
            self.entries.retain(|entry| entry.0 < first.index.0);
        }
        self.entries.extend(set.entries.iter().map(|entry| (entry.index.0, entry.term.0, entry.data.len())));
        self.hard_state = set.hard_state.unwrap_or(self.hard_state);
    }
}

/// A script of commits, out of a stream of chance.
struct Script(rand_chacha::ChaCha8Rng);

impl Script {
    /// A WriteSet that may follow: entries, sometimes over a tail that is not committed; votes; commit.
    fn next(&mut self, kept: &Kept) -> WriteSet {
        let mut hard_state = kept.hard_state;
        let is_promise = self.0.random_ratio(1, 4);
        if is_promise {
            hard_state.term = Term(hard_state.term.0 + 1);
            hard_state.vote = ReplicaId(self.0.random_range(1..4));
        }
        let mut entries = Vec::new();
        let lowest = hard_state.commit.0.max(kept.snapshot) + 1;
        let first = match is_promise && lowest <= kept.last() {
            true => self.0.random_range(lowest..=kept.last()),
            false => kept.last() + 1,
        };
        for index in first..first + self.0.random_range(0..6) {
            let bytes = [10, 400, 9_000][self.0.random_range(0..3)];
            let data = Bytes::from(vec![index as u8; self.0.random_range(1..bytes)]);
            entries.push(Entry { index: Index(index), term: hard_state.term, kind: EntryKind::Normal, data });
        }
        let last = entries.last().map_or(kept.last(), |entry| entry.index.0);
        hard_state.commit = Index(self.0.random_range(hard_state.commit.0..=last));
        let hard_state = Some(hard_state).filter(|state| *state != kept.hard_state);
        WriteSet { entries, hard_state, promise: is_promise, ..WriteSet::default() }
    }

    /// A snapshot at what is committed, and the log cut behind it.
    fn flip(kept: &Kept) -> Option<(Snapshot, WriteSet)> {
        let commit = kept.hard_state.commit.0;
        let (_, term, _) = *kept.entries.iter().find(|entry| entry.0 == commit)?;
        let snapshot = snapshot(commit, term);
        let truncated = (Index(commit), Term(term));
        let taken = SnapshotWrite::Taken { meta: snapshot.meta.clone(), truncated };
        Some((snapshot, WriteSet { snapshot: Some(taken), hard_state: Some(kept.hard_state), ..WriteSet::default() }))
    }
}

/// A node that commits, crashes and comes back.
struct Life {
    disk: Disk,
    script: Script,
    incarnation: u64,
    number: u64,
    /// What was reported durable; none before the founding.
    durable: Option<Kept>,
    /// What it would be if the commit that did not come back was done nevertheless.
    perhaps: Option<Kept>,
}

#[derive(Debug, Default)]
struct Tally {
    old: u64,
    new: u64,
    at_open: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed, NODE);
        let script = Script(chance::stream(seed, "script", &[]));
        Self { disk, script, incarnation: 0, number: 0, durable: None, perhaps: None }
    }

    /// Opens it, which may be cut off, too, and must find what was reported durable, or what may be.
    fn start(&mut self, tally: &mut Tally) -> Store {
        loop {
            self.incarnation += 1;
            let is_cut = self.script.0.random_ratio(1, 5);
            if is_cut {
                let operations = self.script.0.random_range(0..12);
                self.disk.cut_power_in(operations, Box::new(|| {}));
                self.disk.begin_commit();
            }
            let opened = self.disk.open(self.incarnation, WANTED, DISK);
            if is_cut {
                self.disk.end_commit();
                self.disk.heal();
            }
            if !self.disk.is_live(self.incarnation) {
                tally.at_open += 1;
                drop(opened);
                self.crash();
                continue;
            }
            let (store, recovered) = opened.expect("a crash is no damage");
            let found = Kept::of(&recovered);
            let is_new = self.perhaps.is_some() && found == self.perhaps;
            assert!(is_new || found == self.durable, "{found:?} is not {:?}, nor {:?}", self.durable, self.perhaps);
            *(if is_new { &mut tally.new } else { &mut tally.old }) += 1;
            (self.durable, self.perhaps) = (found, None);
            return store;
        }
    }

    fn crash(&mut self) {
        self.disk.fence();
        self.disk.crash(KEEPS[self.script.0.random_range(0..KEEPS.len())]);
    }

    /// Does something, and power may be cut within. `false` if it was.
    fn step(&mut self, store: &mut Store) -> bool {
        let sets = match &self.durable {
            None => founding().to_vec(),
            Some(kept) if self.script.0.random_ratio(1, 6) => match Script::flip(kept) {
                Some((snapshot, set)) => {
                    let begun = store.begin(&Staging::Own { index: snapshot.meta.index });
                    if begun.and_then(|_| store.stage(0, &snapshot.body[0])).is_err() {
                        return false;
                    }
                    vec![set]
                }
                None => return store.clean().is_ok(),
            },
            Some(kept) => {
                let first = self.script.next(kept);
                let mut after = kept.clone();
                after.write(&first);
                vec![first, self.script.next(&after)]
            }
        };
        let mut after = self.durable.clone().unwrap_or_else(|| Kept {
            hard_state: HardState::default(),
            snapshot: 1,
            entries: Vec::new(),
        });
        let number = |mut set: WriteSet| {
            self.number += u64::from(set.founding.is_none());
            set.number = if set.founding.is_none() { self.number } else { 0 };
            set
        };
        let sets: Vec<_> = sets.into_iter().map(number).collect();
        sets.iter().for_each(|set| after.write(set));
        match store.commit(&sets) {
            Ok(()) => self.durable = Some(after),
            Err(_) => self.perhaps = Some(after),
        }
        self.perhaps.is_none()
    }
}

#[test]
fn what_was_reported_durable_is_there_after_any_crash() {
    let mut tally = Tally::default();
    let mut counts = BTreeMap::new();
    for seed in 0..36 {
        let mut life = Life::new(seed);
        for _ in 0..12 {
            let mut store = life.start(&mut tally);
            if life.script.0.random_ratio(3, 4) {
                life.disk.cut_power_in(life.script.0.random_range(0..40), Box::new(|| {}));
            }
            for _ in 0..life.script.0.random_range(1..8) {
                life.disk.begin_commit();
                let goes_on = life.step(&mut store);
                life.disk.end_commit();
                if !goes_on || !life.disk.is_live(life.incarnation) {
                    break;
                }
            }
            // The handle is dropped before the crash or after it: the closing of the database must not matter.
            if life.script.0.random_ratio(1, 2) {
                life.crash();
                drop(store);
            } else {
                life.disk.fence();
                drop(store);
                life.crash();
            }
            life.disk.heal();
            assert_eq!(life.disk.check(), Ok(()));
        }
        for (name, count) in life.disk.counts() {
            *counts.entry(name).or_insert(0) += count;
        }
    }
    assert!(tally.old > 150 && tally.new > 2 && tally.at_open > 20, "{tally:?}");
    for name in ["disk: sector torn", "disk: sector kept", "disk: length dropped", "disk: leftover removed"] {
        assert!(counts.get(name).is_some_and(|count| *count > 3), "{name}: {counts:?}");
    }
}

/// A store that was created, founded and closed as it should be.
fn founded(disk: &Disk) {
    let (mut store, _) = disk.open(1, WANTED, DISK).unwrap();
    store.commit(&founding()).unwrap();
    drop(store);
}

#[test]
fn a_store_is_made_once_and_its_disk_keeps_its_name() {
    let disk = Disk::new(1, NODE);
    founded(&disk);
    disk.fence();
    disk.crash(Keep::Nothing);
    let (store, recovered) = disk.open(2, WANTED, DiskId([4; 16])).unwrap();
    assert_eq!(recovered.identity.disk, DISK);
    assert!(Kept::of(&recovered).is_some());
    drop(store);
    disk.fence();
    disk.wipe();
    let (_, recovered) = disk.open(3, WANTED, DiskId([4; 16])).unwrap();
    assert_eq!((recovered.identity.disk, Kept::of(&recovered)), (DiskId([4; 16]), None));
}

#[test]
fn a_failed_sync_ends_the_store() {
    let disk = Disk::new(1, NODE);
    founded(&disk);
    let (mut store, recovered) = disk.open(2, WANTED, DISK).unwrap();
    let kept = Kept::of(&recovered);
    disk.fail(DiskOperation::Sync, 1);
    let vote = HardState { term: Term(5), vote: NODE, commit: Index(1) };
    let set = WriteSet { number: 1, hard_state: Some(vote), promise: true, ..WriteSet::default() };
    assert!(store.commit(std::slice::from_ref(&set)).is_err());
    assert!(store.commit(&[set]).is_err() && disk.has_failed());
    drop(store);
    let (_, recovered) = disk.open(3, WANTED, DISK).unwrap();
    let seen = Kept::of(&recovered);
    assert!(seen == kept || seen.is_some_and(|seen| seen.hard_state == vote));
}

#[test]
fn rot_is_refused_or_harmless_but_for_the_newest_commit() {
    let mut refused = 0;
    for at in 0..120 {
        let disk = Disk::new(at, NODE);
        let mut life = Life { disk: disk.clone(), ..Life::new(at) };
        let mut store = life.start(&mut Tally::default());
        (0..6).for_each(|_| assert!(life.step(&mut store)));
        drop(store);
        disk.fence();
        disk.crash(Keep::Nothing);
        let rotten = disk.rot(chance::number(at, "rot", &[]));
        match disk.open(life.incarnation + 1, WANTED, DISK) {
            Err(StoreError::Damaged(_) | StoreError::Format { .. } | StoreError::Backend(_)) => refused += 1,
            Err(error) => panic!("{rotten:?}: {error}"),
            Ok((_, recovered)) => {
                let found = Kept::of(&recovered);
                assert!(found == life.durable || rotten.part != Part::Older, "{rotten:?}: {found:?}");
            }
        }
    }
    assert!(refused > 15, "{refused}");
}
