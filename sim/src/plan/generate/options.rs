//! What holds for a whole run, but for the usual behaviour of network, disks and clocks.

use tombola::{pool::Limits, replica::SnapshotPolicy, runtime::FlowLimits};

use super::Swarm;
use crate::plan::{Dice, Options};

const HOUR_MS: u64 = 60 * 60 * 1_000;

pub(super) fn draw(swarm: &Swarm) -> Options {
    let mut dice = swarm.dice("options");
    let safety_ms = if dice.percent(80) { dice.between(30_000, 50_000) } else { dice.between(50_000, 120_000) };
    Options {
        voters: dice.pick(&[1, 3, 3, 3, 3, 3, 3, 3, 5, 5]),
        safety_ms,
        quiet_ms: if dice.percent(25) { dice.between(5_000, 15_000) } else { 0 },
        tick_ms: dice.pick(&[50, 50, 50, 50, 40, 60, 100]),
        heartbeat_ticks: dice.pick(&[2, 2, 2, 1, 3]),
        election_ticks: dice.pick(&[10, 10, 10, 8, 15]),
        snapshots: snapshots(swarm),
        // Whoever needs one at the end has it in time: a long run's body has some hundred KiB.
        snapshot_bytes_per_s: swarm.on("slow snapshots").map_or(8 << 20, |mut dice| dice.skewed(16 << 10, 1 << 20)),
        flow: flow(swarm),
        limits: limits(swarm),
        network: Default::default(),
        disk: Default::default(),
        clocks: Vec::new(),
        catalog: Vec::new(),
    }
}

/// Snapshots every few KiB, or hardly ever; a log that keeps nothing, or all.
fn snapshots(swarm: &Swarm) -> SnapshotPolicy {
    let Some(mut dice) = swarm.on("small log") else {
        let mut dice = swarm.dice("log");
        return policy(&mut dice, 64 << 10, 1 << 20);
    };
    let policy = policy(&mut dice, 512, 32 << 10);
    // What keeps nothing behind a snapshot has to send it to whoever is late.
    if dice.percent(60) { SnapshotPolicy { trailing_entries: 0, ..policy } } else { policy }
}

fn policy(dice: &mut Dice, least: u64, most: u64) -> SnapshotPolicy {
    let log_bytes_min = dice.skewed(least, most);
    SnapshotPolicy {
        log_bytes_min,
        trailing_entries: if dice.percent(25) { 0 } else { dice.skewed(1, 1_000) },
        trailing_bytes: dice.skewed(256, 64 << 10),
        log_bytes_max: log_bytes_min * dice.between(2, 8),
    }
}

/// One entry under way, one command an entry, one who waits; or as many of each as there can be.
fn flow(swarm: &Swarm) -> FlowLimits {
    let usual = FlowLimits::default();
    if swarm.crowd().is_some() {
        return roomy(&mut swarm.dice("flow"));
    }
    let Some(mut dice) = swarm.on("flow") else { return usual };
    let (messages_max, message_bytes_max) = (
        dice.pick(&[1, 1, 2, 8, usual.messages_max, 4_096]),
        dice.pick(&[0, 0, 1 << 10, usual.message_bytes_max, 1 << 20]),
    );
    // What waits, in a log or for one, must be done in the time that a healed core has, at some tens of small entries a second.
    let small_messages = message_bytes_max <= 1 << 10;
    let uncommitted = if small_messages {
        [0, 0, 1 << 10, 4 << 10, 8 << 10]
    } else {
        [0, 0, 2 << 20, usual.uncommitted_bytes_max, 1 << 30]
    };
    let uncommitted_bytes_max = dice.pick(&uncommitted);
    let entry_commands_max = dice.pick(&[1, 1, 2, 16, usual.entry_commands_max]);
    let entry_bytes_max = dice.pick(&[0, 512, usual.entry_bytes_max, usual.entry_bytes_max]);
    let small_entries = entry_commands_max <= 2 || entry_bytes_max <= 512;
    let waiting =
        if small_entries { [1, 2, 16, 32, 64, 128] } else { [1, 2, 16, 1_024, usual.pending_commands_max, 1 << 20] };
    let pending_commands_max = dice.pick(&waiting);
    FlowLimits {
        messages_max,
        message_bytes_max,
        uncommitted_bytes_max,
        entry_commands_max,
        entry_bytes_max,
        pending_commands_max,
    }
}

/// As a crowd needs it: as much as is usual, or as there can be.
fn roomy(dice: &mut Dice) -> FlowLimits {
    let usual = FlowLimits::default();
    FlowLimits {
        messages_max: dice.pick(&[usual.messages_max, 4_096]),
        message_bytes_max: dice.pick(&[usual.message_bytes_max, 1 << 20]),
        uncommitted_bytes_max: dice.pick(&[usual.uncommitted_bytes_max, 1 << 30]),
        pending_commands_max: dice.pick(&[usual.pending_commands_max, 1 << 20]),
        ..usual
    }
}

/// Tiny budgets and ages of request keys; a crowd's would not fit into the former.
fn limits(swarm: &Swarm) -> Limits {
    let usual = Limits::default();
    Limits {
        keys_bytes_max: swarm
            .on("few keys")
            .filter(|_| swarm.crowd().is_none())
            .map_or(usual.keys_bytes_max, |mut dice| dice.skewed(2 << 10, 1 << 20)),
        keys_age_ms_max: swarm.on("young keys").map_or(usual.keys_age_ms_max, |mut dice| {
            if dice.percent(70) { dice.skewed(5_000, 60_000) } else { dice.skewed(60_000, 24 * HOUR_MS) }
        }),
    }
}
