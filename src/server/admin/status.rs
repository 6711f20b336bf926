//! `/status`: the node as it sees itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{NodeStatus, TurnedAway, Vitals};

/// The document. Keys are added, never renamed.
pub(super) fn json(status: &NodeStatus, vitals: &Vitals, uptime: Duration) -> Value {
    let replica = &status.replica;
    let matched = replica.matched.iter().map(|(peer, index)| json!({"id": peer.0, "index": index.0}));
    json!({
        "cluster_id": status.cluster.to_string(),
        "id": replica.replica.0,
        "role": replica.role.to_string(),
        "term": replica.term.0,
        "leader": replica.leader.map(|leader| leader.0),
        "transferring": replica.transferring,
        "voters": status.voters.iter().map(|voter| voter.0).collect::<Vec<_>>(),
        "commit_index": replica.commit.0,
        "applied_index": replica.digests.index.0,
        "digest": replica.digests.history.to_string(),
        "state_digest": replica.digests.state.to_string(),
        "log": {"first": replica.first_index.0, "last": replica.last_index.0},
        "snapshot_index": replica.snapshot_index.0,
        "matched": matched.collect::<Vec<_>>(),
        "vitals": vitals_json(vitals),
        "version": status.version,
        "uptime_s": uptime.as_secs(),
    })
}

fn vitals_json(vitals: &Vitals) -> Value {
    let TurnedAway { full, client_full, shed, too_late } = vitals.turned_away;
    let strangers = vitals.strangers.iter().map(|(peer, why)| json!({"id": peer.0, "reason": why}));
    json!({
        "clock_offset_ms": vitals.clock_offset_ms,
        "strangers": strangers.collect::<Vec<_>>(),
        "waiting_commands": vitals.waiting_commands,
        "waiting_bytes": vitals.waiting_bytes,
        "waited_us": micros(vitals.waited),
        "commit_time_us": micros(vitals.commit_time),
        "shedding": vitals.is_shedding,
        "halved": vitals.is_halved,
        "turned_away": {"full": full, "client_full": client_full, "shed": shed, "too_late": too_late},
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
