//! What the tests of both sides speak of.

use std::time::Duration;

use super::{message::ShipmentId, throttle::Times};
use crate::{
    durable::{CHUNK_BYTES, Founders, SnapshotMeta},
    pool::Limits,
    replica::{RaftBody, RaftMessage},
    types::{ClusterId, DiskId, Index, ReplicaId, Term},
};

/// Ticks of 50 ms.
pub(super) const TIMES: Times = Times { tick: Duration::from_millis(50) };
/// What is not answered is said again after so many of them.
pub(in crate::runtime) const REPEAT_TICKS: u64 = 20;
/// A side that is silent is given up after so many.
pub(in crate::runtime) const IDLE_TICKS: u64 = 200;
/// A shipment.
pub(in crate::runtime) const SHIPMENT: ShipmentId = ShipmentId(70);

pub(in crate::runtime) fn founders() -> Founders {
    let disks = [1, 2, 3].map(|id| (ReplicaId(u64::from(id)), DiskId([id; 16]))).into();
    Founders { cluster: ClusterId([7; 16]), limits: Limits::default(), disks }
}

/// Of index 90; the last of its chunks is short.
pub(in crate::runtime) fn meta(chunks: u64) -> SnapshotMeta {
    SnapshotMeta {
        index: Index(90),
        term: Term(5),
        voters: [1, 2, 3].map(ReplicaId).into(),
        founders: founders(),
        body_bytes: (chunks - 1) * CHUNK_BYTES as u64 + 10,
        body_sha256: [1; 32],
    }
}

/// Announces [`meta`] of three chunks, in term 5.
pub(in crate::runtime) fn message(from: ReplicaId, to: ReplicaId) -> RaftMessage {
    announce(from, to, meta(3))
}

pub(in crate::runtime) fn announce(from: ReplicaId, to: ReplicaId, meta: SnapshotMeta) -> RaftMessage {
    RaftMessage { to, from, term: Term(5), body: RaftBody::Snapshot { meta } }
}

mod driver;
mod shipping;
