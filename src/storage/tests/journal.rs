//! The journal: what goes there, what comes back from it, and what must not pass for one of its records.

use proptest::prelude::*;

use super::{disk::Operation, *};
use crate::codec;

/// Where the journal lies in these tests.
const JOURNAL: std::ops::Range<usize> = PAGE_BYTES as usize..(PAGE_BYTES + SHORT_JOURNAL_BYTES) as usize;

/// What is done to the disk by these commits.
fn operations(disk: &Disk, store: &mut Store, sets: &[WriteSet]) -> Vec<Operation> {
    disk.record();
    store.commit(sets).unwrap();
    disk.recorded()
}

#[test]
fn what_lengthens_the_log_is_one_write_to_the_journal_and_one_sync() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    let sets = [append(5, entries(7..=8, 2, 5000)), commit_to(6, hard_state(2, 1, 8))];
    let begin = area(&store).start;
    match &operations(&disk, &mut store, &sets)[..] {
        [Operation::Write { offset, data }, Operation::SyncPages(_)] => {
            assert_eq!((*offset, data.len()), (begin, 3 * PAGE_BYTES as usize), "whole pages");
        }
        other => panic!("{other:?}"),
    }
    match &operations(&disk, &mut store, &[append(7, entries(9..=9, 2, 1))])[..] {
        [Operation::Write { offset, .. }, Operation::SyncPages(_)] => {
            assert_eq!(*offset, begin + 3 * PAGE_BYTES as usize, "behind it");
        }
        other => panic!("{other:?}"),
    }
    let loaded = store.load().unwrap();
    assert_eq!(log_of(&loaded).entries.len(), 8);
    assert_eq!(opened(&cut_off(&disk)).1, loaded);
}

#[test]
fn anything_else_takes_what_the_journal_holds_to_the_tables() {
    let others = [
        promise(9, hard_state(3, 0, 6)),
        WriteSet { promise: true, ..append(9, entries(8..=8, 2, 1)) },
        // A conflict: entry 7 is not committed.
        append(9, entries(7..=7, 2, 10)),
        // Too long.
        append(9, entries(8..=8, 2, SHORT_JOURNAL_BYTES as usize)),
    ];
    for other in others {
        let disk = Disk::default();
        let mut store = folded(&disk);
        lengthen(&mut store, 7..=7, 99);
        assert!(!store.journal.is_empty());
        store.commit(std::slice::from_ref(&other)).unwrap();
        assert!(store.journal.is_empty(), "{other:?}");
        let loaded = store.load().unwrap();
        assert_eq!(opened(&cut_off(&disk)).1, loaded, "{other:?}");
    }
}

#[test]
fn a_journal_that_is_full_begins_again() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    for last in 7..7 + 9 * HALF_PAGES {
        lengthen(&mut store, last..=last, 100);
        let loaded = store.load().unwrap();
        assert_eq!(log_of(&loaded).entries.len() as u64, last - 1);
        assert_eq!(opened(&cut_off(&disk)).1, loaded, "after entry {last}");
    }
}

#[test]
fn a_start_and_a_shutdown_leave_the_journal_empty() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    lengthen(&mut store, 7..=9, 100);
    let loaded = store.load().unwrap();
    let after_power_cut = cut_off(&disk);
    drop(store);
    for disk in [disk, after_power_cut] {
        let (store, recovered) = opened(&disk);
        assert!(store.journal.is_empty());
        assert_eq!(recovered, loaded);
    }
}

#[test]
fn a_lost_record_is_noticed_unless_it_is_the_last() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    lengthen(&mut store, 7..=10, 5000);
    let whole = store.load().unwrap();
    let image = disk.image();
    let area = area(&store);
    let last = area.start + 3 * 2 * PAGE_BYTES as usize;
    let mut lost = whole.clone();
    let RecoveredState::Founded(log) = &mut lost.state else { panic!("a founded store") };
    log.entries.pop();
    for at in area.clone().step_by(7) {
        let mut damaged = image.clone();
        damaged.flip(at, 1 << (at % 8));
        let page = (at - area.start) / PAGE_BYTES as usize;
        // A record is its head, how many entries it has, an entry, which has 28 bytes beside its data, and no hard state.
        let is_unused = page % 2 == 1 && at % PAGE_BYTES as usize >= 16 + 8 + (28 + 5000) + 1 - PAGE_BYTES as usize;
        match Store::open(Disk::holding(damaged), wanted(), |_| {}) {
            Ok((_, found)) if at >= last && !is_unused => assert!(found == lost || found == whole, "byte {at}"),
            Ok((_, found)) => assert!(found == whole && is_unused, "byte {at} of record {}", page / 2),
            Err(error) => {
                assert_eq!(error.code(), "STORE_DAMAGED", "byte {at}: {error}");
                assert!(at < last, "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn a_record_behind_tables_that_were_lost_is_noticed() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    lengthen(&mut store, 7..=7, 100);
    let before = disk.image();
    store.commit(&[promise(8, hard_state(3, 0, 6))]).unwrap();
    let set = WriteSet { hard_state: None, ..append(9, entries(8..=8, 3, 100)) };
    store.commit(&[set]).unwrap();
    let mut image = before;
    image.write(JOURNAL.start, &disk.image().bytes(JOURNAL));
    let error = Store::open(Disk::holding(image), wanted(), |_| {}).map(drop).unwrap_err();
    assert_eq!(error.code(), "STORE_DAMAGED");
    assert!(error.to_string().contains("the journal holds record "), "{error}");
}

#[test]
fn a_record_behind_a_commit_that_the_tables_lost_is_noticed() {
    let disk = Disk::default();
    let mut store = with_log(&disk);
    store.commit(&[promise(4, hard_state(3, 2, 4))]).unwrap();
    // The new leader overwrites what was not committed, entry by entry, and goes on behind it.
    let written = operations(&disk, &mut store, &[append(5, entries(5..=6, 3, 64))]);
    store.commit(&[append(6, entries(7..=7, 3, 64))]).unwrap();
    assert_loss_is_noticed(&disk.image(), &written, &store.load().unwrap());
}

/// Whichever page of those that were written to the tables is damaged, the store is refused, or it is whole nevertheless.
#[track_caller]
fn assert_loss_is_noticed(image: &Image, written: &[Operation], whole: &Recovered) {
    let mut noticed = 0;
    for operation in written {
        let Operation::Write { offset, data } = operation else { continue };
        // But for redb's header.
        if *offset < JOURNAL.end + PAGE_BYTES as usize {
            continue;
        }
        let mut damaged = image.clone();
        damaged.flip(offset + data.len() / 4, 1);
        match Store::open(Disk::holding(damaged), wanted(), |_| {}) {
            Ok((_, found)) => assert_eq!(found, *whole, "the page at {offset}"),
            Err(error) => {
                assert_eq!(error.code(), "STORE_DAMAGED", "{error}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > 0);
}

#[test]
fn a_record_in_the_place_of_another_is_noticed() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    lengthen(&mut store, 7..=9, 100);
    for commit in 7..=9 {
        store.commit(&[commit_to(commit + 3, hard_state(2, 1, commit))]).unwrap();
    }
    let image = disk.image();
    let begin = area(&store).start;
    let page = |number: usize| begin + number * PAGE_BYTES as usize;
    // The entries of one would not follow; of the others, which hold none, only the number tells.
    for (from, to) in [(1, 0), (2, 1), (3, 4), (4, 3), (4, 5)] {
        let mut moved = image.clone();
        moved.write(page(to), &image.bytes(page(from)..page(from + 1)));
        let error = Store::open(Disk::holding(moved), wanted(), |_| {}).map(drop).unwrap_err();
        assert_eq!(error.code(), "STORE_DAMAGED", "{from} in the place of {to}: {error}");
    }
}

#[test]
fn damage_to_what_took_the_journal_over_is_noticed() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    lengthen(&mut store, 7..=8, 100);
    // No promise, and yet it is told.
    let written = operations(&disk, &mut store, &[append(9, entries(8..=8, 2, 50))]);
    assert_loss_is_noticed(&disk.image(), &written, &store.load().unwrap());
}

/// The second page of the half of the journal that is written.
fn second_page(store: &Store) -> std::ops::Range<usize> {
    let second = area(store).start + PAGE_BYTES as usize;
    second..second + PAGE_BYTES as usize
}

#[test]
fn what_a_client_wrote_does_not_pass_for_a_record() {
    // The same store on a disk of another id writes the very record that ours would take for its next one.
    let forged = {
        let disk = Disk::default();
        create(disk.clone(), Identity { disk: DiskId([0xee; 16]), ..identity() }, SHORT_JOURNAL_BYTES).unwrap();
        let mut founders = founders();
        founders.disks.insert(ReplicaId(1), DiskId([0xee; 16]));
        let mut store = opened(&disk).0;
        let mut snapshot = founding(100);
        snapshot.meta.founders = founders;
        let found = WriteSet { founding: Some(FoundingWrite::Found(snapshot)), ..found(0) };
        store.commit(&[found, promise(1, hard_state(2, 1, 1))]).unwrap();
        lengthen(&mut store, 2..=3, 10);
        disk.image().bytes(second_page(&store))
    };
    let disk = Disk::default();
    let mut store = created(&disk);
    store.commit(&[found(100), promise(1, hard_state(2, 1, 1))]).unwrap();
    lengthen(&mut store, 2..=2, 10);
    let loaded = store.load().unwrap();
    let mut image = disk.image();
    image.write(second_page(&store).start, &forged);
    assert_eq!(opened(&Disk::holding(image)).1, loaded);
}

#[test]
fn golden_bytes_of_a_record() {
    let disk = Disk::default();
    let mut store = created(&disk);
    store.commit(&[found(100), promise(1, hard_state(2, 1, 1))]).unwrap();
    let set = WriteSet { hard_state: Some(hard_state(2, 1, 2)), ..append(2, entries(2..=2, 2, 3)) };
    store.commit(std::slice::from_ref(&set)).unwrap();
    let begin = area(&store).start;
    let record = disk.image().bytes(begin..begin + PAGE_BYTES as usize);
    let body = [codec::encode(&set.entries), codec::encode(&set.hard_state)].concat();
    assert_eq!(record[4..8], (body.len() as u32).to_le_bytes());
    assert_eq!(record[8..16], [2, 0, 0, 0, 0, 0, 0, 0], "what went to the tables was number 1");
    assert_eq!(record[16..16 + body.len()], body);
    assert!(record[16 + body.len()..].iter().all(|byte| *byte == 0));
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    /// Appends so many entries of so many bytes, so many below the end of the log.
    Append { entries: u64, bytes: usize, below: u64 },
    /// Commits so many more.
    Commit(u64),
    /// Whoever was offered a part of the journal takes it over.
    Fold,
    /// A term begins.
    Term,
    /// A shutdown and a start.
    Reopen,
    /// A power cut, after everything that was acknowledged, and a start.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..4, 0usize..9_000, 0u64..2).prop_map(|(entries, bytes, below)| Step::Append { entries, bytes, below }),
        3 => (0u64..4).prop_map(Step::Commit),
        2 => Just(Step::Fold),
        1 => Just(Step::Term),
        1 => Just(Step::Reopen),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_way_it_went_what_was_acknowledged_comes_back(steps in proptest::collection::vec(step(), 1..40)) {
        let mut disk = Disk::default();
        let mut store = with_log(&disk);
        let mut model = Model::new();
        for set in [prepare(), found(100), promise(1, hard_state(2, 1, 1)), append(2, entries(2..=6, 2, 64))] {
            model.commit(&set);
        }
        model.commit(&commit_to(3, hard_state(2, 1, 4)));
        for (number, step) in (4..).zip(steps) {
            let before = model.content().recovered;
            let HardState { term, commit, .. } = log_of(&before).hard_state;
            let last = log_of(&before).entries.last().expect("there is one").index.0;
            let set = match step {
                Step::Append { entries: count, bytes, below } => {
                    let first = (last + 1 - below).max(commit.0 + 1);
                    append(number, entries(first..=first + count - 1, term.0, bytes))
                }
                Step::Commit(more) => {
                    let commit = Index(last.min(commit.0 + more));
                    commit_to(number, HardState { commit, ..log_of(&before).hard_state })
                }
                Step::Term => promise(number, hard_state(term.0 + 1, 0, commit.0)),
                Step::Fold => {
                    store.fold().iter().for_each(Fold::run);
                    continue;
                }
                Step::Reopen => {
                    drop(store);
                    store = opened(&disk).0;
                    continue;
                }
                Step::Cut => {
                    disk = cut_off(&disk);
                    store = opened(&disk).0;
                    continue;
                }
            };
            store.commit(std::slice::from_ref(&set)).unwrap();
            model.commit(&set);
            prop_assert_eq!(opened(&cut_off(&disk)).1, model.content().recovered);
        }
        prop_assert_eq!(store.load().unwrap(), model.content().recovered);
        prop_assert_eq!(opened(&cut_off(&disk)).1, model.content().recovered.clone());
        drop(store);
        prop_assert_eq!(opened(&disk).1, model.content().recovered);
    }
}
