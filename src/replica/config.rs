//! What a replica is told once.

/// What a replica is told once. Times are in ticks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Leader's heartbeat interval; at least 1.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout; the longest is one tick less than twice this.
    pub election_ticks: usize,
    /// Seeds the election timeouts: random in production, drawn from the seed in simulation.
    pub election_seed: u64,
    /// Random number of this incarnation: read contexts of an earlier one are not mistaken for ours.
    pub boot_nonce: u64,
    /// Most messages with entries to a peer that are not acknowledged; at least 1.
    pub messages_max: usize,
    /// Most bytes of entries in such a message; the first is sent, however long.
    pub message_bytes_max: u64,
    /// Most bytes proposed and not committed; where there are none, one entry is proposed, however long.
    pub uncommitted_bytes_max: u64,
    /// When snapshots are taken, and what of the log is kept beside them.
    pub snapshots: SnapshotPolicy,
    /// Digests are compared with the peers' at every index that is a multiple of this.
    pub checkpoint_every: u64,
}

/// When snapshots are taken, and what of the log is kept beside them. Lengths are those of entries' data, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// A snapshot is due when the entries applied since the last one have this length, or half that of its body, whichever
    /// is more.
    pub log_bytes_min: u64,
    /// The newest entries at or below a snapshot that stay in the log, for peers that are a little behind: so many...
    pub trailing_entries: u64,
    /// ... or so many as have this length, whichever is fewer.
    pub trailing_bytes: u64,
    /// A log of this length, or that of the newest snapshot's body, whichever is more, is cut whatever peer that was heard of
    /// lately still needs it, or that body: it gets the newer snapshot.
    pub log_bytes_max: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { log_bytes_min: 64 << 20, trailing_entries: 10_000, trailing_bytes: 64 << 20, log_bytes_max: 256 << 20 }
    }
}
