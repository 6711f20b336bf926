//! After the gate, no peer message makes a replica panic (raft-rs.md, section 9).

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tombola::{
    durable::{Entry, EntryKind, SnapshotMeta, SnapshotWrite},
    pool::{Limits, Restorer, StateMachine},
    replica::{Input, Output, RaftBody, RaftMessage, Replica, Role},
    types::{ClusterId, Index, ReplicaId, Term},
};

use crate::cluster::{Cluster, Settings};

fn message(body: RaftBody) -> RaftMessage {
    RaftMessage { to: ReplicaId(1), from: ReplicaId(2), term: Term(1), body }
}

/// Hands replica 1 of three a message as if from replica 2; says whether anything came of it.
fn heard(cluster: &mut Cluster, message: RaftMessage) -> bool {
    let replica: &mut Replica = cluster.nodes.get_mut(&ReplicaId(1)).unwrap().replica.as_mut().unwrap();
    let before = replica.status();
    replica.handle(Input::Message { from: ReplicaId(2), message }).unwrap();
    let mut said = false;
    while replica.poll_output().is_some() {
        said = true;
    }
    said || replica.status() != before
}

#[test]
fn line_57_another_sender_or_receiver_is_dropped() {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let good = message(RaftBody::Heartbeat { commit: Index(1), context: Bytes::new() });
    assert!(!heard(&mut cluster, RaftMessage { from: ReplicaId(3), ..good.clone() }));
    assert!(!heard(&mut cluster, RaftMessage { to: ReplicaId(3), ..good.clone() }));
    assert!(heard(&mut cluster, good));
}

#[test]
fn lines_58_to_60_what_is_malformed_is_dropped() {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let entry = |index, term| Entry {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Normal,
        data: Bytes::from_static(b"x"),
    };
    let append = |index, entries| {
        let (index, log_term, commit) = (Index(index), Term(1), Index(1));
        message(RaftBody::Append { index, log_term, commit, entries })
    };
    let membership = Entry { kind: EntryKind::Membership, ..entry(2, 1) };
    let bad = [
        append(1, vec![entry(3, 1)]),
        append(1, vec![entry(2, 1), entry(4, 1)]),
        append(1, vec![entry(2, 2)]),
        append(1, vec![membership]),
        append(u64::MAX, vec![entry(2, 1)]),
        append(1, vec![Entry { data: vec![0; 3 << 20].into(), ..entry(2, 1) }]),
        message(RaftBody::ReadIndex { context: vec![0; 24].into() }),
        RaftMessage { term: Term(0), ..message(RaftBody::ReadIndex { context: vec![0; 24].into() }) },
        message(RaftBody::ReadIndexResponse { index: Index(1), context: vec![0; 23].into() }),
        message(RaftBody::Heartbeat { commit: Index(1), context: vec![1].into() }),
        message(RaftBody::TimeoutNow),
        RaftMessage { term: Term(1 << 60), ..append(1, vec![]) },
        RaftMessage { term: Term(0), ..append(1, vec![]) },
    ];
    for message in bad {
        assert!(!heard(&mut cluster, message.clone()), "{message:?}");
    }
    assert!(heard(&mut cluster, append(1, vec![entry(2, 1)])));
}

#[test]
fn line_62_a_leader_that_knows_more_of_our_disk_than_we_do_stops_us() {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let replica = cluster.nodes.get_mut(&ReplicaId(1)).unwrap().replica.as_mut().unwrap();
    let message = message(RaftBody::Heartbeat { commit: Index(5), context: Bytes::new() });
    let broken = replica.handle(Input::Message { from: ReplicaId(2), message }).unwrap_err();
    assert_eq!(broken.name, "durable");
}

#[test]
fn line_62_an_append_that_contradicts_what_is_committed_stops_us() {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let replica = cluster.nodes.get_mut(&ReplicaId(1)).unwrap().replica.as_mut().unwrap();
    let body = RaftBody::Append { index: Index(1), log_term: Term(2), commit: Index(1), entries: vec![] };
    let message = RaftMessage { term: Term(2), ..message(body) };
    let broken = replica.handle(Input::Message { from: ReplicaId(2), message }).unwrap_err();
    assert_eq!(broken.name, "durable");
}

/// A snapshot of replica 2's own state, at an index that replica 1 has not heard of, as if from it.
fn snapshot() -> (Cluster, SnapshotMeta) {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    while cluster.elect() != ReplicaId(2) {
        let leader = cluster.elect();
        cluster.input(leader, Input::Transfer { to: ReplicaId(2) });
    }
    cluster.cut.extend([(ReplicaId(2), ReplicaId(1)), (ReplicaId(3), ReplicaId(1))]);
    cluster.propose(ReplicaId(2), vec![]);
    cluster.settle();
    let from = cluster.replica(ReplicaId(2));
    let (index, term) = (from.machine().applied(), from.term());
    assert!(index > cluster.replica(ReplicaId(1)).status().last_index);
    let (voters, founders) = (cluster.ids(), from.founders().clone());
    (cluster, SnapshotMeta { index, term, voters, founders, body_bytes: 0, body_sha256: [0; 32] })
}

/// Hands replica 1 a snapshot as if from replica 2; `true` if it is on its way to the disk, `false` if it is of no use.
fn wanted(cluster: &mut Cluster, meta: SnapshotMeta, term: Term) -> bool {
    let view = cluster.replica(ReplicaId(2)).machine().snapshot();
    let mut restorer = Restorer::default();
    view.chunks(1 << 20).for_each(|chunk| restorer.push(&chunk).unwrap());
    let machine = Box::new(restorer.finish().unwrap());
    let message = RaftMessage { term, ..message(RaftBody::Snapshot { meta: meta.clone() }) };
    let replica = cluster.nodes.get_mut(&ReplicaId(1)).unwrap().replica.as_mut().unwrap();
    replica.handle(Input::Snapshot { from: ReplicaId(2), message, machine }).unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| replica.poll_output()).collect();
    let settled = outputs.iter().filter(|output| matches!(output, Output::SnapshotSettled { installed: false, .. }));
    let discarded = outputs.iter().filter(|output| matches!(output, Output::Discard(_)));
    let installs = outputs.iter().filter(|output| {
        let Output::Persist(write) = output else { return false };
        matches!(&write.snapshot, Some(SnapshotWrite::Installed { meta: written }) if *written == meta)
    });
    let counts = (installs.count(), settled.count(), discarded.count());
    assert!([(1, 0, 0), (0, 1, 1)].contains(&counts), "either way, once: {counts:?}");
    counts.0 == 1
}

#[test]
fn lines_57_to_60_a_malformed_snapshot_is_of_no_use() {
    let (mut cluster, good) = snapshot();
    let term = good.term;
    let with = |change: &dyn Fn(&mut SnapshotMeta)| {
        let mut meta = good.clone();
        change(&mut meta);
        meta
    };
    let bad = [
        ("the index of its state", with(&|meta| meta.index.0 += 1)),
        ("no term", with(&|meta| meta.term = Term(0))),
        ("a later term than its message's", with(&|meta| meta.term.0 += 1)),
        ("no voters", with(&|meta| meta.voters.clear())),
        ("voters that are not sorted", with(&|meta| meta.voters.reverse())),
        ("a voter twice", with(&|meta| meta.voters.push(ReplicaId(3)))),
        ("nobody as a voter", with(&|meta| meta.voters.insert(0, ReplicaId(0)))),
        ("not this replica among its voters", with(&|meta| _ = meta.voters.remove(0))),
        ("other founders", with(&|meta| meta.founders.cluster = ClusterId([8; 16]))),
    ];
    for (what, meta) in bad {
        assert!(!wanted(&mut cluster, meta, term), "{what}");
    }
    assert!(!wanted(&mut cluster, good.clone(), Term(0)), "a message of no term");
    assert!(!wanted(&mut cluster, good.clone(), Term(1 << 60)), "a message of a term out of range");
    assert!(!wanted(&mut cluster, good.clone(), Term(term.0 - 1)), "a message of an earlier term");
    assert!(wanted(&mut cluster, good.clone(), term));
    assert!(!wanted(&mut cluster, good, term), "line 9: nothing is taken while one is on its way to the disk");
}

#[test]
fn line_40_a_snapshot_without_its_body_is_dropped() {
    let (mut cluster, meta) = snapshot();
    let message = RaftMessage { term: meta.term, ..message(RaftBody::Snapshot { meta }) };
    assert!(!heard(&mut cluster, message));
}

#[test]
fn line_62_a_snapshot_that_contradicts_what_is_committed_stops_us() {
    let (mut cluster, meta) = snapshot();
    cluster.cut.clear();
    cluster.run(4);
    assert!(cluster.replica(ReplicaId(1)).status().commit >= meta.index);
    let machine = Box::new(StateMachine::founding(Limits::default()));
    let meta = SnapshotMeta { index: Index(1), term: Term(2), ..meta };
    let message = RaftMessage { term: Term(9), ..message(RaftBody::Snapshot { meta }) };
    let replica = cluster.nodes.get_mut(&ReplicaId(1)).unwrap().replica.as_mut().unwrap();
    let broken = replica.handle(Input::Snapshot { from: ReplicaId(2), message, machine }).unwrap_err();
    assert_eq!(broken.name, "durable");
}

/// raft-rs adds 1 to a hint, and a release build stops at an overflow.
#[test]
fn line_60_a_leader_drops_answers_to_what_it_never_sent() {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let leader = cluster.elect();
    let term = cluster.replica(leader).term();
    for (index, reject, reject_hint) in [(9, false, 0), (9, true, 0), (2, true, u64::MAX), (2, true, 9)] {
        let (index, log_term, commit) = (Index(index), Term(0), Index(1));
        let body = RaftBody::AppendResponse { index, log_term, commit, reject, reject_hint: Index(reject_hint) };
        let from = ReplicaId(leader.0 % 3 + 1);
        cluster.input(leader, Input::Message { from, message: RaftMessage { to: leader, from, term, body } });
        assert!(cluster.network.is_empty(), "nothing came of it");
    }
}

/// raft-rs panics at a leader whose log is not persisted.
#[test]
fn line_60_a_vote_that_was_not_asked_for_elects_nobody() {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let leader = cluster.elect();
    let (id, other) = (ReplicaId(leader.0 % 3 + 1), ReplicaId((leader.0 + 1) % 3 + 1));
    let term = cluster.replica(leader).term();
    let say = |cluster: &mut Cluster, from, term, body| {
        cluster.input(id, Input::Message { from, message: RaftMessage { to: id, from, term, body } });
    };
    let last = cluster.replica(id).status().last_index;
    let entry = Entry { index: last.next(), term, kind: EntryKind::Normal, data: Bytes::new() };
    say(
        &mut cluster,
        leader,
        term,
        RaftBody::Append { index: last, log_term: term, commit: last, entries: vec![entry] },
    );
    say(&mut cluster, leader, term, RaftBody::TimeoutNow);
    let given = |pre| RaftBody::RequestVoteResponse { pre, reject: false, commit: Index(0), commit_term: Term(0) };
    say(&mut cluster, other, Term(term.0 + 1), given(false));
    assert_ne!(cluster.replica(id).role(), Role::Leader);
}

/// Random messages, small numbers so that they often hit, to a replica in every role.
#[test]
fn line_60_after_the_gate_raft_never_panics() {
    for seed in 0..300 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut cluster = Cluster::new(3, seed, Settings::default());
        if seed % 3 != 0 {
            let leader = cluster.elect();
            if seed % 3 == 1 && leader != ReplicaId(1) {
                cluster.input(leader, Input::Transfer { to: ReplicaId(1) });
                cluster.run(5);
            }
        }
        let replica = cluster.nodes.get_mut(&ReplicaId(1)).unwrap().replica.as_mut().unwrap();
        for _ in 0..200 {
            let from = ReplicaId(rng.random_range(1..=4));
            let message = random_message(rng, from, replica.term());
            let tick = rng.random_bool(0.2);
            let input = if tick { Input::Tick } else { Input::Message { from, message } };
            if replica.handle(input).is_err() {
                break;
            }
            while replica.poll_output().is_some() {}
        }
    }
}

fn random_message(rng: &mut StdRng, from: ReplicaId, term: Term) -> RaftMessage {
    let mut number = || rng.random_range(0..6);
    let (index, log_term, commit, commit_term) = (Index(number()), Term(number()), Index(number()), Term(number()));
    let term = Term((term.0 + number()).saturating_sub(2));
    let (count, kind) = (number(), number() + number());
    let (flag, pre, transfer) = (number() < 3, number() < 3, number() < 2);
    let context = Bytes::from(vec![number() as u8; if number() == 0 { 7 } else { 24 }]);
    let contiguous = number() > 0;
    let entries = (1..=count)
        .map(|offset| Entry {
            index: Index(if contiguous { index.0 + offset } else { number() }),
            term: if number() > 0 { log_term.max(Term(1)) } else { Term(number()) },
            kind: if number() > 0 { EntryKind::Normal } else { EntryKind::Membership },
            data: Bytes::from(vec![number() as u8; number() as usize]),
        })
        .collect();
    let body = match kind {
        0 | 1 => RaftBody::Append { index, log_term, commit, entries },
        2 | 3 => RaftBody::AppendResponse { index, log_term, commit, reject: flag, reject_hint: Index(number()) },
        4 => RaftBody::RequestVote { pre, index, log_term, commit, commit_term, transfer },
        5 => RaftBody::RequestVoteResponse { pre, reject: flag, commit, commit_term },
        6 => RaftBody::Heartbeat { commit, context: if flag { Bytes::new() } else { context } },
        7 => RaftBody::HeartbeatResponse { commit, context: if flag { Bytes::new() } else { context } },
        8 => RaftBody::ReadIndex { context },
        9 => RaftBody::ReadIndexResponse { index, context },
        _ => RaftBody::TimeoutNow,
    };
    let term = if matches!(body, RaftBody::ReadIndex { .. }) && flag { Term(0) } else { term };
    RaftMessage { to: ReplicaId(1), from, term, body }
}
