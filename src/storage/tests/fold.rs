//! A half of the journal on its way to the tables, while commits go to the other: by any thread, late, or by the store itself.

use std::{
    io::ErrorKind,
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use super::{
    disk::{Failure, Operation},
    *,
};

/// The first entry that does not find room in the half that [`folded`] left empty.
const BEYOND: u64 = 7 + HALF_PAGES;

/// A store that has just begun the other half of its journal.
fn begun(disk: &Disk) -> Store {
    let mut store = folded(disk);
    lengthen(&mut store, 7..=BEYOND, 100);
    store
}

/// The log up to this entry, as [`folded`] and [`lengthen`] make it.
fn up_to(last: u64) -> Recovered {
    let sets = [prepare(), found(100), append(2, entries(2..=6, 2, 64)), promise(4, hard_state(2, 1, 6))];
    model(sets.iter().chain(&[append(5, entries(7..=last, 2, 100))]))
}

#[test]
fn what_is_to_be_taken_over_is_offered_once_and_comes_back_before_and_after() {
    let disk = Disk::default();
    let mut store = folded(&disk);
    let before = area(&store);
    lengthen(&mut store, 7..=BEYOND - 1, 100);
    assert!(store.fold().is_none(), "the half is not full");
    lengthen(&mut store, BEYOND..=BEYOND, 100);
    assert_ne!(area(&store), before);
    let fold = store.fold().expect("one half is full");
    assert!(store.fold().is_none());
    assert_eq!(opened(&cut_off(&disk)).1, up_to(BEYOND));
    let calls = disk.counts().calls;
    fold.run();
    assert!(disk.counts().calls > calls);
    assert_eq!(opened(&cut_off(&disk)).1, up_to(BEYOND));
    let calls = disk.counts().calls;
    fold.run();
    assert_eq!(disk.counts().calls, calls, "it is done once");
    // What it wrote counts without the half that it was read from.
    let mut image = disk.image();
    image.write(before.start, &vec![0; before.len()]);
    assert_eq!(opened(&Disk::holding(image)).1, up_to(BEYOND));
    drop(store);
    assert_eq!(opened(&disk).1, up_to(BEYOND));
}

#[test]
fn what_nobody_takes_over_the_store_does() {
    let disk = Disk::default();
    let mut store = begun(&disk);
    for last in BEYOND + 1..BEYOND + 5 * HALF_PAGES {
        lengthen(&mut store, last..=last, 100);
        assert_eq!(opened(&cut_off(&disk)).1, up_to(last));
    }
    assert_eq!(store.load().unwrap(), up_to(BEYOND + 5 * HALF_PAGES - 1));
}

#[test]
fn a_closed_store_is_closed_whoever_holds_what_it_offered() {
    let disk = Disk::default();
    let mut store = begun(&disk);
    let fold = store.fold().unwrap();
    drop(store);
    let calls = disk.counts().calls;
    fold.run();
    assert_eq!(disk.counts().calls, calls);
    let (store, recovered) = opened(&disk);
    assert!(store.journal.is_empty());
    assert_eq!(recovered, up_to(BEYOND));
}

/// Takes a half over, with commits right before its operations from this one on, as many as there is room for. Gives what was
/// done to the disk, and after how many operations each commit was acknowledged.
fn interrupted(from: usize) -> (Disk, Vec<Operation>, Vec<usize>) {
    let disk = Disk::default();
    let store = Arc::new(Mutex::new(begun(&disk)));
    let before = cut_off(&disk);
    let fold = store.lock().unwrap().fold().unwrap();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    disk.record();
    let mut operation = 0;
    disk.interrupt({
        let (disk, store, acknowledged) = (disk.clone(), store.clone(), acknowledged.clone());
        move || {
            operation += 1;
            let mut acknowledged = acknowledged.lock().unwrap();
            if operation > from {
                let last = BEYOND + 1 + acknowledged.len() as u64;
                lengthen(&mut store.lock().unwrap(), last..=last, 100);
                acknowledged.push(disk.noted());
            }
            match acknowledged.len() + 1 < HALF_PAGES as usize {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        }
    });
    fold.run();
    let acknowledged = acknowledged.lock().unwrap().clone();
    (before, disk.recorded(), acknowledged)
}

#[test]
fn commits_go_on_beside_it_and_power_may_be_cut_at_any_operation() {
    let alone = interrupted(usize::MAX).1.len();
    assert!(alone > 5, "{alone} operations");
    let mut cuts = 0;
    for from in 0..alone {
        let (disk, operations, acknowledged) = interrupted(from);
        assert_eq!(acknowledged.is_empty(), from == alone);
        for (cut, operation) in operations.iter().enumerate() {
            if !operation.is_sync() {
                disk.replay(operation);
            }
            let least = BEYOND + acknowledged.partition_point(|&after| after <= cut) as u64;
            for leaves in disk.power_cuts(cut as u64) {
                let after = disk.after_power_cut(leaves);
                let at = format!("commits from {from} on, cut at {cut} ({operation:?}), which leaves {leaves:?}");
                let opened = Store::open(after.clone(), wanted(), |_| {});
                let (mut store, recovered) = opened.unwrap_or_else(|error| panic!("{at}: {error}"));
                // One may have been under way.
                let last = log_of(&recovered).entries.last().unwrap().index.0;
                assert!((least..=least + 1).contains(&last), "{at}: {last} instead of {least}");
                assert_eq!(recovered, up_to(last), "{at}");
                lengthen(&mut store, last + 1..=last + 2, 100);
                assert_eq!(self::opened(&cut_off(&after)).1, up_to(last + 2), "{at}");
                cuts += 1;
            }
            if operation.is_sync() {
                disk.replay(operation);
            }
        }
    }
    assert!(cuts > 500, "{cuts}");
}

#[test]
fn if_it_fails_the_store_is_told_with_its_next_call_and_nothing_is_lost() {
    let (disk, mut store) = (Disk::default(), None);
    let first = |disk: &Disk, store: &mut Option<Store>| {
        let fold = store.insert(begun(disk)).fold().unwrap();
        (disk.counts().calls, fold)
    };
    let (begins, fold) = first(&disk, &mut store);
    fold.run();
    let mut failed = 0;
    for at in begins..disk.counts().calls {
        let (disk, mut store) = (Disk::default(), None);
        let (_, fold) = first(&disk, &mut store);
        disk.fail(Failure { at, is_lasting: true, kind: ErrorKind::StorageFull });
        fold.run();
        let mut store = store.unwrap();
        let calls = disk.counts().calls;
        match store.commit(&[append(99, entries(BEYOND + 1..=BEYOND + 1, 2, 100))]) {
            // What redb does behind a commit may fail.
            Ok(()) => panic!("call {at} failed, and so does every later one"),
            Err(error) if error.code() == "STORE_FAILED" => {
                failed += 1;
                assert_eq!(disk.counts().calls, calls, "the disk was asked again");
                let later = [store.load().unwrap_err(), store.clean().unwrap_err(), store.commit(&[]).unwrap_err()];
                assert_eq!(later.map(|error| error.code()), ["STORE_FAILED"; 3]);
            }
            Err(error) => assert_eq!(error.code(), "STORE_IO", "{error}"),
        }
        drop(store);
        assert_eq!(opened(&cut_off(&disk)).1, up_to(BEYOND), "call {at}");
    }
    assert!(failed > 5, "{failed}");
}

#[test]
fn once_the_store_has_failed_it_is_not_done_any_more() {
    let disk = Disk::default();
    let mut store = begun(&disk);
    let fold = store.fold().unwrap();
    disk.fail(Failure { at: disk.counts().calls, is_lasting: false, kind: ErrorKind::Other });
    let error = store.commit(&[append(99, entries(BEYOND + 1..=BEYOND + 1, 2, 100))]).unwrap_err();
    assert_eq!(error.code(), "STORE_IO", "{error}");
    let calls = disk.counts().calls;
    fold.run();
    assert_eq!(disk.counts().calls, calls, "the disk was asked again");
    drop((store, fold));
    assert_eq!(opened(&cut_off(&disk)).1, up_to(BEYOND));
}

#[test]
fn damage_to_what_it_wrote_is_noticed_or_loses_nothing() {
    let (mut whole, mut noticed) = (0, 0);
    // The tables lose the newest transaction: the half it came from is untouched, or is written again.
    for more in [0, 3, HALF_PAGES - 1, HALF_PAGES, HALF_PAGES + 3] {
        let disk = Disk::default();
        let mut store = begun(&disk);
        disk.record();
        store.fold().unwrap().run();
        let written = disk.recorded();
        let last = BEYOND + more;
        lengthen(&mut store, BEYOND + 1..=last, 100);
        let image = disk.image();
        for operation in &written {
            let Operation::Write { offset, data } = operation else { continue };
            for at in (0..data.len()).step_by(61) {
                let mut damaged = image.clone();
                damaged.flip(offset + at, 1);
                match Store::open(Disk::holding(damaged), wanted(), |_| {}) {
                    Ok((_, found)) => {
                        assert_eq!(found, up_to(last), "byte {}, and {more} more", offset + at);
                        whole += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error.code(), "STORE_DAMAGED" | "STORE_FORMAT"), "{error}");
                        noticed += 1;
                    }
                }
            }
        }
    }
    assert!(whole > 100 && noticed > 100, "{whole} whole, {noticed} noticed");
}
