//! Frames of every kind with bytes changed, put in or cut off, and bytes that never were a frame.

use proptest::{prelude::*, test_runner::TestCaseResult};

use super::{super::snapshots::ShipmentId, *};
use crate::{
    durable::{Entry, EntryKind, Founders, SnapshotMeta},
    pool::{Action, Digests, KeyOrigin, Limits, Outcome, PoolId, Refusal, RequestKey},
    types::{DiskId, HistoryDigest, Index, StateDigest, Term},
};

const OURS: Framing =
    Framing { cluster: ClusterId([0xc1; 16]), shard: ShardId::FIRST, genesis: Some(Genesis([1; 32])) };
/// Bytes of a frame in front of its message.
const HEAD_BYTES: usize = 2 + 16 + 4 + 8 + 33;

fn founders() -> Founders {
    let disks = (1..=3).map(|id| (ReplicaId(id), DiskId([id as u8; 16])));
    Founders { cluster: OURS.cluster, limits: Limits::default(), disks: disks.collect() }
}

fn raft(body: RaftBody) -> RaftMessage {
    RaftMessage { to: ReplicaId(2), from: ReplicaId(1), term: Term(3), body }
}

fn snapshot() -> RaftBody {
    let meta = SnapshotMeta {
        index: Index(9),
        term: Term(2),
        voters: (1..=3).map(ReplicaId).collect(),
        founders: founders(),
        body_bytes: 7,
        body_sha256: [8; 32],
    };
    RaftBody::Snapshot { meta }
}

fn bodies_of_raft() -> [RaftBody; 10] {
    let (index, log_term, commit, commit_term) = (Index(9), Term(2), Index(8), Term(1));
    let entry = Entry { index: Index(10), term: Term(3), kind: EntryKind::Normal, data: vec![5; 40].into() };
    let context = Bytes::from_static(b"context");
    [
        RaftBody::Append { index, log_term, commit, entries: vec![entry; 3] },
        RaftBody::AppendResponse { index, log_term, commit, reject: true, reject_hint: Index(7) },
        RaftBody::RequestVote { pre: true, index, log_term, commit, commit_term, transfer: false },
        RaftBody::RequestVoteResponse { pre: false, reject: true, commit, commit_term },
        RaftBody::Heartbeat { commit, context: context.clone() },
        RaftBody::HeartbeatResponse { commit, context: context.clone() },
        RaftBody::ReadIndex { context: context.clone() },
        RaftBody::ReadIndexResponse { index, context },
        RaftBody::TimeoutNow,
        snapshot(),
    ]
}

/// One message of every kind, and of every kind within it.
fn of_every_kind() -> Vec<PeerMessage> {
    let command = Command {
        pool: PoolId::default_pool(),
        key: RequestKey::new(Millis(9), [7; 10]),
        origin: KeyOrigin::Caller,
        actor: "shop".parse().expect("an actor"),
        action: Action::Draw { count: 3 },
    };
    let outcome = Outcome { index: Index(9), now: Millis(9), replayed: false, result: Err(Refusal::PoolPaused) };
    let results = [ProposalResult::Applied(outcome), ProposalResult::NotProposed, ProposalResult::Superseded];
    let shipment = ShipmentId(1);
    let others = [
        PeerMessage::Founding(FoundingMessage::Hello { disk: DiskId([7; 16]) }),
        PeerMessage::Founding(FoundingMessage::Prepared { founders: founders() }),
        PeerMessage::Founding(FoundingMessage::Founded { founders: founders() }),
        PeerMessage::Forward(vec![(ProposalId(1), command.clone()), (ProposalId(2), command)]),
        PeerMessage::Forwarded(results.into_iter().map(|result| (ProposalId(1), result)).collect()),
        PeerMessage::Transfer { wish: 9, to: ReplicaId(2) },
        PeerMessage::TransferRefused { wish: 9, why: "it is behind".to_owned() },
        PeerMessage::Body(BodyMessage::Offer { shipment, message: raft(snapshot()) }),
        PeerMessage::Body(BodyMessage::Want { shipment, chunks: vec![1, 2, 3] }),
        PeerMessage::Body(BodyMessage::Chunk { shipment, number: 1, crc: 2, bytes: vec![7; 40].into() }),
        PeerMessage::Body(BodyMessage::Ended { shipment, arrived: true }),
        PeerMessage::Checkpoint(Checkpoint(Digests {
            index: Index(9),
            history: HistoryDigest([1; 32]),
            state: StateDigest(1),
        })),
    ];
    bodies_of_raft().map(|body| PeerMessage::Raft(raft(body))).into_iter().chain(others).collect()
}

/// What is taken for a frame is one, which says the same when it is sent on; what is not has a reason.
fn is_a_frame_or_an_error(bytes: &[u8]) -> TestCaseResult {
    match OURS.decode(bytes) {
        Ok((wall, message)) => {
            let again = OURS.decode(&OURS.encode(wall, message.clone()));
            prop_assert_eq!(again.ok(), Some((wall, message)));
        }
        Err(why) => prop_assert!(!why.to_string().is_empty()),
    }
    Ok(())
}

#[test]
fn every_kind_is_among_them() {
    let kinds = |bytes: Vec<Vec<u8>>| bytes.iter().map(|bytes| bytes[0]).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(kinds(of_every_kind().iter().map(codec::encode).collect()), (0..8).collect());
    assert_eq!(kinds(bodies_of_raft().iter().map(codec::encode).collect()), (0..10).collect());
    for message in of_every_kind() {
        let frame = OURS.encode(Millis(5), message.clone());
        assert_eq!(frame[HEAD_BYTES..], codec::encode(&message));
        assert_eq!(OURS.decode(&frame).unwrap(), (Millis(5), message));
    }
}

#[test]
fn any_byte_of_any_frame_may_be_wrong() {
    for message in of_every_kind() {
        let frame = OURS.encode(Millis(0), message);
        for at in 0..frame.len() {
            for flip in [1, 0x80, 0xff] {
                let mut wrong = frame.to_vec();
                wrong[at] ^= flip;
                is_a_frame_or_an_error(&wrong).unwrap();
            }
            assert!(OURS.decode(&frame[..at]).is_err(), "it is cut to {at} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_frame_with_bytes_changed_and_put_in_is_a_frame_or_an_error(
        message in prop::sample::select(of_every_kind()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        more in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = OURS.encode(Millis(0), message).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, byte) in more {
            bytes.insert(at.index(bytes.len()), byte);
        }
        is_a_frame_or_an_error(&bytes)?;
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..1_000)) {
        is_a_frame_or_an_error(&bytes)?;
    }

    #[test]
    fn any_bytes_as_a_message_are_one_or_an_error(
        kind in 0u8..9, kind_within in 0u8..11, bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let head = OURS.encode(Millis(0), PeerMessage::Transfer { wish: 0, to: ReplicaId(1) }).slice(..HEAD_BYTES);
        is_a_frame_or_an_error(&[&head[..], &[kind, 0, 0, 0], &bytes].concat())?;
        is_a_frame_or_an_error(&[&head[..], &[kind, 0, 0, 0, kind_within, 0, 0, 0], &bytes].concat())?;
    }
}
