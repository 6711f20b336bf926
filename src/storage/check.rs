//! What must hold of a store, checked alike when it is written and when it is read (raft-rs would panic on it later).

use sha2::Digest;

use crate::{
    durable::{Entry, Founders, HardState, Identity, Snapshot},
    types::{Index, ReplicaId, Term},
};

/// A broken rule, in words.
pub(super) type Broken = String;

/// The end of a founded store's log and what raft promised: as much as the next write must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The newest snapshot's last index and its term: the log begins after it.
    pub(super) snapshot: (Index, Term),
    /// The last entry, or the snapshot if there is none.
    pub(super) last: (Index, Term),
    /// The newest hard state.
    pub(super) hard_state: HardState,
}

impl Tail {
    /// A log that has no entries after `snapshot`, and a hard state that promises nothing yet.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let at = (snapshot.meta.index, snapshot.meta.term);
        Self { snapshot: at, last: at, hard_state: HardState::default() }
    }

    /// Takes `entry` as the next one.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), Broken> {
        let (index, term) = self.last;
        if entry.index != index.next() {
            return Err(format!("entry {} does not follow entry {index}", entry.index));
        }
        if entry.term < term {
            return Err(format!("entry {} has term {}, below term {term} of the one before", entry.index, entry.term));
        }
        self.last = (entry.index, entry.term);
        Ok(())
    }

    /// Forgets the entries after `last`.
    pub(super) fn truncate(&mut self, last: (Index, Term)) -> Result<(), Broken> {
        if last.0 < self.hard_state.commit {
            return Err(format!("entries after {} are overwritten, below commit {}", last.0, self.hard_state.commit));
        }
        self.last = last;
        Ok(())
    }

    /// Takes a newer hard state.
    pub(super) fn promise(&mut self, new: HardState) -> Result<(), Broken> {
        let old = self.hard_state;
        if new.term < old.term {
            return Err(format!("the term falls from {} to {}", old.term, new.term));
        }
        if new.term == old.term && old.vote != ReplicaId(0) && new.vote != old.vote {
            return Err(format!("in term {} the vote for {} becomes one for {}", old.term, old.vote, new.vote));
        }
        if new.commit < old.commit {
            return Err(format!("commit falls from {} to {}", old.commit, new.commit));
        }
        self.hard_state = new;
        Ok(())
    }

    /// What must hold at the end of every WriteSet, and of what a store holds.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let HardState { term, commit, .. } = self.hard_state;
        if commit < self.snapshot.0 {
            return Err(format!("commit {commit} is below the snapshot at {}", self.snapshot.0));
        }
        if commit > self.last.0 {
            return Err(format!("commit {commit} is above the last entry {}", self.last.0));
        }
        if term < self.last.1 {
            return Err(format!("term {term} is below term {} of the last entry", self.last.1));
        }
        Ok(())
    }
}

/// Do these founders speak of this cluster, and of this disk where they speak of this replica?
pub(super) fn check_founders(identity: &Identity, founders: &Founders) -> Result<(), Broken> {
    if founders.cluster != identity.cluster {
        return Err(format!("the founders are of cluster {}, not {}", founders.cluster, identity.cluster));
    }
    match founders.disks.get(&identity.replica) {
        Some(disk) if *disk != identity.disk => {
            Err(format!("the founders know replica {} with disk {disk}, not {}", identity.replica, identity.disk))
        }
        // A replica that is no founder joined later.
        _ => Ok(()),
    }
}

/// Is this a snapshot of this store's cluster, whole and well-formed?
pub(super) fn check_snapshot(identity: &Identity, snapshot: &Snapshot) -> Result<(), Broken> {
    let meta = &snapshot.meta;
    check_founders(identity, &meta.founders)?;
    if meta.index < Index::FOUNDING {
        return Err("the snapshot has index 0".into());
    }
    if meta.voters.is_empty() || !meta.voters.is_sorted_by(|a, b| a < b) {
        return Err(format!("the snapshot's voters {:?} are not a sorted set", meta.voters));
    }
    let body_bytes: u64 = snapshot.body.iter().map(|chunk| chunk.len() as u64).sum();
    if meta.body_bytes != body_bytes {
        return Err(format!("the snapshot's body has {body_bytes} bytes, not {}", meta.body_bytes));
    }
    let mut hasher = sha2::Sha256::new();
    snapshot.body.iter().for_each(|chunk| hasher.update(chunk));
    if meta.body_sha256 != *hasher.finalize() {
        return Err("the snapshot's body does not have its SHA-256".into());
    }
    Ok(())
}
