//! Tombola: a replicated reward pool. Every draw is decided once, by weight, among what is in stock; it is on the disks of
//! a majority before it is answered; a retry never awards twice; any node answers a linearizable read.
//!
//! The layers, each knowing only what stands below it:
//!
//! ```text
//! cli ── server ── runtime ──┬── replica ── pool
//!                            ├── storage
//!                            └── transport
//! client ── transport
//! ```
//!
//! [`calls`] stands on `runtime`, for whoever serves the native protocol: `server`, or the simulator.
//!
//! **Purity.** [`pool`] and [`replica`] have no clock, no I/O, no thread, no async and no randomness of the operating
//! system: time and entropy arrive in their input. `clippy.toml` and `tests/tidy` hold them to it.

// The bans of clippy.toml: clocks, threads, entropy and hash order of our own. Tests may use what the product must not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type))]
// The simulator's `spawn_blocking` warns that it blocks: it does, within one poll, which is what is wanted there.
#![cfg_attr(madsim, allow(deprecated))]

pub mod api;
pub mod calls;
pub mod client;
pub mod codec;
pub mod durable;
#[cfg(not(madsim))]
pub mod hooks;
#[cfg(madsim)]
#[path = "hooks_simulated.rs"]
pub mod hooks;
pub mod pool;
pub mod replica;
pub mod runtime;
pub mod storage;
pub mod transport;
pub mod types;

#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the simulator never builds it")]
pub mod cli;
#[cfg(not(madsim))]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the simulator never builds it")]
pub mod server;
#[cfg(not(madsim))]
pub mod system;
