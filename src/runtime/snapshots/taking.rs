//! Taking a snapshot of this replica's own state: encoded off the loop, staged chunk by chunk.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use crate::{
    durable::{CHUNK_BYTES, SnapshotMeta, Staging},
    pool::SnapshotHandle,
    replica::TakeSnapshot,
    runtime::persist::{Bodies, Over, Ticket},
};

/// Why no snapshot was taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// It was given up, or there is no store any more.
    Over,
    /// The state contradicts itself: this node's memory cannot be trusted.
    Broken(String),
}

impl From<Over> for NotTaken {
    fn from(Over: Over) -> Self {
        Self::Over
    }
}

/// Takes it, unless `wanted` is closed at the other end meanwhile.
pub(super) async fn take(
    snapshot: TakeSnapshot,
    bodies: &Bodies,
    ticket: Ticket,
    wanted: &oneshot::Sender<()>,
) -> Result<SnapshotMeta, NotTaken> {
    let (start, index) = (Instant::now(), snapshot.handle.index());
    let TakeSnapshot { handle, term, voters, founders } = snapshot;
    bodies.begin(ticket, Staging::Own { index }).await?;
    let mut encoder = Encoder::new(handle).await?;
    let mut number = 0;
    loop {
        let (before, chunk) = encoder.next().await?;
        encoder = before;
        let Some(chunk) = chunk else { break };
        if wanted.is_closed() {
            return Err(NotTaken::Over);
        }
        bodies.stage(ticket, number, chunk).await?;
        number += 1;
    }
    let (body_bytes, body_sha256) = encoder.finish();
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(index = index.0, bytes = body_bytes, took_ms, "took a snapshot");
    Ok(SnapshotMeta { index, term, voters, founders, body_bytes, body_sha256 })
}

/// Encodes a state chunk by chunk, each where nobody waits.
struct Encoder {
    chunks: Box<dyn Iterator<Item = Bytes> + Send>,
    bytes: u64,
    sha256: Sha256,
}

impl Encoder {
    async fn new(handle: SnapshotHandle) -> Result<Self, NotTaken> {
        let encode = move || {
            let chunks: Vec<_> = handle.chunks(CHUNK_BYTES).collect();
            Self { chunks: Box::new(chunks.into_iter()), bytes: 0, sha256: Sha256::new() }
        };
        off_the_loop(encode).await
    }

    /// The next chunk; `None` after the last.
    async fn next(mut self) -> Result<(Self, Option<Bytes>), NotTaken> {
        let encode = move || {
            let chunk = self.chunks.next();
            if let Some(chunk) = &chunk {
                self.bytes += chunk.len() as u64;
                self.sha256.update(chunk);
            }
            (self, chunk)
        };
        off_the_loop(encode).await
    }

    /// Length and hash of them all.
    fn finish(self) -> (u64, [u8; 32]) {
        (self.bytes, self.sha256.finalize().into())
    }
}

/// Does work that takes long where nobody waits. It panics only on a state that contradicts itself.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotTaken> {
    spawn_blocking(work).await.map_err(|panic| NotTaken::Broken(panic.to_string()))
}
