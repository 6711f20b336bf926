//! Disks that do not answer for a while, and do not fail either.

use tombola::{
    pool::{Action, Actor, Command, KeyOrigin, PoolId, RequestKey},
    replica::{ProposalResult, RaftBody, RaftMessage, Role},
    types::{Millis, ReplicaId},
};

use crate::cluster::{Cluster, ELECTION_TICKS, Settings};

/// Most WriteSets that may wait for a disk: what a follower takes in, and a few changes of term.
const WRITES_MAX: usize = 260;

fn draw(number: u64) -> Command {
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&number.to_be_bytes());
    let key = RequestKey::new(Millis(1_000_000), unique);
    let (pool, actor, origin) = (PoolId::default_pool(), Actor::default(), KeyOrigin::Caller);
    Command { pool, key, origin, actor, action: Action::Draw { count: 1 } }
}

/// Three replicas, one of which leads.
fn three() -> (Cluster, ReplicaId, Vec<ReplicaId>) {
    let mut cluster = Cluster::new(3, 1, Settings::default());
    let leader = cluster.elect();
    let others = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    (cluster, leader, others)
}

/// Ticks, and does what can be done while one disk does not answer.
fn run_without(cluster: &mut Cluster, stalled: ReplicaId, ticks: usize) {
    run_losing(cluster, stalled, ticks, |_| false);
}

/// The same, while such messages get lost.
fn run_losing(cluster: &mut Cluster, stalled: ReplicaId, ticks: usize, is_lost: fn(&RaftMessage) -> bool) {
    for _ in 0..ticks {
        cluster.now.0 += 50;
        cluster.ids().into_iter().for_each(|id| cluster.tick(id));
        loop {
            cluster.network.retain(|message| !is_lost(message));
            while !cluster.network.is_empty() {
                cluster.deliver(0);
                cluster.network.retain(|message| !is_lost(message));
            }
            let is_busy = |id: &ReplicaId| *id != stalled && !cluster.nodes[id].disk.queued.is_empty();
            let busy: Vec<_> = cluster.ids().into_iter().filter(is_busy).collect();
            if busy.is_empty() {
                break;
            }
            busy.into_iter().for_each(|id| cluster.persist(id));
        }
    }
}

/// Has a command decided, whoever leads.
fn decide(cluster: &mut Cluster, number: u64) {
    let leader = cluster.leader().unwrap();
    let id = cluster.propose(leader, vec![draw(number)])[0];
    cluster.run(ELECTION_TICKS);
    assert!(matches!(cluster.nodes[&leader].results[&id], ProposalResult::Applied(_)));
}

#[test]
fn a_follower_whose_disk_stalls_takes_in_no_more_than_so_much_and_catches_up() {
    let (mut cluster, leader, others) = three();
    let stalled = others[0];
    for number in 0..1_000 {
        cluster.propose(leader, vec![draw(number)]);
        run_without(&mut cluster, stalled, 2);
        assert!(cluster.nodes[&stalled].disk.queued.len() < WRITES_MAX, "after {number} entries");
    }
    assert_eq!(cluster.leader(), Some(leader), "a majority goes on");
    assert_eq!(cluster.nodes[&leader].results.len(), 1_000);
    cluster.run(2 * ELECTION_TICKS);
    let applied = |id| cluster.replica(id).machine().applied();
    assert_eq!(applied(stalled), applied(leader), "what it did not take in is sent again");
    cluster.verdict();
}

#[test]
fn a_leader_whose_disk_stalls_hands_over_and_comes_back_as_a_follower() {
    let (mut cluster, stalled, others) = three();
    let id = cluster.propose(stalled, vec![draw(1)])[0];
    run_without(&mut cluster, stalled, 2 * ELECTION_TICKS - 2);
    assert_eq!(cluster.leader(), Some(stalled), "a short stall changes nothing");
    run_without(&mut cluster, stalled, 3);
    let leader = cluster.leader().unwrap();
    assert!(others.contains(&leader));
    let other = cluster.propose(leader, vec![draw(2)])[0];
    run_without(&mut cluster, stalled, 10 * ELECTION_TICKS);
    assert!(matches!(cluster.nodes[&leader].results[&other], ProposalResult::Applied(_)), "commits go on");
    assert_eq!((cluster.leader(), cluster.replica(stalled).role()), (Some(leader), Role::Follower));
    assert!(cluster.nodes[&stalled].results.is_empty(), "it has answered nothing that it has not on its disk");
    cluster.run(2 * ELECTION_TICKS);
    assert!(matches!(cluster.nodes[&stalled].results[&id], ProposalResult::Applied(_)), "committed all the same");
    assert_eq!(cluster.leader(), Some(leader));
    decide(&mut cluster, 3);
    cluster.verdict();
}

#[test]
fn a_leader_whose_disk_stalls_steps_down_if_nobody_takes_over() {
    let (mut cluster, stalled, others) = three();
    cluster.propose(stalled, vec![draw(1)]);
    let term = cluster.replica(stalled).term();
    let is_lost = |message: &RaftMessage| matches!(message.body, RaftBody::TimeoutNow);
    run_losing(&mut cluster, stalled, 3 * ELECTION_TICKS - 1, is_lost);
    assert_eq!(cluster.replica(stalled).role(), Role::Leader);
    run_losing(&mut cluster, stalled, 2, is_lost);
    assert_eq!((cluster.replica(stalled).role(), cluster.replica(stalled).term()), (Role::Follower, term));
    run_losing(&mut cluster, stalled, 6 * ELECTION_TICKS, is_lost);
    assert!(others.contains(&cluster.leader().unwrap()));
    cluster.run(2 * ELECTION_TICKS);
    decide(&mut cluster, 2);
    cluster.verdict();
}

#[test]
fn a_sole_voter_whose_disk_stalls_has_nobody_to_hand_over_to() {
    let mut cluster = Cluster::new(1, 1, Settings::default());
    let alone = cluster.elect();
    let term = cluster.replica(alone).term();
    let id = cluster.propose(alone, vec![draw(1)])[0];
    run_without(&mut cluster, alone, 10 * ELECTION_TICKS);
    assert_eq!((cluster.replica(alone).role(), cluster.replica(alone).term()), (Role::Leader, term));
    cluster.run(1);
    assert!(matches!(cluster.nodes[&alone].results[&id], ProposalResult::Applied(_)));
    cluster.verdict();
}
