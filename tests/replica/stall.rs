//! Disks that do not answer for a while, and do not fail either.

use tombola::{
    pool::{Action, Actor, Command, KeyOrigin, PoolId, RequestKey},
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
    for _ in 0..ticks {
        cluster.now.0 += 50;
        cluster.ids().into_iter().for_each(|id| cluster.tick(id));
        loop {
            while !cluster.network.is_empty() {
                cluster.deliver(0);
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
