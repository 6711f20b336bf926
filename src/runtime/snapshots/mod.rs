//! Snapshots on their way: taken, sent and received, beside the log and never in its way.
//!
//! **What it promises.** A snapshot that the replica wants taken is encoded off the loop and staged between the log's
//! writes, and the replica hears that it is whole and durable, or that it was given up. One that it wants sent reaches the
//! peer as raft's message in an [`BodyMessage::Offer`] and its body in chunks, each with its CRC, no faster than
//! [`super::NodeConfig::snapshot_bytes_per_s`] and in the least urgent lane; the replica hears exactly once what became of
//! it. One that a peer sends is given to the replica only when it is whole, durable, read back from the disk, and found to
//! have the SHA-256 and the state digest that it should have. A node that is killed on either side goes on where it was.
//!
//! **How.** The two sides of a shipment are sans-I/O: `sending` and `receiving`. This driver does what they want done, each
//! piece in a task of its own, and tells them what came of it. The receiver has the lead: it asks for what it lacks. So there
//! is nothing to keep in step, lost messages are asked for again, and duplicates are not asked for.
//!
//! **One body is staged at a time.** One that is received goes before one of our own, whose state is behind it. Tickets tell
//! the pieces of an older staging from those of the present one (`persist`).
//!
//! **Absent on purpose**: deltas between snapshots, compression, and sending from a node that does not lead.

mod checking;
mod message;
mod offer;
mod receiving;
mod sending;
mod taking;
mod throttle;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use self::message::{BodyMessage, ShipmentId};
pub(super) use self::offer::Own;
use self::{
    receiving::{ReceiveStep, Receiving, Spoiled},
    sending::{SendStep, Sending},
    throttle::Times,
};
use super::{
    beside::Done,
    clock::Tick,
    persist::{Bodies, Over, Ticket, Tickets},
};
use crate::{
    durable::{CHUNK_BYTES, SnapshotMeta, Staging},
    hooks,
    pool::StateMachine,
    replica::{BrokenInvariant, Input, RaftBody, RaftMessage, TakeSnapshot},
    types::{Index, ReplicaId},
};

/// The usual throttle of a snapshot that is sent, in bytes a second.
pub const SNAPSHOT_BYTES_PER_S: u64 = 32 << 20;
/// Longest body that is received, in bytes.
const BODY_BYTES_MAX: u64 = 8 << 30;
/// Most chunks that the receiver asks for beyond those that are durable: what it may have to keep in memory.
const WINDOW_CHUNKS: usize = 16;
/// When what is not answered is said again.
const REPEAT: Duration = Duration::from_secs(1);
/// How long the other side of a shipment may be silent.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Length of a chunk in bytes. There must be one of this number.
fn chunk_bytes(meta: &SnapshotMeta, number: u32) -> usize {
    let rest = meta.body_bytes.saturating_sub(u64::from(number) * CHUNK_BYTES as u64);
    usize::try_from(rest).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES))
}

/// What was done for a snapshot beside the loop.
#[derive(Debug)]
pub(super) struct BodyDone(Work);

#[derive(Debug)]
enum Work {
    /// One of our own is staged, or will not be; or its state contradicts itself.
    Taken { ticket: Ticket, result: Result<Result<SnapshotMeta, Over>, Broken> },
    /// A chunk was read to be sent.
    Read { shipment: ShipmentId, number: u32, chunk: Option<Bytes> },
    /// A staging was begun; so many chunks were there.
    Begun { ticket: Ticket, staged: u32 },
    /// The chunk that came next is durable.
    Staged { ticket: Ticket },
    /// A received body was looked at.
    Checked { ticket: Ticket, found: Result<Box<StateMachine>, Spoiled> },
}

/// A state contradicts itself, in these words.
type Broken = String;

/// What the loop is to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Tell the replica.
    Tell(Input),
    /// Tell a peer.
    Say { to: ReplicaId, message: BodyMessage },
}

/// A snapshot of our own.
#[derive(Debug)]
enum Taking {
    /// There is none.
    No,
    /// It is on its way to the disk; dropping the wish gives it up.
    Running { ticket: Ticket, _wish: oneshot::Receiver<()> },
    /// It is staged, and the replica knows; some day it has it made the newest.
    Staged,
}

/// Snapshots on their way.
#[derive(Debug)]
pub(super) struct Snapshots {
    bodies: Bodies,
    done: mpsc::Sender<Done>,
    tickets: Tickets,
    taking: Taking,
    sending: Sending,
    receiving: Receiving,
    steps: VecDeque<Step>,
}

impl Snapshots {
    /// Nothing is on its way. `nonce` tells this incarnation's shipments from others.
    pub fn new(bodies: Bodies, done: mpsc::Sender<Done>, nonce: u64, bytes_per_s: u64, tick: Duration) -> Self {
        let (times, tickets) = (Times { tick }, Tickets::default());
        Self {
            bodies,
            done,
            taking: Taking::No,
            sending: Sending::new(nonce, bytes_per_s, times),
            receiving: Receiving::new(tickets.clone(), times),
            tickets,
            steps: VecDeque::new(),
        }
    }

    /// The next thing that the loop is to do.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// The replica wants a snapshot taken. Not while one is received: its state will be newer.
    pub fn take(&mut self, snapshot: TakeSnapshot) {
        if !self.receiving.is_idle() {
            // Gives up the view where nobody waits.
            tokio::task::spawn_blocking(move || drop(snapshot));
            self.steps.push_back(Step::Tell(Input::SnapshotGivenUp));
            return;
        }
        let (wanted, wish) = oneshot::channel();
        let ticket = self.tickets.draw();
        self.taking = Taking::Running { ticket, _wish: wish };
        let bodies = self.bodies.clone();
        let taking = tokio::spawn(taking::take(snapshot, bodies, ticket, wanted));
        self.spawn(async move {
            let result = taking.await.map_err(|panic| panic.to_string());
            Ok(Work::Taken { ticket, result })
        });
    }

    /// The replica wants its newest snapshot sent, with this message. What is no message of that kind is told to have failed.
    pub fn send(&mut self, to: ReplicaId, message: RaftMessage, now: Tick) {
        match &message.body {
            RaftBody::Snapshot { meta } => {
                let meta = meta.clone();
                self.sending.start(to, message, meta, now);
            }
            _ => self.steps.push_back(Step::Tell(Input::SnapshotReport { to, arrived: false })),
        }
        self.go_on();
    }

    /// The replica has a snapshot made the newest, from the staging: that is free again.
    pub fn handle_flip(&mut self) {
        self.taking = Taking::No;
    }

    /// raft has installed the snapshot that it was given, or has no use for it; and this replica has applied so much.
    pub fn handle_settled(&mut self, index: Index, installed: bool, applied: Index) {
        self.receiving.handle_settled(index, installed, applied);
        self.go_on();
    }

    /// A peer said something.
    pub fn handle_message(&mut self, from: ReplicaId, message: BodyMessage, own: Own<'_>, now: Tick) {
        match message {
            BodyMessage::Offer { shipment, message } => self.handle_offer(from, shipment, message, own, now),
            BodyMessage::Want { shipment, chunks } => self.sending.handle_want(from, shipment, &chunks, now),
            BodyMessage::Chunk { shipment, number, crc, bytes } => {
                self.receiving.handle_chunk(from, shipment, number, crc, bytes, now);
            }
            BodyMessage::Ended { shipment, arrived } => self.sending.handle_ended(from, shipment, arrived),
        }
        self.go_on();
    }

    fn handle_offer(&mut self, from: ReplicaId, shipment: ShipmentId, message: RaftMessage, own: Own<'_>, now: Tick) {
        if matches!(self.taking, Taking::Staged) {
            // The staging is the replica's until its snapshot is the newest, for which it waits until nothing is sent. Who
            // is offered a snapshot has none to send; and the offer will come again.
            self.sending.give_up("this node is to be sent one itself");
            return;
        }
        self.receiving.handle_offer(from, shipment, message, own, now);
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Tick) {
        self.sending.handle_tick(now);
        self.receiving.handle_tick(now);
        self.go_on();
    }

    /// Something was done.
    pub fn handle_done(&mut self, BodyDone(work): BodyDone, now: Tick) -> Result<(), BrokenInvariant> {
        match work {
            Work::Taken { ticket, result } => self.handle_taken(ticket, result)?,
            Work::Read { shipment, number, chunk } => self.sending.handle_read(shipment, number, chunk),
            Work::Begun { ticket, staged } => self.receiving.handle_begun(ticket, staged, now),
            Work::Staged { ticket } => self.receiving.handle_staged(ticket, now),
            Work::Checked { ticket, found } => self.receiving.handle_checked(ticket, found, now),
        }
        self.go_on();
        Ok(())
    }

    fn handle_taken(
        &mut self,
        ticket: Ticket,
        result: Result<Result<SnapshotMeta, Over>, Broken>,
    ) -> Result<(), BrokenInvariant> {
        let result = result.map_err(|detail| BrokenInvariant { name: "one history", detail })?;
        if !matches!(self.taking, Taking::Running { ticket: running, .. } if running == ticket) {
            return Ok(());
        }
        match result {
            Ok(meta) => {
                self.taking = Taking::Staged;
                self.steps.push_back(Step::Tell(Input::SnapshotTaken { meta }));
            }
            Err(Over) => self.give_up_taking(),
        }
        Ok(())
    }

    fn give_up_taking(&mut self) {
        if let Taking::Running { .. } = std::mem::replace(&mut self.taking, Taking::No) {
            self.steps.push_back(Step::Tell(Input::SnapshotGivenUp));
        }
    }

    /// Does what both sides want done.
    fn go_on(&mut self) {
        while let Some(step) = self.sending.poll_step() {
            match step {
                SendStep::Say { to, message } => self.steps.push_back(Step::Say { to, message }),
                SendStep::Read { shipment, snapshot, number } => {
                    let bodies = self.bodies.clone();
                    self.spawn(async move {
                        let chunk = bodies.read(snapshot, number).await?;
                        Ok(Work::Read { shipment, number, chunk })
                    });
                }
            }
        }
        while let Some(report) = self.sending.poll_report() {
            let (to, arrived) = (report.to, report.arrived);
            if hooks::is_planted("m30") {
                continue;
            }
            self.steps.push_back(Step::Tell(Input::SnapshotReport { to, arrived }));
        }
        while let Some(step) = self.receiving.poll_step() {
            self.receive(step);
        }
    }

    fn receive(&mut self, step: ReceiveStep) {
        let bodies = self.bodies.clone();
        match step {
            ReceiveStep::Say { to, message } => self.steps.push_back(Step::Say { to, message }),
            ReceiveStep::Begin { ticket, meta } => {
                self.give_up_taking();
                self.spawn(async move {
                    let staged = bodies.begin(ticket, Staging::Received(meta)).await?;
                    Ok(Work::Begun { ticket, staged })
                });
            }
            ReceiveStep::Stage { ticket, number, bytes } => self.spawn(async move {
                bodies.stage(ticket, number, bytes).await?;
                Ok(Work::Staged { ticket })
            }),
            ReceiveStep::Check { ticket, meta } => self.spawn(async move {
                let found = checking::check(meta, &bodies).await?;
                Ok(Work::Checked { ticket, found })
            }),
            // A staging of our own that nobody goes on with.
            ReceiveStep::Forget { ticket, index } => {
                _ = tokio::spawn(async move {
                    let _ = bodies.begin(ticket, Staging::Own { index }).await;
                })
            }
            ReceiveStep::Install { from, message, machine } => {
                self.steps.push_back(Step::Tell(Input::Snapshot { from, message, machine }));
            }
        }
    }

    /// Does something beside the loop, and tells the loop. What is over is not worth telling.
    fn spawn(&self, work: impl Future<Output = Result<Work, Over>> + Send + 'static) {
        let done = self.done.clone();
        tokio::spawn(async move {
            if let Ok(work) = work.await {
                let _ = done.send(Done::Body(BodyDone(work))).await;
            }
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
