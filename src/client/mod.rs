//! The native client: QUIC, a request key on every mutation, and retries under it.
//!
//! [`protocol`](ClientFrame) says what goes over the wire and [`wire`] how; [`retry`] decides, without I/O, when to try
//! again and what may be said after giving up. `Client` ties them to quinn; it is left out of the simulator, whose clients
//! drive the same [`retry::Retry`] over a network of their own.

mod protocol;
pub mod retry;
pub mod wire;

#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, reason = "the simulator never builds it")]
mod calls;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, reason = "the simulator never builds it")]
mod clock;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, reason = "the simulator never builds it")]
mod link;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, reason = "the simulator never builds it")]
mod native;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, reason = "the simulator never builds it")]
mod sockets;

#[cfg(not(madsim))]
pub use native::*;
pub use protocol::*;
#[cfg(not(madsim))]
pub use sockets::Sockets;
