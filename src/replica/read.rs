//! Linearizable reads.

/// Names a read at the replica that it was given to; chosen by the giver, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);
