//! Which disks are damaged: rotten, lost, or with a sync that lied. Crashes are no damage, as every store must survive them
//! on all nodes at once.
//!
//! No cluster survives damage to any number of disks, so a plan must not ask for it: a disk may be damaged only as long as
//! a quorum of the voters is intact without it. Once damaged, a disk stays in the book: what it lost may be found missing
//! much later, and no node can be replaced under a new id yet.

use std::collections::BTreeSet;

use tombola::types::ReplicaId;

/// Which of the voters' disks are damaged.
#[derive(Clone, Debug)]
pub struct Atlas {
    voters: BTreeSet<ReplicaId>,
    damaged: BTreeSet<ReplicaId>,
}

impl Atlas {
    /// All of them are intact.
    pub fn new(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        Self { voters: voters.into_iter().collect(), damaged: BTreeSet::new() }
    }

    /// May this voter's disk be damaged? If it is already, it may be again.
    pub fn may_damage(&self, node: ReplicaId) -> bool {
        let quorum = self.voters.len() / 2 + 1;
        let intact = self.voters.difference(&self.damaged).filter(|voter| **voter != node).count();
        self.voters.contains(&node) && (self.damaged.contains(&node) || intact >= quorum)
    }

    /// Books a voter's disk as damaged, if it may be; to be asked right before it is.
    pub fn book(&mut self, node: ReplicaId) -> bool {
        let may = self.may_damage(node);
        if may {
            self.damaged.insert(node);
        }
        may
    }

    /// Whose disks are damaged.
    pub fn damaged(&self) -> &BTreeSet<ReplicaId> {
        &self.damaged
    }

    /// Whose are not: always a quorum.
    pub fn intact(&self) -> impl Iterator<Item = ReplicaId> {
        self.voters.difference(&self.damaged).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many disks may be damaged of so many.
    fn most(voters: u64) -> usize {
        let mut atlas = Atlas::new((1..=voters).map(ReplicaId));
        let booked = (1..=voters).filter(|voter| atlas.book(ReplicaId(*voter))).count();
        assert_eq!((atlas.damaged().len(), atlas.intact().count()), (booked, voters as usize - booked));
        booked
    }

    #[test]
    fn a_quorum_stays_intact() {
        assert_eq!([1, 2, 3, 4, 5].map(most), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn a_damaged_disk_may_be_damaged_again_and_a_stranger_s_never() {
        let mut atlas = Atlas::new([1, 2, 3].map(ReplicaId));
        assert!(atlas.book(ReplicaId(2)) && atlas.book(ReplicaId(2)));
        assert!(!atlas.may_damage(ReplicaId(1)) && !atlas.may_damage(ReplicaId(4)));
    }
}
