//! The way of snapshots' bodies to and from the store, beside the log: one piece at a time, from any task.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{durable::Staging, types::Index};

/// Most pieces that wait for the writer. Who asks for one waits for its answer, and few ask at a time.
const PIECES_MAX: usize = 16;

/// Names a staging. There is one at a time: of two tickets, the one drawn later puts an end to the other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runtime) struct Ticket(u64);

/// Where tickets are drawn. Clones draw from the same roll.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct Tickets(Arc<AtomicU64>);

impl Tickets {
    /// The next ticket, greater than all before.
    pub fn draw(&self) -> Ticket {
        Ticket(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A piece of side work, and where its answer goes. Without an answer the reply is dropped.
#[derive(Debug)]
pub(super) enum Piece {
    Begin { ticket: Ticket, staging: Staging, reply: oneshot::Sender<u32> },
    Stage { ticket: Ticket, number: u32, chunk: Bytes, reply: oneshot::Sender<()> },
    Read { snapshot: Index, number: u32, reply: oneshot::Sender<Option<Bytes>> },
}

/// It was not done, and never will be: a later staging put an end to this one, or the writer ended. The loop knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Over;

/// A handle on the writer for what is beside the log; cheap to clone. Whatever is asked waits its turn, with the log's
/// WriteSets in between.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Bodies {
    pieces: mpsc::Sender<Piece>,
}

impl Bodies {
    /// A handle, and the writer's end of it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Piece>) {
        let (pieces, asked) = mpsc::channel(PIECES_MAX);
        (Self { pieces }, asked)
    }

    /// Begins a staging, after everything that was written to the log so far; tells how many of its chunks are staged
    /// already, and durable. Whatever else was staged is forgotten.
    pub async fn begin(&self, ticket: Ticket, staging: Staging) -> Result<u32, Over> {
        self.ask(|reply| Piece::Begin { ticket, staging, reply }).await
    }

    /// Stages the next chunk, which has this number; durable once it returns.
    pub async fn stage(&self, ticket: Ticket, number: u32, chunk: Bytes) -> Result<(), Over> {
        self.ask(|reply| Piece::Stage { ticket, number, chunk, reply }).await
    }

    /// Reads a chunk of the staged body, or of the newest snapshot's. `None` if there is no such chunk (any more).
    pub async fn read(&self, snapshot: Index, number: u32) -> Result<Option<Bytes>, Over> {
        self.ask(|reply| Piece::Read { snapshot, number, reply }).await
    }

    async fn ask<A>(&self, piece: impl FnOnce(oneshot::Sender<A>) -> Piece) -> Result<A, Over> {
        let (reply, answer) = oneshot::channel();
        self.pieces.send(piece(reply)).await.map_err(|_| Over)?;
        answer.await.map_err(|_| Over)
    }
}
