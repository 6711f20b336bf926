//! Power is cut at every operation of a life (see [`super::life`]), and of the starts that follow; and at every operation
//! of a founding.
//!
//! The life is lived once, on a disk that notes what is done to it; a cut then replays that much of it.

use super::{
    disk::{Disk, Operation, mix},
    life::{Act, Content, life},
    *,
};

/// The life as the disk saw it.
struct Tape {
    /// Where it began: a store, created.
    created: Image,
    operations: Vec<Operation>,
    /// How many operations there were when each act had been acknowledged, the one before the first included.
    acknowledged: Vec<usize>,
}

impl Tape {
    fn of(acts: &[Act]) -> Self {
        let disk = Disk::default();
        create(disk.clone(), identity(), SHORT_JOURNAL_BYTES).unwrap();
        assert!(disk.is_synced(), "a store is durable before it takes its name");
        let created = disk.image();
        disk.record();
        let mut operations = Vec::new();
        let mut store = opened(&disk).0;
        operations.append(&mut disk.recorded());
        let mut acknowledged = vec![operations.len()];
        for act in acts {
            store = act.on(&disk, store).unwrap();
            operations.append(&mut disk.recorded());
            acknowledged.push(operations.len());
        }
        drop(store);
        operations.append(&mut disk.recorded());
        Self { created, operations, acknowledged }
    }

    /// How many acts had been acknowledged after so many operations.
    fn acts_after(&self, operations: usize) -> usize {
        self.acknowledged.partition_point(|&acknowledged| acknowledged <= operations).saturating_sub(1)
    }
}

#[test]
fn power_cut_at_any_operation_leaves_the_old_state_or_the_new_one() {
    let acts = life();
    let states: Vec<Content> = Model::along(&acts).iter().map(Model::content).collect();
    let tape = Tape::of(&acts);
    let disk = Disk::holding(tape.created.clone());
    let mut tally = Tally::default();
    for (cut, operation) in tape.operations.iter().enumerate() {
        // A sync that power cuts off has done what it likes of its work; and so has any other operation.
        if !operation.is_sync() {
            disk.replay(operation);
        }
        let before = tape.acts_after(cut);
        for leaves in disk.power_cuts(cut as u64) {
            let after = disk.after_power_cut(leaves);
            let kind = kind(operation);
            let at = format!("{kind}, number {cut}, after {before} acts, cut off by what leaves {leaves:?}");
            tally.check(&after, &acts[before..], &states[before..], &at);
        }
        if operation.is_sync() {
            disk.replay(operation);
        }
    }
    assert!(tally.old > 1000 && tally.new > 80, "both must happen often: {tally:?}");
    assert!(tally.again > 100, "{tally:?}");
}

fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Write { .. } => "a write",
        Operation::SetLen(_) => "a change of length",
        Operation::Sync => "a sync",
        Operation::SyncPages(_) => "a sync of pages",
    }
}

#[derive(Debug, Default)]
struct Tally {
    /// Images seen so far.
    starts: u64,
    old: u64,
    new: u64,
    again: u64,
}

impl Tally {
    /// Starts from `disk`, which must hold the first of `states` or the second; and goes on with what was to come.
    fn check(&mut self, disk: &Disk, acts: &[Act], states: &[Content], at: &str) {
        self.starts += 1;
        let disk = if self.starts.is_multiple_of(5) { self.cut_again(disk) } else { disk.clone() };
        let opened = Store::open(disk.clone(), wanted(), |_| {});
        let (mut store, recovered) = opened.unwrap_or_else(|error| panic!("{at}: {error}"));
        let found = Content::found(&mut store, recovered);
        let is_new = states.get(1) == Some(&found) && found != states[0];
        assert!(is_new || found == states[0], "{at}: {found:?}");
        *(if is_new { &mut self.new } else { &mut self.old }) += 1;
        if self.starts.is_multiple_of(3) {
            while store.clean().unwrap_or_else(|error| panic!("{at}: {error}")) {}
            assert_eq!(store.load().unwrap(), found.recovered, "{at}: what counts was cleaned away");
            assert_no_garbage(&store, &found, at);
        }
        // It goes on with the commit that was cut off, or with the next one.
        if let Some(next @ Act::Commit(sets)) = acts.get(usize::from(is_new))
            && sets.iter().all(|set| set.snapshot.is_none())
        {
            let store = next.on(&disk, store).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_eq!(store.load().unwrap(), states[usize::from(is_new) + 1].recovered, "{at}: going on");
        }
    }

    /// Cuts power once more, while the store is opened.
    fn cut_again(&mut self, disk: &Disk) -> Disk {
        self.again += 1;
        let rehearsal = Disk::holding(disk.image());
        rehearsal.record();
        drop(Store::open(rehearsal.clone(), wanted(), |_| {}));
        let operations = rehearsal.recorded();
        let again = Disk::holding(disk.image());
        let cut = mix(self.again, 1) as usize % operations.len().max(1);
        operations.iter().take(cut).for_each(|operation| again.replay(operation));
        let leaves = again.power_cuts(self.again);
        let leaves = leaves[self.again as usize / 8 % leaves.len()];
        again.after_power_cut(leaves)
    }
}

/// Holds the store what counts, and nothing else?
fn assert_no_garbage(store: &Store, content: &Content, at: &str) {
    use redb::ReadableTableMetadata;
    let RecoveredState::Founded(log) = &content.recovered.state else { return };
    let reading = store.database.begin_read().unwrap();
    let staged = content.staged.as_ref().map_or(0, |(_, body)| body.len());
    let chunks = reading.open_table(CHUNKS).unwrap().len().unwrap();
    // What was begun of an own snapshot is not known to be garbage before another one is begun.
    let begun = read::begun(&reading.open_table(STATE).unwrap(), ShardId::FIRST).unwrap();
    if !matches!(begun, Some(Begun { staging: Staging::Own { .. }, .. })) {
        assert_eq!(chunks as usize, log.snapshot.body.len() + staged, "{at}: chunks");
    }
    assert_eq!(reading.open_table(schema::LOG).unwrap().len().unwrap() as usize, log.entries.len(), "{at}: entries");
}

/// A data directory as [`crate::storage::open`] keeps it: what bears the name of a store, and what is being made of one.
#[derive(Clone, Default)]
struct Directory {
    new: Disk,
    store: Option<Disk>,
}

impl Directory {
    fn open(&mut self, cut: Option<u64>) -> Result<(Store, Recovered), StoreError> {
        if self.store.is_none() {
            self.new = Disk::default();
            if let Some(at) = cut {
                self.new.fail(disk::Failure { at, is_lasting: true, kind: std::io::ErrorKind::Other });
            }
            create(self.new.clone(), identity(), SHORT_JOURNAL_BYTES)?;
            self.store = Some(self.new.clone());
        }
        Store::open(self.store.clone().unwrap(), wanted(), |_| {})
    }

    /// Founds, until power is cut. Gives how many steps were acknowledged.
    fn found(&mut self, cut: Option<u64>) -> usize {
        let Ok((mut store, recovered)) = self.open(cut) else { return 0 };
        let begin = match recovered.state {
            RecoveredState::Unfounded { prepared: None } => 0,
            RecoveredState::Unfounded { prepared: Some(_) } => 1,
            RecoveredState::Founded(_) => 2,
        };
        let steps = [prepare(), found(CHUNK_BYTES + 9)];
        let done = steps.iter().skip(begin).take_while(|step| store.commit(std::slice::from_ref(step)).is_ok()).count();
        begin + done
    }
}

#[test]
fn a_founding_that_is_cut_off_anywhere_is_gone_on_with_or_begun_again() {
    let mut whole = Directory::default();
    assert_eq!(whole.found(None), 2);
    let calls = whole.store.unwrap().counts().calls;
    assert!(calls > 40, "{calls}");
    for cut in 0..calls {
        let mut before = Directory::default();
        let acknowledged = before.found(Some(cut));
        let disk = before.store.as_ref().unwrap_or(&before.new);
        for leaves in disk.power_cuts(cut) {
            let mut after = Directory {
                new: before.new.after_power_cut(leaves),
                store: before.store.as_ref().map(|disk| disk.after_power_cut(leaves)),
            };
            let at = format!("cut at {cut} of {calls}, which leaves {leaves:?}");
            let (store, recovered) = after.open(None).unwrap_or_else(|error| panic!("{at}: {error}"));
            let is_founded = matches!(recovered.state, RecoveredState::Founded(_));
            assert!(is_founded || acknowledged < 2, "{at}: a founding was lost");
            let is_unprepared = matches!(recovered.state, RecoveredState::Unfounded { prepared: None });
            assert!(!is_unprepared || acknowledged == 0, "{at}: whom to found with was lost");
            drop(store);
            assert_eq!(after.found(None), 2, "{at}");
            assert_eq!(after.open(None).unwrap().1, model(&[prepare(), found(CHUNK_BYTES + 9)]), "{at}");
        }
    }
}
