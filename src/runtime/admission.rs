//! Who may still come in: the bounds on what waits in a node, and its closing time.
//!
//! Handles count commands in before they reach the loop, so that a full node says so at once, without a turn of the loop;
//! a [`Permit`] counts its command out again when it is dropped, wherever that happens.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::api::NotApplied;

/// Most commands that wait in a node for their answer.
pub const PENDING_COMMANDS_MAX: usize = 65_536;
/// Most bytes that they may have, encoded.
pub const PENDING_BYTES_MAX: usize = 16 << 20;
/// When a caller that was turned away may try again, in milliseconds: a few group commits later.
pub(super) const RETRY_AFTER_MS: u32 = 100;

/// The answer to whoever finds a queue full.
pub(super) fn overloaded() -> NotApplied {
    NotApplied::Overloaded { retry_after_ms: RETRY_AFTER_MS }
}

/// What all handles of a node share with its loop.
#[derive(Debug, Default)]
pub(super) struct Admission {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    closing: Notify,
}

/// A command's place among those that wait; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Lets a command of so many bytes in.
    pub fn enter(self: &Arc<Self>, bytes: usize) -> Result<Permit, NotApplied> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(NotApplied::Draining);
        }
        // Counted first: should it not fit, dropping the permit counts it out again.
        let commands = self.commands.fetch_add(1, Ordering::Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { admission: self.clone(), bytes };
        if commands >= PENDING_COMMANDS_MAX || waiting.saturating_add(bytes) > PENDING_BYTES_MAX {
            return Err(overloaded());
        }
        Ok(permit)
    }

    /// Lets nobody in any more, and tells the loop.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Waits for [`Self::close`]; tells of it once. May be cancelled and called again.
    pub async fn closing(&self) {
        self.closing.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.commands.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let admission = Arc::new(Admission::default());
        let most = admission.enter(PENDING_BYTES_MAX).unwrap();
        assert_eq!(admission.enter(1).unwrap_err(), overloaded());
        drop(most);
        admission.enter(PENDING_BYTES_MAX).unwrap();
    }

    #[test]
    fn commands_are_bounded() {
        let admission = Arc::new(Admission::default());
        let permits: Vec<_> = (0..PENDING_COMMANDS_MAX).map(|_| admission.enter(1).unwrap()).collect();
        assert_eq!(admission.enter(1).unwrap_err(), overloaded());
        drop(permits);
        admission.enter(1).unwrap();
    }

    #[test]
    fn nobody_enters_after_closing() {
        let admission = Arc::new(Admission::default());
        admission.close();
        assert_eq!(admission.enter(1).unwrap_err(), NotApplied::Draining);
    }
}
