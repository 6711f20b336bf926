//! Whole nodes over a network and disks in memory: what a caller of [`tombola::runtime::NodeHandle`] meets.

mod faults;
mod identity;
mod serving;
mod time;
mod world;
