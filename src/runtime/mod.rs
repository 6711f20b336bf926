//! The node: one loop that takes an input, drains the replica's outputs and waits.

mod environment;
mod handle;
mod peer;
mod persist;

pub use environment::{Environment, NoEntropy};
pub use handle::*;
pub use peer::*;
pub use persist::{Persist, PersistError};

mod node;
pub use node::*;
