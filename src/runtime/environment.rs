//! What a node takes from the world besides its transport and its store. The operating system's, for production, is
//! [`crate::system::SystemEnvironment`]: nothing in this module reads a clock or entropy of its own.

use std::time::Duration;

use crate::types::Millis;

/// Entropy, wall time and the length of a tick: the operating system's in production, the plan's in simulation.
pub trait Environment: Send + 'static {
    /// Fills `bytes` with entropy nobody can foresee. An error stops the node from proposing.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
    /// The wall clock; may be wrong and may jump.
    fn wall(&mut self) -> Millis;
    /// Length of a tick by this node's monotonic clock; at least a millisecond.
    fn tick(&self) -> Duration;
}

/// The operating system has no entropy to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no entropy")]
pub struct NoEntropy;
