//! Made-up histories of one voter of three, which is in term 3, follows replica 1 and has entries 2 to 6, the last of term 3.

use tombola::{
    durable::{Entry, EntryKind, FoundingWrite, HardState, RecoveredLog, Snapshot, SnapshotMeta, SnapshotWrite},
    pool::Limits,
    replica::ProposalId,
    types::{ClusterId, DiskId, Millis, ShardId},
};

use super::*;
use crate::check::made_up::{outcome, refused};

const ME: ReplicaId = ReplicaId(2);
const LEADER: ReplicaId = ReplicaId(1);

fn founders() -> Founders {
    let disks = (1..=3).map(|replica| (ReplicaId(replica), DiskId([replica as u8; 16]))).collect();
    Founders { cluster: ClusterId([1; 16]), limits: Limits::default(), disks }
}

fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta {
        index: Index(index),
        term: Term(term),
        voters: (1..=3).map(ReplicaId).collect(),
        founders: founders(),
        body_bytes: 0,
        body_sha256: [0; 32],
    }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: ReplicaId(vote), commit: Index(commit) }
}

fn promise(term: u64, vote: u64, commit: u64) -> WriteSet {
    WriteSet { hard_state: Some(hard_state(term, vote, commit)), promise: true, ..WriteSet::default() }
}

/// Entries from `first` on, of these terms.
fn append(first: u64, terms: &[u64]) -> WriteSet {
    let entry = |(index, term): (u64, &u64)| Entry {
        index: Index(index),
        term: Term(*term),
        kind: EntryKind::Normal,
        data: Default::default(),
    };
    WriteSet { entries: (first..).zip(terms).map(entry).collect(), ..WriteSet::default() }
}

fn installed(index: u64, term: u64, hard_state: HardState) -> WriteSet {
    let snapshot = Some(SnapshotWrite::Installed { meta: meta(index, term) });
    WriteSet { snapshot, hard_state: Some(hard_state), ..WriteSet::default() }
}

fn taken(index: u64, term: u64, truncated: (u64, u64)) -> WriteSet {
    let truncated = (Index(truncated.0), Term(truncated.1));
    WriteSet { snapshot: Some(SnapshotWrite::Taken { meta: meta(index, term), truncated }), ..WriteSet::default() }
}

fn found() -> WriteSet {
    let founding = Some(FoundingWrite::Found(Snapshot { meta: meta(1, 1), body: Vec::new() }));
    WriteSet { founding, hard_state: Some(hard_state(1, 0, 1)), ..WriteSet::default() }
}

/// What a start finds: this hard state, a snapshot and a log after it, of these terms.
fn state(hard_state: HardState, snapshot: (u64, u64), terms: &[u64]) -> RecoveredState {
    let meta = meta(snapshot.0, snapshot.1);
    RecoveredState::Founded(RecoveredLog {
        genesis: meta.genesis(),
        hard_state,
        truncated: (meta.index, meta.term),
        entries: append(snapshot.0 + 1, terms).entries,
        snapshot: Snapshot { meta, body: Vec::new() },
    })
}

fn write(check: &mut PromiseCheck, node: ReplicaId, sets: &[WriteSet]) -> Result<(), Violation> {
    sets.iter().for_each(|set| check.wrote(node, set));
    check.reported(node)
}

fn check() -> PromiseCheck {
    let mut check = PromiseCheck::new(3);
    write(&mut check, ME, &[found()]).unwrap();
    write(&mut check, ME, &[promise(3, 1, 1), append(2, &[1, 2, 2, 3, 3])]).unwrap();
    check
}

fn frame(message: PeerMessage) -> PeerFrame {
    let (cluster, shard) = (ClusterId([1; 16]), ShardId::FIRST);
    PeerFrame { version: PeerFrame::VERSION, cluster, shard, wall: Millis(0), genesis: None, message }
}

/// It says this to replica 1.
fn say(check: &mut PromiseCheck, term: u64, body: RaftBody) -> Result<(), Violation> {
    check.said(ME, &frame(PeerMessage::Raft(RaftMessage { to: LEADER, from: ME, term: Term(term), body })))
}

fn accepts(index: u64) -> RaftBody {
    let (index, log_term, commit) = (Index(index), Term(0), Index(1));
    RaftBody::AppendResponse { index, log_term, commit, reject: false, reject_hint: Index(0) }
}

fn votes(pre: bool, reject: bool) -> RaftBody {
    RaftBody::RequestVoteResponse { pre, reject, commit: Index(0), commit_term: Term(0) }
}

fn asks(pre: bool) -> RaftBody {
    let (index, log_term, commit, commit_term) = (Index(6), Term(3), Index(1), Term(1));
    RaftBody::RequestVote { pre, index, log_term, commit, commit_term, transfer: false }
}

fn answers_heartbeat() -> RaftBody {
    RaftBody::HeartbeatResponse { commit: Index(1), context: Default::default() }
}

const SAYS: &str = "and durable is";
const LOST: &str = "of what was reported durable";
const TAKES: &str = "replica 2 writes";

#[test]
fn what_is_durable_may_be_said() {
    let mut check = check();
    for (term, body) in [
        (3, accepts(6)),
        (3, accepts(2)),
        (3, votes(false, false)),
        (3, votes(false, true)),
        (3, votes(true, true)),
        (3, answers_heartbeat()),
        // Of a term that is none yet, and of none at all.
        (4, votes(true, false)),
        (4, asks(true)),
        (0, RaftBody::ReadIndex { context: Default::default() }),
    ] {
        say(&mut check, term, body).unwrap();
    }
}

#[test]
fn an_entry_is_not_accepted_before_its_commit_comes_back() {
    let mut check = check();
    check.wrote(ME, &append(7, &[3]));
    refused(say(&mut check.clone(), 3, accepts(7)), "promise", SAYS);
    check.reported(ME).unwrap();
    say(&mut check, 3, accepts(7)).unwrap();
    refused(say(&mut check, 3, accepts(8)), "promise", "Log(Term(3), Index(8))");
}

#[test]
fn no_vote_and_no_term_is_told_before_it_is_durable() {
    for body in [votes(false, false), votes(false, true), asks(false), accepts(3), answers_heartbeat()] {
        refused(say(&mut check(), 4, body), "promise", SAYS);
    }
    // The term is written, and the vote is another's, or nobody's.
    for vote in [0, 3] {
        let mut check = check();
        write(&mut check, ME, &[promise(4, vote, 1)]).unwrap();
        say(&mut check, 4, votes(false, true)).unwrap();
        refused(say(&mut check, 4, votes(false, false)), "promise", "Vote(Term(4), ReplicaId(1))");
        refused(say(&mut check, 4, asks(false)), "promise", "Vote(Term(4), ReplicaId(2))");
    }
    let mut check = check();
    write(&mut check, ME, &[promise(4, 2, 1)]).unwrap();
    say(&mut check, 4, asks(false)).unwrap();
    say(&mut check, 4, RaftBody::Heartbeat { commit: Index(1), context: Default::default() }).unwrap();
    // What an earlier term held back may leave later.
    say(&mut check, 3, votes(false, false)).unwrap();
    say(&mut check, 3, accepts(6)).unwrap();
}

#[test]
fn what_was_overwritten_in_the_transaction_that_made_it_durable_was_durable() {
    let conflict = WriteSet { hard_state: Some(hard_state(4, 0, 1)), ..append(5, &[4]) };
    let mut check = check();
    write(&mut check, ME, &[append(7, &[3, 3]), conflict]).unwrap();
    say(&mut check, 3, accepts(8)).unwrap();
    say(&mut check, 4, accepts(5)).unwrap();
    refused(say(&mut check, 4, accepts(8)), "promise", SAYS);
    // In a later term, but nothing was overwritten: it was never there.
    let mut check = self::check();
    write(&mut check, ME, &[promise(4, 0, 1)]).unwrap();
    refused(say(&mut check, 3, accepts(7)), "promise", SAYS);
}

#[test]
fn a_start_finds_what_was_reported_or_what_was_at_the_disk_as_well() {
    let durable = state(hard_state(3, 1, 1), (1, 1), &[1, 2, 2, 3, 3]);
    assert!(check().recovered(ME, &durable).unwrap());
    let mut written = check();
    written.wrote(ME, &append(7, &[3]));
    written.wrote(ME, &promise(4, 1, 2));
    assert!(written.clone().recovered(ME, &durable).unwrap());
    let whole = state(hard_state(4, 1, 2), (1, 1), &[1, 2, 2, 3, 3, 3]);
    assert!(written.clone().recovered(ME, &whole).unwrap());
    // One transaction, half of it.
    for half in
        [state(hard_state(3, 1, 1), (1, 1), &[1, 2, 2, 3, 3, 3]), state(hard_state(4, 1, 2), (1, 1), &[1, 2, 2, 3, 3])]
    {
        refused(written.clone().recovered(ME, &half).map(drop), "promise", LOST);
    }
    // What a start found is durable, whether it was reported or not; what it did not find is gone for good.
    written.recovered(ME, &whole).unwrap();
    say(&mut written, 4, accepts(7)).unwrap();
    refused(written.recovered(ME, &durable).map(drop), "promise", LOST);
}

#[test]
fn a_start_that_lost_something_is_refused() {
    let mine = hard_state(3, 1, 1);
    for (lost, what) in [
        (state(mine, (1, 1), &[1, 2, 2, 3]), "is left as entries 2 to 5"),
        (state(mine, (1, 1), &[1, 2, 2, 2, 3]), "other terms from 5 on"),
        // A suffix that came back.
        (state(mine, (1, 1), &[1, 2, 2, 3, 3, 2]), "is left as entries 2 to 7"),
        (state(hard_state(3, 0, 1), (1, 1), &[1, 2, 2, 3, 3]), "is left as HardState"),
        (state(hard_state(2, 1, 1), (1, 1), &[1, 2, 2, 3, 3]), "is left as HardState"),
        (state(mine, (3, 2), &[2, 3, 3]), "a snapshot of 3"),
        (RecoveredState::Unfounded { prepared: None }, "a founding is missing"),
    ] {
        refused(check().recovered(ME, &lost).map(drop), "promise", what);
        let mut damaged = check();
        damaged.damaged(ME);
        assert!(!damaged.recovered(ME, &lost).unwrap(), "it is told apart");
        assert!(damaged.recovered(ME, &lost).unwrap(), "from then on this is what it has");
        refused(say(&mut damaged, 3, accepts(3)), "promise", "replica 2, which has forgotten");
    }
}

#[test]
fn a_later_leader_may_overwrite_what_an_earlier_one_was_told_and_no_other() {
    let conflict = |term| WriteSet { hard_state: Some(hard_state(term, 0, 1)), ..append(5, &[2]) };
    let mut accepted = check();
    say(&mut accepted, 3, accepts(6)).unwrap();
    write(&mut accepted.clone(), ME, &[conflict(4)]).unwrap();
    refused(write(&mut accepted.clone(), ME, &[append(5, &[2])]), "promise", TAKES);
    refused(write(&mut accepted.clone(), ME, &[append(5, &[3])]), "promise", "6 was accepted");
    write(&mut accepted, ME, &[append(5, &[3, 3, 3])]).unwrap();
    // What was not accepted may go even so.
    let mut check = check();
    say(&mut check, 3, accepts(4)).unwrap();
    write(&mut check, ME, &[append(5, &[3])]).unwrap();
}

#[test]
fn a_snapshot_covers_what_was_accepted_before_it() {
    let mut accepted = check();
    say(&mut accepted, 3, accepts(6)).unwrap();
    write(&mut accepted.clone(), ME, &[installed(9, 3, hard_state(3, 1, 9))]).unwrap();
    write(&mut accepted.clone(), ME, &[installed(5, 3, hard_state(4, 0, 5))]).unwrap();
    refused(write(&mut accepted.clone(), ME, &[installed(5, 3, hard_state(3, 1, 5))]), "promise", TAKES);
    let after = installed(9, 3, hard_state(3, 1, 9));
    refused(say(&mut accepted, 3, accepts(9)), "promise", SAYS);
    write(&mut accepted, ME, &[after, append(10, &[3])]).unwrap();
    say(&mut accepted, 3, accepts(10)).unwrap();
    assert!(accepted.recovered(ME, &state(hard_state(3, 1, 9), (9, 3), &[3])).unwrap());
}

#[test]
fn a_snapshot_is_announced_once_it_is_durable() {
    let mut check = check();
    let announces = || RaftBody::Snapshot { meta: meta(4, 2) };
    refused(say(&mut check, 3, announces()), "promise", "Snapshot(Index(4))");
    write(&mut check, ME, &[promise(3, 1, 5)]).unwrap();
    write(&mut check, ME, &[taken(4, 2, (3, 2))]).unwrap();
    say(&mut check, 3, announces()).unwrap();
    say(&mut check, 3, accepts(6)).unwrap();
    refused(write(&mut check, ME, &[append(3, &[2])]), "promise", "up to 3 all is compacted");
}

#[test]
fn nothing_that_was_promised_falls() {
    for set in [promise(2, 1, 1), promise(3, 3, 1), promise(3, 1, 0)] {
        refused(write(&mut check(), ME, &[set]), "promise", TAKES);
    }
    let mut check = check();
    write(&mut check, ME, &[promise(3, 1, 5)]).unwrap();
    refused(write(&mut check.clone(), ME, &[promise(4, 0, 5), append(5, &[4])]), "promise", "5 was accepted");
    refused(write(&mut check, ME, &[append(9, &[3])]), "promise", "after entry 6");
}

#[test]
fn a_founder_is_bound_before_it_says_so() {
    let mut check = PromiseCheck::new(3);
    let prepared = || frame(PeerMessage::Founding(FoundingMessage::Prepared { founders: founders() }));
    let founded = || frame(PeerMessage::Founding(FoundingMessage::Founded { founders: founders() }));
    check.wrote(ME, &WriteSet { founding: Some(FoundingWrite::Prepare(founders())), ..WriteSet::default() });
    refused(check.said(ME, &prepared()), "promise", "Bound");
    check.reported(ME).unwrap();
    check.said(ME, &prepared()).unwrap();
    refused(check.said(ME, &founded()), "promise", "Founded");
    let unbound = RecoveredState::Unfounded { prepared: None };
    refused(check.clone().recovered(ME, &unbound).map(drop), "promise", "a founding is missing");
    write(&mut check, ME, &[found()]).unwrap();
    check.said(ME, &founded()).unwrap();
    check.said(ME, &prepared()).unwrap();
}

#[test]
fn what_is_answered_is_on_the_disks_of_a_majority() {
    let mut check = check();
    refused(check.answered(LEADER, Index(5)), "promise", "which 1 of 3 disks have");
    write(&mut check, LEADER, &[found(), promise(3, 1, 1), append(2, &[1, 2, 2, 2])]).unwrap();
    check.answered(ME, Index(4)).unwrap();
    refused(check.answered(ME, Index(5)), "promise", "which 1 of 3");
    let told = |index| {
        frame(PeerMessage::Forwarded(vec![(
            ProposalId(1),
            ProposalResult::Applied(outcome(index, Err(tombola::pool::Refusal::KeyReused))),
        )]))
    };
    check.said(LEADER, &told(4)).unwrap();
    refused(check.said(LEADER, &told(6)), "promise", "replica 1 says that 6 is decided");
    // A snapshot stands for what it covers.
    write(&mut check, ReplicaId(3), &[found(), installed(6, 3, hard_state(3, 0, 6))]).unwrap();
    check.answered(ME, Index(6)).unwrap();
    // A disk that is damaged may have had it.
    let mut check = self::check();
    write(&mut check, ReplicaId(3), &[found()]).unwrap();
    check.damaged(ReplicaId(3));
    check.answered(ME, Index(6)).unwrap();
}
