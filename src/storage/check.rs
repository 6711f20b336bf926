//! What must hold of a store, checked alike when it is written and when it is read (raft-rs would panic on it later).

use sha2::Digest;

use super::schema::Newest;
use crate::{
    durable::{CHUNK_BYTES, Entry, Founders, HardState, Identity, Snapshot, SnapshotMeta},
    hooks,
    types::{Index, ReplicaId, Term},
};

/// A broken rule, in words.
pub(super) type Broken = String;

/// The shape of a founded store's log and what raft promised: as much as the next write must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last index that was compacted away, and its term: the log begins after it.
    pub(super) truncated: (Index, Term),
    /// The newest snapshot's index and its term.
    pub(super) snapshot: (Index, Term),
    /// The last entry, or what was compacted away last if there is none.
    pub(super) last: (Index, Term),
    /// The newest hard state.
    pub(super) hard_state: HardState,
}

impl Tail {
    /// A log that is empty so far, and a hard state that promises nothing yet.
    pub(super) fn new(newest: &Newest) -> Self {
        let snapshot = (newest.meta.index, newest.meta.term);
        Self { truncated: newest.truncated, snapshot, last: newest.truncated, hard_state: HardState::default() }
    }

    /// Takes `entry` as the next one.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), Broken> {
        let (index, term) = self.last;
        if entry.index != index.next() {
            return Err(format!("entry {} does not follow entry {index}", entry.index));
        }
        if entry.term < term && !hooks::is_planted("m18") {
            return Err(format!("entry {} has term {}, below term {term} of the one before", entry.index, entry.term));
        }
        if entry.index == self.snapshot.0 && entry.term != self.snapshot.1 {
            let (index, term) = self.snapshot;
            return Err(format!("entry {index} has term {}, and the snapshot says term {term}", entry.term));
        }
        self.last = (entry.index, entry.term);
        Ok(())
    }

    /// Takes a newer snapshot of this very log, whose entries up to `truncated` do not count any more.
    pub(super) fn compact(&mut self, snapshot: (Index, Term), truncated: (Index, Term)) -> Result<(), Broken> {
        self.check_newer(snapshot)?;
        if truncated.0 < self.truncated.0 {
            return Err(format!(
                "the log begins after {}, and cannot begin after {} again",
                self.truncated.0, truncated.0
            ));
        }
        (self.snapshot, self.truncated) = (snapshot, truncated);
        Ok(())
    }

    /// Takes a newer snapshot, after which the log begins anew.
    pub(super) fn install(&mut self, snapshot: (Index, Term)) -> Result<(), Broken> {
        self.check_newer(snapshot)?;
        (self.truncated, self.snapshot, self.last) = (snapshot, snapshot, snapshot);
        Ok(())
    }

    fn check_newer(&self, snapshot: (Index, Term)) -> Result<(), Broken> {
        match snapshot.0 < self.snapshot.0 {
            true => Err(format!("a snapshot at {} after the one at {}", snapshot.0, self.snapshot.0)),
            false => Ok(()),
        }
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
        if self.truncated.0 > self.snapshot.0 {
            return Err(format!("the log begins after {}, past the snapshot at {}", self.truncated.0, self.snapshot.0));
        }
        if self.truncated.0 == self.snapshot.0 && self.truncated.1 != self.snapshot.1 {
            let [log, snapshot] = [self.truncated.1, self.snapshot.1];
            return Err(format!("at {} the log says term {log}, and the snapshot term {snapshot}", self.snapshot.0));
        }
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
        Some(disk) if *disk != identity.disk && !hooks::is_planted("m25") => {
            Err(format!("the founders know replica {} with disk {disk}, not {}", identity.replica, identity.disk))
        }
        // A replica that is no founder joined later.
        _ => Ok(()),
    }
}

/// Can this be said of a snapshot of this store's cluster?
pub(super) fn check_meta(identity: &Identity, meta: &SnapshotMeta) -> Result<(), Broken> {
    check_founders(identity, &meta.founders)?;
    if meta.index < Index::FOUNDING {
        return Err("the snapshot has index 0".into());
    }
    if meta.voters.is_empty() || !meta.voters.is_sorted_by(|a, b| a < b) {
        return Err(format!("the snapshot's voters {:?} are not a sorted set", meta.voters));
    }
    Ok(())
}

/// Is this a snapshot of this store's cluster, whole and well-formed?
pub(super) fn check_snapshot(identity: &Identity, snapshot: &Snapshot) -> Result<(), Broken> {
    let meta = &snapshot.meta;
    check_meta(identity, meta)?;
    let mut length = BodyLength::default();
    let mut hasher = sha2::Sha256::new();
    for (number, chunk) in (0..).zip(&snapshot.body) {
        length.push(number, chunk.len())?;
        hasher.update(chunk);
    }
    length.check(meta)?;
    check_sha256(meta, hasher)
}

/// How much of a body has been seen, chunk by chunk: each of [`CHUNK_BYTES`], save that the last may be shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BodyLength {
    pub(super) chunks: u32,
    pub(super) bytes: u64,
}

impl BodyLength {
    /// Takes the chunk of this number and length as the next one.
    pub(super) fn push(&mut self, number: u32, bytes: usize) -> Result<(), Broken> {
        if number != self.chunks {
            return Err(format!("chunk {number} of a snapshot's body where chunk {} belongs", self.chunks));
        }
        if !self.bytes.is_multiple_of(CHUNK_BYTES as u64) {
            return Err(format!("chunk {number} of a snapshot's body after one that was shorter, hence the last"));
        }
        if bytes == 0 || bytes > CHUNK_BYTES {
            return Err(format!("chunk {number} of a snapshot's body has {bytes} bytes, not 1 to {CHUNK_BYTES}"));
        }
        *self = Self { chunks: self.chunks + 1, bytes: self.bytes + bytes as u64 };
        Ok(())
    }

    /// Is it all there?
    pub(super) fn check(&self, meta: &SnapshotMeta) -> Result<(), Broken> {
        match self.bytes == meta.body_bytes {
            true => Ok(()),
            false => Err(format!("the snapshot's body has {} bytes, not {}", self.bytes, meta.body_bytes)),
        }
    }
}

/// Is this the hash of the body?
pub(super) fn check_sha256(meta: &SnapshotMeta, of_body: sha2::Sha256) -> Result<(), Broken> {
    match meta.body_sha256 == *of_body.finalize() {
        true => Ok(()),
        false => Err("the snapshot's body does not have its SHA-256".into()),
    }
}
