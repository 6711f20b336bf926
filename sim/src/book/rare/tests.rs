//! Each rare state, made by hand, and what is nearest to it and is not rare.

use bytes::Bytes;
use tombola::{
    durable::{Entry, EntryKind, Founders, HardState, Identity, RecoveredLog, Snapshot, SnapshotMeta},
    pool::{DrawSeq, Limits, Outcome, Query, Version},
    replica::RaftMessage,
    types::{ClusterId, DiskId, Genesis, Millis, ShardId},
};

use super::*;
use crate::{
    book::tests::status,
    check::{
        Incarnation,
        made_up::{again, claim, claimed, drawn, outcome},
    },
};

const NONE: [&str; 0] = [];

/// A life of node 1 that showed so much last.
fn life(shown: Option<Status>) -> Life {
    let who = Incarnation { replica: ReplicaId(1), number: 2 };
    let mut life = Life::new(who, Index(0));
    life.shown = shown;
    life
}

fn leader(term: u64) -> Status {
    status(1, Role::Leader, term)
}

fn follower(term: u64) -> Status {
    status(1, Role::Follower, term)
}

#[test]
fn an_entry_of_an_earlier_term_is_rare_where_it_is_committed_by_a_later_leader() {
    let mut rare = Rare::default();
    let leads = life(Some(Status { commit: Index(5), ..leader(3) }));
    assert_eq!(rare.applied(&leads, Index(6), Term(2)), Some("prior_term_entry_committed"));
    assert_eq!(rare.applied(&leads, Index(7), Term(3)), None, "its own");
    assert_eq!(rare.applied(&leads, Index(5), Term(2)), None, "committed before it led");
    let follows = life(Some(Status { commit: Index(5), ..follower(3) }));
    assert_eq!(rare.applied(&follows, Index(6), Term(2)), None, "others see it later, and always");
    assert_eq!(rare.applied(&life(None), Index(6), Term(2)), None, "nobody knows what it is");
}

#[test]
fn what_a_node_applied_is_known_to_its_next_life() {
    let mut rare = Rare::default();
    rare.applied(&life(None), Index(6), Term(2));
    rare.applied(&life(None), Index(7), Term(2));
    assert_eq!((rare.applied_by(ReplicaId(1)), rare.applied_by(ReplicaId(2))), (Index(7), Index(0)));
}

#[test]
fn a_key_that_is_remembered_is_so_by_whom_and_across_what() {
    let mut rare = Rare::default();
    rare.turned(None, &status(2, Role::Leader, 2), [].iter());
    rare.turned(None, &leader(3), [].iter());
    rare.turned(None, &leader(5), [].iter());
    for (index, term) in [(4, 2), (5, 3), (6, 5)] {
        rare.applied(&life(None), Index(index), Term(term));
    }
    let now = life(Some(leader(5)));
    assert_eq!(rare.remembered(&now, Index(6)), ["key_hit_same_leader"]);
    assert_eq!(rare.remembered(&now, Index(5)), NONE, "it led then too, in another term");
    assert_eq!(rare.remembered(&now, Index(4)), ["key_hit_new_leader"]);
    let mut restarted = life(Some(leader(5)));
    (restarted.applied_before, restarted.restored) = (Index(5), Index(4));
    assert_eq!(rare.remembered(&restarted, Index(6)), ["key_hit_same_leader"]);
    assert_eq!(rare.remembered(&restarted, Index(5)), ["key_hit_after_restart"]);
    let all = ["key_hit_new_leader", "key_hit_after_restart", "key_hit_after_snapshot"];
    assert_eq!(rare.remembered(&restarted, Index(4)), all);
    assert_eq!(rare.remembered(&life(Some(follower(5))), Index(4)), NONE, "only a leader's word is told");
    assert_eq!(rare.remembered(&life(None), Index(4)), NONE);
}

#[test]
fn two_lead_at_once_if_an_older_leader_does_not_know_yet() {
    let turned = |before: Option<&Status>, now: &Status, other: Status| {
        Rare::default().turned(before, now, [status(3, Role::Follower, 4), other].iter())
    };
    let old = || status(2, Role::Leader, 3);
    assert_eq!(turned(Some(&follower(4)), &leader(4), old()), ["two_leaders_in_different_terms"]);
    assert_eq!(turned(None, &leader(4), old()), ["two_leaders_in_different_terms"]);
    assert_eq!(turned(Some(&leader(4)), &leader(4), old()), NONE, "said once");
    assert_eq!(turned(Some(&follower(4)), &leader(4), status(2, Role::Follower, 3)), NONE);
    assert_eq!(turned(Some(&follower(4)), &follower(4), old()), NONE);
}

#[test]
fn a_leader_steps_down_within_its_term_or_is_overtaken() {
    let turned = |before: &Status, now: &Status| Rare::default().turned(Some(before), now, [].iter());
    assert_eq!(turned(&leader(4), &follower(4)), ["check_quorum_step_down"]);
    assert_eq!(turned(&leader(4), &follower(5)), NONE, "somebody else stands for election");
    assert_eq!(turned(&status(1, Role::Candidate, 4), &follower(4)), NONE, "it never led");
}

#[test]
fn a_transfer_is_done_by_its_successor_in_the_next_term_and_else_came_to_nothing() {
    let told = frame(RaftBody::TimeoutNow, 1, 4);
    let next = |node, term| status(node, Role::Leader, term);
    let mut rare = Rare::default();
    assert_eq!(rare.sent(&told), None);
    assert_eq!(rare.turned(None, &next(2, 5), [].iter()), NONE, "another node won");
    assert_eq!(rare.turned(None, &next(1, 6), [].iter()), NONE, "a later election");
    assert_eq!(rare.turned(None, &next(1, 5), [].iter()), ["transfer_done"]);
    assert_eq!(rare.turned(None, &next(1, 5), [].iter()), NONE, "once");

    let under_way = |term| Status { transferring: true, ..leader(term) };
    assert_eq!(rare.turned(Some(&under_way(6)), &leader(6), [].iter()), ["transfer_timed_out"]);
    assert_eq!(rare.turned(Some(&under_way(6)), &under_way(6), [].iter()), NONE);
    assert_eq!(rare.turned(Some(&under_way(6)), &follower(7), [].iter()), NONE, "it worked");
}

#[test]
fn a_pre_vote_is_refused_by_a_rejection_of_one() {
    let answer = |pre, reject| RaftBody::RequestVoteResponse { pre, reject, commit: Index(0), commit_term: Term(0) };
    let sent = |body| Rare::default().sent(&frame(body, 1, 4));
    assert_eq!(sent(answer(true, true)), Some("pre_vote_refused"));
    assert_eq!((sent(answer(true, false)), sent(answer(false, true))), (None, None));
}

/// A frame for a node, in a term.
fn frame(body: RaftBody, to: u64, term: u64) -> PeerFrame {
    let message = RaftMessage { to: ReplicaId(to), from: ReplicaId(9), term: Term(term), body };
    PeerFrame {
        version: 1,
        cluster: ClusterId([0; 16]),
        shard: ShardId::FIRST,
        wall: Millis(0),
        genesis: None,
        message: PeerMessage::Raft(message),
    }
}

/// Claims of one unit, asked for and told at these moments: the item, when it was asked for, when it was told, and what.
fn claims(of: &[(&str, u64, u64, Outcome)]) -> Vec<&'static str> {
    let mut rare = Rare::default();
    for (number, (item, asked, _, _)) in of.iter().enumerate() {
        rare.asked(Moment(*asked), CallId(number), &Ask::Request(claim(1, item, 1)));
    }
    let mut by_time: Vec<_> = of.iter().enumerate().collect();
    by_time.sort_by_key(|(_, (_, _, told, _))| *told);
    by_time
        .into_iter()
        .flat_map(|(call, (_, _, at, told))| rare.told(Moment(*at), CallId(call), &outcome_of(told)))
        .collect()
}

fn outcome_of(outcome: &Outcome) -> Told {
    Told::Outcome(outcome.clone())
}

#[test]
fn a_race_for_the_last_unit_is_lost_to_a_claim_that_was_under_way_at_the_same_time() {
    let out = || outcome(8, Ok(Effect::Claimed { seq: DrawSeq(8), result: Claim::OutOfStock { remaining: 0 } }));
    let race = ["stock_out_answer", "last_unit_by_race"];
    assert_eq!(claims(&[("gold", 1, 5, claimed(7, 7)), ("gold", 3, 6, out())]), race);
    let alone = ["stock_out_answer"];
    assert_eq!(claims(&[("gold", 1, 5, claimed(7, 7)), ("gold", 5, 6, out())]), alone, "asked for when it was gone");
    assert_eq!(claims(&[("mud", 1, 5, claimed(7, 7)), ("gold", 3, 6, out())]), alone, "of another item");
    assert_eq!(claims(&[("gold", 1, 5, again(&claimed(7, 7))), ("gold", 3, 6, out())]), alone, "taken long before");
    assert_eq!(claims(&[("gold", 1, 5, claimed(7, 7))]), NONE);
}

#[test]
fn nothing_is_left_when_an_answer_says_so() {
    let told = |told: Told| Rare::default().told(Moment(1), CallId(0), &told);
    let steps = |steps: Vec<Step>| {
        outcome(7, Ok(Effect::Drawn { first_seq: DrawSeq(1), version: Version(1), steps: steps.into_iter().collect() }))
    };
    assert_eq!(told(Told::Outcome(steps(vec![Step::Miss, Step::PoolEmpty]))), ["stock_out_answer"]);
    assert_eq!(told(Told::Outcome(steps(vec![Step::Miss]))), NONE);
    assert_eq!(told(Told::Outcome(drawn(7, 1, "gold"))), NONE);
    assert_eq!(told(Told::Outcome(outcome(7, Err(Refusal::PoolNotFound)))), NONE);
    assert_eq!(told(Told::NotApplied), NONE);
    let mut rare = Rare::default();
    rare.asked(Moment(1), CallId(0), &Ask::Read(Query::first_pools()));
    assert_eq!(rare.told(Moment(2), CallId(0), &Told::NotApplied), NONE);
}

fn entry(index: u64) -> Entry {
    Entry { index: Index(index), term: Term(1), kind: EntryKind::Normal, data: Bytes::new() }
}

/// A disk with a snapshot at 3 and entries up to `last`, in a term.
fn recovered(last: u64, term: u64) -> Recovered {
    let cluster = ClusterId([0; 16]);
    let founders = Founders { cluster, limits: Limits::default(), disks: BTreeMap::new() };
    let meta =
        SnapshotMeta { index: Index(3), term: Term(1), voters: vec![], founders, body_bytes: 0, body_sha256: [0; 32] };
    let log = RecoveredLog {
        genesis: Genesis([0; 32]),
        hard_state: HardState { term: Term(term), ..HardState::default() },
        snapshot: Snapshot { meta, body: vec![] },
        truncated: (Index(3), Term(1)),
        entries: (4..=last).map(entry).collect(),
    };
    let identity = Identity { cluster, shard: ShardId::FIRST, replica: ReplicaId(1), disk: DiskId([0; 16]) };
    Recovered { identity, state: RecoveredState::Founded(log) }
}

#[test]
fn a_commit_is_rolled_back_if_an_entry_or_a_term_of_it_is_gone() {
    let entries = |last| WriteSet { entries: (4..=last).map(entry).collect(), ..WriteSet::default() };
    let hard = HardState { term: Term(2), ..HardState::default() };
    let term = || WriteSet { hard_state: Some(hard), ..WriteSet::default() };
    assert!(!is_rolled_back(&[entries(6), term()], &recovered(6, 2)));
    assert!(is_rolled_back(&[entries(6)], &recovered(5, 2)), "the last entry");
    assert!(is_rolled_back(&[entries(4)], &recovered(3, 2)), "the only one after the snapshot");
    assert!(is_rolled_back(&[entries(6), term()], &recovered(6, 1)), "the term");
    assert!(!is_rolled_back(&[], &recovered(3, 1)));
    let state = RecoveredState::Unfounded { prepared: None };
    assert!(!is_rolled_back(&[entries(6)], &Recovered { state, ..recovered(3, 1) }), "lost with all the rest");
}

#[test]
fn a_tail_is_lonely_if_no_other_voter_has_its_end() {
    let matched = |of: &[(u64, u64)]| of.iter().map(|(id, at)| (ReplicaId(*id), Index(*at))).collect();
    let leads = |of: &[(u64, u64)]| Status { last_index: Index(9), matched: matched(of), ..leader(2) };
    assert!(has_lonely_tail(&leads(&[(1, 9), (2, 8), (3, 4)])));
    assert!(!has_lonely_tail(&leads(&[(1, 9), (2, 9), (3, 4)])), "one has it");
    assert!(!has_lonely_tail(&leads(&[(1, 9)])), "there is nobody else");
    assert!(!has_lonely_tail(&Status { role: Role::Follower, ..leads(&[(1, 9), (2, 8)]) }));
}
