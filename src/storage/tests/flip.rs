//! Staging, taking and installing snapshots, and cleaning up behind them.

use std::sync::{Arc, Mutex};

use super::{
    life::{Act, Content, installed, own, received, snapshot, stage, taken},
    *,
};
use crate::durable::SnapshotWrite;

/// A store in term 2 with entries 2 to 6, committed to 4 (see [`with_log`]), after these acts.
fn after(acts: &[Act]) -> (Disk, Store) {
    let disk = Disk::default();
    let store = acts.iter().try_fold(with_log(&disk), |store, act| act.on(&disk, store)).unwrap();
    (disk, store)
}

fn staged(snapshot: &Snapshot) -> Vec<Act> {
    [vec![own(snapshot)], stage(snapshot, 0..snapshot.meta.chunks())].concat()
}

fn brought(snapshot: &Snapshot) -> Vec<Act> {
    [vec![received(snapshot)], stage(snapshot, 0..snapshot.meta.chunks())].concat()
}

fn chunks_of(store: &mut Store, snapshot: &Snapshot) -> u32 {
    store.begin(&Staging::Received(snapshot.meta.clone())).unwrap()
}

#[test]
fn a_received_body_is_gone_on_with_and_an_own_one_begun_again() {
    let theirs = snapshot(9, 3, 2 * CHUNK_BYTES + 5);
    let (disk, mut store) = after(&[vec![received(&theirs)], stage(&theirs, 0..2)].concat());
    assert_eq!(chunks_of(&mut store, &theirs), 2, "the connection broke");
    drop(store);
    let (mut store, _) = opened(&disk);
    assert_eq!(store.chunk(Index(9), 0).unwrap(), None, "nobody has asked for it yet");
    assert_eq!(chunks_of(&mut store, &theirs), 2, "the process was restarted");
    assert_eq!(store.chunk(Index(9), 1).unwrap(), Some(theirs.body[1].clone()));
    store.stage(2, &theirs.body[2]).unwrap();
    assert_eq!(chunks_of(&mut store, &theirs), 3, "and it is whole");

    let mine = Staging::Own { index: Index(4) };
    for _ in 0..2 {
        assert_eq!(store.begin(&mine).unwrap(), 0);
        store.stage(0, b"some of it").unwrap();
    }
    assert_eq!(chunks_of(&mut store, &theirs), 0, "there is one at a time");
}

#[test]
fn a_body_of_another_snapshot_is_not_gone_on_with() {
    let theirs = snapshot(9, 3, CHUNK_BYTES + 5);
    let others = [
        SnapshotMeta { term: Term(4), ..theirs.meta.clone() },
        SnapshotMeta { index: Index(10), ..theirs.meta.clone() },
        SnapshotMeta { body_sha256: [0; 32], ..theirs.meta.clone() },
        SnapshotMeta { body_bytes: CHUNK_BYTES as u64 + 6, ..theirs.meta.clone() },
    ];
    for other in others {
        let (disk, mut store) = after(&[vec![received(&theirs)], stage(&theirs, 0..1)].concat());
        assert_eq!(store.begin(&Staging::Received(other.clone())).unwrap(), 0);
        drop(store);
        let (mut store, _) = opened(&disk);
        assert_eq!(chunks_of(&mut store, &theirs), 0, "it was forgotten for {other:?}");
    }
}

#[test]
fn a_chunk_out_of_place_is_refused_and_changes_nothing() {
    let theirs = snapshot(9, 3, CHUNK_BYTES + 5);
    let (_, mut store) = after(&[]);
    let refused = |store: &mut Store, number, chunk: &[u8], why: &str| {
        let error = store.stage(number, chunk).unwrap_err();
        assert_eq!(error.code(), "STORE_REFUSED");
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(&mut store, 0, b"a", "was not begun");
    assert_eq!(chunks_of(&mut store, &theirs), 0);
    refused(&mut store, 1, &theirs.body[1], "chunk 1 of a snapshot's body where chunk 0 belongs");
    refused(&mut store, 0, &theirs.body[0][1..], "has 261887 bytes, not 261888");
    refused(&mut store, 0, b"", "has 0 bytes, not 261888");
    store.stage(0, &theirs.body[0]).unwrap();
    refused(&mut store, 0, &theirs.body[0], "chunk 0 of a snapshot's body where chunk 1 belongs");
    refused(&mut store, 1, &theirs.body[0], "has 261888 bytes, not 5");
    store.stage(1, &theirs.body[1]).unwrap();
    refused(&mut store, 2, b"more", "has 4 bytes, not 0");
    assert_eq!(chunks_of(&mut store, &theirs), 2);

    store.begin(&Staging::Own { index: Index(4) }).unwrap();
    refused(&mut store, 0, &vec![0; CHUNK_BYTES + 1], "has 261889 bytes, not 1 to 261888");
    refused(&mut store, 0, b"", "has 0 bytes");
    store.stage(0, b"the last one, as it is shorter").unwrap();
    refused(&mut store, 1, b"more", "after one that was shorter");
    store.commit(&[append(9, entries(7..=7, 2, 10))]).unwrap();
}

#[test]
fn a_snapshot_that_is_none_of_this_cluster_is_not_begun() {
    let theirs = snapshot(9, 3, 5).meta;
    let founders = Founders { cluster: ClusterId([9; 16]), ..theirs.founders.clone() };
    let (_, mut store) = after(&[]);
    for meta in [SnapshotMeta { founders, ..theirs.clone() }, SnapshotMeta { voters: vec![], ..theirs }] {
        assert_eq!(store.begin(&Staging::Received(meta)).unwrap_err().code(), "STORE_REFUSED");
    }
    assert_eq!(created(&Disk::default()).begin(&Staging::Own { index: Index(1) }).unwrap_err().code(), "STORE_REFUSED");
    store.commit(&[append(9, entries(7..=7, 2, 10))]).unwrap();
}

#[test]
fn a_body_that_turns_out_wrong_is_forgotten() {
    let mut theirs = snapshot(9, 3, CHUNK_BYTES + 5);
    theirs.meta.body_sha256[7] ^= 1;
    let (disk, mut store) = after(&brought(&theirs));
    assert_eq!(store.chunk(Index(9), 0).unwrap(), None);
    assert_eq!(chunks_of(&mut store, &theirs), 0);
    drop(store);
    let (mut store, _) = opened(&disk);
    assert_eq!(chunks_of(&mut store, &theirs), 0);
    let error = store.commit(&[installed(9, &theirs, hard_state(3, 0, 9))]).unwrap_err();
    assert!(error.to_string().contains("has 0 bytes, not 261893"), "{error}");
}

#[test]
fn raft_rs_21_a_taken_snapshot_replaces_the_one_before() {
    let mine = snapshot(4, 2, CHUNK_BYTES + 5);
    for truncated in [(1, 1), (2, 2), (4, 2)] {
        let acts = [staged(&mine), vec![Act::Commit(vec![taken(9, &mine, truncated)])]].concat();
        let (disk, store) = after(&acts);
        let loaded = store.load().unwrap();
        let log = log_of(&loaded);
        assert_eq!(log.snapshot, mine);
        assert_eq!(log.truncated, (Index(truncated.0), Term(truncated.1)));
        assert_eq!(log.entries, entries(truncated.0 + 1..=6, 2, 64));
        assert_eq!(store.chunk(Index(4), 1).unwrap().as_ref(), Some(&mine.body[1]));
        assert_eq!(store.chunk(Index(4), 2).unwrap(), None);
        assert_eq!(store.chunk(Index::FOUNDING, 0).unwrap(), None, "not any more");
        drop(store);
        assert_eq!(opened(&disk).1, loaded);
    }
}

#[test]
fn a_body_may_be_staged_beside_one_of_the_same_index() {
    let [first, second] = [100, 300].map(|bytes| snapshot(4, 2, bytes));
    let flip = |snapshot| vec![Act::Commit(vec![taken(9, snapshot, (3, 2))])];
    let (disk, mut store) = after(&[staged(&first), flip(&first), staged(&second)].concat());
    assert_eq!(store.chunk(Index(4), 0).unwrap(), Some(first.body[0].clone()), "the newest one's, if both have it");
    assert_eq!(log_of(&opened(&Disk::holding(disk.image())).1).snapshot, first);
    while store.clean().unwrap() {}
    store.commit(&[taken(10, &second, (4, 2))]).unwrap();
    while store.clean().unwrap() {}
    assert_eq!(log_of(&store.load().unwrap()).snapshot, second);
}

/// Commits `set` after `acts`: it is refused, and nothing of it was written.
#[track_caller]
fn assert_refused(acts: &[Act], set: WriteSet, why: &str) {
    let (disk, mut store) = after(acts);
    let before = store.load().unwrap();
    let error = store.commit(&[append(8, entries(7..=7, 2, 10)), set]).unwrap_err();
    assert_eq!(error.code(), "STORE_REFUSED");
    assert!(error.to_string().contains(why), "{error}");
    drop(store);
    assert_eq!(opened(&disk).1, before);
}

#[test]
fn a_flip_that_would_break_the_store_is_refused_whole() {
    let mine = snapshot(4, 2, 900);
    let here = staged(&mine);
    let with = |change: fn(&mut SnapshotMeta)| {
        let mut snapshot = mine.clone();
        change(&mut snapshot.meta);
        taken(9, &snapshot, (3, 2))
    };
    assert_refused(&[], taken(9, &mine, (3, 2)), "whose body is not staged");
    assert_refused(&brought(&mine), taken(9, &mine, (3, 2)), "not of the snapshot at 4");
    assert_refused(&here, with(|meta| meta.index = Index(3)), "not of the snapshot at 3");
    assert_refused(&here, with(|meta| meta.body_bytes += 1), "has 900 bytes, not 901");
    assert_refused(&here, with(|meta| meta.body_sha256[0] ^= 1), "does not have its SHA-256");
    assert_refused(&here, with(|meta| meta.term = Term(1)), "says term 1 of index 4, and the log 2");
    assert_refused(&here, with(|meta| meta.voters.clear()), "not a sorted set");
    assert_refused(&here, with(|meta| meta.founders.limits.keys_bytes_max += 1), "founders are not the cluster's");
    assert_refused(&here, taken(9, &mine, (3, 1)), "says term 1 of index 3, and the log 2");
    assert_refused(&here, taken(9, &mine, (5, 2)), "the log begins after 5, past the snapshot at 4");
    assert_refused(&here, taken(9, &mine, (0, 0)), "index 0 is not in the log");
    let far = snapshot(9, 2, 900);
    assert_refused(&staged(&far), taken(9, &far, (3, 2)), "index 9 is not in the log, which goes from 1 to 7");
    let unsure = snapshot(5, 2, 900);
    assert_refused(&staged(&unsure), taken(9, &unsure, (3, 2)), "commit 4 is below the snapshot at 5");
    let flipped = [here.clone(), vec![Act::Commit(vec![taken(9, &mine, (3, 2))])]].concat();
    assert_refused(&flipped, taken(10, &mine, (3, 2)), "whose body is not staged");
    let older = snapshot(3, 2, 900);
    assert_refused(&[flipped.clone(), staged(&older)].concat(), taken(10, &older, (3, 2)), "at 3 after the one at 4");
    assert_refused(&[flipped, here].concat(), taken(10, &mine, (2, 2)), "index 2 is not in the log");
}

#[test]
fn an_install_that_would_break_the_store_is_refused_whole() {
    let theirs = snapshot(9, 3, CHUNK_BYTES + 5);
    let state = hard_state(3, 0, 9);
    let install = installed(9, &theirs, state);
    assert_refused(&[], install.clone(), "whose body is not staged");
    assert_refused(&staged(&snapshot(9, 3, 5)), install.clone(), "not of the snapshot at 9");
    let partly = [vec![received(&theirs)], stage(&theirs, 0..1)].concat();
    assert_refused(&partly, install.clone(), "has 261888 bytes, not 261893");
    assert_refused(&brought(&theirs), WriteSet { hard_state: None, ..install.clone() }, "below the snapshot at 9");
    assert_refused(&brought(&theirs), installed(9, &theirs, hard_state(3, 0, 10)), "above the last entry 9");
    assert_refused(&brought(&theirs), installed(9, &theirs, hard_state(2, 1, 9)), "term 2 is below term 3");
    let stale = snapshot(3, 2, 5);
    assert_refused(&brought(&stale), installed(9, &stale, hard_state(2, 1, 4)), "commit 4 is above the last entry 3");
    let (_, mut store) = after(&brought(&theirs));
    store.commit(std::slice::from_ref(&install)).unwrap();
    assert_eq!(store.commit(&[install]).unwrap_err().code(), "STORE_REFUSED");
}

#[test]
fn raft_rs_41_entries_of_a_log_that_was_replaced_never_return() {
    // The old log has entries to 12, above the snapshot at 9.
    let theirs = snapshot(9, 3, 900);
    let longer = vec![Act::Commit(vec![append(9, entries(7..=12, 2, 64))])];
    let install = vec![Act::Commit(vec![installed(10, &theirs, hard_state(3, 0, 9))])];
    let (disk, store) = after(&[longer, brought(&theirs), install].concat());
    let empty = store.load().unwrap();
    assert_eq!((log_of(&empty).entries.len(), log_of(&empty).truncated), (0, (Index(9), Term(3))));
    drop(store);
    let (mut store, recovered) = opened(&disk);
    assert_eq!(recovered, empty);
    // 10 and 11 take the places of old entries; 12 stays empty.
    store.commit(&[append(11, entries(10..=11, 3, 20))]).unwrap();
    store.commit(&[append(12, entries(11..=11, 3, 30))]).unwrap();
    let wanted = [entries(10..=10, 3, 20), entries(11..=11, 3, 30)].concat();
    assert_eq!(log_of(&store.load().unwrap()).entries, wanted);
    assert!(!store.clean().unwrap());
    assert_eq!(log_of(&store.load().unwrap()).entries, wanted);
    drop(store);
    assert_eq!(log_of(&opened(&disk).1).entries, wanted);
}

#[test]
fn staging_syncs_once_a_chunk_and_a_flip_twice_whatever_its_size() {
    let cost = |bytes| {
        let mine = snapshot(4, 2, bytes);
        let (disk, mut store) = after(&[]);
        let before = disk.counts();
        for act in staged(&mine) {
            store = act.on(&disk, store).unwrap();
        }
        let between = disk.counts();
        store.commit(&[taken(9, &mine, (3, 2))]).unwrap();
        let after = disk.counts();
        (between.syncs - before.syncs, after.syncs - between.syncs, after.calls - between.calls)
    };
    let (small, large) = (cost(100), cost(30 * CHUNK_BYTES));
    assert_eq!(small.0, 2, "to begin, and for the chunk");
    // When a file grows, redb syncs that first; it doubles each time.
    assert!((31..=36).contains(&large.0), "{large:?}");
    assert_eq!((small.1, large.1), (2, 2));
    assert!(large.2 <= small.2 + 4, "{small:?} calls of the disk, then {large:?}");
}

#[test]
fn cleaning_is_bounded_and_goes_on_after_a_restart() {
    let (first, mine) = (snapshot(4, 2, 40 * CHUNK_BYTES), snapshot(5, 2, 50));
    let given_up = snapshot(5, 2, 20 * CHUNK_BYTES);
    let long = vec![append(9, entries(7..=2000, 2, 16)), commit_to(9, hard_state(2, 1, 1000))];
    let flips = [
        staged(&first),
        vec![Act::Commit(long), Act::Commit(vec![taken(10, &first, (1, 1))])],
        staged(&given_up),
        vec![own(&mine), Act::Stage(0, mine.body[0].clone()), Act::Commit(vec![taken(11, &mine, (5, 2))])],
        staged(&snapshot(900, 2, 70)),
    ];
    let (disk, mut store) = after(&flips.concat());
    let expected = store.load().unwrap();
    let mut calls = 1;
    while store.clean().unwrap() {
        calls += 1;
        assert_eq!(store.load().unwrap(), expected);
        if calls % 3 == 0 {
            drop(store);
            let (reopened, recovered) = opened(&disk);
            assert_eq!(recovered, expected);
            store = reopened;
        }
    }
    // 4 entries, 60 chunks and the founding one, 16 or so at a time.
    assert!((4..9).contains(&calls), "{calls}");
    let syncs = disk.counts().syncs;
    assert!(!store.clean().unwrap());
    assert_eq!(disk.counts().syncs, syncs, "there was nothing to do");
    let far = snapshot(900, 2, 70);
    store.begin(&Staging::Own { index: Index(900) }).unwrap();
    store.stage(0, &far.body[0]).unwrap();
    store.commit(&[taken(12, &far, (900, 2))]).unwrap();
    let calls = (1..).take_while(|_| store.clean().unwrap()).count() + 1;
    assert_eq!(calls, 2, "895 entries, 512 at a time");
}

#[test]
fn what_an_interrupted_staging_leaves_is_tolerated_and_cleaned() {
    let theirs = snapshot(9, 3, 2 * CHUNK_BYTES);
    let (disk, store) = after(&[vec![received(&theirs)], stage(&theirs, 0..1), vec![own(&snapshot(4, 2, 9))]].concat());
    let expected = store.load().unwrap();
    drop(store);
    let (mut store, recovered) = opened(&disk);
    assert_eq!(recovered, expected);
    assert!(!store.clean().unwrap());
    let content = Content::found(&mut store, recovered);
    assert_eq!(content.staged, None);
    use redb::ReadableTableMetadata;
    let chunks = store.database.begin_read().unwrap().open_table(CHUNKS).unwrap().len().unwrap();
    assert_eq!(chunks, 1, "the founding snapshot's");
}

#[test]
fn raft_rs_22_a_snapshot_and_a_log_that_do_not_agree_are_refused_at_load() {
    let forged = |newest: Newest, why: &str| {
        let (disk, store) = after(&[]);
        drop(store);
        let database = tables_of(&disk);
        let transaction = database.begin_write().unwrap();
        let key = Slot::Newest.key(ShardId::FIRST);
        let record = record::encode("state", &key, &newest);
        transaction.open_table(STATE).unwrap().insert(key, record.as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = Store::open(disk, wanted(), |_| {}).map(drop).unwrap_err();
        assert_eq!(error.code(), "STORE_DAMAGED");
        assert!(error.to_string().contains(why), "{error}");
    };
    let at = |index, term| SnapshotMeta { index: Index(index), term: Term(term), ..founding(100).meta };
    let newest = newest(100);
    forged(Newest { meta: at(3, 1), ..newest.clone() }, "entry 3 has term 2, and the snapshot says term 1");
    forged(Newest { meta: at(5, 2), ..newest.clone() }, "commit 4 is below the snapshot at 5");
    forged(
        Newest { truncated: (Index(2), Term(2)), ..newest.clone() },
        "the log begins after 2, past the snapshot at 1",
    );
    let truncated = (Index(3), Term(1));
    forged(Newest { meta: at(3, 2), truncated, ..newest.clone() }, "the log says term 1, and the snapshot term 2");
    forged(
        Newest { meta: at(3, 2), truncated: (Index(0), Term(0)), ..newest.clone() },
        "entry 2 does not follow entry 0",
    );
    forged(Newest { body: Body(2), ..newest.clone() }, "has 0 bytes, not 100");
    forged(Newest { log: Body(2), ..newest.clone() }, "commit 4 is above the last entry 1");
}

#[test]
fn a_start_tells_how_far_it_is() {
    let mine = snapshot(4, 2, 150 * CHUNK_BYTES);
    let (disk, store) = after(&[staged(&mine), vec![Act::Commit(vec![taken(9, &mine, (3, 2))])]].concat());
    drop(store);
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let (mut store, _) = Store::open(disk.clone(), wanted(), move |now| listener.lock().unwrap().push(now)).unwrap();
    let heard = told.lock().unwrap().clone();
    assert!(heard.iter().all(|now| now.file_bytes == disk.image().len() as u64), "{heard:?}");
    for phase in [Phase::Checking, Phase::Loading] {
        let of_phase: Vec<u64> = heard.iter().filter(|now| now.phase == phase).map(|now| now.read_bytes).collect();
        assert_eq!(of_phase[0], 0);
        assert!(of_phase.len() >= 2 && of_phase.is_sorted(), "{phase}: {of_phase:?}");
        assert!(of_phase.windows(2).all(|pair| pair[1] - pair[0] <= 33 << 20), "{phase}: {of_phase:?}");
    }
    assert!(heard.is_sorted_by_key(|now| now.phase as u8), "{heard:?}");
    store.commit(&[append(10, entries(7..=7, 2, 10))]).unwrap();
    store.load().unwrap();
    assert_eq!(told.lock().unwrap().len(), heard.len(), "it is open, there is nothing to tell");
}

#[test]
fn a_snapshot_write_is_no_empty_write() {
    let set = taken(9, &snapshot(4, 2, 1), (3, 2));
    assert!(!is_empty(&set) && is_promise(&set));
    assert!(matches!(set.snapshot, Some(SnapshotWrite::Taken { .. })));
}
