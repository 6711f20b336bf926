use prometheus_client::encoding::text;

use super::*;
use crate::{
    pool::{Digests, DrawSeq, Outcome, Refusal, RequestKey, Verification, Version},
    replica::Role,
    types::{HistoryDigest, Index, Millis, StateDigest, Term},
};

fn told(metrics: &Metrics) -> String {
    let mut told = String::new();
    text::encode(&mut told, &metrics.registry()).unwrap();
    told
}

#[track_caller]
fn assert_told(metrics: &Metrics, line: &str) {
    let told = told(metrics);
    assert!(told.lines().any(|told| told == line), "{line} is not in:\n{told}");
}

fn answered(replayed: bool, result: Result<Effect, Refusal>) -> Result<Answered, Failure> {
    let outcome = Outcome { index: Index(2), now: Millis(3), replayed, result };
    Ok(Answered { key: RequestKey::new(Millis(1), [0; 10]), outcome })
}

#[test]
fn a_draw_is_counted_once_by_what_was_told() {
    let metrics = Metrics::default();
    let drawn = || {
        let steps = vec![Step::Awarded("a".parse().unwrap()), Step::Miss, Step::Miss, Step::PoolEmpty];
        Ok(Effect::Drawn { first_seq: DrawSeq(1), version: Version(1), steps: steps.into_iter().collect() })
    };
    metrics.handle_answer(4, &answered(false, drawn()));
    metrics.handle_answer(4, &answered(true, drawn()));
    metrics.handle_answer(7, &answered(false, Err(Refusal::PoolPaused)));
    metrics.handle_answer(0, &answered(false, Ok(Effect::Adjusted { remaining: 1 })));
    let counted = [("awarded", 1), ("fallback", 0), ("miss", 2), ("pool_empty", 1), ("refused", 7), ("replayed", 4)];
    for (outcome, draws) in counted {
        assert_told(&metrics, &format!("tombola_draws_total{{outcome=\"{outcome}\"}} {draws}"));
    }
}

#[test]
fn who_was_turned_away_did_not_fail() {
    let metrics = Metrics::default();
    let not_applied = |why: NotApplied| Err(Failure::NotApplied(why));
    metrics.handle_answer(1, &not_applied(NotApplied::Overloaded { retry_after_ms: 1 }));
    metrics.handle_answer(1, &not_applied(NotApplied::Malformed(String::new())));
    metrics.handle_answer(1, &not_applied(NotApplied::NoLeader));
    metrics.handle_answer(1, &Err(Failure::Unknown { key: RequestKey::new(Millis(1), [0; 10]) }));
    assert_told(&metrics, "tombola_admission_rejected_total{reason=\"malformed\"} 1");
    assert_told(&metrics, "tombola_admission_rejected_total{reason=\"draining\"} 0");
    assert_told(&metrics, "tombola_raft_proposals_failed_total 2");
    let late = not_applied(NotApplied::Overloaded { retry_after_ms: 1 }).map(|_: Answered| unreachable!());
    metrics.handle_read(Duration::ZERO, &late);
    assert_told(&metrics, "tombola_admission_rejected_total{reason=\"reads_full\"} 1");
}

#[test]
fn totals_that_others_keep_are_followed() {
    let metrics = Metrics::default();
    let digests = Digests { index: Index(8), history: HistoryDigest([0; 32]), state: StateDigest(0) };
    let status = Status {
        replica: ReplicaId(1),
        role: Role::Follower,
        term: Term(4),
        leader: None,
        commit: Index(10),
        digests,
        snapshot_index: Index(3),
        first_index: Index(4),
        last_index: Index(12),
        matched: Vec::new(),
        transferring: false,
    };
    for shed in [3, 3, 5] {
        let keys = KeyStats { keys: 7, bytes_used: 1, bytes_max: 2, horizon_ms: 86_400_500 };
        metrics.handle_tick(&status, keys, 6, TurnedAway { shed, ..TurnedAway::default() });
    }
    assert_told(&metrics, "tombola_admission_rejected_total{reason=\"shed\"} 5");
    assert_told(&metrics, "tombola_raft_proposals_committed_total 10");
    assert_told(&metrics, "tombola_raft_proposals_applied_total 8");
    assert_told(&metrics, "tombola_apply_lag_entries 2");
    assert_told(&metrics, "tombola_log_entries 9");
    assert_told(&metrics, "tombola_raft_proposals_pending 6");
    assert_told(&metrics, "tombola_key_table_entries 7");
    assert_told(&metrics, "tombola_key_horizon_seconds 86400.5");
}

#[test]
fn a_leader_counts_whenever_one_begins_to_lead() {
    let metrics = Metrics::default();
    let peer = Leader::Peer(ReplicaId(2));
    for (term, leader) in [(1, Leader::Unknown), (1, peer), (2, Leader::Unknown), (3, Leader::Here)] {
        metrics.handle_view(View { term: Term(term), leader });
    }
    assert_told(&metrics, "tombola_raft_leader_changes_total 2");
    assert_told(&metrics, "tombola_raft_has_leader 1");
    assert_told(&metrics, "tombola_raft_is_leader 1");
    assert_told(&metrics, "tombola_raft_term 3");
}

#[test]
fn what_a_check_finds_is_counted_from_nought() {
    let metrics = Metrics::default();
    assert_told(&metrics, "tombola_invariant_violations_total{invariant=\"state\"} 0");
    let violations = vec!["lost".to_owned(), "found".to_owned()];
    let answer = Answer::Verified(Verification { pools: 0, items: 0, keys: 0, violations });
    metrics.handle_verification(&Ok(Read { index: Index(1), now: Millis(1), answer }));
    assert_told(&metrics, "tombola_invariant_violations_total{invariant=\"state\"} 2");
}

#[test]
fn snapshots_are_counted_by_what_became_of_them() {
    let metrics = Metrics::default();
    let report = |arrived| Input::SnapshotReport { to: ReplicaId(2), arrived };
    [true, true, false].map(report).iter().for_each(|input| metrics.handle_snapshot(input));
    metrics.handle_snapshot(&Input::SnapshotGivenUp);
    metrics.handle_snapshot_settled(false);
    metrics.handle_snapshot_settled(true);
    for (name, count) in [("sent_total", 2), ("failed_total", 1), ("installed_total", 1), ("duration_seconds_count", 0)]
    {
        assert_told(&metrics, &format!("tombola_snapshot_{name} {count}"));
    }
}

#[test]
fn a_peer_s_digests_are_compared_where_both_are_known() {
    let metrics = Metrics::default();
    let (ours, theirs) = (HistoryDigest([1; 32]), HistoryDigest([2; 32]));
    let told = Checkpoint(Digests { index: Index(1_024), history: theirs, state: StateDigest(0) });
    for own in [None, Some(theirs), Some(ours)] {
        metrics.handle_checkpoint(told, own);
    }
    assert_told(&metrics, "tombola_digest_mismatch_total 1");
}

#[tokio::test]
async fn the_loop_s_last_turn_is_known_once_it_had_one() {
    let metrics = Metrics::default();
    assert_eq!(metrics.since_beat(), None);
    let pause = Duration::from_millis(20);
    tokio::time::sleep(pause).await;
    let before = metrics.uptime();
    metrics.beat();
    tokio::time::sleep(pause).await;
    let (since, most) = (metrics.since_beat().unwrap(), metrics.uptime() - before);
    // The beat is kept in whole milliseconds.
    assert!(since >= pause && since <= most + Duration::from_millis(1), "{since:?}, at most {most:?}");
}
