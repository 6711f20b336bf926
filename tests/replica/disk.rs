//! A disk: what is durable, what is on its way, and the body of a snapshot that is being staged. It takes nothing that
//! breaks the rules of raft-rs.md, lines 17 to 22.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tombola::{
    durable::{RecoveredLog, Snapshot, SnapshotMeta, SnapshotWrite, Staging, WriteSet},
    types::{Index, Term},
};

/// A body that is being staged; every chunk that is there is durable.
pub struct Staged {
    pub staging: Staging,
    pub chunks: Vec<Bytes>,
}

pub struct Disk {
    pub image: RecoveredLog,
    pub staged: Option<Staged>,
    /// On its way, oldest first.
    pub queued: VecDeque<WriteSet>,
    /// Number of the last WriteSet that was queued since the disk was opened.
    last_queued: u64,
}

impl Disk {
    pub fn new(image: RecoveredLog) -> Self {
        Self { image, staged: None, queued: VecDeque::new(), last_queued: 0 }
    }

    /// What a replica starts from. A snapshot of its own that it did not finish is worth nothing; a peer's is.
    pub fn open(&mut self) -> RecoveredLog {
        self.last_queued = 0;
        self.staged = self.staged.take().filter(|staged| matches!(staged.staging, Staging::Received(_)));
        self.image.clone()
    }

    pub fn queue(&mut self, write: WriteSet) {
        assert_eq!(write.number, self.last_queued + 1, "the numbers of WriteSets rise by one");
        self.last_queued = write.number;
        self.queued.push_back(write);
    }

    /// Makes the oldest that is queued durable; its number.
    pub fn write_next(&mut self) -> Option<u64> {
        let write = self.queued.pop_front()?;
        self.write(&write);
        Some(write.number)
    }

    /// Power is cut; `kept` of what was queued made it to the disk.
    pub fn crash(&mut self, kept: usize) {
        for write in std::mem::take(&mut self.queued).iter().take(kept) {
            self.write(write);
        }
    }

    /// Is a snapshot about to become the newest one?
    pub fn has_queued_snapshot(&self) -> bool {
        self.queued.iter().any(|write| write.snapshot.is_some())
    }

    fn write(&mut self, write: &WriteSet) {
        match &write.snapshot {
            Some(SnapshotWrite::Taken { meta, truncated }) => self.write_taken(meta, *truncated),
            Some(SnapshotWrite::Installed { meta }) => self.write_installed(meta),
            None => {}
        }
        let image = &mut self.image;
        if let Some(first) = write.entries.first() {
            assert!(first.index > image.truncated.0, "line 17: entry {} is compacted away", first.index);
            image.entries.retain(|entry| entry.index < first.index);
            image.entries.extend(write.entries.iter().cloned());
        }
        if let Some(hard_state) = write.hard_state {
            let before = image.hard_state;
            assert!(hard_state.term >= before.term, "terms never fall on a disk");
            assert!(hard_state.commit >= before.commit, "commits never fall on a disk");
            let changes = (hard_state.term, hard_state.vote) != (before.term, before.vote);
            assert_eq!(changes, write.promise, "a changed term or vote is a promise");
            image.hard_state = hard_state;
        }
        check(image);
    }

    /// The body that was staged for this snapshot, whole.
    fn take_staged(&mut self, meta: &SnapshotMeta, is_of: impl Fn(&Staging) -> bool) -> Vec<Bytes> {
        let staged = self.staged.take().expect("a body is staged before it is flipped in");
        assert!(is_of(&staged.staging), "another body is staged");
        assert!(is_whole(meta, &staged.chunks), "line 40: the body is whole before it is flipped in");
        staged.chunks
    }

    fn write_taken(&mut self, meta: &SnapshotMeta, (index, term): (Index, Term)) {
        let body = self.take_staged(meta, |staging| matches!(staging, Staging::Own { index } if *index == meta.index));
        let image = &mut self.image;
        assert!(meta.index > image.snapshot.meta.index, "a snapshot is newer than the one before it");
        assert!(index >= image.truncated.0 && index <= meta.index, "line 21: the log is cut at or below the snapshot");
        let at = |wanted: Index| image.entries.iter().find(|entry| entry.index == wanted).map(|entry| entry.term);
        assert_eq!(at(meta.index), Some(meta.term), "the snapshot is of an entry that is on the disk");
        let there = if index == image.truncated.0 { Some(image.truncated.1) } else { at(index) };
        assert_eq!(there, Some(term), "line 17: the log is cut at the term that it has there");
        image.entries.retain(|entry| entry.index > index);
        image.truncated = (index, term);
        image.snapshot = Snapshot { meta: meta.clone(), body };
    }

    /// Line 41: the body becomes the current one, the whole log is cleared, truncation is the snapshot.
    fn write_installed(&mut self, meta: &SnapshotMeta) {
        let body = self.take_staged(meta, |staging| matches!(staging, Staging::Received(of) if of == meta));
        let image = &mut self.image;
        assert!(meta.index > image.hard_state.commit, "what is committed here is not replaced");
        image.entries.clear();
        image.truncated = (meta.index, meta.term);
        image.snapshot = Snapshot { meta: meta.clone(), body };
    }
}

/// Are these all the bytes that the snapshot has?
pub fn is_whole(meta: &SnapshotMeta, chunks: &[Bytes]) -> bool {
    let body = chunks.concat();
    body.len() as u64 == meta.body_bytes && meta.body_sha256 == <[u8; 32]>::from(Sha256::digest(&body))
}

/// Line 22: what a store refuses to start with is never written.
fn check(image: &RecoveredLog) {
    let (truncated, snapshot, commit) = (image.truncated.0, image.snapshot.meta.index, image.hard_state.commit);
    let mut last = image.truncated;
    for entry in &image.entries {
        assert!(
            entry.index == last.0.next() && entry.term >= last.1,
            "line 22: entry {} follows on {last:?}",
            entry.index
        );
        last = (entry.index, entry.term);
    }
    assert!(truncated <= snapshot, "line 22: truncated at {truncated} above the snapshot at {snapshot}");
    assert!(snapshot <= commit, "line 22: the snapshot at {snapshot} is above commit {commit}");
    assert!(commit <= last.0, "line 20: commit {commit} beyond {}", last.0);
}
