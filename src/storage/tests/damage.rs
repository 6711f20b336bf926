//! Rot: a store that was whole and is no more must be refused, or be what it was. It must never quietly be less.

use super::{
    disk::mix,
    life::{Act, Content, life},
    *,
};
use crate::codec;

/// A cleanly closed store, and what it holds.
fn closed() -> (Image, Recovered) {
    let disk = Disk::default();
    let store = with_log(&disk);
    let recovered = store.load().unwrap();
    drop(store);
    (disk.image(), recovered)
}

/// A store that lost power after a whole life and then `last`; and what it holds. Nothing was cleaned: there is garbage
/// of every kind.
fn lived(last: WriteSet) -> (Image, Content) {
    let disk = Disk::default();
    let mut model = Model::new();
    let mut store = created(&disk);
    for act in life().into_iter().chain([Act::Commit(vec![last])]).filter(|act| !matches!(act, Act::Clean)) {
        store = act.on(&disk, store).unwrap();
        model.act(&act);
    }
    (disk.image(), model.content())
}

fn open_image(image: Image) -> Result<Recovered, StoreError> {
    Store::open(Disk::holding(image), wanted(), |_| {}).map(|(_, recovered)| recovered)
}

/// Opens it and looks at all that it holds.
fn content_of(image: Image) -> Result<Content, StoreError> {
    let (mut store, recovered) = Store::open(Disk::holding(image), wanted(), |_| {})?;
    Ok(Content::found(&mut store, recovered))
}

fn position(image: &Image, record: &[u8]) -> usize {
    image.all().windows(record.len()).rposition(|window| window == record).expect("the record is in the file")
}

/// Flips a byte of `record` in a cleanly closed store.
#[track_caller]
fn assert_noticed(record: &[u8]) {
    let (mut image, _) = closed();
    image.flip(position(&image, record) + record.len() / 2, 0x10);
    let error = open_image(image).unwrap_err();
    assert_eq!(error.code(), "STORE_DAMAGED", "{error}");
}

#[test]
fn a_flipped_byte_in_any_table_is_noticed() {
    let shard = ShardId::FIRST;
    assert_noticed(&record::encode("state", &Slot::Identity.key(shard), &identity()));
    assert_noticed(&record::encode("state", &Slot::Genesis.key(shard), &founding(100).meta.genesis()));
    assert_noticed(&record::encode("state", &Slot::HardState.key(shard), &hard_state(2, 1, 4)));
    assert_noticed(&record::encode("state", &Slot::Newest.key(shard), &newest(100)));
    assert_noticed(&record::seal("chunks", &(0u32, 1u64, 0u32), &founding(100).body[0]));
    for entry in entries(2..=6, 2, 64) {
        assert_noticed(&record::encode("log", &schema::log_key(shard, Body::FOUNDING, entry.index), &entry));
    }
}

/// What is damaged is told.
#[track_caller]
fn assert_is_damage(error: &StoreError, at: &str) {
    assert!(matches!(error.code(), "STORE_DAMAGED" | "STORE_FORMAT"), "{at}: {error}");
}

#[test]
fn raft_rs_27_a_flipped_bit_anywhere_is_noticed_or_does_not_matter() {
    let (image, recovered) = closed();
    let bytes = image.all();
    let mut noticed = 0;
    // The file's header bit by bit, save the byte that says which of the two newest states is the newest; then a bit
    // in every sixteenth byte of what is not empty.
    let front = 0..64 * 8;
    let header = (REDB * 8..HEADER * 8).filter(|bit| bit / 8 != GOD_BYTE);
    let journal = PAGE_BYTES as usize..REDB;
    let pages =
        journal.chain(HEADER..bytes.len()).step_by(16).filter(|&at| bytes[at] != 0).map(|at| at * 8 + at / 16 % 8);
    for bit in front.chain(header).chain(pages) {
        let mut damaged = image.clone();
        damaged.flip(bit / 8, 1 << (bit % 8));
        match open_image(damaged) {
            Ok(found) => assert_eq!(found, recovered, "bit {bit} lost something"),
            Err(error) => {
                assert_is_damage(&error, &format!("bit {bit}"));
                noticed += 1;
            }
        }
    }
    assert!(noticed > 1000, "{noticed}");
}

/// The bytes to damage of a file that is too large for all of them: of every page's head, where its structure is, and
/// some of its body; of the journal and of the tables.
fn sample(image: &Image) -> impl Iterator<Item = usize> {
    let bytes = image.all();
    (PAGE_BYTES as usize..REDB).chain(HEADER..bytes.len()).filter(move |&at| {
        let is_head = at % 4096 < 24 && mix(1, at).is_multiple_of(6);
        bytes[at] != 0 && (is_head || mix(2, at).is_multiple_of(8192))
    })
}

#[test]
fn a_flipped_byte_after_a_long_life_is_noticed_or_does_not_matter() {
    // The newest commit is a promise, after which power was lost: damage to it is noticed, too.
    let (image, content) = lived(promise(60, hard_state(6, 3, 25)));
    let mut noticed = 0;
    for at in sample(&image) {
        let mut damaged = image.clone();
        damaged.flip(at, 1 << (at % 8));
        match content_of(damaged) {
            Ok(found) => assert_eq!(found, content, "byte {at} lost something"),
            Err(error) => {
                assert_is_damage(&error, &format!("byte {at}"));
                noticed += 1;
            }
        }
    }
    assert!(noticed > 200, "{noticed}");
}

#[test]
fn a_flipped_byte_of_a_page_costs_the_newest_commit_at_most_and_none_that_holds_a_promise() {
    let (image, content) = lived(append(60, entries(55..=56, 5, 5000)));
    let mut before = content.clone();
    let RecoveredState::Founded(log) = &mut before.recovered.state else { panic!("a founded store") };
    log.entries.truncate(log.entries.len() - 2);
    let mut lost = 0;
    for at in sample(&image) {
        let mut damaged = image.clone();
        damaged.flip(at, 1 << (at % 8));
        match content_of(damaged) {
            Ok(found) if found == before => lost += 1,
            Ok(found) => assert_eq!(found, content, "byte {at} lost something"),
            Err(error) => assert_is_damage(&error, &format!("byte {at}")),
        }
    }
    assert!(lost > 0, "it must happen, or this shows nothing");
}

/// Where redb's part begins.
const REDB: usize = (PAGE_BYTES + SHORT_JOURNAL_BYTES) as usize;
/// End of redb's header.
const HEADER: usize = REDB + 320;
/// The byte of redb's header that holds its flags, among them which of two slots has the newest commit. No checksum covers
/// it.
const GOD_BYTE: usize = REDB + 9;

#[test]
fn a_damaged_flag_byte_costs_at_most_the_newest_commit() {
    let (image, recovered) = closed();
    for bit in 0..8 {
        let mut damaged = image.clone();
        damaged.flip(GOD_BYTE, 1 << bit);
        if let Ok(found) = open_image(damaged) {
            // The newest commit of a clean shutdown is redb's own, about free pages.
            assert_eq!(found, recovered, "bit {bit}");
        }
    }
}

/// A store that lost power right after `last` was acknowledged.
fn stopped_after(last: WriteSet) -> Image {
    let disk = Disk::default();
    let mut store = with_log(&disk);
    store.commit(&[last]).unwrap();
    disk.image()
}

#[test]
fn one_bit_of_the_header_and_no_other_can_cost_a_promise_in_silence() {
    let image = stopped_after(promise(9, hard_state(3, 2, 4)));
    let whole = open_image(image.clone()).unwrap();
    assert_eq!(log_of(&whole).hard_state, hard_state(3, 2, 4));
    let mut silent = Vec::new();
    for bit in (0..64 * 8).chain(REDB * 8..HEADER * 8) {
        let mut damaged = image.clone();
        damaged.flip(bit / 8, 1 << (bit % 8));
        match open_image(damaged) {
            Ok(found) if found == whole => {}
            Ok(found) => silent.push((bit, log_of(&found).hard_state)),
            Err(error) => assert_is_damage(&error, &format!("bit {bit}")),
        }
    }
    // Documented in the module's essay and in docs/guarantees.md: the vote before is back.
    assert_eq!(silent, [(GOD_BYTE * 8, hard_state(2, 1, 4))]);
}

/// A store that lost power right after `last` was acknowledged, with one byte flipped where these were written last.
fn damaged_newest(last: WriteSet, written: &[u8]) -> Result<Recovered, StoreError> {
    let mut image = stopped_after(last);
    image.flip(position(&image, written) + written.len() / 2, 1);
    open_image(image)
}

#[test]
fn raft_rs_26_the_newest_commit_is_lost_in_silence_unless_it_held_a_promise() {
    // Documented in the module's essay and in raft-rs.md 26: a hint, and nobody was promised anything.
    let hint = hard_state(2, 1, 6);
    let recovered = damaged_newest(commit_to(9, hint), &codec::encode(&hint)).unwrap();
    assert_eq!(log_of(&recovered).hard_state, hard_state(2, 1, 4), "the state before");
    let vote = hard_state(3, 2, 4);
    assert_eq!(damaged_newest(promise(9, vote), &codec::encode(&vote)).unwrap_err().code(), "STORE_DAMAGED");
}

#[test]
fn damage_to_what_is_older_than_the_newest_commit_is_noticed() {
    let entry = &entries(3..=3, 2, 64)[0];
    let in_journal = codec::encode(entry);
    let in_tables = record::encode("log", &schema::log_key(ShardId::FIRST, Body::FOUNDING, entry.index), entry);
    let hint = commit_to(9, hard_state(2, 1, 6));
    assert_eq!(damaged_newest(hint, &in_journal).unwrap_err().code(), "STORE_DAMAGED");
    let vote = promise(9, hard_state(3, 2, 4));
    assert_eq!(damaged_newest(vote, &in_tables).unwrap_err().code(), "STORE_DAMAGED");
}

#[test]
fn a_file_that_is_cut_short_or_padded_is_refused() {
    let (image, recovered) = closed();
    for len in [0, 1, 8, 9, 64, 320, 4095, 4096, image.len() / 2, image.len() - 4096, image.len() - 1] {
        let mut cut = image.clone();
        cut.resize(len);
        let error = open_image(cut).unwrap_err();
        assert_eq!(error.code(), "STORE_DAMAGED", "length {len}: {error}");
    }
    let padded = |bytes| {
        let mut padded = image.clone();
        padded.resize(image.len() + bytes);
        open_image(padded)
    };
    assert_eq!(padded(1).unwrap_err().code(), "STORE_DAMAGED");
    assert_eq!(padded(4096).unwrap(), recovered, "a page more is free space");
}

/// Opens what may be anything: it is refused, or what the store was; and nothing is read over and over.
fn open_anything(image: Image, recovered: &Recovered) -> Result<(), proptest::test_runner::TestCaseError> {
    let disk = Disk::holding(image.clone());
    match Store::open(disk.clone(), wanted(), |_| {}) {
        Ok((_, found)) => proptest::prop_assert_eq!(&found, recovered),
        Err(error) => proptest::prop_assert!(matches!(error.code(), "STORE_DAMAGED" | "STORE_FORMAT"), "{}", error),
    }
    let read_bytes = disk.counts().read_bytes;
    proptest::prop_assert!(read_bytes <= 8 * image.len() as u64 + 4096, "{} bytes of {}", read_bytes, image.len());
    Ok(())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_as_a_store_are_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20_000)) {
        open_anything(bytes.into(), &model(&[]))?;
    }

    #[test]
    fn any_bytes_that_begin_like_a_store_are_refused(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20_000), begins in 24usize..HEADER
    ) {
        let (image, recovered) = closed();
        open_anything([image.bytes(0..begins), bytes].concat().into(), &recovered)?;
    }

    #[test]
    fn a_store_overwritten_in_places_is_refused_or_what_it_was(
        places in proptest::collection::vec((0usize..200_000, proptest::prelude::any::<[u8; 40]>()), 1..8)
    ) {
        let (mut image, recovered) = closed();
        for (at, bytes) in places {
            image.write(GOD_BYTE + 1 + at % (image.len() - 50), &bytes);
        }
        open_anything(image, &recovered)?;
    }

    #[test]
    fn a_store_with_pages_in_the_place_of_others_is_refused_or_what_it_was(
        swaps in proptest::collection::vec((1usize..100, 1usize..100), 1..4)
    ) {
        let (mut image, recovered) = closed();
        for (from, to) in swaps {
            let page = |number: usize| 4096 * (1 + number % (image.len() / 4096 - 1));
            let (from, to) = (page(from), page(to));
            let page = image.bytes(from..from + 4096);
            image.write(to, &page);
        }
        open_anything(image, &recovered)?;
    }
}

/// Changes a record behind the store's back, checksum and all.
fn forged(forge: impl FnOnce(&WriteTransaction)) -> StoreError {
    let disk = Disk::default();
    drop(with_log(&disk));
    let database = tables_of(&disk);
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
}

#[test]
fn another_format_is_refused_by_name() {
    let (mut image, _) = closed();
    let mut front = image.bytes(0..20);
    front[8] = 5;
    image.write(0, &front);
    image.write(20, &record::checksum("front", &(), &front).to_le_bytes());
    let error = open_image(image).unwrap_err();
    assert_eq!(error.code(), "STORE_FORMAT");
    assert!(error.to_string().contains("format 5; tombola"), "{error}");
    assert!(error.to_string().contains("reads formats 4 to 4"), "{error}");
    // What stands behind its front page was the whole file once.
    let (image, _) = closed();
    let error = open_image(image.bytes(REDB..image.len()).into()).unwrap_err();
    assert!(error.to_string().contains("format 1; tombola"), "{error}");
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
    assert_eq!(create(disk.clone(), identity(), JOURNAL_BYTES).unwrap_err().code(), "STORE_REFUSED");
    assert_eq!(disk.image(), image);
}
