//! A body that is staged is read back and looked at, before raft hears of it: what is installed is what is on the disk.

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::receiving::Spoiled;
use crate::{
    durable::SnapshotMeta,
    hooks,
    pool::{Restorer, StateMachine},
    runtime::persist::{Bodies, Over},
};

/// Restores the state that the staged body of this snapshot holds, chunk by chunk, each off the loop; and compares its hash.
pub(super) async fn check(meta: SnapshotMeta, bodies: &Bodies) -> Result<Result<Box<StateMachine>, Spoiled>, Over> {
    let mut reading = Reading::default();
    for number in 0..meta.chunks() {
        let Some(chunk) = bodies.read(meta.index, number).await? else {
            if hooks::is_planted("m33") {
                break;
            }
            return Ok(Err(Spoiled("the store did not keep it, since it is not what was announced".to_owned())));
        };
        match off_the_loop(move || reading.push(&chunk)).await {
            Ok(pushed) => reading = pushed,
            Err(spoiled) => return Ok(Err(spoiled)),
        }
    }
    Ok(off_the_loop(move || reading.finish(&meta)).await)
}

/// A body that was read so far.
#[derive(Default)]
struct Reading {
    sha256: Sha256,
    restorer: Restorer,
}

impl Reading {
    fn push(mut self, chunk: &[u8]) -> Result<Self, Spoiled> {
        self.sha256.update(chunk);
        self.restorer.push(chunk).map_err(spoiled)?;
        Ok(self)
    }

    fn finish(self, meta: &SnapshotMeta) -> Result<Box<StateMachine>, Spoiled> {
        if self.sha256.finalize()[..] != meta.body_sha256 && !hooks::is_planted("m33") {
            return Err(Spoiled("it does not have the SHA-256 that was announced".to_owned()));
        }
        let machine = self.restorer.finish().map_err(spoiled)?;
        if machine.applied() != meta.index {
            return Err(Spoiled(format!("it is of index {}", machine.applied())));
        }
        Ok(Box::new(machine))
    }
}

fn spoiled(why: impl ToString) -> Spoiled {
    Spoiled(why.to_string())
}

/// Bytes of another node may be anything; they should not make ours panic, and if they do, they are refused all the same.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Spoiled> + Send + 'static,
) -> Result<T, Spoiled> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(spoiled(panic)))
}
