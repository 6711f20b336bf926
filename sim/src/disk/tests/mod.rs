//! The disk by its handle, byte by byte; and under a store.

mod store;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redb::StorageBackend;

use super::{
    backend::{Handle, Name},
    image::{PAGE_BYTES, SECTOR_BYTES},
    *,
};

const NODE: ReplicaId = ReplicaId(2);

/// A disk with a synced file of so many sectors of ones, in its first life.
fn disk_with(sectors: usize) -> (Disk, Handle) {
    let disk = Disk::new(7, NODE);
    disk.begin_life(1);
    disk.platter().store = Some(File::default());
    disk.platter().is_name_durable = true;
    let handle = Handle::new(disk.clone(), 1, Name::Store);
    handle.set_len((sectors * SECTOR_BYTES) as u64).unwrap();
    handle.write(0, &vec![1; sectors * SECTOR_BYTES]).unwrap();
    handle.sync_data().unwrap();
    (disk, handle)
}

/// The next life's view of the file.
fn reopened(disk: &Disk) -> Vec<u8> {
    let next = disk.platter().incarnation.unwrap() + 1;
    disk.begin_life(next);
    all(&Handle::new(disk.clone(), next, Name::Store))
}

fn all(handle: &Handle) -> Vec<u8> {
    let mut bytes = vec![0; handle.len().unwrap() as usize];
    handle.read(0, &mut bytes).unwrap();
    bytes
}

fn crashed(disk: &Disk, keep: Keep) -> Vec<u8> {
    disk.fence();
    disk.crash(keep);
    reopened(disk)
}

/// The disk loses power with twos pending over all of it, and more.
fn overwritten(keep: Keep, sectors: usize) -> (Disk, Vec<u8>) {
    let (disk, handle) = disk_with(sectors);
    handle.set_len((2 * sectors * SECTOR_BYTES) as u64).unwrap();
    handle.write(0, &vec![2; 2 * sectors * SECTOR_BYTES]).unwrap();
    assert_eq!(all(&handle), vec![2; 2 * sectors * SECTOR_BYTES]);
    let bytes = crashed(&disk, keep);
    (disk, bytes)
}

#[test]
fn what_is_synced_stays_and_what_is_not_may() {
    let sectors = 40;
    assert_eq!(overwritten(Keep::All, sectors).1, vec![2; 2 * sectors * SECTOR_BYTES]);
    assert_eq!(overwritten(Keep::Nothing, sectors).1, vec![1; sectors * SECTOR_BYTES]);
    let (disk, handle) = disk_with(sectors);
    handle.write(3, &[2]).unwrap();
    handle.sync_data().unwrap();
    let before = all(&handle);
    assert_eq!(crashed(&disk, Keep::Nothing), before);
}

#[test]
fn of_some_sectors_all_is_kept_and_of_others_nothing() {
    let (disk, bytes) = overwritten(Keep::Some, 80);
    let whole = bytes.chunks(SECTOR_BYTES).take(80).map(|sector| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        sector[0]
    });
    let kept = whole.filter(|byte| *byte == 2).count();
    assert!((20..=60).contains(&kept), "{kept}");
    assert_eq!(disk.counts().get("disk: sector torn"), None);
}

#[test]
fn a_torn_sector_is_new_up_to_a_byte() {
    let (disk, bytes) = overwritten(Keep::Torn, 80);
    let mut torn = 0;
    for sector in bytes.chunks(SECTOR_BYTES).take(80) {
        let new = sector.iter().take_while(|byte| **byte == 2).count();
        assert!(sector[new..].iter().all(|byte| *byte == 1));
        torn += u64::from((1..SECTOR_BYTES).contains(&new));
    }
    assert!(torn > 10, "{torn}");
    assert!(disk.counts()["disk: sector torn"] >= torn);
}

/// The length is a chance of its own: over many disks it is dropped while sectors are kept, and kept while others are not.
#[test]
fn the_length_is_kept_or_dropped_on_its_own() {
    let outcomes = (0..64).map(|seed| {
        let (disk, handle) = disk_with(16);
        disk.platter().seed = seed;
        handle.set_len((32 * SECTOR_BYTES) as u64).unwrap();
        handle.write(0, &[2; SECTOR_BYTES]).unwrap();
        let bytes = crashed(&disk, Keep::Some);
        (bytes[0] == 2, bytes.len() == 32 * SECTOR_BYTES)
    });
    assert_eq!(outcomes.collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn a_length_that_fell_and_is_dropped_brings_back_what_was_cut_off() {
    for (keep, wanted) in [(Keep::All, vec![1; 100]), (Keep::Nothing, vec![1; 16 * SECTOR_BYTES])] {
        let (disk, handle) = disk_with(16);
        handle.set_len(100).unwrap();
        assert_eq!(crashed(&disk, keep), wanted);
    }
    let (disk, handle) = disk_with(16);
    handle.set_len(100).unwrap();
    handle.set_len((16 * SECTOR_BYTES) as u64).unwrap();
    let zeros = [vec![1; 100], vec![0; 16 * SECTOR_BYTES - 100]].concat();
    assert_eq!(all(&handle), zeros);
    handle.sync_data().unwrap();
    assert_eq!(crashed(&disk, Keep::Nothing), zeros);
}

/// What a crash leaves depends on what was written, not on the order or on how often anything was asked.
#[test]
fn no_choice_depends_on_the_order_of_calls() {
    let [forwards, backwards] = [false, true].map(|is_backwards| {
        let (disk, handle) = disk_with(64);
        let mut sectors: Vec<_> = (0..64).collect();
        if is_backwards {
            sectors.reverse();
            all(&handle);
        }
        for sector in sectors {
            handle.write((sector * SECTOR_BYTES) as u64, &[2; SECTOR_BYTES]).unwrap();
        }
        crashed(&disk, Keep::Torn)
    });
    assert_eq!(forwards, backwards);
    let (other, handle) = disk_with(64);
    other.platter().incarnation = Some(9);
    other.platter().live = Some(1);
    handle.write(0, &[2; 64 * SECTOR_BYTES]).unwrap();
    assert_ne!(crashed(&other, Keep::Torn), forwards, "another life has other chances");
}

#[test]
fn a_stale_handle_changes_nothing_and_gets_errors() {
    let (disk, old) = disk_with(8);
    old.write(0, &[3]).unwrap();
    let before = all(&old);
    disk.fence();
    let is_refused = |old: &Handle| {
        old.write(0, &[4]).is_err()
            && old.set_len(1).is_err()
            && old.sync_data().is_err()
            && old.read(0, &mut [0]).is_err()
            && old.len().is_err()
    };
    assert!(is_refused(&old));
    assert_eq!(reopened(&disk), before, "a killed process leaves what it had written, and a life later too");
    assert!(is_refused(&old));
    assert_eq!(crashed(&disk, Keep::Nothing), vec![1; 8 * SECTOR_BYTES], "it was never synced");
    assert_eq!((disk.check(), disk.has_failed()), (Ok(()), false));
}

#[test]
fn a_fence_that_is_off_is_noticed() {
    let (disk, old) = disk_with(8);
    disk.set_fence_off(true);
    old.write(0, &[3]).unwrap();
    assert_eq!(disk.check(), Ok(()));
    disk.fence();
    old.write(0, &[4]).unwrap();
    assert_eq!(disk.check(), Err(1));
}

#[test]
fn the_nth_operation_of_its_kind_fails_once() {
    let (disk, handle) = disk_with(8);
    disk.fail(DiskOperation::Write, 2);
    disk.fail(DiskOperation::Read, 1);
    handle.write(0, &[5]).unwrap();
    assert!(!disk.has_failed());
    assert!(handle.write(0, &[6; 9]).is_err() && disk.has_failed());
    handle.write(0, &[7]).unwrap();
    assert!(handle.read(0, &mut [0]).is_err());
    handle.read(0, &mut [0]).unwrap();
    assert_eq!((disk.counts()["disk: error on write"], disk.counts()["disk: error on read"]), (1, 1));
    reopened(&disk);
    assert!(!disk.has_failed());
}

#[test]
fn a_failed_sync_is_not_made_good_by_another() {
    let (disk, handle) = disk_with(16);
    handle.write(0, &[2; SECTOR_BYTES]).unwrap();
    disk.fail(DiskOperation::Sync, 1);
    assert!(handle.sync_data().is_err());
    handle.sync_data().unwrap();
    assert_eq!(all(&handle)[0], 2, "every reader sees it");
    handle.write(PAGE_BYTES as u64, &[2]).unwrap();
    handle.sync_data().unwrap();
    let bytes = crashed(&disk, Keep::All);
    assert_eq!((bytes[0], bytes[PAGE_BYTES]), (1, 2));
}

#[test]
fn a_full_disk_takes_what_needs_no_room() {
    let (disk, handle) = disk_with(8);
    handle.set_len((64 * SECTOR_BYTES) as u64).unwrap();
    disk.set_full(true);
    handle.write(0, &[2]).unwrap();
    handle.set_len((32 * SECTOR_BYTES) as u64).unwrap();
    assert!(!disk.has_failed());
    assert!(handle.set_len((64 * SECTOR_BYTES) as u64).is_err(), "it grows");
    assert!(handle.write((20 * SECTOR_BYTES) as u64, &[2]).is_err(), "it fills a hole");
    assert!(disk.has_failed());
    disk.set_full(false);
    handle.write((20 * SECTOR_BYTES) as u64, &[2]).unwrap();
}

#[test]
fn a_lying_sync_owes_until_power_is_cut() {
    let (disk, handle) = disk_with(8);
    disk.lie(true);
    handle.write(0, &[2]).unwrap();
    handle.sync_data().unwrap();
    assert!(disk.is_pending());
    assert_eq!(crashed(&disk, Keep::Nothing)[0], 1);
    let next = Handle::new(disk.clone(), 2, Name::Store);
    next.write(0, &[3]).unwrap();
    next.sync_data().unwrap();
    assert_eq!(crashed(&disk, Keep::Nothing)[0], 3, "after that it is honest");
}

#[test]
fn power_is_cut_after_so_many_operations_of_the_next_commit() {
    for (operations, wanted) in [(0, [1, 1]), (1, [2, 1]), (2, [2, 2]), (3, [2, 2])] {
        let (disk, handle) = disk_with(16);
        let was_told = Arc::new(AtomicBool::new(false));
        let tell = was_told.clone();
        let fenced = disk.clone();
        disk.cut_power_in(
            operations,
            Box::new(move || {
                assert!(!fenced.is_live(1), "it fences itself before it tells");
                tell.store(true, Ordering::Relaxed);
            }),
        );
        handle.write(100, &[9]).unwrap();
        handle.sync_data().unwrap();
        assert!(!was_told.load(Ordering::Relaxed), "no commit goes on");
        disk.begin_commit();
        let writes = [0, PAGE_BYTES as u64].map(|at| handle.write(at, &[2]).is_ok());
        assert_eq!(writes, [operations > 0, operations > 1]);
        handle.sync_data().unwrap_or_default();
        disk.end_commit();
        assert!(was_told.load(Ordering::Relaxed), "at its end at the latest");
        disk.crash(Keep::All);
        let bytes = reopened(&disk);
        assert_eq!([bytes[0], bytes[PAGE_BYTES]], wanted);
    }
}

#[test]
fn a_bit_rots_in_what_is_used_and_is_named() {
    let mut parts = std::collections::BTreeMap::new();
    for at in 0..400 {
        let (disk, handle) = disk_with(64);
        handle.write(3 * PAGE_BYTES as u64, &[2; PAGE_BYTES]).unwrap();
        handle.write(0, &[2; 64]).unwrap();
        handle.sync_data().unwrap();
        // The second phase of a commit: the header alone.
        handle.write(0, &[3; 64]).unwrap();
        handle.sync_data().unwrap();
        let before = all(&handle);
        disk.fence();
        disk.crash(Keep::Nothing);
        let rotten = disk.rot(chance::number(at, "rot", &[]));
        let after = reopened(&disk);
        let changed: Vec<_> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed, [rotten.at as usize]);
        assert_eq!((before[changed[0]] ^ after[changed[0]]).count_ones(), 1);
        match rotten.part {
            Part::Header => assert!(rotten.at < 320),
            Part::Newest => assert_eq!(rotten.at as usize / PAGE_BYTES, 3),
            Part::Older => assert!(rotten.at >= 320 && rotten.at as usize / PAGE_BYTES != 3),
            Part::Nothing => panic!("there is something"),
        }
        *parts.entry(format!("{:?}", rotten.part)).or_insert(0) += 1;
    }
    assert!(parts.len() == 3 && parts.values().all(|hits| *hits > 50), "{parts:?}");
    assert_eq!(Disk::new(1, NODE).rot(5).part, Part::Nothing);
}
