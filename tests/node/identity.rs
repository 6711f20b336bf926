//! Who is not of the cluster is not heard, and both sides say why.

use tombola::{
    durable::Identity,
    pool::Stock,
    replica::founding::FoundingRefused,
    runtime::{NodeHandle, Stopped},
    types::{ClusterId, DiskId, ReplicaId, ShardId},
};

use crate::{disk::Disk, world::*};

/// Waits until a node tells why there is nothing between it and `peer`.
async fn stranger(handle: &NodeHandle, peer: ReplicaId) -> String {
    eventually("they are strangers", async || handle.vitals().await.unwrap().strangers.get(&peer).cloned()).await
}

/// A cluster of three that has drawn ten times; its third node is off.
async fn without_the_third() -> World {
    let mut world = World::running(3, &[item("a", Stock::Unlimited, 1)]).await;
    world.node(replica(1)).draw(pool(), None, 10, PATIENT).await.unwrap();
    world.stop(replica(3)).await;
    world
}

/// Node 3 runs, is refused by both others for this reason, and the cluster goes on without it.
async fn check_refused(world: &World, reason: &str) {
    for founded in [replica(1), replica(2)] {
        let here = stranger(world.node(founded), replica(3)).await;
        assert!(here.contains(reason), "{here}");
    }
    let there = stranger(world.node(replica(3)), replica(1)).await;
    assert!(there.contains(reason), "{there}");
    world.node(replica(2)).draw(pool(), None, 1, PATIENT).await.unwrap();
    assert_eq!(awarded(world.node(replica(1))).await, 11);
    assert_eq!(status(world.node(replica(3))).await.replica.leader, None, "it hears nobody");
}

#[tokio::test]
async fn an_emptied_founder_is_refused_and_stops_with_the_reason() {
    let mut world = without_the_third().await;
    let emptied = Identity { disk: DiskId([9; 16]), ..identity(replica(3)) };
    world.set_disk(replica(3), Disk::default(), emptied);
    world.start(replica(3));
    let Stopped::Founding(FoundingRefused::NotAccepted { peer, reason }) = world.ended(replica(3)).await else {
        panic!("it is a founder no more")
    };
    let here = stranger(world.node(peer), replica(3)).await;
    assert_eq!(here, reason, "both sides say the same");
    for part in ["disk 0909", "disk 0300", "an emptied disk cannot come back", "replace the node under a new id"] {
        assert!(reason.contains(part), "{reason}");
    }
    world.node(replica(1)).draw(pool(), None, 1, PATIENT).await.unwrap();
}

#[tokio::test]
async fn a_founded_store_with_another_disk_s_id_is_refused() {
    let mut world = without_the_third().await;
    let (disk, other) = (world.disk(replica(3)), Identity { disk: DiskId([9; 16]), ..identity(replica(3)) });
    world.set_disk(replica(3), disk, other);
    world.start(replica(3));
    check_refused(&world, "comes with disk 0909").await;
}

#[tokio::test]
async fn a_store_of_another_cluster_or_shard_is_refused() {
    for (other, reason) in [
        (Identity { cluster: ClusterId([8; 16]), ..identity(replica(3)) }, "of cluster 0"),
        (Identity { shard: ShardId(1), ..identity(replica(3)) }, "of shard "),
    ] {
        let mut world = without_the_third().await;
        let disk = world.disk(replica(3));
        world.set_disk(replica(3), disk, other);
        world.start(replica(3));
        check_refused(&world, reason).await;
    }
}

#[tokio::test]
async fn two_clusters_of_one_name_that_were_founded_apart_do_not_mix() {
    let mut world = without_the_third().await;
    let mut apart = World::new(3, &[item("a", Stock::Unlimited, 1)]);
    let other_first = Identity { disk: DiskId([9; 16]), ..identity(replica(1)) };
    apart.set_disk(replica(1), Disk::default(), other_first);
    (1..=3).for_each(|number| apart.start(replica(number)));
    apart.stocked().await;
    apart.stop(replica(3)).await;
    world.set_disk(replica(3), apart.disk(replica(3)), identity(replica(3)));
    world.start(replica(3));
    check_refused(&world, "founded apart").await;
}

#[tokio::test]
async fn who_comes_back_as_it_was_is_accepted_again() {
    let mut world = without_the_third().await;
    let (right, wrong) = (identity(replica(3)), Identity { disk: DiskId([9; 16]), ..identity(replica(3)) });
    for identity in [wrong, right] {
        let disk = world.disk(replica(3));
        world.set_disk(replica(3), disk, identity);
        world.start(replica(3));
        if identity == wrong {
            check_refused(&world, "comes with disk").await;
            world.stop(replica(3)).await;
        }
    }
    assert_eq!(awarded(world.node(replica(3))).await, 11);
    for id in world.running_nodes() {
        assert!(world.node(id).vitals().await.unwrap().strangers.is_empty());
    }
}
