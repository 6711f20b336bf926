//! The sender's side of a shipment. Sans-I/O.
//!
//! One at a time. The peer is offered the snapshot, and from then on it has the lead: it names the chunks that it wants, and
//! names again what did not come. Whatever it wants is read and sent, lowest number first, no faster than the throttle
//! allows. The offer is said again while the peer is silent, so that one that lost it, or its memory, takes the shipment up.
//! What ends it: the peer's word; a chunk that is not there any more; [`IDLE_MAX`] without a word; or [`stall_max`] without
//! progress, which is a chunk that it wants and never wanted before. So however slow a link, a disk or the throttle is, a
//! shipment that gets on comes to its end; and as there are so many chunks, each ends. Raft is told exactly once, since the
//! [`Owed`] report is made by being dropped.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{
    IDLE_MAX, REPEAT, WINDOW_CHUNKS, chunk_bytes,
    message::{BodyMessage, ShipmentId},
    throttle::{Throttle, Times},
};
use crate::{
    durable::SnapshotMeta,
    hooks,
    replica::RaftMessage,
    runtime::clock::Tick,
    types::{Index, ReplicaId},
};

/// Most chunks that are being read for the peer.
const READS_MAX: usize = 2;
/// Slowest that the peer may look through a whole body, in bytes a second, beside [`EXTRA_TIME`].
const BYTES_PER_S_MIN: u64 = 4 << 20;
/// What every peer may take beside that.
const EXTRA_TIME: Duration = Duration::from_secs(30);

/// Longest that a shipment of so many bytes may make no progress: when all of it is there, the peer looks through it.
fn stall_max(body_bytes: u64) -> Duration {
    EXTRA_TIME + Duration::from_secs(body_bytes / BYTES_PER_S_MIN)
}

/// What became of a snapshot that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub to: ReplicaId,
    pub arrived: bool,
}

/// Reports that were made and not taken yet.
#[derive(Clone, Debug, Default)]
struct Reports(Arc<Mutex<VecDeque<Report>>>);

/// The report that raft is owed. It is made when this is dropped, hence exactly once; of a failure, unless it arrived.
#[derive(Debug)]
struct Owed {
    report: Report,
    reports: Reports,
}

impl Reports {
    fn owe(&self, to: ReplicaId) -> Owed {
        Owed { report: Report { to, arrived: false }, reports: self.clone() }
    }

    fn take(&self) -> Option<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.reports.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.report);
    }
}

/// What is to be done for a shipment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendStep {
    /// Tell the peer.
    Say { to: ReplicaId, message: BodyMessage },
    /// Read a chunk of this snapshot; then [`Sending::handle_read`].
    Read { shipment: ShipmentId, snapshot: Index, number: u32 },
}

/// The shipment under way.
#[derive(Debug)]
struct Outgoing {
    shipment: ShipmentId,
    owed: Owed,
    message: RaftMessage,
    meta: SnapshotMeta,
    /// What the peer wants and is not being read.
    wanted: BTreeSet<u32>,
    /// What is being read.
    reading: BTreeSet<u32>,
    /// When the peer last said anything.
    heard: Tick,
    /// When it was last offered.
    offered: Tick,
    /// The first chunk that the peer never wanted: it wants them in order.
    next: u32,
    /// When that last changed.
    progressed: Tick,
}

/// The sender's side.
#[derive(Debug)]
pub(super) struct Sending {
    current: Option<Outgoing>,
    next: ShipmentId,
    throttle: Throttle,
    times: Times,
    reports: Reports,
    steps: VecDeque<SendStep>,
}

impl Sending {
    /// Nothing to send. Shipments are counted from a random number, which tells those of other incarnations apart.
    pub fn new(nonce: u64, bytes_per_s: u64, times: Times) -> Self {
        Self {
            current: None,
            next: ShipmentId(nonce),
            throttle: Throttle::new(bytes_per_s, times),
            times,
            reports: Reports::default(),
            steps: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_step(&mut self) -> Option<SendStep> {
        self.steps.pop_front()
    }

    /// The next report that is due to raft.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.take()
    }

    /// Begins to send the snapshot that this message, for `to`, announces. One that is under way is given up.
    pub fn start(&mut self, to: ReplicaId, message: RaftMessage, meta: SnapshotMeta, now: Tick) {
        self.give_up("another one is to be sent");
        let shipment = self.next;
        self.next = ShipmentId(shipment.0.wrapping_add(1));
        tracing::info!(to = to.0, index = meta.index.0, bytes = meta.body_bytes, "sending a snapshot");
        self.current = Some(Outgoing {
            shipment,
            owed: self.reports.owe(to),
            message,
            wanted: BTreeSet::new(),
            reading: BTreeSet::new(),
            heard: now,
            offered: now,
            next: 0,
            progressed: now,
            meta,
        });
        self.offer(now);
    }

    /// The peer wants chunks. What it cannot want is ignored.
    pub fn handle_want(&mut self, from: ReplicaId, shipment: ShipmentId, chunks: &[u32], now: Tick) {
        let Some(current) = self.find(from, shipment) else { return };
        current.heard = now;
        for number in chunks.iter().take(WINDOW_CHUNKS).filter(|number| **number < current.meta.chunks()) {
            if *number >= current.next {
                (current.next, current.progressed) = (number + 1, now);
            }
            if current.wanted.len() < WINDOW_CHUNKS && !current.reading.contains(number) {
                current.wanted.insert(*number);
            }
        }
        self.read();
    }

    /// The peer wants nothing more.
    pub fn handle_ended(&mut self, from: ReplicaId, shipment: ShipmentId, arrived: bool) {
        let Some(current) = self.find(from, shipment) else { return };
        current.owed.report.arrived = arrived;
        if arrived {
            tracing::info!(to = from.0, index = current.meta.index.0, "the snapshot arrived");
            self.current = None;
        } else {
            self.give_up("the peer cannot take it");
        }
    }

    /// A chunk was read; `None` if it is not there any more.
    pub fn handle_read(&mut self, shipment: ShipmentId, number: u32, chunk: Option<Bytes>) {
        let Some(current) = self.current.as_mut().filter(|current| current.shipment == shipment) else { return };
        current.reading.remove(&number);
        let Some(bytes) = chunk else {
            self.give_up("a newer snapshot has taken its place");
            return;
        };
        let (to, crc) = (current.owed.report.to, crc32fast::hash(&bytes));
        self.steps.push_back(SendStep::Say { to, message: BodyMessage::Chunk { shipment, number, crc, bytes } });
        self.read();
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Tick) {
        self.throttle.handle_tick(now);
        let Some(current) = &self.current else { return };
        if now >= current.progressed.plus(self.times.ticks(stall_max(current.meta.body_bytes))) {
            self.give_up("it makes no progress");
        } else if now >= current.heard.plus(self.times.ticks(IDLE_MAX)) {
            self.give_up("the peer does not answer");
        } else {
            if now >= current.heard.max(current.offered).plus(self.times.ticks(REPEAT)) {
                self.offer(now);
            }
            self.read();
        }
    }

    fn find(&mut self, from: ReplicaId, shipment: ShipmentId) -> Option<&mut Outgoing> {
        self.current.as_mut().filter(|current| (current.owed.report.to, current.shipment) == (from, shipment))
    }

    fn offer(&mut self, now: Tick) {
        let Some(current) = &mut self.current else { return };
        current.offered = now;
        let message = BodyMessage::Offer { shipment: current.shipment, message: current.message.clone() };
        self.steps.push_back(SendStep::Say { to: current.owed.report.to, message });
    }

    /// Reads what is wanted, as far as the throttle allows.
    fn read(&mut self) {
        let Some(current) = &mut self.current else { return };
        while self.throttle.allows() && current.reading.len() < READS_MAX {
            let Some(number) = current.wanted.pop_first() else { return };
            current.reading.insert(number);
            self.throttle.pay(chunk_bytes(&current.meta, number));
            let (shipment, snapshot) = (current.shipment, current.meta.index);
            self.steps.push_back(SendStep::Read { shipment, snapshot, number });
        }
    }

    /// Gives up what is under way.
    pub fn give_up(&mut self, why: &str) {
        if let Some(current) = self.current.take() {
            if current.next > 0 {
                hooks::sometimes("snapshot_aborted_midway");
            }
            let (to, index) = (current.owed.report.to.0, current.meta.index.0);
            tracing::warn!(to, index, why, "a snapshot was not sent");
        }
    }
}

#[cfg(test)]
mod tests;
