//! What is committed is what is loaded; what would break the store is refused.

use super::*;

#[track_caller]
fn assert_holds(disk: &Disk, store: Store, sets: &[WriteSet]) {
    let expected = model(sets);
    assert_eq!(store.load().unwrap(), expected, "while it is open");
    drop(store);
    assert_eq!(opened(disk).1, expected, "after it was opened again");
}

#[test]
fn a_new_store_is_unfounded() {
    let disk = Disk::default();
    let store = created(&disk);
    assert_holds(&disk, store, &[]);
}

#[test]
fn every_kind_of_write_comes_back() {
    let disk = Disk::default();
    let mut store = created(&disk);
    let sets = [
        prepare(),
        prepare(),
        found(100),
        promise(1, hard_state(2, 3, 1)),
        append(2, entries(2..=9, 2, 300)),
        commit_to(3, hard_state(2, 3, 7)),
        WriteSet { number: 4, ..WriteSet::default() },
        WriteSet { hard_state: Some(hard_state(3, 0, 7)), promise: true, ..append(5, entries(8..=8, 3, 0)) },
    ];
    for upto in 1..=sets.len() {
        store.commit(&sets[upto - 1..upto]).unwrap();
        assert_eq!(store.load().unwrap(), model(&sets[..upto]), "after {upto}");
    }
    assert_holds(&disk, store, &sets);
}

#[test]
fn neighbouring_write_sets_merge_in_order() {
    let disk = Disk::default();
    let mut store = created(&disk);
    let sets = [
        prepare(),
        found(100),
        promise(1, hard_state(2, 3, 1)),
        append(2, entries(2..=6, 2, 10)),
        promise(3, hard_state(3, 0, 1)),
        append(4, entries(4..=5, 3, 20)),
        commit_to(5, hard_state(3, 0, 5)),
        append(6, entries(6..=7, 3, 20)),
    ];
    store.commit(&sets).unwrap();
    assert_eq!(log_of(&store.load().unwrap()).entries.len(), 6);
    assert_holds(&disk, store, &sets);
}

#[test]
fn a_merged_commit_syncs_once_and_a_promise_twice() {
    let syncs = |sets: &[WriteSet]| {
        let disk = Disk::default();
        let mut store = with_log(&disk);
        let before = disk.counts().syncs;
        store.commit(sets).unwrap();
        disk.counts().syncs - before
    };
    assert_eq!(syncs(&[append(4, entries(7..=7, 2, 10))]), 1);
    assert_eq!(syncs(&[append(4, entries(7..=9, 2, 10)), commit_to(5, hard_state(2, 1, 6))]), 1);
    assert_eq!(syncs(&[append(4, entries(7..=7, 2, 10)), promise(5, hard_state(3, 0, 4))]), 2);
    assert_eq!(syncs(&[]), 0, "nothing to make durable");
    assert_eq!(syncs(&[WriteSet { number: 4, ..WriteSet::default() }]), 0, "nothing but a number");
}

#[test]
fn the_log_is_cut_where_new_entries_conflict() {
    // At the first index that is not committed, in the middle, and at the last one.
    for first in 5..=6 {
        let disk = Disk::default();
        let mut store = with_log(&disk);
        store.commit(&[promise(4, hard_state(3, 0, 4)), append(5, entries(first..=first, 3, 10))]).unwrap();
        let loaded = store.load().unwrap();
        let terms: Vec<u64> = log_of(&loaded).entries.iter().map(|entry| entry.term.0).collect();
        assert_eq!(terms, [vec![2; first as usize - 2], vec![3]].concat(), "first {first}");
        drop(store);
        assert_eq!(opened(&disk).1, loaded);
    }
}

#[test]
fn a_body_of_many_chunks_comes_back_whole() {
    let disk = Disk::default();
    let mut store = created(&disk);
    let sets = [found(2 * CHUNK_BYTES + 1)];
    store.commit(&sets).unwrap();
    assert_holds(&disk, store, &sets);
}

#[test]
fn a_full_chunk_fits_a_page_of_its_own_size() {
    let bytes_for = |body| {
        let disk = Disk::default();
        let mut store = created(&disk);
        store.commit(&[found(body)]).unwrap();
        drop(store);
        disk.image().len()
    };
    // A page of 2 MiB instead of 1 MiB for each chunk would show.
    assert!(bytes_for(8 * CHUNK_BYTES) < 12 << 20, "{}", bytes_for(8 * CHUNK_BYTES));
}

#[test]
fn what_a_crash_leaves_opens_without_a_clean_shutdown() {
    let disk = Disk::default();
    let store = with_log(&disk);
    let (_, recovered) = opened(&Disk::holding(disk.image()));
    assert_eq!(recovered, store.load().unwrap());
}

/// Commits `set` to a store with entries 2 to 6 in term 2, committed to 4.
#[track_caller]
fn assert_refused(set: WriteSet, why: &str) {
    let disk = Disk::default();
    let mut store = with_log(&disk);
    let before = store.load().unwrap();
    let error = store.commit(&[append(8, entries(7..=7, 2, 10)), set]).unwrap_err();
    assert_eq!(error.code(), "STORE_REFUSED");
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(store.commit(&[append(9, entries(7..=7, 2, 10))]).unwrap_err().code(), "STORE_FAILED");
    drop(store);
    assert_eq!(opened(&disk).1, before, "nothing of the transaction was written");
}

#[test]
fn a_write_that_would_break_the_store_is_refused_whole() {
    assert_refused(append(9, entries(9..=9, 2, 1)), "does not follow entry 7");
    assert_refused(append(9, [entries(8..=8, 2, 1), entries(10..=10, 2, 1)].concat()), "does not follow entry 8");
    assert_refused(append(9, entries(8..=8, 1, 1)), "below term 2 of the one before");
    assert_refused(append(9, entries(8..=8, 3, 1)), "term 2 is below term 3 of the last entry");
    assert_refused(append(9, entries(4..=4, 2, 1)), "below commit 4");
    assert_refused(append(9, entries(0..=0, 2, 1)), "below commit 4");
    assert_refused(commit_to(9, hard_state(2, 1, 8)), "above the last entry 7");
    assert_refused(commit_to(9, hard_state(2, 1, 3)), "commit falls from 4 to 3");
    assert_refused(promise(9, hard_state(1, 0, 4)), "the term falls from 2 to 1");
    assert_refused(promise(9, hard_state(2, 2, 4)), "the vote for 1 becomes one for 2");
    assert_refused(prepare(), "founded already");
    assert_refused(found(100), "founded already");
}

/// Commits `set` to a store that is bound to its founders.
#[track_caller]
fn assert_founding_refused(set: WriteSet, why: &str) {
    let disk = Disk::default();
    let mut store = created(&disk);
    store.commit(&[prepare()]).unwrap();
    let error = store.commit(&[set]).unwrap_err();
    assert_eq!(error.code(), "STORE_REFUSED");
    assert!(error.to_string().contains(why), "{error}");
    drop(store);
    assert_eq!(opened(&disk).1, model(&[prepare()]));
}

fn with_founders(change: impl Fn(&mut Founders)) -> (WriteSet, WriteSet) {
    let (mut founders, mut snapshot) = (founders(), founding(100));
    change(&mut founders);
    change(&mut snapshot.meta.founders);
    let prepare = WriteSet { founding: Some(FoundingWrite::Prepare(founders)), ..prepare() };
    (prepare, WriteSet { founding: Some(FoundingWrite::Found(snapshot)), ..found(0) })
}

#[test]
fn founding_with_others_than_those_prepared_is_refused() {
    let (other_prepare, other_found) = with_founders(|founders| {
        founders.disks.remove(&ReplicaId(3));
    });
    assert_founding_refused(other_prepare, "bound to found with others");
    assert_founding_refused(other_found, "bound to found with others");
    let (other_prepare, other_found) = with_founders(|founders| founders.cluster = ClusterId([9; 16]));
    assert_founding_refused(other_prepare, "the founders are of cluster 09090909");
    assert_founding_refused(other_found, "the founders are of cluster 09090909");
    let (other_prepare, other_found) = with_founders(|founders| {
        founders.disks.insert(ReplicaId(1), DiskId([9; 16]));
    });
    assert_founding_refused(other_prepare, "the founders know replica 1 with disk 09090909");
    assert_founding_refused(other_found, "the founders know replica 1 with disk 09090909");
}

#[test]
fn an_ill_formed_founding_is_refused() {
    let with = |change: fn(&mut Snapshot)| {
        let mut snapshot = founding(100);
        change(&mut snapshot);
        WriteSet { founding: Some(FoundingWrite::Found(snapshot)), ..found(0) }
    };
    assert_founding_refused(with(|s| s.meta.index = Index(2)), "a founding snapshot at index 2");
    assert_founding_refused(with(|s| s.meta.voters.clear()), "not a sorted set");
    assert_founding_refused(with(|s| s.meta.voters.reverse()), "not a sorted set");
    assert_founding_refused(with(|s| s.body.clear()), "has 0 bytes, not 100");
    assert_founding_refused(with(|s| s.meta.body_sha256[0] ^= 1), "does not have its SHA-256");
    assert_founding_refused(WriteSet { hard_state: None, ..found(100) }, "commit 0 is below the snapshot at 1");
    assert_founding_refused(append(1, entries(2..=2, 1, 1)), "before the founding");
    assert_founding_refused(promise(1, hard_state(1, 1, 0)), "before the founding");
}
