//! A body that is staged is read back and looked at, before raft hears of it: what is installed is what is on the disk.

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::receiving::Unfit;
use crate::{
    durable::SnapshotMeta,
    pool::{Restorer, StateMachine},
    runtime::persist::{Bodies, Over},
};

impl From<Over> for Unfit {
    fn from(Over: Over) -> Self {
        Self::Gone
    }
}

/// Restores the state that the staged body of this snapshot holds, chunk by chunk, each off the loop; and compares its hash.
pub(super) async fn check(meta: SnapshotMeta, bodies: &Bodies) -> Result<Box<StateMachine>, Unfit> {
    let mut reading = Reading::default();
    for number in 0..meta.chunks() {
        let chunk = bodies.read(meta.index, number).await?.ok_or(Unfit::Gone)?;
        let push = move || {
            reading.sha256.update(&chunk);
            reading.restorer.push(&chunk).map(|()| reading)
        };
        reading = match off_the_loop(push).await? {
            Ok(reading) => reading,
            Err(bad) => return Err(Unfit::Spoiled(bad.to_string())),
        };
    }
    off_the_loop(move || reading.finish(&meta)).await?.map_err(Unfit::Spoiled)
}

/// A body that was read so far.
#[derive(Default)]
struct Reading {
    sha256: Sha256,
    restorer: Restorer,
}

impl Reading {
    fn finish(self, meta: &SnapshotMeta) -> Result<Box<StateMachine>, String> {
        if self.sha256.finalize()[..] != meta.body_sha256 {
            return Err("it does not have the SHA-256 that was announced".to_owned());
        }
        let machine = self.restorer.finish().map_err(|bad| bad.to_string())?;
        if machine.applied() != meta.index {
            return Err(format!("it is of index {}", machine.applied()));
        }
        Ok(Box::new(machine))
    }
}

/// Bytes of another node may be anything; they should not make ours panic, and if they do, they are refused all the same.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfit> {
    spawn_blocking(work).await.map_err(|panic| Unfit::Spoiled(panic.to_string()))
}
