//! Rot: a store that was whole and is no more must be refused, or be what it was. It must never quietly be less.

use super::*;

/// A cleanly closed store, and what it holds.
fn closed() -> (Vec<u8>, Recovered) {
    let disk = Disk::default();
    let store = with_log(&disk);
    let recovered = store.load().unwrap();
    drop(store);
    (disk.image(), recovered)
}

fn open_image(image: Vec<u8>) -> Result<Recovered, StoreError> {
    Store::open(Disk::holding(image), wanted(), |_| {}).map(|(_, recovered)| recovered)
}

fn position(image: &[u8], record: &[u8]) -> usize {
    image.windows(record.len()).rposition(|window| window == record).expect("the record is in the file")
}

/// Flips a byte of `record` in a cleanly closed store.
#[track_caller]
fn assert_noticed(record: &[u8]) {
    let (mut image, _) = closed();
    let at = position(&image, record) + record.len() / 2;
    image[at] ^= 0x10;
    let error = open_image(image).unwrap_err();
    assert_eq!(error.code(), "STORE_DAMAGED", "{error}");
}

#[test]
fn a_flipped_byte_in_any_table_is_noticed() {
    let shard = ShardId::FIRST;
    assert_noticed(&record::encode("about", &FORMAT_KEY, &FORMAT));
    assert_noticed(&record::encode("state", &Slot::Identity.key(shard), &identity()));
    assert_noticed(&record::encode("state", &Slot::Genesis.key(shard), &founding(100).meta.genesis()));
    assert_noticed(&record::encode("state", &Slot::HardState.key(shard), &hard_state(2, 1, 4)));
    assert_noticed(&record::encode("state", &Slot::Newest.key(shard), &newest(100)));
    assert_noticed(&record::seal("chunks", &(0u32, 1u64, 0u32), &founding(100).body[0]));
    for entry in entries(2..=6, 2, 64) {
        assert_noticed(&record::encode("log", &schema::log_key(shard, Body::FOUNDING, entry.index), &entry));
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_does_not_matter() {
    let (image, recovered) = closed();
    let mut noticed = 0;
    // The file's header bit by bit, save the byte that says which of the two newest states is the newest; then a bit
    // in every sixteenth byte of what is not empty.
    let header = (0..320 * 8).filter(|bit| bit / 8 != GOD_BYTE);
    let pages = (320..image.len()).step_by(16).filter(|&at| image[at] != 0).map(|at| at * 8 + at / 16 % 8);
    for bit in header.chain(pages) {
        let mut damaged = image.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match open_image(damaged) {
            Ok(found) => assert_eq!(found, recovered, "bit {bit} lost something"),
            Err(error) => {
                assert!(matches!(error.code(), "STORE_DAMAGED" | "STORE_FORMAT"), "bit {bit}: {error}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > 1000, "{noticed}");
}

/// Byte of redb's header that holds its flags, among them which of two slots has the newest commit. No checksum covers it.
const GOD_BYTE: usize = 9;

#[test]
fn a_damaged_flag_byte_costs_at_most_the_newest_commit() {
    let (image, recovered) = closed();
    for bit in 0..8 {
        let mut damaged = image.clone();
        damaged[GOD_BYTE] ^= 1 << bit;
        if let Ok(found) = open_image(damaged) {
            // The newest commit of a clean shutdown is redb's own, about free pages.
            assert_eq!(found, recovered, "bit {bit}");
        }
    }
}

/// A store that lost power right after `last` was acknowledged, with one byte of `record` flipped.
fn damaged_newest(last: WriteSet, record: &[u8]) -> Result<Recovered, StoreError> {
    let disk = Disk::default();
    let mut store = with_log(&disk);
    store.commit(&[last]).unwrap();
    let mut image = disk.image();
    let at = position(&image, record) + record.len() / 2;
    image[at] ^= 1;
    open_image(image)
}

#[test]
fn the_newest_commit_is_lost_in_silence_unless_it_held_a_promise() {
    let record = |key, value: &HardState| record::encode("state", &key, value);
    let key = Slot::HardState.key(ShardId::FIRST);
    // Documented in the module's essay and in raft-rs.md 26: a hint, and nobody was promised anything.
    let hint = hard_state(2, 1, 6);
    let recovered = damaged_newest(commit_to(9, hint), &record(key, &hint)).unwrap();
    assert_eq!(log_of(&recovered).hard_state, hard_state(2, 1, 4), "the state before");
    let vote = hard_state(3, 2, 4);
    assert_eq!(damaged_newest(promise(9, vote), &record(key, &vote)).unwrap_err().code(), "STORE_DAMAGED");
}

#[test]
fn damage_to_what_is_older_than_the_newest_commit_is_noticed() {
    let entry = &entries(3..=3, 2, 64)[0];
    let old = record::encode("log", &schema::log_key(ShardId::FIRST, Body::FOUNDING, entry.index), entry);
    let hint = commit_to(9, hard_state(2, 1, 6));
    assert_eq!(damaged_newest(hint, &old).unwrap_err().code(), "STORE_DAMAGED");
}

#[test]
fn a_file_that_is_cut_short_or_padded_is_refused() {
    let (image, _) = closed();
    for len in [0, 1, 8, 9, 64, 320, 4095, 4096, image.len() / 2, image.len() - 1] {
        let error = open_image(image[..len].to_vec()).unwrap_err();
        assert_eq!(error.code(), "STORE_DAMAGED", "length {len}: {error}");
    }
    let padded = [image, vec![0; 1]].concat();
    assert_eq!(open_image(padded).unwrap_err().code(), "STORE_DAMAGED");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_as_a_store_are_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20_000)) {
        proptest::prop_assert_eq!(open_image(bytes).unwrap_err().code(), "STORE_DAMAGED");
    }

    #[test]
    fn a_store_overwritten_in_places_is_refused_or_what_it_was(
        places in proptest::collection::vec((0usize..200_000, proptest::prelude::any::<[u8; 40]>()), 1..8)
    ) {
        let (mut image, recovered) = closed();
        for (at, bytes) in places {
            let at = GOD_BYTE + 1 + at % (image.len() - 50);
            image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        if let Ok(found) = open_image(image) {
            proptest::prop_assert_eq!(found, recovered);
        }
    }
}

/// Changes a record behind the store's back, checksum and all.
fn forged(forge: impl FnOnce(&WriteTransaction)) -> StoreError {
    let disk = Disk::default();
    drop(with_log(&disk));
    let database = builder().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    forge(&transaction);
    transaction.commit().unwrap();
    drop(database);
    open_image(disk.image()).unwrap_err()
}

fn forge_log(transaction: &WriteTransaction, entry: &Entry) {
    let key = schema::log_key(ShardId::FIRST, Body::FOUNDING, entry.index);
    let record = record::encode("log", &key, entry);
    transaction.open_table(schema::LOG).unwrap().insert(key, record.as_slice()).unwrap();
}

fn forge_state<T: serde::Serialize>(transaction: &WriteTransaction, slot: Slot, value: Option<&T>) {
    let key = slot.key(ShardId::FIRST);
    let mut state = transaction.open_table(schema::STATE).unwrap();
    match value {
        Some(value) => drop(state.insert(key, record::encode("state", &key, value).as_slice()).unwrap()),
        None => drop(state.remove(key).unwrap()),
    }
}

#[track_caller]
fn assert_forgery_noticed(why: &str, forge: impl FnOnce(&WriteTransaction)) {
    let error = forged(forge);
    assert_eq!(error.code(), "STORE_DAMAGED");
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn raft_rs_22_what_cannot_have_been_written_is_refused_at_load() {
    assert_forgery_noticed("entry 8 does not follow entry 6", |t| forge_log(t, &entries(8..=8, 2, 1)[0]));
    assert_forgery_noticed("entry 7 has term 1, below term 2", |t| forge_log(t, &entries(7..=7, 1, 1)[0]));
    assert_forgery_noticed("entry 3 does not follow entry 1", |t| {
        t.open_table(schema::LOG).unwrap().remove((0, 1, 2)).unwrap();
    });
    assert_forgery_noticed("commit 7 is above the last entry 6", |t| {
        forge_state(t, Slot::HardState, Some(&hard_state(2, 1, 7)));
    });
    assert_forgery_noticed("commit 0 is below the snapshot at 1", |t| {
        forge_state(t, Slot::HardState, Some(&hard_state(2, 1, 0)));
    });
    assert_forgery_noticed("term 1 is below term 2 of the last entry", |t| {
        forge_state(t, Slot::HardState, Some(&hard_state(1, 1, 4)));
    });
    assert_forgery_noticed("HardState is missing", |t| forge_state::<()>(t, Slot::HardState, None));
    assert_forgery_noticed("Newest is missing", |t| forge_state::<()>(t, Slot::Newest, None));
    assert_forgery_noticed("never founded", |t| forge_state::<()>(t, Slot::Genesis, None));
    assert_forgery_noticed("is not the founding snapshot's", |t| {
        forge_state(t, Slot::Genesis, Some(&crate::types::Genesis([7; 32])));
    });
    assert_forgery_noticed("the founders know replica 1 with disk d1d1", |t| {
        forge_state(t, Slot::Identity, Some(&Identity { disk: DiskId([9; 16]), ..identity() }));
    });
    assert_forgery_noticed("has 0 bytes, not 100", |t| {
        t.open_table(CHUNKS).unwrap().remove((0, 1, 0)).unwrap();
    });
    assert_forgery_noticed("does not match its checksum", |t| {
        t.open_table(CHUNKS).unwrap().insert((0, 1, 0), [1u8, 2, 3, 4, 5].as_slice()).unwrap();
    });
    assert_forgery_noticed("log", |t| {
        t.delete_table(schema::LOG).unwrap();
    });
    assert_forgery_noticed("it does not say its format", |t| {
        t.open_table(ABOUT).unwrap().remove(FORMAT_KEY).unwrap();
    });
}

#[test]
fn another_format_is_refused_by_name() {
    let error = forged(|t| {
        let record = record::encode("about", &FORMAT_KEY, &2u32);
        t.open_table(ABOUT).unwrap().insert(FORMAT_KEY, record.as_slice()).unwrap();
    });
    assert_eq!(error.code(), "STORE_FORMAT");
    assert!(error.to_string().contains("format 2; tombola"), "{error}");
    assert!(error.to_string().contains("reads formats 1 to 1"), "{error}");
}

#[test]
fn anothers_store_is_refused_by_name() {
    let disk = Disk::default();
    drop(with_log(&disk));
    let refused = |wanted| Store::open(disk.clone(), wanted, |_| {}).map(|_| ()).unwrap_err();
    let cluster = refused(Wanted { cluster: ClusterId([0xc2; 16]), ..wanted() });
    assert_eq!(cluster.code(), "STORE_OTHER_CLUSTER");
    for name in ["c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1", "c2c2c2c2-c2c2-c2c2-c2c2-c2c2c2c2c2c2"] {
        assert!(cluster.to_string().contains(name), "{cluster}");
    }
    let replica = refused(Wanted { replica: ReplicaId(2), ..wanted() });
    assert_eq!(replica.code(), "STORE_OTHER_REPLICA");
    assert!(replica.to_string().contains("replica 1") && replica.to_string().contains("replica 2"), "{replica}");
    let shard = refused(Wanted { shard: ShardId(5), ..wanted() });
    assert_eq!(shard.code(), "STORE_OTHER_SHARD");
    assert!(shard.to_string().contains("shard 0") && shard.to_string().contains("shard 5"), "{shard}");
}

#[test]
fn creating_over_something_is_refused() {
    let (image, _) = closed();
    let disk = Disk::holding(image.clone());
    assert_eq!(create(disk.clone(), identity()).unwrap_err().code(), "STORE_REFUSED");
    assert_eq!(disk.image(), image);
}
