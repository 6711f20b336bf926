//! Whole nodes over a network and disks in memory: what a caller of [`tombola::runtime::NodeHandle`] meets.

mod bounds;
mod disk;
mod faults;
mod identity;
mod judged;
mod serving;
mod snapshots;
mod time;
mod world;
