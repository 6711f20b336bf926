//! What Tombola is judged by: a naive [`model`] of the pools, and the [`check`]ers of what a cluster did.
//!
//! Neither depends on the simulator: the lock-step tests judge by them in plain `cargo test`, the simulator in its own build,
//! and a history that real processes wrote down can be judged afterwards. Neither has a clock, a thread or randomness of its
//! own, so the same history gets the same verdict.

pub mod check;
pub mod model;
