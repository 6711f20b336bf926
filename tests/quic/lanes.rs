//! What is urgent passes what is not, wherever the other lanes are clogged.

use bytes::Bytes;
use tombola::{
    transport::{Event, Lane, Transport},
    types::ReplicaId,
};

use super::{caller::*, support::*};

/// Sends frames on a lane until it takes no more although everything had the time to move on; gives how many it took.
async fn clog(node: &mut Endpoint, to: u64, lane: Lane, payload: &Bytes) -> usize {
    let (mut taken, mut full_for) = (0, 0);
    within("a clogged lane", async {
        while full_for < 200 {
            match node.transport.send(ReplicaId(to), lane, payload.clone()) {
                Ok(()) => (taken, full_for) = (taken + 1, 0),
                Err(_dropped) => full_for += 1,
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    taken
}

#[tokio::test]
async fn what_is_urgent_passes_lanes_that_nobody_takes_from() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    let chunk = Bytes::from(vec![b'b'; 256 << 10]);
    let append = Bytes::from(vec![b'l'; 1 << 20]);
    let chunks = clog(&mut one, 2, Lane::Bulk, &chunk).await;
    let appends = clog(&mut one, 2, Lane::Log, &append).await;
    one.transport.send(ReplicaId(2), Lane::Urgent, Bytes::from_static(b"u")).expect("the urgent lane is free");
    // Two has taken nothing of it so far. What it takes makes way for more, so that all of it comes in the end.
    let (mut before_urgent, mut after) = (0, 0);
    let mut is_urgent_here = false;
    for _ in 0..chunks + appends + 1 {
        let Event::Frame { frame, .. } = two.next_but_met().await else { panic!("the connection was lost") };
        match frame.first() {
            Some(b'u') => is_urgent_here = true,
            _ if is_urgent_here => after += 1,
            _ => before_urgent += 1,
        }
    }
    assert_eq!(before_urgent + after, chunks + appends);
    // Those that two had in its queues already, and some that came while it took them.
    assert!(before_urgent <= after, "{before_urgent} frames came before it, of {chunks} chunks and {appends} appends");
    check_traffic(&mut one, &mut two).await;
}

/// The peer sends the beginnings of frames, and never the rest; on the urgent lane it goes on.
#[tokio::test]
async fn frames_that_never_end_hold_up_their_own_lane_alone() {
    let certs = Certs::of(CLUSTER);
    let mut one = Endpoint::bind(certs.tls(CLUSTER, 1), loopback(), &[never_dialed(2)]);
    let connection = Caller::two(&certs).dial(&one).await.unwrap();
    let mut streams = greet(&connection).await;
    one.expect_met(2, b"2").await;
    for lane in [Lane::Log, Lane::Bulk] {
        let longest = frame(&vec![1; lane.frame_bytes_max()]);
        streams[lane as usize].write_all(&longest[..longest.len() - 1]).await.unwrap();
    }
    for _ in 0..10 {
        streams[Lane::Urgent as usize].write_all(&frame(b"urgent")).await.unwrap();
        one.expect_frame(2, b"urgent").await;
    }
    for lane in [Lane::Log, Lane::Bulk] {
        let longest = frame(&vec![1; lane.frame_bytes_max()]);
        streams[lane as usize].write_all(&longest[longest.len() - 1..]).await.unwrap();
        one.expect_frame(2, &vec![1; lane.frame_bytes_max()]).await;
    }
}

#[tokio::test]
async fn each_lane_takes_its_longest_frame_and_none_that_is_longer() {
    let certs = Certs::of(CLUSTER);
    let (mut one, mut two) = pair(&certs);
    check_traffic(&mut one, &mut two).await;
    for lane in Lane::ALL {
        let longest: Bytes = (0..lane.frame_bytes_max()).map(|at| ((at * 31) >> 8) as u8).collect();
        one.transport.send(ReplicaId(2), lane, longest.clone()).unwrap();
        two.expect_frame(1, &longest).await;
        let longer = Bytes::from(vec![0; lane.frame_bytes_max() + 1]);
        assert!(one.transport.send(ReplicaId(2), lane, longer).is_err());
    }
    check_traffic(&mut one, &mut two).await;
}
