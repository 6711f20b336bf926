//! Taking a snapshot of this replica's own state: encoded in a task of its own, a chunk at a time.
//!
//! Encoding a chunk takes a millisecond or so, after which the task waits for the store to have it staged: it never keeps
//! a thread of the runtime for longer, and never holds more than a chunk. Only dropping the view, which may be the last
//! to know of much, is left to a thread that may block.

use sha2::{Digest, Sha256};
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use crate::{
    durable::{CHUNK_BYTES, SnapshotMeta, Staging},
    pool::SnapshotHandle,
    replica::TakeSnapshot,
    runtime::persist::{Bodies, Over, Ticket},
};

/// Takes it, unless `wanted` is closed at the other end meanwhile.
///
/// # Panics
/// If the state contradicts itself: this node's memory cannot be trusted.
pub(super) async fn take(
    snapshot: TakeSnapshot,
    bodies: Bodies,
    ticket: Ticket,
    wanted: oneshot::Sender<()>,
) -> Result<SnapshotMeta, Over> {
    let (start, index) = (Instant::now(), snapshot.handle.index());
    let staged = match bodies.begin(ticket, Staging::Own { index }).await {
        Ok(_) => stage(&snapshot.handle, &bodies, ticket, &wanted).await,
        Err(over) => Err(over),
    };
    let meta = staged.map(|(body_bytes, body_sha256)| snapshot.meta(body_bytes, body_sha256));
    spawn_blocking(move || drop(snapshot));
    let meta = meta?;
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(index = index.0, bytes = meta.body_bytes, took_ms, "took a snapshot");
    Ok(meta)
}

/// Encodes and stages the body; gives its length and its hash.
async fn stage(
    handle: &SnapshotHandle,
    bodies: &Bodies,
    ticket: Ticket,
    wanted: &oneshot::Sender<()>,
) -> Result<(u64, [u8; 32]), Over> {
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    for (number, chunk) in (0..).zip(handle.chunks(CHUNK_BYTES)) {
        if wanted.is_closed() {
            return Err(Over);
        }
        bytes += chunk.len() as u64;
        sha256.update(&chunk);
        bodies.stage(ticket, number, chunk).await?;
    }
    Ok((bytes, sha256.finalize().into()))
}
