//! The simulator: the production runtime under every fault, from one seed, and what judges it.
//!
//! Two parts. **What judges** needs no simulation: a naive [`model`] of the pools, and the [`check`]ers of what a cluster did.
//! The lock-step tests judge by them in plain `cargo test`, and a history that real processes wrote down can be judged
//! afterwards. None of it has a clock, a thread or randomness of its own, so the same history gets the same verdict.
//!
//! **What runs** a [`plan`] is built with `--cfg madsim` only (see `sim/run`). It holds nodes of the production runtime, with a
//! network, disks, clocks and clients of its own, and comes to a [`verdict`].

#[cfg(madsim)]
pub mod book;
pub mod chance;
pub mod check;
pub mod clients;
#[cfg(madsim)]
pub mod clock;
pub mod disk;
pub mod marks;
pub mod model;
pub mod mutants;
pub mod network;
pub mod plan;
pub mod shrink;
#[cfg(madsim)]
pub mod store;
pub mod timeline;
pub mod trace;
pub mod verdict;
#[cfg(madsim)]
pub mod world;
