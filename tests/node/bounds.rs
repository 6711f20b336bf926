//! What a node does when more is asked of it than it can do, and when it is asked to stop meanwhile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tombola::{
    api::{Answered, Consistency, Failure, NotApplied, Request},
    pool::{Action, Query, RequestKey, Stock},
    runtime::{NodeHandle, PENDING_BYTES_MAX, PENDING_COMMANDS_MAX, PENDING_PER_CLIENT_MAX, Stopped},
};

use crate::world::*;

type Answer = Result<Answered, Failure>;

fn draw(node: &NodeHandle, actor: usize, key: Option<RequestKey>, count: u16, timeout: Duration) -> JoinHandle<Answer> {
    let (node, actor) = (node.clone(), format!("client {actor}").parse().unwrap());
    let request = Request { pool: pool(), key, actor, action: Action::Draw { count } };
    tokio::spawn(async move { node.submit(request, timeout).await })
}

async fn last_index(node: &NodeHandle) -> u64 {
    status(node).await.replica.last_index.0
}

/// A draw under this key is in the log, behind a disk that stalls, and not decided.
async fn propose(node: &NodeHandle, key: RequestKey) -> JoinHandle<Answer> {
    let before = last_index(node).await;
    let proposed = draw(node, 0, Some(key), 1, PATIENT);
    eventually("it is proposed", async || (last_index(node).await > before).then_some(())).await;
    proposed
}

async fn waiting(node: &NodeHandle) -> usize {
    node.vitals().await.unwrap().waiting_commands
}

#[tokio::test]
async fn a_node_full_of_commands_answers_everything_else_and_whoever_asks_again() {
    let world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let node = world.node(replica(1));
    let stall = world.disk(replica(1)).stall().await;
    let keys: Vec<_> = (0..PENDING_COMMANDS_MAX).map(|_| key(1)).collect();
    let all: Vec<_> = (0..).zip(&keys).map(|(n, key)| draw(node, n % 8, Some(*key), 1, PATIENT)).collect();
    eventually("all of them wait", async || (waiting(node).await == PENDING_COMMANDS_MAX).then_some(())).await;

    let refused = draw(node, 9, None, 1, PATIENT).await.unwrap().unwrap_err();
    assert!(matches!(refused, Failure::NotApplied(NotApplied::Overloaded { retry_after_ms: 10..=1_000 })));
    let refused = draw(node, 9, Some(key(1)), 1, PATIENT).await.unwrap().unwrap_err();
    assert!(matches!(refused, Failure::NotApplied(NotApplied::Overloaded { .. })), "none of those that wait");
    let again = draw(node, 7, Some(keys[7]), 1, PATIENT);
    for consistency in [Consistency::Linearizable, Consistency::Stale] {
        node.read(Query::Pool(pool()), consistency, BRIEF).await.unwrap();
    }
    let vitals = node.vitals().await.unwrap();
    assert!(vitals.waiting_bytes <= PENDING_BYTES_MAX && vitals.turned_away.full == 2, "{vitals:?}");
    assert!(!again.is_finished());
    drop(stall);

    let mut answers = BTreeMap::new();
    for (key, answer) in keys.iter().zip(all) {
        answers.insert(*key, answer.await.unwrap().unwrap());
    }
    assert_eq!(again.await.unwrap().unwrap(), answers[&keys[7]]);
    assert_eq!(awarded(node).await, PENDING_COMMANDS_MAX as u64);
    assert_eq!(waiting(node).await, 0);
}

#[tokio::test]
async fn one_client_does_not_take_the_places_of_others() {
    let world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let node = world.node(replica(1));
    let stall = world.disk(replica(1)).stall().await;
    let greedy: Vec<_> = (0..PENDING_PER_CLIENT_MAX).map(|_| draw(node, 1, None, 1, PATIENT)).collect();
    eventually("all of them wait", async || (waiting(node).await == greedy.len()).then_some(())).await;
    let refused = draw(node, 1, None, 1, PATIENT).await.unwrap().unwrap_err();
    assert!(matches!(refused, Failure::NotApplied(NotApplied::Overloaded { .. })));
    let other = draw(node, 2, None, 1, PATIENT);
    assert_eq!(node.vitals().await.unwrap().turned_away.client_full, 1);
    drop(stall);
    other.await.unwrap().unwrap();
    for answer in greedy {
        answer.await.unwrap().unwrap();
    }
}

/// Draws of a thousand a command: sixteen fill an entry, so the disk, and nothing else, sets the pace.
const DRAWS: u16 = 1_000;
const COMMIT: Duration = Duration::from_millis(60);

/// What a few callers that ask one after the other get done in a second.
async fn peak_per_s(node: &NodeHandle) -> f64 {
    let start = tokio::time::Instant::now();
    let callers: Vec<_> = (0..48)
        .map(|caller| {
            let node = node.clone();
            tokio::spawn(async move {
                let mut done = 0_u32;
                while start.elapsed() < Duration::from_secs(2) {
                    match draw(&node, caller, Some(key(1)), DRAWS, PATIENT).await.unwrap() {
                        Ok(_) => done += 1,
                        // Turned away at once: nobody lets time go by but whoever waits.
                        Err(_) => tokio::time::sleep(TICK).await,
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for caller in callers {
        done += caller.await.unwrap();
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}

/// In virtual time, which goes on when nobody has anything to do: only the disk takes any.
#[tokio::test(start_paused = true)]
async fn at_four_times_the_load_the_disk_can_carry_goodput_holds_all_are_answered_and_it_is_over_soon() {
    let world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let node = world.node(replica(1));
    world.disk(replica(1)).slow(COMMIT);
    let peak = peak_per_s(node).await;

    let (start, lasts, pause) = (tokio::time::Instant::now(), Duration::from_secs(4), Duration::from_millis(20));
    let (mut asked, mut most_waiting) = (Vec::new(), 0);
    while start.elapsed() < lasts {
        let due = (4.0 * peak * start.elapsed().as_secs_f64()) as usize;
        while asked.len() < due {
            asked.push(draw(node, asked.len(), Some(key(1)), DRAWS, Duration::from_secs(1)));
        }
        most_waiting = most_waiting.max(waiting(node).await);
        tokio::time::sleep(pause).await;
    }
    let (mut good, mut turned_away, mut unknown) = (0, 0, 0);
    for answer in asked {
        match answer.await.unwrap() {
            Ok(answered) => good += u32::from(answered.outcome.result.is_ok()),
            Err(Failure::NotApplied(NotApplied::Overloaded { retry_after_ms })) => {
                assert!((10..=1_000).contains(&retry_after_ms));
                turned_away += 1;
            }
            Err(Failure::Unknown { .. }) => unknown += 1,
            Err(other) => panic!("{other}"),
        }
    }
    let goodput = f64::from(good) / lasts.as_secs_f64();
    let told = format!("{good} good, {turned_away} turned away, {unknown} unknown; {goodput:.0} of {peak:.0} a second");
    assert!(goodput > 0.6 * peak, "{told}");
    assert!(turned_away > good, "{told}");
    assert!(unknown < good / 10, "time is not spent on what comes too late: {told}");
    assert!(most_waiting < peak as usize, "nothing like a second's load waits: {most_waiting}");
    let after = node.vitals().await.unwrap();
    assert!(after.turned_away.shed > 0 && after.commit_time >= COMMIT / 2, "{after:?}");
    let first = tokio::time::Instant::now();
    eventually("it is over", async || draw(node, 0, None, 1, BRIEF).await.unwrap().ok()).await;
    assert!(first.elapsed() < Duration::from_secs(2));
    assert!(!node.vitals().await.unwrap().is_shedding);
    assert_eq!(awarded(node).await % u64::from(DRAWS), 1, "whole commands, and the last");
}

#[tokio::test]
async fn a_live_voter_far_behind_halves_what_is_taken_and_a_dead_one_does_not() {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let leader = world.leader().await;
    let slow = world.others(leader)[0];
    let stall = world.disk(slow).stall().await;
    let handle = world.node(leader).clone();
    let is_halved = async |expected: bool| {
        eventually("it is noticed", async || {
            assert!(draw(&handle, 0, None, 1, PATIENT).await.unwrap().is_ok(), "the others are a quorum");
            (handle.vitals().await.unwrap().is_halved == expected).then_some(())
        })
        .await;
    };
    assert!(!handle.vitals().await.unwrap().is_halved);
    is_halved(true).await;
    world.crash(slow).await;
    is_halved(false).await;
    drop(stall);
}

#[tokio::test]
async fn a_node_that_stops_refuses_what_it_did_not_propose_at_once_and_leaves_nobody_waiting() {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    let leader = world.leader().await;
    let (node, other) = (world.node(leader).clone(), world.node(world.others(leader)[0]).clone());
    let stall = world.disk(leader).stall().await;
    let proposed_key = key(1);
    let proposed = propose(&node, proposed_key).await;
    let unsent: Vec<_> = (0..100).map(|n| draw(&node, n, Some(key(1)), 1, PATIENT)).collect();
    let forwarded = draw(&other, 0, Some(key(1)), 1, PATIENT);
    eventually("all of them wait", async || (waiting(&node).await == 101).then_some(())).await;
    eventually("it is at the leader", async || (waiting(&other).await == 1).then_some(())).await;

    let start = Instant::now();
    let stop = tokio::spawn({
        let node = node.clone();
        async move { node.stop().await }
    });
    // It leads on for two election timeouts; on a busy machine that may be over, and another leader decides.
    let mut decided = 2;
    for answer in unsent {
        match answer.await.unwrap() {
            Ok(_) => decided += 1,
            Err(refused) => assert_eq!(refused, NotApplied::Draining.into()),
        }
    }
    if let Err(failure) = proposed.await.unwrap() {
        assert_eq!(failure, Failure::Unknown { key: proposed_key });
    }
    stop.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "within bounds, whatever the disk does");
    assert_eq!(world.stop(leader).await, Stopped::Asked);
    drop(stall);

    assert!(forwarded.await.unwrap().is_ok(), "it was another node's to pursue");
    let again = eventually("it is decided", async || draw(&other, 0, Some(proposed_key), 1, BRIEF).await.unwrap().ok());
    assert!(again.await.outcome.result.is_ok());
    assert_eq!(awarded(&other).await, decided, "each once");
}

#[tokio::test]
async fn a_node_that_stops_answers_what_it_proposed() {
    let mut world = World::running(1, &[item("a", Stock::Unlimited, 1)]).await;
    let node = world.node(replica(1)).clone();
    let stall = world.disk(replica(1)).stall().await;
    let proposed = propose(&node, key(1)).await;
    let late = draw(&node, 0, Some(key(1)), 1, PATIENT);
    eventually("both wait", async || (waiting(&node).await == 2).then_some(())).await;
    let stop = tokio::spawn({
        let node = node.clone();
        async move { node.stop().await }
    });
    assert_eq!(late.await.unwrap(), Err(NotApplied::Draining.into()));
    drop(stall);
    assert!(proposed.await.unwrap().unwrap().outcome.result.is_ok());
    stop.await.unwrap();
    assert_eq!(world.stop(replica(1)).await, Stopped::Asked);
}
