//! Wall clocks may be wrong: one of a quorum's moves nothing, and nobody's key is refused or forgotten for it.

use tombola::{
    api::Consistency,
    pool::{Query, Stock},
    runtime::{NodeHandle, Stopped},
    types::{Millis, ReplicaId},
};

use crate::world::*;

const HOUR_MS: i64 = 60 * 60 * 1_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// How far cluster time may be from the right one while these tests run.
const NEAR_MS: u64 = 30_000;

async fn cluster_now(handle: &NodeHandle) -> Millis {
    let read = eventually("a read is answered", async || {
        handle.read(Query::first_pools(), Consistency::Linearizable, BRIEF).await.ok()
    });
    read.await.now
}

/// Every node draws with a key of the right time and without one, each once; what was drawn under `before` is remembered;
/// and cluster time is right.
async fn check_all_well(world: &World, before: &[tombola::pool::RequestKey]) {
    for id in world.running_nodes() {
        let node = world.node(id);
        for key in [Some(key(1)), None] {
            let answered = node.draw(pool(), key, 1, PATIENT).await.unwrap();
            assert!(answered.outcome.result.is_ok(), "node {id}, {key:?}: {answered:?}");
        }
        for key in before {
            assert!(node.draw(pool(), Some(*key), 1, PATIENT).await.unwrap().outcome.replayed, "on {id}");
        }
        let off_ms = cluster_now(node).await.0.abs_diff(wall().0);
        assert!(off_ms < NEAR_MS, "node {id}: cluster time is {off_ms} ms off");
    }
}

/// Which of a cluster's nodes has the wrong clock.
type Which = fn(&World, ReplicaId) -> ReplicaId;
const LEADER: Which = |_, leader| leader;
const FOLLOWER: Which = |world, leader| world.others(leader)[0];

async fn check_steps(which: Which, offset_ms: i64) {
    let world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let leader = world.leader().await;
    let wrong = which(&world, leader);
    let mut keys = vec![key(1)];
    assert!(world.node(wrong).draw(pool(), Some(keys[0]), 1, PATIENT).await.unwrap().outcome.result.is_ok());
    for offset_ms in [offset_ms, 0] {
        world.set_clock(wrong, offset_ms);
        check_all_well(&world, &keys).await;
        keys.push(key(1));
        assert!(world.node(leader).draw(pool(), keys.last().copied(), 1, PATIENT).await.is_ok());
        let told = world.node(wrong).vitals().await.unwrap().clock_offset_ms.expect("it hears of a quorum");
        assert!(told.abs_diff(offset_ms) < NEAR_MS, "it knows how far it is off: {told} ms");
    }
}

#[tokio::test]
async fn the_leader_s_clock_steps_an_hour_or_a_year_either_way() {
    for offset_ms in [HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS] {
        check_steps(LEADER, offset_ms).await;
    }
}

#[tokio::test]
async fn a_follower_s_clock_steps_an_hour_or_a_year_either_way() {
    for offset_ms in [HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS] {
        check_steps(FOLLOWER, offset_ms).await;
    }
}

#[tokio::test]
async fn a_cluster_that_was_never_used_takes_its_first_requests_at_a_node_whose_clock_is_wrong() {
    for offset_ms in [HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS] {
        let mut world = World::new(3, &[]);
        let wrong = replica(2);
        world.set_clock(wrong, offset_ms);
        (1..=3).for_each(|number| world.start(replica(number)));
        for key in [None, Some(key(1))] {
            let first = world.node(wrong).draw(pool(), key, 1, PATIENT).await.unwrap();
            assert!(first.outcome.result.is_ok(), "{offset_ms} ms, {key:?}: {first:?}");
        }
        check_all_well(&world, &[]).await;
    }
}

#[tokio::test]
async fn whoever_leads_next_has_a_wrong_clock() {
    for offset_ms in [HOUR_MS, -HOUR_MS] {
        let world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
        let old = world.leader().await;
        let (wrong, kept) = (world.others(old)[0], key(1));
        world.set_clock(wrong, offset_ms);
        world.node(old).draw(pool(), Some(kept), 1, PATIENT).await.unwrap();
        world.node(old).transfer(wrong, PATIENT).await.unwrap();
        check_all_well(&world, &[kept]).await;
    }
}

#[tokio::test]
async fn an_idle_cluster_has_a_time_and_it_goes_on() {
    let world = World::running(3, &[]).await;
    let first = eventually("the leader stamps a time", async || {
        Some(cluster_now(world.node(replica(1))).await).filter(|now| *now > Millis(0))
    });
    assert!(first.await.0.abs_diff(wall().0) < NEAR_MS);
    // All clocks go on two days, and nobody asks for anything.
    let days_ms = 48 * HOUR_MS;
    world.running_nodes().into_iter().for_each(|id| world.set_clock(id, days_ms));
    for id in world.running_nodes() {
        eventually("its time went on as well", async || {
            let now = cluster_now(world.node(id)).await;
            (now.0.abs_diff(wall().0.saturating_add_signed(days_ms)) < NEAR_MS).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_sole_voter_does_not_start_with_an_implausible_clock_unless_told_to() {
    let mut world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let (id, kept) = (replica(1), key(1));
    world.node(id).draw(pool(), Some(kept), 1, PATIENT).await.unwrap();
    world.stop(id).await;
    for offset_ms in [-2 * HOUR_MS, 31 * 24 * HOUR_MS] {
        world.set_clock(id, offset_ms);
        world.start(id);
        let Stopped::Clock(clock) = world.ended(id).await else { panic!("{offset_ms} ms is not plausible") };
        assert_eq!(clock.wall < clock.last, offset_ms < 0);
    }
    world.set_clock(id, -2 * HOUR_MS);
    world.accept_clock = true;
    world.start(id);
    let again = world.node(id).draw(pool(), Some(kept), 1, PATIENT).await.unwrap();
    assert!(again.outcome.replayed);
}

#[tokio::test]
async fn three_voters_start_whatever_one_clock_says() {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let id = replica(2);
    world.stop(id).await;
    world.set_clock(id, -2 * HOUR_MS);
    world.start(id);
    check_all_well(&world, &[]).await;
}
