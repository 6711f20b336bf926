use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use madsim::runtime::{Handle, Runtime};
use tombola::{
    durable::Identity,
    hooks,
    pool::Limits,
    replica::{Role, SnapshotPolicy, Status},
    runtime::FlowLimits,
    types::{ClusterId, DiskId, HistoryDigest, Index, ShardId, StateDigest, Term},
};

use super::*;
use crate::plan::{DiskOptions, Fault, FaultKind, Keep, NetworkOptions, Options};

/// A plan of three nodes, in which node 2 dies when it comes to `here` for the second time.
fn plan() -> Plan {
    let options = Options {
        voters: 3,
        safety_ms: 1_000,
        quiet_ms: 0,
        tick_ms: 50,
        heartbeat_ticks: 1,
        election_ticks: 10,
        network: NetworkOptions::default(),
        disk: DiskOptions::default(),
        clocks: vec![],
        snapshots: SnapshotPolicy::default(),
        snapshot_bytes_per_s: 1 << 20,
        flow: FlowLimits::default(),
        limits: Limits::default(),
        catalog: vec![],
    };
    let when = When::Hit { point: "here".to_owned(), nth: 2 };
    let what = FaultKind::Crash { node: ReplicaId(2), keep: Keep::All, down_ms: 1 };
    Plan { seed: 1, options, clients: vec![], faults: vec![Fault { when, what }] }
}

fn simulate<T>(run: impl Future<Output = T>) -> T {
    Runtime::with_seed_and_config(1, madsim::Config::default()).block_on(run)
}

fn book(bug: Option<&str>) -> Book {
    let book = Book::new(&plan(), bug.map(str::to_owned), Trace::default());
    hooks::install(Some(Arc::new(book.clone())));
    book
}

/// A life of a node begins.
fn start(book: &Book, node: u64, incarnation: u64) -> madsim::runtime::NodeHandle {
    let place = Handle::current().create_node().build();
    let replica = ReplicaId(node);
    let identity = Identity { cluster: ClusterId([0; 16]), shard: ShardId::FIRST, replica, disk: DiskId([0; 16]) };
    let recovered = Recovered { identity, state: RecoveredState::Unfounded { prepared: None } };
    book.started(replica, incarnation, place.id(), &recovered);
    place
}

/// Looks in on a life's task.
async fn on(place: &madsim::runtime::NodeHandle, look: impl FnOnce() + Send + 'static) {
    place.spawn(async move { look() }).await.unwrap();
}

pub(super) fn status(replica: u64, role: Role, term: u64) -> Status {
    Status {
        replica: ReplicaId(replica),
        role,
        term: Term(term),
        leader: None,
        commit: Index(1),
        digests: Digests { index: Index(1), history: HistoryDigest([0; 32]), state: StateDigest(0) },
        snapshot_index: Index(1),
        first_index: Index(2),
        last_index: Index(1),
        matched: vec![],
        transferring: false,
    }
}

#[test]
fn each_life_speaks_for_itself() {
    simulate(async {
        let book = book(None);
        let (one, two) = (start(&book, 1, 1), start(&book, 2, 1));
        for (place, data) in [(&one, "a"), (&two, "b")] {
            on(place, move || {
                hooks::restored(Index(1));
                hooks::applied(Index(2), Term(1), &Bytes::from(data));
            })
            .await;
        }
        let violation = book.violation().expect("they applied other bytes at one index");
        assert_eq!(violation.checker, "ledger");
        assert_eq!(book.finish().unwrap_err(), violation);
    });
}

#[test]
fn what_a_life_does_after_its_end_never_happened() {
    simulate(async {
        let book = book(None);
        let first = start(&book, 1, 1);
        on(&first, || hooks::turned(|| status(1, Role::Leader, 3))).await;
        book.fenced(ReplicaId(1));
        let second = start(&book, 1, 2);
        on(&first, || {
            hooks::restored(Index(1));
            hooks::applied(Index(9), Term(1), &Bytes::new());
            hooks::turned(|| status(2, Role::Leader, 3));
            hooks::sometimes("said by the dead");
            hooks::crash_point("here");
            hooks::crash_point("here");
        })
        .await;
        on(&second, || hooks::sometimes("said by the living")).await;
        assert_eq!(book.violation(), None);
        assert_eq!(book.marks(), BTreeMap::from([("said by the living", 1)]));
    });
}

#[test]
fn two_leaders_of_a_term_are_seen_at_once() {
    simulate(async {
        let book = book(None);
        for node in [1, 2] {
            let place = start(&book, node, 1);
            on(&place, move || hooks::turned(|| status(node, Role::Leader, 3))).await;
        }
        assert_eq!(book.violation().expect("both led").invariant, "election safety");
    });
}

#[test]
fn a_planned_hit_calls_the_world_which_may_write_into_the_book() {
    simulate(async {
        let book = book(None);
        let (two, three) = (start(&book, 2, 1), start(&book, 3, 1));
        let calls = Arc::new(AtomicU32::new(0));
        let (counted, writes) = (calls.clone(), book.clone());
        book.on_hit(Box::new(move |node, point, nth| {
            assert_eq!((point, nth), ("here", 2));
            counted.fetch_add(u32::try_from(node.0).unwrap(), Ordering::Relaxed);
            writes.fenced(node);
        }));
        on(&three, || hooks::crash_point("here")).await;
        on(&two, || (0..5).for_each(|_| hooks::crash_point("here"))).await;
        on(&two, || (0..5).for_each(|_| hooks::crash_point("there"))).await;
        assert_eq!(calls.load(Ordering::Relaxed), 2, "node 2 came there twice, and then it was dead");
    });
}

#[test]
fn a_bug_is_planted_by_its_name() {
    let _book = book(Some("m04"));
    assert!(hooks::is_planted("m04") && !hooks::is_planted("m05"));
    let _book = book(None);
    assert!(!hooks::is_planted("m04"));
}

#[test]
fn a_turn_that_shows_nothing_new_has_no_line() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = lines.clone();
    let trace = Trace::to(Box::new(move |_, node, line| {
        if line.contains(" turn | ") {
            seen.lock().unwrap().push((node, line.split_once(" | ").unwrap().1.to_owned()));
        }
    }));
    simulate(async {
        let book = Book::new(&plan(), None, trace);
        hooks::install(Some(Arc::new(book.clone())));
        let place = start(&book, 1, 1);
        let shown = [status(1, Role::Follower, 3), status(1, Role::Follower, 3), status(1, Role::Leader, 4)];
        on(&place, move || shown.iter().for_each(|status| hooks::turned(|| status.clone()))).await;
    });
    let line = |words: &str| (1, format!("{words} commit=1 last=1 applied=1 snap=1 dig=0000"));
    assert_eq!(*lines.lock().unwrap(), [line("F term=3"), line("L term=4")]);
}
