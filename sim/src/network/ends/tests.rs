//! The ends in a simulation: who waits is woken, at the time that it is due, and a run of one seed is one run.

use std::sync::atomic::{AtomicU64, Ordering};

use madsim::runtime::{Handle, Runtime};
use tokio::time::{sleep, timeout};
use tombola::{
    replica::{RaftBody, RaftMessage},
    runtime::PeerMessage,
    types::{ClusterId, Index, Millis, ShardId, Term},
};

use super::*;
use crate::network::CALM;

const ONE: ReplicaId = ReplicaId(1);
const TWO: ReplicaId = ReplicaId(2);
/// Everything at once.
const STORM: NetworkOptions = NetworkOptions {
    loss_ppm: 100_000,
    delay_ms_mean: 20,
    tail_ppm: 10_000,
    tail_ms_max: 3_000,
    reordered_links_ppm: 500_000,
    duplicate_ppm: 100_000,
    late_ms_max: 10_000,
    corrupt_ppm: 5_000,
    queue_max: 100,
};

fn simulate<F: Future>(scheduler_seed: u64, run: F) -> F::Output {
    Runtime::with_seed_and_config(scheduler_seed, madsim::Config::default()).block_on(run)
}

fn network(seed: u64, options: NetworkOptions, trace: &Trace) -> Network {
    let network = Network::new(seed, options, trace.clone());
    madsim::task::spawn(network.clone().dispatch());
    network
}

/// Two nodes that have met.
async fn pair(network: &Network) -> (Link, Link) {
    let (mut one, _) = network.join(ONE, 1);
    let (mut two, _) = network.join(TWO, 1);
    one.introduce(Bytes::from_static(b"one"));
    two.introduce(Bytes::from_static(b"two"));
    assert_eq!(one.receive().await, Some(Event::Met { peer: TWO, hello: Bytes::from_static(b"two") }));
    assert_eq!(two.receive().await, Some(Event::Met { peer: ONE, hello: Bytes::from_static(b"one") }));
    (one, two)
}

fn frame(term: u64, body: RaftBody) -> Bytes {
    let message = PeerMessage::Raft(RaftMessage { to: TWO, from: ONE, term: Term(term), body });
    let (version, cluster, shard, wall) = (PeerFrame::VERSION, ClusterId([1; 16]), ShardId::FIRST, Millis(0));
    codec::encode(&PeerFrame { version, cluster, shard, wall, genesis: None, message }).into()
}

fn heartbeat(term: u64) -> Bytes {
    frame(term, RaftBody::Heartbeat { commit: Index(9), context: Bytes::new() })
}

#[test]
fn who_waits_is_woken_when_something_is_due_and_not_before() {
    simulate(1, async {
        let network = network(1, CALM, &Trace::default());
        let (mut one, mut two) = pair(&network).await;
        network.heal(None);
        for term in 0..20 {
            let (sent, time) = (heartbeat(term), TimeHandle::current());
            let before = time.elapsed();
            one.send(TWO, Lane::Urgent, sent.clone()).expect("there is room");
            assert_eq!(two.receive().await, Some(Event::Frame { from: ONE, frame: sent }));
            let after = time.elapsed() - before;
            assert!((1_000..1_020).contains(&after.as_micros()), "{after:?}");
        }
    });
}

#[test]
fn a_wait_may_be_cancelled_and_nothing_is_lost_by_it() {
    simulate(2, async {
        let network = network(2, CALM, &Trace::default());
        let (mut one, mut two) = pair(&network).await;
        one.send(TWO, Lane::Log, heartbeat(1)).expect("there is room");
        let mut cancelled = 0;
        while timeout(Duration::from_millis(1), two.receive()).await.is_err() {
            cancelled += 1;
        }
        assert!(cancelled > 0);
        one.send(TWO, Lane::Log, heartbeat(2)).expect("there is room");
        assert_eq!(two.receive().await, Some(Event::Frame { from: ONE, frame: heartbeat(2) }));
    });
}

#[test]
fn every_frame_that_leaves_is_seen_and_those_that_do_not_are_not() {
    simulate(3, async {
        let network = network(3, NetworkOptions { loss_ppm: 1_000_000, ..CALM }, &Trace::default());
        let (mut one, _two) = pair(&network).await;
        let terms = Arc::new(AtomicU64::new(0));
        let seen = terms.clone();
        network.watch(Box::new(move |from, to, said| {
            let PeerMessage::Raft(message) = &said.message else { panic!("it is raft's") };
            assert_eq!((from, to), (ONE, TWO));
            seen.fetch_add(message.term.0, Ordering::Relaxed);
        }));
        one.send(TWO, Lane::Log, heartbeat(1)).expect("there is room");
        one.send(TWO, Lane::Log, Bytes::from_static(b"no frame")).expect("there is room");
        one.send(TWO, Lane::Urgent, vec![0; 1 << 20].into()).expect_err("too long");
        one.send(ReplicaId(3), Lane::Urgent, heartbeat(20)).expect_err("nobody is there");
        network.fence(ONE);
        one.send(TWO, Lane::Log, heartbeat(300)).expect_err("it is over");
        assert_eq!(terms.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_fenced_life_waits_for_ever_and_its_door_closes() {
    simulate(4, async {
        let network = network(4, CALM, &Trace::default());
        let (mut link, mut door) = network.join(ONE, 1);
        let replier = door.replier();
        let mut client = network.client(3);
        client.send(ONE, Bytes::from_static(b"question"));
        assert_eq!(door.receive().await, Some((3, Bytes::from_static(b"question"))));
        replier.send(3, Bytes::from_static(b"answer"));
        assert_eq!(client.receive().await, (ONE, Bytes::from_static(b"answer")));
        let closed = madsim::task::spawn(async move { door.receive().await });
        sleep(Duration::from_millis(5)).await;
        network.fence(ONE);
        assert_eq!(closed.await.expect("it does not panic"), None);
        replier.send(3, Bytes::from_static(b"too late"));
        timeout(Duration::from_secs(60), client.receive()).await.expect_err("nobody answers");
        timeout(Duration::from_secs(60), link.receive()).await.expect_err("nothing comes");
    });
}

#[test]
fn a_link_that_is_dropped_says_so() {
    simulate(5, async {
        let network = network(5, CALM, &Trace::default());
        let (mut one, two) = pair(&network).await;
        drop(two);
        let unreachable = timeout(Duration::from_millis(200), one.receive()).await.expect("soon");
        assert_eq!(unreachable, Some(Event::Unreachable { peer: TWO }));
    });
}

#[test]
fn a_node_that_is_killed_is_silent_once_it_is_fenced() {
    simulate(6, async {
        let network = network(6, CALM, &Trace::default());
        let (mut one, mut two) = pair(&network).await;
        let machine = Handle::current().create_node().name("n2").build();
        machine.spawn(async move {
            for term in 0.. {
                let _ = two.send(ONE, Lane::Log, heartbeat(term));
                sleep(Duration::from_millis(1)).await;
            }
        });
        for _ in 0..100 {
            assert!(matches!(one.receive().await, Some(Event::Frame { from: TWO, .. })));
        }
        network.fence(TWO);
        sleep(Duration::from_secs(1)).await;
        // What had left before; it tries to send all the while.
        while timeout(Duration::from_millis(1), one.receive()).await.is_ok() {}
        sleep(Duration::from_secs(1)).await;
        Handle::current().kill(machine.id());
        sleep(Duration::from_secs(11)).await;
        while let Ok(Some(event)) = timeout(Duration::from_millis(1), one.receive()).await {
            assert_eq!(event, Event::Unreachable { peer: TWO });
        }
    });
}

/// Three nodes that answer whatever they hear, with resets, cuts and clogs meanwhile.
fn storm(scheduler_seed: u64) -> (u64, BTreeMap<&'static str, u64>) {
    simulate(scheduler_seed, async {
        let trace = Trace::default();
        let network = network(7, STORM, &trace);
        for id in 1..=3 {
            let (mut link, _door) = network.join(ReplicaId(id), 1);
            link.introduce(Bytes::from(vec![id as u8]));
            let machine = Handle::current().create_node().name(format!("n{id}")).build();
            machine.spawn(async move {
                for term in 0.. {
                    if let Ok(Some(Event::Frame { from, .. })) =
                        timeout(Duration::from_millis(20), link.receive()).await
                    {
                        let answer = RaftBody::HeartbeatResponse { commit: Index(1), context: Bytes::new() };
                        let _ = link.send(from, Lane::Urgent, frame(term, answer));
                    } else {
                        let _ = link.send(ReplicaId(1 + id % 3), Lane::Urgent, heartbeat(term));
                    }
                }
            });
        }
        for round in 0..20 {
            sleep(Duration::from_millis(900)).await;
            let (one, other) = (ReplicaId(1 + round % 3), ReplicaId(1 + (round + 1) % 3));
            match round % 4 {
                0 => network.reset(one, other),
                1 => network.cut(one, other),
                2 => network.clog(one, other, true),
                _ => network.mend_all(),
            }
        }
        (trace.hash(), network.counts())
    })
}

#[test]
fn one_seed_is_one_run() {
    let (hash, counts) = storm(1);
    assert_eq!((hash, &counts), (storm(1).0, &storm(1).1));
    assert_ne!(hash, storm(2).0);
    for fault in ["lost", "delayed", "duplicated", "corrupted", "rejected", "reordered", "cut", "clogged", "reset"] {
        assert!(counts.contains_key(fault), "no {fault} in {counts:?}");
    }
}
