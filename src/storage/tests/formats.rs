//! Golden bytes of everything that is kept. A change here is a change of [`FORMAT`].

use super::*;
use crate::codec;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn identity_bytes() {
    assert_eq!(
        hex(&codec::encode(&identity())),
        "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1000000000100000000000000d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
    );
}

#[test]
fn hard_state_bytes() {
    assert_eq!(hex(&codec::encode(&hard_state(3, 2, 7))), "030000000000000002000000000000000700000000000000");
}

#[test]
fn founders_bytes() {
    let founders = Founders {
        cluster: ClusterId([1; 16]),
        limits: Limits::default(),
        disks: [(ReplicaId(2), DiskId([3; 16]))].into(),
    };
    assert_eq!(
        hex(&codec::encode(&founders)),
        "010101010101010101010101010101010000001000000000005c2605000000000100000000000000020000000000000003030303030303030303030303030303"
    );
}

#[test]
fn snapshot_meta_bytes() {
    let founders = Founders { cluster: ClusterId([1; 16]), limits: Limits::default(), disks: BTreeMap::new() };
    let meta = SnapshotMeta { founders, voters: vec![ReplicaId(5)], ..founding(0).meta };
    assert_eq!(
        hex(&codec::encode(&meta)),
        "0100000000000000010000000000000001000000000000000500000000000000010101010101010101010101010101010000001000000000005c26050000000000000000000000000000000000000000e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn newest_bytes() {
    let newest = Newest { body: Body(9), log: Body(8), truncated: (Index(7), Term(6)), ..newest(0) };
    let meta = hex(&codec::encode(&newest.meta));
    let rest = "09000000000000000800000000000000".to_owned() + "07000000000000000600000000000000";
    assert_eq!(hex(&codec::encode(&newest)), meta + &rest);
}

#[test]
fn begun_bytes() {
    let own = Begun { body: Body(9), staging: Staging::Own { index: Index(7) } };
    assert_eq!(hex(&codec::encode(&own)), "0900000000000000000000000700000000000000");
    let meta = founding(0).meta;
    let received = Begun { body: Body(9), staging: Staging::Received(meta.clone()) };
    assert_eq!(hex(&codec::encode(&received)), "090000000000000001000000".to_owned() + &hex(&codec::encode(&meta)));
}

#[test]
fn entry_bytes() {
    let entry = Entry { index: Index(9), term: Term(4), kind: EntryKind::Normal, data: Bytes::from_static(b"ab") };
    assert_eq!(hex(&codec::encode(&entry)), "090000000000000004000000000000000000000002000000000000006162");
    assert_eq!(
        hex(&codec::encode(&Entry { kind: EntryKind::Membership, ..entry })),
        "090000000000000004000000000000000100000002000000000000006162"
    );
}

#[test]
fn genesis_of_a_founding() {
    assert_eq!(
        founding(10).meta.genesis().to_string(),
        "7aa9b8eab0139e3ff2c825887e8207e46a56745369050050fc720167a2193a8b"
    );
}

#[test]
fn slots_and_tables_keep_their_places() {
    let slots =
        [Slot::Identity, Slot::Prepared, Slot::Genesis, Slot::HardState, Slot::Newest, Slot::Begun, Slot::FirstRecord];
    assert_eq!(slots.map(|slot| slot.key(ShardId(7))), [(7, 0), (7, 1), (7, 2), (7, 3), (7, 4), (7, 5), (7, 6)]);
    assert_eq!(schema::log_key(ShardId(7), Body(3), Index(9)), (7, 3, 9));
    assert_eq!(schema::chunk_key(ShardId(7), Body(3), 9), (7, 3, 9));
    use redb::TableHandle;
    let names = [schema::STATE.name(), schema::LOG.name(), CHUNKS.name()];
    assert_eq!(names, ["state", "log", "chunks"]);
}
