//! raft-rs's log records, handed on to `tracing`.

use std::fmt::Write;

use slog::{Drain, Key, Level, Never, OwnedKVList, Record, Serializer};

use crate::types::ReplicaId;

/// A logger for the raft of one replica. What raft-rs calls information is our debug: INFO is quiet in steady state.
pub(super) fn logger(replica: ReplicaId) -> slog::Logger {
    slog::Logger::root(ToTracing { replica }, slog::o!())
}

struct ToTracing {
    replica: ReplicaId,
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        let node = self.replica.0;
        let text = || {
            let mut fields = Fields(String::new());
            // Writing into a string does not fail, and a field that cannot be shown is no reason to lose the line.
            let _ = slog::KV::serialize(&record.kv(), record, &mut fields);
            format!("{}{}", record.msg(), fields.0)
        };
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(node, "raft: {}", text()),
            Level::Warning => tracing::warn!(node, "raft: {}", text()),
            Level::Info if tracing::enabled!(tracing::Level::DEBUG) => tracing::debug!(node, "raft: {}", text()),
            Level::Debug if tracing::enabled!(tracing::Level::TRACE) => tracing::trace!(node, "raft: {}", text()),
            _ => {}
        }
        Ok(())
    }
}

/// The record's fields as text.
struct Fields(String);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}
