//! The native client.

mod protocol;
pub use protocol::*;
