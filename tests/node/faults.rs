//! What a cluster does when parts of it fail.

use std::collections::BTreeMap;

use tombola::{
    api::{Answered, Consistency, Failure, NotApplied},
    pool::{Query, RequestKey, Stock},
    replica::Role,
    runtime::{NodeHandle, PersistError, Stopped},
};

use crate::world::*;

/// Draws under one key until there is an outcome.
async fn draw_until_decided(handles: &[NodeHandle], key: RequestKey, count: u16) -> Answered {
    for handle in handles.iter().cycle() {
        match handle.draw(pool(), Some(key), count, BRIEF).await {
            Ok(answered) => return answered,
            Err(Failure::Unknown { key: told }) => assert_eq!(told, key),
            Err(Failure::NotApplied(NotApplied::Malformed(why))) => panic!("{why}"),
            Err(Failure::NotApplied(_)) => {}
        }
    }
    unreachable!("a cycle has no end")
}

#[tokio::test]
async fn the_same_key_gives_the_same_awards_on_every_node_after_the_leader_is_gone_and_after_it_is_back() {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1), item("b", Stock::Unlimited, 1)]).await;
    let (old, key) = (world.leader().await, key(1));
    let first = world.node(old).draw(pool(), Some(key), 50, PATIENT).await.unwrap();
    world.crash(old).await;
    let mut handles: Vec<_> = world.running_nodes().into_iter().map(|id| world.node(id).clone()).collect();
    for handle in &handles {
        let again = draw_until_decided(std::slice::from_ref(handle), key, 50).await;
        assert_eq!((&again.outcome.result, again.outcome.replayed), (&first.outcome.result, true));
    }
    world.start(old);
    handles.push(world.node(old).clone());
    let again = draw_until_decided(&handles[2..], key, 50).await;
    assert_eq!(again.outcome.result, first.outcome.result);
    for handle in &handles {
        assert_eq!(awarded(handle).await, 50);
    }
}

#[tokio::test]
async fn all_nodes_crash_at_once_and_nothing_that_was_answered_is_lost() {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let mut answers = BTreeMap::new();
    for id in world.running_nodes() {
        let key = key(1);
        answers.insert(key, world.node(id).draw(pool(), Some(key), 3, PATIENT).await.unwrap().outcome.result);
    }
    let all = world.running_nodes();
    for id in &all {
        world.crash(*id).await;
    }
    all.iter().for_each(|id| world.start(*id));
    for (id, (key, result)) in all.iter().zip(&answers) {
        let again = draw_until_decided(&[world.node(*id).clone()], *key, 3).await;
        assert_eq!((&again.outcome.result, again.outcome.replayed), (result, true));
    }
    assert_eq!(awarded(world.node(replica(1))).await, 9);
}

#[tokio::test]
async fn an_old_leader_without_its_majority_answers_stale_reads_alone() {
    let world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let old = world.leader().await;
    world.isolate(old);
    let refused = world.node(old).read(Query::Pool(pool()), Consistency::Linearizable, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoQuorum.into());
    let key = key(1);
    let undecided = world.node(old).draw(pool(), Some(key), 1, BRIEF).await.unwrap_err();
    let others = world.others(old);
    let new = world.leader_among(&others).await;
    let decided = draw_until_decided(&[world.node(new).clone()], key, 1).await;
    // It may not know yet that it leads no more.
    assert_eq!(items(world.node(old), Consistency::Stale).await.unwrap()[0].awarded, 0);
    let refused = world.node(old).read(Query::Pool(pool()), Consistency::Linearizable, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoQuorum.into(), "never what was true before the others went on");

    world.heal();
    let again = draw_until_decided(&[world.node(old).clone()], key, 1).await;
    assert_eq!(again.outcome.result, decided.outcome.result, "{undecided:?} was the truth, and one draw was made");
    assert_eq!(awarded(world.node(old)).await, 1);
}

#[tokio::test]
async fn a_follower_that_hears_nobody_says_that_nothing_was_applied() {
    let world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let alone = world.others(world.leader().await)[0];
    world.isolate(alone);
    let handle = world.node(alone);
    eventually("it notices", async || status(handle).await.replica.leader.is_none().then_some(())).await;
    let refused = handle.draw(pool(), Some(key(1)), 1, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoLeader.into());
    let refused = handle.transfer(alone, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoLeader.into());
    assert_eq!(items(handle, Consistency::Stale).await.unwrap().len(), 1);
}

#[tokio::test]
async fn frames_that_get_lost_or_come_twice_neither_lose_a_draw_nor_double_one() {
    let world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    world.disturb(7, 5);
    let handles: Vec<_> = world.running_nodes().into_iter().map(|id| world.node(id).clone()).collect();
    let clients: Vec<_> = (0..60)
        .map(|n| {
            let handles: Vec<_> = handles.iter().cycle().skip(n % 3).take(3).cloned().collect();
            tokio::spawn(async move { draw_until_decided(&handles, key(1), 2).await })
        })
        .collect();
    for client in clients {
        let answered = tokio::time::timeout(NEVER, client).await.expect("it is decided some day").unwrap();
        assert!(answered.outcome.result.is_ok());
    }
    world.heal();
    for handle in &handles {
        assert_eq!(awarded(handle).await, 120);
    }
    let mut histories = Vec::new();
    let index = status(&handles[0]).await.replica.digests.index;
    for handle in &handles {
        let at = eventually("it is applied everywhere", async || handle.history_at(index).await.unwrap()).await;
        histories.push(at);
    }
    assert!(histories.iter().all(|history| *history == histories[0]), "one history");
}

#[tokio::test]
async fn leaders_that_crash_under_load_neither_lose_a_draw_nor_double_one() {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let mut decided = 0;
    for _ in 0..3 {
        let leader = world.leader().await;
        let others: Vec<_> = world.others(leader).into_iter().map(|id| world.node(id).clone()).collect();
        let clients: Vec<_> = (0..30)
            .map(|n| {
                let handles = [others[n % 2].clone()];
                tokio::spawn(async move { draw_until_decided(&handles, key(1), 1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        world.crash(leader).await;
        for client in clients {
            tokio::time::timeout(NEVER, client).await.expect("it is decided some day").unwrap();
            decided += 1;
        }
        world.start(leader);
    }
    assert_eq!(awarded(world.node(replica(1))).await, decided);
}

#[tokio::test]
async fn leadership_is_not_handed_to_who_does_not_answer() {
    let world = World::running(3, &[]).await;
    let leader = world.leader().await;
    let away = world.others(leader)[0];
    world.isolate(away);
    let refused =
        eventually("the leader notices", async || match world.node(leader).transfer(away, BRIEF).await.unwrap_err() {
            Failure::NotApplied(NotApplied::TransferRefused(why)) if why.contains("behind") => Some(why),
            _ => None,
        })
        .await;
    assert!(refused.contains(&away.to_string()));
    world.node(leader).draw(pool(), None, 1, PATIENT).await.unwrap();
}

#[tokio::test]
async fn a_store_that_fails_stops_the_node_and_nobody_is_told_that_it_went_well() {
    let mut world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let id = replica(1);
    let handle = world.node(id).clone();
    world.disk(id).fail();
    let key = key(1);
    let failure = handle.draw(pool(), Some(key), 1, PATIENT).await.unwrap_err();
    assert_eq!(failure, Failure::Unknown { key });
    assert_eq!(world.ended(id).await, Stopped::Store(PersistError("unplugged".to_owned())));
    assert_eq!(handle.draw(pool(), None, 1, PATIENT).await.unwrap_err(), NotApplied::Draining.into());
}

#[tokio::test]
async fn without_entropy_nothing_is_proposed() {
    let world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let id = replica(1);
    world.set_entropy(id, false);
    let before = status(world.node(id)).await.replica.last_index;
    let failure = world.node(id).draw(pool(), Some(key(1)), 1, BRIEF).await.unwrap_err();
    assert!(matches!(failure, Failure::NotApplied(NotApplied::Overloaded { .. })), "{failure:?}");
    assert_eq!(status(world.node(id)).await.replica.last_index, before);
    world.set_entropy(id, true);
    world.node(id).draw(pool(), Some(key(1)), 1, PATIENT).await.unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_be_founded_still_stops_and_refuses_in_time() {
    let mut world = World::new(2, &[]);
    let id = replica(1);
    world.start(id);
    let refused = world.node(id).draw(pool(), Some(key(1)), 1, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoLeader.into());
    let refused = world.node(id).read(Query::first_pools(), Consistency::Linearizable, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoQuorum.into());
    assert_eq!(world.stop(id).await, Stopped::Asked);
}

#[tokio::test]
async fn a_leader_whose_disk_stalls_makes_way_and_nothing_is_lost_or_given_twice() {
    let world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let old = world.leader().await;
    let stall = world.disk(old).stall().await;
    let (handle, key) = (world.node(old).clone(), key(1));
    let asked = tokio::spawn(async move { handle.draw(pool(), Some(key), 2, PATIENT).await });
    let others = world.others(old);
    world.leader_among(&others).await;
    for id in &others {
        world.node(*id).draw(pool(), None, 3, PATIENT).await.unwrap();
        assert!(awarded(world.node(*id)).await >= 3);
    }
    let decided = asked.await.unwrap().expect("it went on to the new leader");
    let refused = world.node(old).read(Query::Pool(pool()), Consistency::Linearizable, BRIEF).await.unwrap_err();
    assert_eq!(refused, NotApplied::NoQuorum.into(), "what it has applied is too old");
    assert_eq!(status(world.node(old)).await.replica.role, Role::Follower);
    drop(stall);
    let again = draw_until_decided(&[world.node(old).clone()], key, 2).await;
    assert_eq!((again.outcome.result, again.outcome.replayed), (decided.outcome.result, true));
    assert_eq!(awarded(world.node(old)).await, 8);
}
