//! When a snapshot of this replica's own is taken, and where the log is cut behind it (raft-rs.md, lines 19 to 21).
//!
//! Taking one has four steps. It is *asked* for: a view of the state is given out, to be encoded elsewhere and staged on the
//! disk chunk by chunk. It is *staged*: it only waits for a transfer that needs the present snapshot's body. It is *flipped*
//! in by one transaction, with the truncation of the log, in the order of all writes. It is durable: only then does the log
//! in memory follow, and only then is it the one that peers are sent.

use super::{SnapshotPolicy, log::Log};
use crate::{
    durable::SnapshotMeta,
    types::{Index, Term},
};

/// A snapshot of this replica's own on its way to the disk.
#[derive(Debug)]
enum Taking {
    /// There is none. The last one was given up so lately that none is asked for in so many ticks.
    No { pause_ticks: usize },
    /// Its body is being encoded and staged.
    Asked(Index),
    /// Its body is durable.
    Staged(SnapshotMeta),
    /// So will be soon that it is the newest.
    Flipping,
}

/// Whether a snapshot is due, and how far the one on its way has come.
#[derive(Debug)]
pub(super) struct Snapshots {
    policy: SnapshotPolicy,
    /// How long none is asked for after one was given up.
    pause_ticks: usize,
    /// Length of the entries applied since the newest snapshot.
    applied_bytes: u64,
    /// That part of it which the one on its way covers.
    covered_bytes: u64,
    taking: Taking,
}

impl Snapshots {
    /// None is on its way, and nothing is applied since the newest.
    pub fn new(policy: SnapshotPolicy, pause_ticks: usize) -> Self {
        let taking = Taking::No { pause_ticks: 0 };
        Self { policy, pause_ticks, applied_bytes: 0, covered_bytes: 0, taking }
    }

    /// A tick has passed.
    pub fn tick(&mut self) {
        if let Taking::No { pause_ticks } = &mut self.taking {
            *pause_ticks = pause_ticks.saturating_sub(1);
        }
    }

    /// An entry with so much data was applied.
    pub fn applied(&mut self, bytes: u64) {
        self.applied_bytes += bytes;
    }

    /// Is one to be asked for now? It is, then: the caller must do so.
    pub fn ask(&mut self, log: &Log, applied: Index) -> bool {
        let due_bytes = self.policy.log_bytes_min.max(log.newest().body_bytes / 2);
        let is_due = self.applied_bytes >= due_bytes || log.is_newer_wanted();
        let is_free = matches!(self.taking, Taking::No { pause_ticks: 0 }) && self.may_replace_newest(log);
        let ask = is_due && is_free && applied > log.newest().index;
        if ask {
            self.taking = Taking::Asked(applied);
            self.covered_bytes = self.applied_bytes;
        }
        ask
    }

    /// The body of the one that was asked for is durable. One that was not asked for, or was overtaken by a peer's, is
    /// ignored.
    pub fn staged(&mut self, meta: SnapshotMeta) {
        if matches!(self.taking, Taking::Asked(index) if index == meta.index) {
            self.taking = Taking::Staged(meta);
        }
    }

    /// The one that was asked for will not come.
    pub fn given_up(&mut self) {
        if matches!(self.taking, Taking::Asked(_)) {
            self.taking = Taking::No { pause_ticks: self.pause_ticks };
        }
    }

    /// The one to flip in now, and the last entry that leaves the log with it. `slowest` is how far a peer has come that is
    /// heard of, and whose entries are worth keeping.
    pub fn flip(&mut self, log: &Log, slowest: Option<Index>) -> Option<(SnapshotMeta, (Index, Term))> {
        if !self.may_replace_newest(log) {
            return None;
        }
        let Taking::Staged(meta) = &self.taking else { return None };
        let flipped = (meta.clone(), self.truncation(meta.index, log, slowest));
        self.taking = Taking::Flipping;
        Some(flipped)
    }

    /// The one that was flipped in is durable.
    pub fn flipped(&mut self) {
        self.applied_bytes -= std::mem::take(&mut self.covered_bytes);
        self.taking = Taking::No { pause_ticks: 0 };
    }

    /// A peer's snapshot was installed: whatever was on its way is overtaken.
    pub fn restored(&mut self) {
        *self = Self::new(self.policy, self.pause_ticks);
    }

    /// The body that is being sent stays until it is sent, unless the log gets too long meanwhile.
    fn may_replace_newest(&self, log: &Log) -> bool {
        log.sending_to().is_none() || self.is_log_too_long(log)
    }

    fn is_log_too_long(&self, log: &Log) -> bool {
        log.bytes() >= self.policy.log_bytes_max
    }

    /// The last entry to leave the log when a snapshot at `index` is flipped in (line 21).
    fn truncation(&self, index: Index, log: &Log, slowest: Option<Index>) -> (Index, Term) {
        let (mut last, mut kept_bytes) = (index, 0);
        while last > log.truncated() && index.0 - last.0 < self.policy.trailing_entries {
            kept_bytes += log.bytes_at(last);
            if kept_bytes > self.policy.trailing_bytes {
                break;
            }
            last.0 -= 1;
        }
        if let Some(slowest) = slowest.filter(|_| !self.is_log_too_long(log)) {
            last = last.min(slowest);
        }
        let last = last.max(log.truncated());
        (last, log.term_at(last).expect("it is in the log, or the last that was cut off"))
    }
}
