//! The native client.

mod protocol;
pub mod wire;
pub use protocol::*;
