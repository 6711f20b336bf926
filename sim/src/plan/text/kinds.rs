//! What stands on a line: which word stands for which type or variant, and which fields it has. Said once for both ways.

use tombola::{
    pool::{CatalogItem, Limits},
    replica::SnapshotPolicy,
    runtime::FlowLimits,
};

use super::groups::{Group, Taken};
use crate::plan::{ClockOptions, DiskOptions, FaultKind, NetworkOptions, Options, Twist, What};

/// One group of words.
pub(super) trait Record: Sized {
    fn group(&self) -> Group;
    fn read(group: Taken) -> Result<Self, String>;
}

macro_rules! record {
    ($type:ident $word:literal $($field:ident)*) => {
        impl Record for $type {
            fn group(&self) -> Group {
                Group::new($word)$(.with(stringify!($field), &self.$field))*
            }

            fn read(mut group: Taken) -> Result<Self, String> {
                let read = Self { $($field: group.take(stringify!($field))?),* };
                group.end().map(|()| read)
            }
        }
    };
}

macro_rules! records {
    ($type:ident, $what:literal: $($word:literal $variant:ident { $($field:ident),* })*) => {
        impl Record for $type {
            fn group(&self) -> Group {
                match self {
                    $(Self::$variant { $($field),* } => Group::new($word)$(.with(stringify!($field), $field))*,)*
                }
            }

            #[allow(unused_mut, reason = "some variant has fields, but not all")]
            fn read(mut group: Taken) -> Result<Self, String> {
                let read = match group.name.as_str() {
                    $($word => Self::$variant { $($field: group.take(stringify!($field))?),* },)*
                    other => return Err(format!("there is no {} {other:?}", $what)),
                };
                group.end().map(|()| read)
            }
        }
    };
}

/// The options that are numbers of the run itself.
pub(super) struct Run {
    pub(super) voters: u64,
    pub(super) safety_ms: u64,
    pub(super) quiet_ms: u64,
    pub(super) tick_ms: u64,
    pub(super) heartbeat_ticks: usize,
    pub(super) election_ticks: usize,
    pub(super) snapshot_bytes_per_s: u64,
}

impl Run {
    pub(super) fn of(options: &Options) -> Self {
        Self {
            voters: options.voters,
            safety_ms: options.safety_ms,
            quiet_ms: options.quiet_ms,
            tick_ms: options.tick_ms,
            heartbeat_ticks: options.heartbeat_ticks,
            election_ticks: options.election_ticks,
            snapshot_bytes_per_s: options.snapshot_bytes_per_s,
        }
    }
}

record!(Run "run" voters safety_ms quiet_ms tick_ms heartbeat_ticks election_ticks snapshot_bytes_per_s);
record!(NetworkOptions "network" loss_ppm delay_ms_mean tail_ppm tail_ms_max reordered_links_ppm duplicate_ppm late_ms_max
    corrupt_ppm queue_max);
record!(DiskOptions "disk" commit_us_min commit_us_max);
record!(SnapshotPolicy "snapshots" log_bytes_min trailing_entries trailing_bytes log_bytes_max);
record!(FlowLimits "flow" messages_max message_bytes_max uncommitted_bytes_max entry_commands_max entry_bytes_max
    pending_commands_max);
record!(Limits "limits" keys_bytes_max keys_age_ms_max);
record!(ClockOptions "clock" offset_ms rate_ppm);
record!(CatalogItem "item" item stock weight);

records! { What, "call":
    "draw" Draw { pool, count }
    "claim" Claim { pool, item, quantity }
    "update" Update { pool, item, stock, weight, create }
    "adjust" Adjust { pool, item, delta }
    "create" Create { pool }
    "pause" Pause { pool }
    "resume" Resume { pool }
    "read" Read { pool }
    "stale-read" StaleRead { pool }
    "outcome" Outcome { back }
    "verify" Verify {}
    "transfer" Transfer { to }
}

records! { Twist, "twist":
    "untwisted" None {}
    "twice" Twice {}
    "again" Again { after_ms }
    "reuse" Reuse {}
    "keyless" Keyless {}
    "hasty" Hasty {}
}

records! { FaultKind, "fault":
    "crash" Crash { node, keep, down_ms }
    "crash-in-commit" CrashInCommit { node, operations, keep, down_ms }
    "crash-many" CrashMany { nodes, keep, down_ms }
    "stop" Stop { node, down_ms }
    "pause-leader" PauseLeader { ms }
    "pause" Pause { node, ms }
    "slow" Slow { node, more_ms, ms }
    "slow-disk" SlowDisk { node, more_ms, ms }
    "disk-error" DiskError { node, operation, nth }
    "disk-full" DiskFull { node, ms }
    "rot" Rot { node, at, down_ms }
    "lying-sync" LyingSync { node, ms }
    "lost-disk" LostDisk { node }
    "cut" Cut { from, to, ms }
    "partition" Partition { shape, ms }
    "reset" Reset { one, other }
    "clog" Clog { from, to, ms }
    "step" Step { node, by_ms }
}
