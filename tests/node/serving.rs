//! What a healthy cluster does.

use std::collections::BTreeSet;

use tombola::{
    api::{Consistency, Failure, NotApplied, Request},
    pool::{Action, Answer, Claim, Effect, PoolState, Query, Refusal, Remembered, Step, Stock},
    runtime::{NodeHandle, Stopped},
};

use crate::world::*;

fn steps(effect: Effect) -> Vec<Step> {
    match effect {
        Effect::Drawn { steps, .. } => steps.iter().map(Step::cloned).collect(),
        other => panic!("a draw gives steps: {other:?}"),
    }
}

#[tokio::test]
async fn a_single_node_draws_remembers_and_goes_on_after_a_restart() {
    let mut world = World::running(1, &[item("gold", Stock::Finite(1), 1), item("bronze", Stock::Unlimited, 9)]).await;
    let id = replica(1);
    let key = key(1);
    let first = world.node(id).draw(pool(), Some(key), 20, PATIENT).await.unwrap();
    assert_eq!((first.key, first.outcome.replayed), (key, false));
    assert_eq!(steps(first.outcome.result.clone().unwrap()).len(), 20);

    assert_eq!(world.stop(id).await, Stopped::Asked);
    world.start(id);
    let again = world.node(id).draw(pool(), Some(key), 20, PATIENT).await.unwrap();
    assert!(again.outcome.replayed);
    assert_eq!((again.outcome.index, again.outcome.result), (first.outcome.index, first.outcome.result));
    assert_eq!(awarded(world.node(id)).await, 20);

    let reused = world.node(id).draw(pool(), Some(key), 19, PATIENT).await.unwrap();
    assert_eq!(reused.outcome.result, Err(Refusal::KeyReused));
}

#[tokio::test]
async fn every_node_draws_and_every_node_reads_what_was_drawn_anywhere() {
    let world = World::running(3, &[item("bronze", Stock::Unlimited, 1)]).await;
    for (round, id) in (1..).zip(world.running_nodes()) {
        let keyed = world.node(id).draw(pool(), Some(key(1)), 10, PATIENT).await.unwrap();
        let keyless = world.node(id).draw(pool(), None, 5, PATIENT).await.unwrap();
        assert!(keyed.outcome.result.is_ok() && keyless.outcome.result.is_ok());
        for reader in world.running_nodes() {
            assert_eq!(awarded(world.node(reader)).await, round * 15, "read on {reader} after draws on {id}");
            let query = Query::Outcome(pool(), keyed.key);
            let read = world.node(reader).read(query, Consistency::Linearizable, PATIENT).await.unwrap();
            let Answer::Outcome(Remembered::Outcome(outcome)) = read.answer else { panic!("{:?}", read.answer) };
            assert_eq!(outcome.result, keyed.outcome.result);
        }
    }
}

#[tokio::test]
async fn the_catalog_is_imported_once() {
    let mut world = World::running(3, &[item("gold", Stock::Finite(5), 1)]).await;
    let claim = |handle: &NodeHandle| {
        let handle = handle.clone();
        async move { handle.claim(pool(), Some(key(1)), "gold".parse().unwrap(), 5, PATIENT).await }
    };
    let taken = claim(world.node(replica(1))).await.unwrap();
    assert!(matches!(taken.outcome.result, Ok(Effect::Claimed { result: Claim::Awarded, .. })));
    // Another leader, in another term, finds the pool in use.
    let old = world.leader().await;
    world.stop(old).await;
    let new = world.leader().await;
    let after = claim(world.node(new)).await.unwrap();
    assert!(matches!(after.outcome.result, Ok(Effect::Claimed { result: Claim::OutOfStock { remaining: 0 }, .. })));
    let items = items(world.node(new), Consistency::Linearizable).await.unwrap();
    assert_eq!((items.len(), items[0].added), (1, 5));
}

#[tokio::test]
async fn a_unit_raced_by_a_hundred_callers_on_three_nodes_is_awarded_once() {
    let world = World::running(3, &[item("gold", Stock::Finite(1), 1)]).await;
    let racers: Vec<_> = (0..100)
        .map(|n| {
            let handle = world.node(replica(1 + n % 3)).clone();
            tokio::spawn(async move { handle.draw(pool(), Some(key(1)), 1, PATIENT).await.unwrap() })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        let steps = steps(racer.await.unwrap().outcome.result.unwrap());
        won += steps.iter().filter(|step| step.item().is_some()).count();
    }
    assert_eq!(won, 1);
    assert_eq!(awarded(world.node(replica(1))).await, 1);
}

#[tokio::test]
async fn requests_that_come_before_the_cluster_is_founded_wait_for_it() {
    let mut world = World::new(3, &[item("bronze", Stock::Unlimited, 1)]);
    world.start(replica(1));
    let early = world.node(replica(1)).clone();
    let read = {
        let early = early.clone();
        tokio::spawn(async move { early.read(Query::Pool(pool()), Consistency::Linearizable, PATIENT).await })
    };
    let draw = tokio::spawn(async move { early.draw(pool(), None, 1, PATIENT).await });
    let before = status(world.node(replica(1))).await;
    assert_eq!((before.replica.term.0, before.replica.commit.0, before.voters.len()), (0, 0, 3));
    // The third one comes last, alone.
    world.start(replica(2));
    status(world.node(replica(2))).await;
    world.start(replica(3));
    assert!(matches!(read.await.unwrap().unwrap().answer, Answer::Pool(PoolState { .. })));
    // The catalog came first: a draw before it would have found the pool empty, and kept the catalog out for ever.
    let drawn = draw.await.unwrap().unwrap();
    let Ok(Effect::Drawn { steps, .. }) = drawn.outcome.result else { panic!("{drawn:?}") };
    assert_eq!((steps.len(), steps.iter().filter(|step| step.item().is_some()).count()), (1, 1), "{steps:?}");
}

#[tokio::test]
async fn leadership_goes_where_it_is_wished_from_any_node() {
    let world = World::running(3, &[]).await;
    for asked in world.running_nodes() {
        let old = world.leader().await;
        let to = world.others(old)[0];
        world.node(asked).transfer(to, PATIENT).await.unwrap();
        assert_eq!(status(world.node(asked)).await.replica.leader, Some(to), "asked {asked}");
        world.node(asked).draw(pool(), None, 1, PATIENT).await.unwrap();
    }
    for asked in world.running_nodes() {
        let refused = world.node(asked).transfer(replica(9), PATIENT).await.unwrap_err();
        assert!(matches!(refused, Failure::NotApplied(NotApplied::TransferRefused(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_leader_that_stops_answers_everybody_and_hands_over_first() {
    let mut world = World::running(3, &[item("bronze", Stock::Unlimited, 1)]).await;
    let leader = world.leader().await;
    let old_term = status(world.node(leader)).await.replica.term;
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let handle = world.node(leader).clone();
            tokio::spawn(async move { handle.draw(pool(), Some(key(1)), 1, PATIENT).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let stopped = world.node(leader).clone();
    assert_eq!(world.stop(leader).await, Stopped::Asked);

    let mut terms = Vec::new();
    for other in world.running_nodes() {
        terms.push(status(world.node(other)).await.replica.term);
    }
    assert!(terms.iter().any(|term| *term > old_term), "somebody took over before it ended: {terms:?}");
    let mut answered = 0;
    for caller in callers {
        match caller.await.unwrap() {
            Ok(answered_one) => answered += u64::from(answered_one.outcome.result.is_ok()),
            Err(failure) => assert_eq!(failure, NotApplied::Draining.into(), "nobody is left in doubt"),
        }
    }
    assert_eq!(awarded(world.node(world.running_nodes()[0])).await, answered);
    let late = stopped.draw(pool(), None, 1, PATIENT).await;
    assert_eq!(late.unwrap_err(), NotApplied::Draining.into());
    assert_eq!(stopped.status().await.unwrap_err(), NotApplied::Draining.into());
}

#[tokio::test]
async fn what_breaks_a_rule_of_form_is_refused_before_anything_is_proposed() {
    let world = World::running(1, &[]).await;
    let node = world.node(replica(1));
    let before = status(node).await.replica.last_index;
    for count in [0, 1_001] {
        let refused = node.draw(pool(), None, count, PATIENT).await.unwrap_err();
        assert!(matches!(refused, Failure::NotApplied(NotApplied::Malformed(_))), "{refused:?}");
    }
    assert_eq!(status(node).await.replica.last_index, before);
}

#[tokio::test]
async fn what_comes_while_the_disk_writes_shares_the_next_entry() {
    let world = World::running(1, &[item("bronze", Stock::Unlimited, 1)]).await;
    let (node, disk) = (world.node(replica(1)).clone(), world.disk(replica(1)));
    let draw = || {
        let node = node.clone();
        tokio::spawn(async move { node.draw(pool(), None, 1, PATIENT).await.unwrap().outcome.index })
    };
    let before = status(&node).await.replica.last_index;
    let stall = disk.stall().await;
    let first = draw();
    eventually("the first is proposed", async || (status(&node).await.replica.last_index > before).then_some(())).await;
    let mut rest = Vec::new();
    for _ in 0..10 {
        rest.extend((0..10).map(|_| draw()));
        tokio::task::yield_now().await;
        // Asks are taken in order, and proposed at the end of the turn: the second answer is of a later one.
        status(&node).await;
        let now = status(&node).await.replica.last_index;
        assert_eq!(now, before.next(), "behind a stalled disk nothing more is proposed");
    }
    drop(stall);
    let mut indexes = BTreeSet::from([first.await.unwrap()]);
    for draw in rest {
        indexes.insert(draw.await.unwrap());
    }
    assert_eq!(indexes.into_iter().collect::<Vec<_>>(), [before.next(), before.next().next()]);
}

#[tokio::test]
async fn the_same_request_sent_twice_at_once_is_one_entry_and_one_answer() {
    let world = World::running(1, &[item("bronze", Stock::Unlimited, 1)]).await;
    let (node, key) = (world.node(replica(1)), key(1));
    let draw = || node.draw(pool(), Some(key), 3, PATIENT);
    let (first, second) = tokio::join!(draw(), draw());
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(awarded(node).await, 3);
    let other =
        Request { pool: pool(), key: Some(key), actor: "ada".parse().unwrap(), action: Action::Draw { count: 3 } };
    let other = node.submit(other, PATIENT).await.unwrap();
    assert!(other.outcome.replayed, "another actor does not attach, but gets the same outcome");
}

#[tokio::test]
async fn a_keyless_request_gets_a_key_of_the_node_s_own_making() {
    let world = World::running(3, &[item("bronze", Stock::Unlimited, 1)]).await;
    let mut keys = BTreeSet::new();
    for id in world.running_nodes() {
        for _ in 0..10 {
            keys.insert(world.node(id).draw(pool(), None, 1, PATIENT).await.unwrap().key);
        }
    }
    assert_eq!(keys.len(), 30);
}
