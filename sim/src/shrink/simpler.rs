//! Steps towards a simpler plan, each as small as is worth a run. One that changes nothing costs nothing.

use tombola::{
    pool::{Limits, Stock, Weight},
    replica::SnapshotPolicy,
    runtime::FlowLimits,
    types::ReplicaId,
};

use crate::plan::{ClockOptions, DiskOptions, FaultKind, NetworkOptions, Plan, Shape, Start, Twist, What, When};

/// In the order of how much each is likely to save.
pub(super) const STEPS: &[fn(&mut Plan)] = &[
    fewer_voters,
    |plan| plan.options.quiet_ms = 0,
    |plan| last(plan, |end| end),
    |plan| last(plan, |end| end / 2),
    |plan| last(plan, |end| end * 9 / 10),
    |plan| plan.options.network = NetworkOptions { delay_ms_mean: 1, queue_max: 1_024, ..Default::default() },
    |plan| plan.options.network.loss_ppm = 0,
    |plan| plan.options.network.delay_ms_mean = 1,
    |plan| (plan.options.network.tail_ppm, plan.options.network.tail_ms_max) = (0, 0),
    |plan| plan.options.network.reordered_links_ppm = 0,
    |plan| (plan.options.network.duplicate_ppm, plan.options.network.late_ms_max) = (0, 0),
    |plan| plan.options.network.corrupt_ppm = 0,
    |plan| plan.options.network.queue_max = 1_024,
    |plan| plan.options.disk = DiskOptions { commit_us_min: 200, commit_us_max: 2_000 },
    |plan| plan.options.clocks.fill(ClockOptions { offset_ms: 0, rate_ppm: 1_000_000 }),
    |plan| plan.options.snapshots = SnapshotPolicy::default(),
    |plan| plan.options.snapshot_bytes_per_s = 8 << 20,
    |plan| plan.options.flow = FlowLimits::default(),
    |plan| plan.options.limits = Limits::default(),
    |plan| plan.options.limits.keys_bytes_max = Limits::default().keys_bytes_max,
    |plan| plan.options.limits.keys_age_ms_max = Limits::default().keys_age_ms_max,
    |plan| (plan.options.tick_ms, plan.options.heartbeat_ticks, plan.options.election_ticks) = (50, 2, 10),
    |plan| drop(plan.options.catalog.pop()),
    |plan| plan.options.catalog.iter_mut().for_each(|item| (item.stock, item.weight) = (Stock::Unlimited, Weight(1))),
    |plan| calls(plan, |call| call.twist = Twist::None),
    |plan| calls(plan, |call| call.node = ReplicaId(1)),
    |plan| {
        calls(plan, |call| {
            call.start = match call.start {
                Start::After(_) => Start::After(0),
                at => at,
            }
        })
    },
    |plan| {
        calls(plan, |call| {
            if let What::Draw { count, .. } = &mut call.what {
                *count = 1
            }
        })
    },
    |plan| {
        while plan.clients.last().is_some_and(|client| client.calls.is_empty()) {
            plan.clients.pop();
        }
    },
];

fn calls(plan: &mut Plan, change: impl Fn(&mut crate::plan::PlannedCall)) {
    plan.clients.iter_mut().flat_map(|client| &mut client.calls).for_each(change);
}

/// 5, 3, 1: without whatever happens to those who are gone; who asked them asks the first.
fn fewer_voters(plan: &mut Plan) {
    let Some(voters) = plan.options.voters.checked_sub(2).filter(|voters| *voters > 0) else { return };
    let is_left = |node: &ReplicaId| node.0 <= voters;
    plan.options.voters = voters;
    plan.options.clocks.truncate(voters as usize);
    for fault in &mut plan.faults {
        match &mut fault.what {
            FaultKind::CrashMany { nodes, .. } => nodes.retain(is_left),
            FaultKind::Partition { shape: Shape::Groups(groups), .. } => {
                groups.iter_mut().for_each(|group| group.retain(is_left));
                groups.retain(|group| !group.is_empty());
            }
            _ => {}
        }
    }
    plan.faults.retain(|fault| fault.what.nodes().iter().all(is_left));
    calls(plan, |call| {
        if !is_left(&call.node) {
            call.node = ReplicaId(1);
        }
    });
}

/// Ends the safety phase earlier: at such a part of when the last thing begins. What would begin later is left out.
fn last(plan: &mut Plan, part: fn(u64) -> u64) {
    let at = |when: &When| match when {
        When::At(at) => Some(*at),
        When::Hit { .. } => None,
    };
    let started = |start: &Start| match start {
        Start::At(at) => Some(*at),
        Start::After(_) => None,
    };
    let all_calls = plan.clients.iter().flat_map(|client| &client.calls);
    // How long a closed loop takes, no plan knows; then the end is what it was.
    let is_open = all_calls.clone().all(|call| started(&call.start).is_some());
    let begins =
        plan.faults.iter().filter_map(|fault| at(&fault.when)).chain(all_calls.filter_map(|call| started(&call.start)));
    let latest = begins.max().map_or(0, |latest| latest + 2_000);
    let end = if is_open { latest.min(plan.options.safety_ms) } else { plan.options.safety_ms };
    let end = part(end);
    plan.options.safety_ms = end.max(1_000).min(plan.options.safety_ms);
    plan.faults.retain(|fault| at(&fault.when).is_none_or(|at| at < end));
    plan.clients
        .iter_mut()
        .for_each(|client| client.calls.retain(|call| started(&call.start).is_none_or(|at| at < end)));
}
