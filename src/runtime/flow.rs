//! How much may be under way in a node at once.

use super::PENDING_COMMANDS_MAX;
use crate::pool::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};

/// How much may be under way in a node at once. Less costs throughput, more costs memory; what is right does not hang on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Most messages with entries to a peer that are not acknowledged; at least 1.
    pub messages_max: usize,
    /// Most bytes of entries in such a message, up to 1 MiB. The first is sent, however long.
    pub message_bytes_max: u64,
    /// Most bytes proposed and not committed. Where there are none, one entry is proposed, however long.
    pub uncommitted_bytes_max: u64,
    /// Most commands of an entry; at least 1, and at most [`BATCH_COMMANDS_MAX`] whatever is set here.
    pub entry_commands_max: usize,
    /// Most bytes of an entry of several commands, and at most [`BATCH_BYTES_MAX`] whatever is set here.
    pub entry_bytes_max: usize,
    /// Most commands that wait in a node for their answer; at least 1.
    pub pending_commands_max: usize,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            messages_max: 64,
            message_bytes_max: 256 << 10,
            uncommitted_bytes_max: 16 << 20,
            entry_commands_max: BATCH_COMMANDS_MAX,
            entry_bytes_max: BATCH_BYTES_MAX,
            pending_commands_max: PENDING_COMMANDS_MAX,
        }
    }
}
