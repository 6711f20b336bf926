//! Snapshots: taken under load, sent to who is past the log, killed and spoiled on the way.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::task::JoinHandle;
use tombola::{
    api::{Consistency, Failure, Request},
    pool::{Action, Answer, CatalogItem, DrawSeq, Query, Stock},
    replica::SnapshotPolicy,
    runtime::NodeHandle,
    types::{Index, ReplicaId},
};

use crate::{
    disk::{Disk, Held},
    world::*,
};

/// Snapshots every few entries, and hardly any log beside them.
const EAGER: SnapshotPolicy =
    SnapshotPolicy { log_bytes_min: 16 << 10, trailing_entries: 20, trailing_bytes: 8 << 10, log_bytes_max: 64 << 20 };
/// Chunks of a state with the [`large`] catalog.
const CHUNKS: usize = 6;

/// A catalog that makes a snapshot of [`CHUNKS`] chunks, and almost as long an entry as there may be.
fn large() -> Vec<CatalogItem> {
    (0..11_000).map(|number| item(&format!("{number:0>64}"), Stock::Unlimited, 1)).collect()
}

/// Three nodes with a large state; the leader, and a follower.
async fn large_world() -> (World, ReplicaId, ReplicaId) {
    let world = World::running_with(3, &large(), EAGER).await;
    let leader = world.leader().await;
    let follower = world.others(leader)[0];
    (world, leader, follower)
}

/// Grows the log by a megabyte: a catalog for a pool that has one is refused, and stands in the log all the same. It makes
/// a snapshot due as long as it is longer than half the state, which is the [`large`] catalog and a hundred bytes a draw.
async fn grow_log(handle: &NodeHandle) -> Index {
    let action = Action::ImportCatalog { items: large(), draw_seq: DrawSeq(0) };
    let request = Request { pool: pool(), key: Some(key(1)), actor: "filler".parse().unwrap(), action };
    loop {
        match handle.submit(request.clone(), PATIENT).await {
            Ok(answered) => return answered.outcome.index,
            Err(Failure::NotApplied(_) | Failure::Unknown { .. }) => tokio::time::sleep(TICK).await,
        }
    }
}

/// Brings a follower past the log of the others, and leaves it cut off.
async fn leave_behind(world: &World, follower: ReplicaId) {
    world.isolate(follower);
    let others = world.others(follower);
    let leader = world.leader_among(&others).await;
    let last = status(world.node(follower)).await.replica.last_index;
    // While the leader still takes it for present, it keeps the log for it.
    eventually("the others cut their logs", async || {
        let index = grow_log(world.node(leader)).await;
        let mut first_indexes = Vec::new();
        for other in &others {
            let taken = async || {
                let replica = status(world.node(*other)).await.replica;
                (replica.snapshot_index >= index).then_some(replica.first_index)
            };
            first_indexes.push(eventually("a snapshot is taken", taken).await);
        }
        first_indexes.iter().all(|first| *first > last.next()).then_some(())
    })
    .await;
}

/// Waits until all nodes have the same state, at the same index.
async fn all_equal(world: &World) -> Index {
    eventually("all nodes are equal", async || {
        let mut digests = Vec::new();
        for id in world.running_nodes() {
            digests.push(world.node(id).status().await.ok()?.replica.digests);
        }
        digests.iter().all(|one| *one == digests[0]).then_some(digests[0].index)
    })
    .await
}

/// Draws, one after the other, until told to stop; counts what was decided.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

impl Load {
    fn start(handles: Vec<NodeHandle>) -> Self {
        Self::at_most(u64::MAX, handles)
    }

    /// As [`Self::start`], but no client draws more often than this.
    fn at_most(draws_max: u64, handles: Vec<NodeHandle>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |handle: NodeHandle| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut decided = 0;
                while decided < draws_max && !stop.load(Ordering::Relaxed) {
                    draw(&handle).await;
                    decided += 1;
                }
                decided
            })
        };
        Self { clients: handles.into_iter().map(client).collect(), stop }
    }

    /// How many draws were decided.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut decided = 0;
        for client in self.clients {
            decided += tokio::time::timeout(NEVER, client).await.expect("it is decided some day").unwrap();
        }
        decided
    }
}

/// Draws once, whatever it takes.
async fn draw(handle: &NodeHandle) {
    let key = key(1);
    while let Err(failure) = handle.draw(pool(), Some(key), 1, PATIENT).await {
        assert!(!matches!(failure.code(), "MALFORMED" | "DRAINING"), "{failure:?}");
        tokio::time::sleep(TICK).await;
    }
}

fn handles(world: &World, ids: &[ReplicaId]) -> Vec<NodeHandle> {
    ids.iter().map(|id| world.node(*id).clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_past_the_log_is_brought_up_by_snapshot_while_draws_go_on() {
    let (world, leader, follower) = large_world().await;
    leave_behind(&world, follower).await;
    let load = Load::start(handles(&world, &world.others(follower)));
    world.heal();
    eventually("it is installed", async || (world.disk(follower).counts().installed > 0).then_some(())).await;
    eventually("it follows", async || {
        let applied = status(world.node(follower)).await.replica.digests.index;
        (applied >= status(world.node(leader)).await.replica.commit).then_some(())
    })
    .await;
    let decided = load.stop().await;
    assert!(decided > 0);
    all_equal(&world).await;
    assert_eq!(awarded(world.node(follower)).await, decided);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_real_stores_too_and_it_goes_on_from_what_it_was_sent() {
    let mut world = World::running_on_files(3, &large(), EAGER).await;
    let follower = world.others(world.leader().await)[0];
    for round in 0..3 {
        leave_behind(&world, follower).await;
        let last = status(world.node(follower)).await.replica.last_index;
        // However fast they are, the state stays as small as [`grow_log`] wants it.
        let load = Load::at_most(500, handles(&world, &world.others(follower)));
        world.heal();
        // Each round it is killed a little later.
        for _ in 0..=round {
            tokio::time::sleep(5 * TICK).await;
            world.crash(follower).await;
            world.start(follower);
        }
        eventually("it has a snapshot", async || {
            (status(world.node(follower)).await.replica.snapshot_index > last).then_some(())
        })
        .await;
        load.stop().await;
        all_equal(&world).await;
    }
    let all = world.running_nodes();
    let drawn = awarded(world.node(follower)).await;
    for id in &all {
        world.crash(*id).await;
    }
    all.iter().for_each(|id| world.start(*id));
    world.leader().await;
    assert_eq!(awarded(world.node(follower)).await, drawn);
    all_equal(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_killed_at_any_chunk_goes_on_where_it_was() {
    let (mut world, _, follower) = large_world().await;
    let disk = world.disk(follower);
    for (round, at) in (0..CHUNKS as u32).enumerate() {
        leave_behind(&world, follower).await;
        let before = disk.counts();
        disk.hold(Some(Held::Staging(at)));
        world.heal();
        eventually("it is held", async || (disk.counts().held > before.held).then_some(())).await;
        assert_eq!(disk.received(), Some(at as usize));
        world.crash(follower).await;
        disk.hold(None);
        world.start(follower);
        all_equal(&world).await;
        assert_eq!(disk.counts().installed, round + 1);
        let (index, chunks) = disk.newest();
        assert_eq!(disk.received_of(index), chunks, "none came twice (killed at {at})");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_killed_at_any_chunk_leaves_it_to_the_next() {
    let (mut world, _, follower) = large_world().await;
    let others = world.others(follower);
    for at in 0..CHUNKS as u32 {
        leave_behind(&world, follower).await;
        let held = |id: ReplicaId| world.disk(id).counts().held;
        let before: BTreeMap<_, _> = others.iter().map(|id| (*id, held(*id))).collect();
        let installed = world.disk(follower).counts().installed;
        // Whoever leads when the follower asks.
        others.iter().for_each(|id| world.disk(*id).hold(Some(Held::Reading(at))));
        world.heal();
        let is_held = async || others.iter().copied().find(|id| held(*id) > before[id]);
        let sender = eventually("a sender is held", is_held).await;
        assert_eq!(world.disk(follower).counts().installed, installed);
        world.crash(sender).await;
        others.iter().for_each(|id| world.disk(*id).hold(None));
        let is_installed = async || (world.disk(follower).counts().installed > installed).then_some(());
        eventually("the other one sends", is_installed).await;
        world.start(sender);
        all_equal(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_spoiled_or_lost_on_their_way_are_sent_again() {
    let (world, _, follower) = large_world().await;
    leave_behind(&world, follower).await;
    world.heal();
    world.disturb(7, 5);
    world.spoil_chunks(2);
    eventually("it is installed", async || (world.disk(follower).counts().installed > 0).then_some(())).await;
    let disk = world.disk(follower);
    let (sent, received) = (world.chunks_sent(), disk.received_of(disk.newest().0));
    assert!(sent as usize > received, "{sent} were sent for {received}");
    world.heal();
    all_equal(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_spoiled_at_its_sender_is_refused_and_a_later_one_is_taken() {
    let (world, _, follower) = large_world().await;
    leave_behind(&world, follower).await;
    let (disk, before) = (world.disk(follower), status(world.node(follower)).await.replica.digests);
    // Whoever leads.
    let senders: Vec<_> = world.others(follower).into_iter().map(|id| world.disk(id)).collect();
    senders.iter().for_each(Disk::spoil);
    let spoiled: Vec<_> = senders.iter().map(|sender| sender.newest().0).collect();
    world.heal();
    eventually("all of it came, and was forgotten", async || {
        let came = spoiled.iter().any(|index| disk.received_of(*index) == CHUNKS);
        (came && disk.received().is_none()).then_some(())
    })
    .await;
    assert_eq!(disk.counts().installed, 0);
    assert_eq!(status(world.node(follower)).await.replica.digests, before, "nothing of it was taken");

    eventually("a later one comes", async || {
        grow_log(world.node(world.leader().await)).await;
        (disk.counts().installed > 0).then_some(())
    })
    .await;
    for index in spoiled {
        assert!(disk.newest().0 > index);
        assert!(disk.received_of(index) <= CHUNKS, "it is not asked for again and again");
    }
    all_equal(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_under_load_keep_the_log_short_on_every_node_and_lose_nothing() {
    let mut world = World::running_with(3, &[item("a", Stock::Unlimited, 1)], EAGER).await;
    let all = world.running_nodes();
    let load = Load::start(handles(&world, &all));
    eventually("every node has taken many", async || {
        all.iter().all(|id| world.disk(*id).counts().taken >= 8).then_some(())
    })
    .await;
    let decided = load.stop().await;
    let last = all_equal(&world).await;
    for id in &all {
        let entries = world.disk(*id).counts().entries_max as u64;
        assert!(entries * 2 < last.0, "{entries} entries at most, of {last}");
        eventually("it is cleaned up", async || (world.disk(*id).garbage() == 0).then_some(())).await;
    }
    for id in &all {
        world.crash(*id).await;
    }
    all.iter().for_each(|id| world.start(*id));
    world.leader().await;
    assert_eq!(awarded(world.node(all[0])).await, decided);
    all_equal(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_verified_while_draws_go_on_and_no_older_than_asked_for() {
    let world = World::running_with(3, &[item("a", Stock::Unlimited, 1)], EAGER).await;
    let all = world.running_nodes();
    let load = Load::start(handles(&world, &all));
    let newest = Arc::new(AtomicU64::new(0));
    let verifiers = all.iter().cycle().take(12).map(|id| {
        let (handle, newest) = (world.node(*id).clone(), newest.clone());
        tokio::spawn(async move {
            for _ in 0..5 {
                let floor = newest.load(Ordering::SeqCst);
                let read = handle.read(Query::Verify, Consistency::Linearizable, PATIENT).await.unwrap();
                let Answer::Verified(verification) = read.answer else { panic!("{:?}", read.answer) };
                assert_eq!((verification.violations, verification.items), (Vec::<String>::new(), 1));
                assert!(read.index.0 >= floor, "{} is older than {floor}", read.index);
                newest.fetch_max(read.index.0, Ordering::SeqCst);
            }
        })
    });
    for verifier in verifiers.collect::<Vec<_>>() {
        verifier.await.unwrap();
    }
    let stale = world.node(all[0]).read(Query::Verify, Consistency::Stale, PATIENT).await.unwrap();
    assert!(matches!(stale.answer, Answer::Verified(_)));
    assert!(load.stop().await > 0);
}
