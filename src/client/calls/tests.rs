//! The calls of a link that is never there: the test is its writer, its reader and its clock.

use std::sync::Arc;

use tokio::task::yield_now;

use super::*;
use crate::{
    client::{ClientCall, Reply, wire::FrameReader},
    pool::{Action, CatalogItem, Policy, PoolId, Stock, Weight},
    types::Millis,
};

const NODE_TIMEOUT: Duration = Duration::from_secs(2);
const AN_HOUR: Duration = Duration::from_secs(3_600);

fn draw(count: u16) -> Call {
    Call::Submit { pool: PoolId::default_pool(), key: None, action: Action::Draw { count } }
}

/// A call of some 85 bytes an item: of 5,000 two fit into a frame and three do not.
fn create(items: u32) -> Call {
    let item = |number: u32| CatalogItem {
        item: format!("{number:064}").parse().unwrap(),
        stock: Stock::Unlimited,
        weight: Weight(1),
    };
    let items = (0..items).map(item).collect();
    let action = Action::CreatePool { policy: Policy::Renormalize, require_key: false, items };
    Call::Submit { pool: PoolId::default_pool(), key: None, action }
}

/// The next frame as the node reads it.
fn next_frame(calls: &Calls) -> Option<ClientFrame> {
    let mut reader = FrameReader::<ClientFrame>::default();
    reader.push(&calls.next_frame()?);
    let frame = reader.next_frame().unwrap();
    assert!(frame.is_some(), "a frame is whole");
    frame
}

fn numbers(frame: Option<ClientFrame>) -> Vec<u64> {
    frame.map(|frame| frame.calls.iter().map(|call| call.id).collect()).unwrap_or_default()
}

fn reply(id: u64) -> ClientReply {
    ClientReply { id, now: Millis(9), reply: Ok(Reply::Transferred) }
}

/// Makes a call in a task of its own, by a deadline from now on.
async fn make(calls: &Arc<Calls>, call: Call, within: Duration) -> Made {
    let (calls, deadline) = (calls.clone(), tokio::time::Instant::now().into_std() + within);
    let made = tokio::spawn(async move { calls.call(&call, NODE_TIMEOUT, deadline).await });
    yield_now().await;
    made
}

type Made = tokio::task::JoinHandle<Result<ClientReply, NoReply>>;

#[tokio::test]
async fn what_waits_rides_in_one_frame_and_each_gets_its_own_reply() {
    let calls = Arc::<Calls>::default();
    let made = [make(&calls, draw(1), AN_HOUR).await, make(&calls, draw(2), AN_HOUR).await];
    let of = |id, count| ClientCall { id, timeout_ms: 2_000, call: draw(count) };
    assert_eq!(next_frame(&calls).unwrap().calls, [of(0, 1), of(1, 2)]);
    assert_eq!(next_frame(&calls), None);
    // Twice, and of a number never given out.
    calls.deliver(vec![reply(1), reply(0), reply(0), reply(7)]);
    for (id, made) in (0..).zip(made) {
        assert_eq!(made.await.unwrap(), Ok(reply(id)));
    }
    assert!(calls.table().callers.is_empty());
}

#[tokio::test]
async fn a_call_leaves_with_its_frame_and_no_earlier() {
    let calls = Arc::<Calls>::default();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(make(&calls, create(5_000), NODE_TIMEOUT).await);
    }
    assert_eq!(numbers(next_frame(&calls)), [0, 1]);
    // The others give up while that frame is on its way: one by being dropped, the rest as their time is over.
    made.remove(3).abort();
    yield_now().await;
    calls.let_go(Instant::now() + NODE_TIMEOUT);
    assert_eq!(next_frame(&calls), None, "who gave up is passed over");
    let mut left = Vec::new();
    for made in made {
        left.push(match made.await.unwrap() {
            Err(NoReply::TimedOut) => true,
            Err(NoReply::NotSent(_)) => false,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(left, [true, true, false, false]);
    let table = calls.table();
    assert!(table.callers.is_empty() && table.waiting.is_empty() && table.parts.is_empty());
    assert_eq!(calls.room.available_permits(), QUEUE_CALLS_MAX);
}

#[tokio::test]
async fn a_call_that_no_frame_can_hold_takes_no_room() {
    let calls = Arc::<Calls>::default();
    let long = create(20_000);
    let bytes = codec::encoded_len(&long);
    assert!(bytes > CALL_BYTES_MAX);
    let made = [make(&calls, draw(1), AN_HOUR).await, make(&calls, draw(2), AN_HOUR).await];
    assert_eq!(make(&calls, long, AN_HOUR).await.await.unwrap(), Err(NoReply::TooLong(bytes)));
    assert_eq!(numbers(next_frame(&calls)), [0, 1], "its neighbours leave");
    assert_eq!(calls.room.available_permits(), QUEUE_CALLS_MAX);
    calls.deliver(vec![reply(0), reply(1)]);
    for made in made {
        made.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_is_let_go_when_its_time_is_over() {
    let calls = Arc::<Calls>::default();
    let sweeper = calls.clone();
    tokio::spawn(async move { sweeper.sweep().await });
    let start = tokio::time::Instant::now();
    // Out of order, some before and some after the sweeper's next look.
    let within = [500, 100, 300, 100, 50, 900, 2].map(Duration::from_millis);
    let mut made = tokio::task::JoinSet::new();
    for within in within {
        let calls = calls.clone();
        made.spawn(async move {
            let deadline = (start + within).into_std();
            let ended = calls.call(&draw(1), NODE_TIMEOUT, deadline).await;
            assert!(matches!(ended, Err(NoReply::NotSent(_))), "{ended:?}");
            (within, start.elapsed())
        });
    }
    while let Some(ended) = made.join_next().await {
        let (within, took) = ended.unwrap();
        let late = took.checked_sub(within).expect("nobody is let go early");
        assert!(late <= Duration::from_millis(2), "{within:?} took {took:?}");
    }
    let calls = calls.table();
    assert!(calls.callers.is_empty() && calls.look_at.is_none());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_callers_wait_for_room_and_no_longer_than_they_may() {
    let calls = Arc::<Calls>::default();
    let mut made = Vec::new();
    for _ in 0..QUEUE_CALLS_MAX {
        made.push(make(&calls, draw(1), AN_HOUR).await);
    }
    let impatient = make(&calls, draw(1), Duration::from_millis(10)).await;
    let patient = make(&calls, draw(1), AN_HOUR).await;
    assert!(matches!(impatient.await.unwrap(), Err(NoReply::NotSent(_))));
    assert_eq!(numbers(next_frame(&calls)).len(), QUEUE_CALLS_MAX);
    yield_now().await;
    assert_eq!(numbers(next_frame(&calls)), [QUEUE_CALLS_MAX as u64]);
    calls.deliver(vec![reply(QUEUE_CALLS_MAX as u64)]);
    patient.await.unwrap().unwrap();
}

#[tokio::test]
async fn how_a_link_ended_is_told_to_all_who_wait_and_all_who_come() {
    for (end, left_gets) in [
        (End::Failed("why".to_owned()), NoReply::Lost),
        (End::Refused("why".to_owned()), NoReply::Refused("why".to_owned())),
    ] {
        let calls = Arc::<Calls>::default();
        let left = make(&calls, draw(1), AN_HOUR).await;
        assert_eq!(numbers(next_frame(&calls)), [0]);
        let waits = make(&calls, draw(1), AN_HOUR).await;
        let answered = make(&calls, draw(1), AN_HOUR).await;
        calls.deliver(vec![reply(2)]);
        assert!(!calls.is_ended());
        calls.end(end.clone());
        assert!(calls.is_ended());
        let never_left_gets = match end {
            End::Failed(why) => NoReply::NotSent(why),
            End::Refused(why) => NoReply::Refused(why),
        };
        assert_eq!(left.await.unwrap(), Err(left_gets));
        assert_eq!(waits.await.unwrap(), Err(never_left_gets.clone()));
        assert_eq!(answered.await.unwrap(), Ok(reply(2)), "an answer is an answer");
        assert_eq!(make(&calls, draw(1), AN_HOUR).await.await.unwrap(), Err(never_left_gets));
    }
}

#[tokio::test]
async fn the_writer_waits_for_calls_and_ends_with_the_last_who_could_make_one() {
    let calls = Arc::<Calls>::default();
    let writer = calls.clone();
    let waits = tokio::spawn(async move { writer.wait().await });
    let _made = make(&calls, draw(1), AN_HOUR).await;
    assert!(waits.await.unwrap());
    assert_eq!(numbers(next_frame(&calls)), [0]);
    let writer = calls.clone();
    let waits = tokio::spawn(async move { writer.wait().await });
    calls.close();
    assert!(!waits.await.unwrap());
}
