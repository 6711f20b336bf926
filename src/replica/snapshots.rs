//! When a snapshot of this replica's own is taken, and where the log is cut behind it (raft-rs.md, lines 19 to 21).
//!
//! Taking one has four steps. It is *asked* for: a view of the state is given out, to be encoded elsewhere and staged on the
//! disk chunk by chunk. It is *staged*: it only waits for a transfer that needs the present snapshot's body, or that failed
//! just now and will go on with that body where it was. It is *flipped*
//! in by one transaction, with the truncation of the log, in the order of all writes. It is durable: only then does the log
//! in memory follow, and only then is it the one that peers are sent.

use super::{SnapshotPolicy, log::Log};
use crate::{
    durable::SnapshotMeta,
    hooks,
    types::{Index, Term},
};

/// How often one body is kept because sending it failed: that may be the body's fault.
const FAILURES_MAX: u32 = 3;

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
    /// How long none is asked for after one was given up, and the newest stays after it was not sent: raft has that sent
    /// again at the next heartbeat.
    pause_ticks: usize,
    /// How often sending the newest failed, up to [`FAILURES_MAX`]; and how much longer it stays for that.
    failures: u32,
    kept_ticks: usize,
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
        Self { policy, pause_ticks, failures: 0, kept_ticks: 0, applied_bytes: 0, covered_bytes: 0, taking }
    }

    /// A tick has passed.
    pub fn tick(&mut self) {
        self.kept_ticks = self.kept_ticks.saturating_sub(1);
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

    /// The newest was to be sent, and did not arrive.
    pub fn sending_failed(&mut self) {
        if self.failures < FAILURES_MAX {
            self.failures += 1;
            self.kept_ticks = self.pause_ticks;
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
        (self.failures, self.kept_ticks) = (0, 0);
        self.taking = Taking::No { pause_ticks: 0 };
    }

    /// A peer's snapshot was installed: whatever was on its way is overtaken.
    pub fn restored(&mut self) {
        *self = Self::new(self.policy, self.pause_ticks);
    }

    /// The body that is being sent stays until it is sent, unless the log gets too long meanwhile.
    fn may_replace_newest(&self, log: &Log) -> bool {
        (log.sending_to().is_none() && self.kept_ticks == 0) || self.is_log_too_long(log)
    }

    /// Never while it is shorter than the newest body: to cut it then would spare nothing, and would end each transfer of
    /// a body that takes longer than the log takes to grow by a fixed length.
    fn is_log_too_long(&self, log: &Log) -> bool {
        log.bytes() >= self.policy.log_bytes_max.max(log.newest().body_bytes)
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
        let last = if hooks::is_planted("m37") { index.next().min(log.last()) } else { last };
        let last = last.max(log.truncated());
        (last, log.term_at(last).expect("it is in the log, or the last that was cut off"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        durable::{Entry, EntryKind, Founders, HardState, RecoveredLog, Snapshot},
        pool::Limits,
        types::{ClusterId, ReplicaId},
    };

    const POLICY: SnapshotPolicy =
        SnapshotPolicy { log_bytes_min: 300, trailing_entries: 4, trailing_bytes: 250, log_bytes_max: 2_000 };

    fn meta(index: u64, body_bytes: u64) -> SnapshotMeta {
        let founders = Founders { cluster: ClusterId([0; 16]), limits: Limits::default(), disks: Default::default() };
        let (index, voters) = (Index(index), vec![ReplicaId(1), ReplicaId(2)]);
        SnapshotMeta { index, term: Term(1), voters, founders, body_bytes, body_sha256: [0; 32] }
    }

    /// Entries of 100 bytes each after the founding snapshot.
    fn log(last: u64, body_bytes: u64) -> Log {
        let entry = |index| {
            let (index, kind) = (Index(index), EntryKind::Normal);
            Entry { index, term: Term(1), kind, data: vec![0; 100].into() }
        };
        let snapshot = Snapshot { meta: meta(1, body_bytes), body: vec![] };
        Log::new(&RecoveredLog {
            genesis: snapshot.meta.genesis(),
            hard_state: HardState { term: Term(1), vote: ReplicaId(0), commit: Index(1) },
            snapshot,
            truncated: (Index(1), Term(1)),
            entries: (2..=last).map(entry).collect(),
        })
    }

    fn applied(policy: SnapshotPolicy, bytes: u64) -> Snapshots {
        let mut snapshots = Snapshots::new(policy, 3);
        snapshots.applied(bytes);
        snapshots
    }

    /// Where the log is cut when a snapshot at `index` is flipped in.
    fn cut(policy: SnapshotPolicy, last: u64, index: u64, slowest: Option<u64>) -> u64 {
        let (mut snapshots, log) = (applied(policy, 1_000), log(last, 0));
        assert!(snapshots.ask(&log, Index(index)));
        snapshots.staged(meta(index, 0));
        let (flipped, (cut, term)) = snapshots.flip(&log, slowest.map(Index)).unwrap();
        assert_eq!((flipped.index, term), (Index(index), Term(1)));
        cut.0
    }

    #[test]
    fn line_21_one_is_due_after_so_much_log_or_half_the_last_body() {
        assert!(!applied(POLICY, 299).ask(&log(9, 0), Index(9)));
        assert!(applied(POLICY, 300).ask(&log(9, 600), Index(9)));
        assert!(!applied(POLICY, 300).ask(&log(9, 602), Index(9)));
        assert!(applied(POLICY, 301).ask(&log(9, 602), Index(9)));
        assert!(!applied(POLICY, 300).ask(&log(9, 0), Index(1)), "nothing is applied since the newest");
    }

    #[test]
    fn line_18_one_is_due_when_raft_wants_a_newer_one() {
        let mut log = log(9, 0);
        raft::Storage::snapshot(&log, 5, 2).unwrap_err();
        assert!(applied(POLICY, 1).ask(&log, Index(9)));
        log.forget_wanted();
        assert!(!applied(POLICY, 1).ask(&log, Index(9)));
    }

    #[test]
    fn line_21_one_is_taken_at_a_time_and_what_was_applied_meanwhile_counts_for_the_next() {
        let (mut snapshots, mut log) = (applied(POLICY, 300), log(9, 0));
        assert!(snapshots.ask(&log, Index(5)));
        snapshots.applied(250);
        assert!(!snapshots.ask(&log, Index(8)));
        assert!(snapshots.flip(&log, None).is_none(), "its body is not staged");
        snapshots.staged(meta(7, 0));
        assert!(snapshots.flip(&log, None).is_none(), "another was asked for");
        snapshots.staged(meta(5, 0));
        let (newest, truncated) = snapshots.flip(&log, None).unwrap();
        assert!(snapshots.flip(&log, None).is_none() && !snapshots.ask(&log, Index(9)));
        log.compact(newest, truncated);
        snapshots.flipped();
        assert!(!snapshots.ask(&log, Index(9)));
        snapshots.applied(50);
        assert!(snapshots.ask(&log, Index(9)));
    }

    #[test]
    fn one_that_was_given_up_is_asked_for_again_after_a_while() {
        let (mut snapshots, log) = (applied(POLICY, 300), log(9, 0));
        assert!(snapshots.ask(&log, Index(5)));
        snapshots.given_up();
        for _ in 0..3 {
            assert!(!snapshots.ask(&log, Index(9)));
            snapshots.tick();
        }
        assert!(snapshots.ask(&log, Index(9)));
    }

    #[test]
    fn the_body_that_is_being_sent_stays_unless_the_log_gets_too_long() {
        let (mut snapshots, mut short) = (applied(POLICY, 300), log(9, 0));
        raft::Storage::snapshot(&short, 0, 2).unwrap();
        assert!(!snapshots.ask(&short, Index(9)));
        short.end_sending();
        assert!(snapshots.ask(&short, Index(9)));
        snapshots.staged(meta(9, 0));
        raft::Storage::snapshot(&short, 0, 2).unwrap();
        assert!(snapshots.flip(&short, None).is_none());
        let long = log(21, 0);
        raft::Storage::snapshot(&long, 0, 2).unwrap();
        assert!(snapshots.flip(&long, None).is_some());
    }

    #[test]
    fn a_log_shorter_than_the_body_that_is_being_sent_is_not_too_long() {
        for (last, is_too_long) in [(30, false), (31, true)] {
            let (mut snapshots, log) = (applied(POLICY, 3_000), log(last, 3_000));
            assert!(snapshots.ask(&log, Index(last)));
            snapshots.staged(meta(last, 3_000));
            raft::Storage::snapshot(&log, 0, 2).unwrap();
            assert_eq!(snapshots.flip(&log, None).is_some(), is_too_long, "{} bytes", log.bytes());
        }
    }

    #[test]
    fn a_body_that_was_not_sent_stays_a_while_a_few_times_and_a_newer_one_begins_anew() {
        let (mut snapshots, mut log) = (applied(POLICY, 300), log(9, 0));
        assert!(snapshots.ask(&log, Index(9)));
        snapshots.staged(meta(9, 0));
        for _ in 0..FAILURES_MAX {
            snapshots.sending_failed();
            for _ in 0..3 {
                assert!(snapshots.flip(&log, None).is_none());
                snapshots.tick();
            }
        }
        snapshots.sending_failed();
        let (newest, truncated) = snapshots.flip(&log, None).unwrap();
        log.compact(newest, truncated);
        snapshots.flipped();
        snapshots.sending_failed();
        assert!(!snapshots.may_replace_newest(&log));
    }

    #[test]
    fn line_21_some_entries_trail_by_number_or_length_whichever_are_fewer() {
        assert_eq!(cut(POLICY, 12, 10, None), 8, "250 bytes are 2 entries");
        assert_eq!(cut(SnapshotPolicy { trailing_bytes: 9_999, ..POLICY }, 12, 10, None), 6, "4 entries");
        assert_eq!(cut(SnapshotPolicy { trailing_entries: 0, ..POLICY }, 12, 10, None), 10);
        assert_eq!(cut(SnapshotPolicy { trailing_bytes: 9_999, trailing_entries: 99, ..POLICY }, 12, 10, None), 1);
    }

    #[test]
    fn line_21_a_slow_peer_keeps_its_entries_while_the_log_is_short() {
        assert_eq!(cut(POLICY, 12, 10, Some(5)), 5);
        assert_eq!(cut(POLICY, 12, 10, Some(11)), 8);
        assert_eq!(cut(POLICY, 12, 10, Some(0)), 1, "what is cut off already is not there to be kept");
        assert_eq!(cut(POLICY, 20, 10, Some(5)), 5, "1 900 bytes");
        assert_eq!(cut(POLICY, 21, 10, Some(5)), 8, "2 000 bytes");
    }
}
