//! Plans as text: one event a line, to be read, cut by hand and committed.
//!
//! A line is a word and its `key=value` fields. A call has more than one such group: when and where, what, and its twist if
//! it has one; a fault has two: when, and what. Names are those of the types. `#` begins a comment. What is written is read
//! back exactly; what is not understood is an error that names its line, and nothing is left out or assumed: a plan that lost
//! a field would be another plan. For plans made by hand, one line may stand for several calls alike: `call times=50 after=...`.

mod groups;
mod kinds;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write as _;

use tombola::{
    pool::{CatalogItem, Limits},
    replica::SnapshotPolicy,
    runtime::FlowLimits,
};

use self::{
    groups::{Group, Taken, groups},
    kinds::{Record, Run},
};
use super::{
    ClientPlan, ClockOptions, DiskOptions, Fault, FaultKind, NetworkOptions, Options, Plan, PlannedCall, Start, Twist,
    When,
};

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unreadable {
    /// Counted from 1; one more than there are if something is missing at the end.
    pub line: usize,
    /// What.
    pub what: String,
}

/// Begins a plan, and says which words it is written in.
const TITLE: &str = "plan";
const VERSION: u64 = 1;

/// The plan as text.
pub fn write(plan: &Plan) -> String {
    let options = &plan.options;
    let mut lines = vec![
        vec![Group::new(TITLE).with("version", &VERSION).with("seed", &plan.seed)],
        vec![Run::of(options).group()],
        vec![options.network.group()],
        vec![options.disk.group()],
        vec![options.snapshots.group()],
        vec![options.flow.group()],
        vec![options.limits.group()],
    ];
    lines.extend(options.clocks.iter().map(|clock| vec![clock.group()]));
    lines.extend(options.catalog.iter().map(|item| vec![item.group()]));
    for client in &plan.clients {
        lines.push(vec![Group::new("client")]);
        lines.extend(client.calls.iter().map(call_groups));
    }
    lines.extend(plan.faults.iter().map(fault_groups));
    let mut text = String::new();
    for line in lines {
        let words: Vec<String> = line.iter().map(Group::to_string).collect();
        writeln!(text, "{}", words.join(" ")).expect("a string takes everything");
    }
    text
}

fn call_groups(call: &PlannedCall) -> Vec<Group> {
    let group = match call.start {
        Start::At(ms) => Group::new("call").with("at", &ms),
        Start::After(ms) => Group::new("call").with("after", &ms),
    };
    let mut groups = vec![group.with("node", &call.node).with("timeout_ms", &call.timeout_ms), call.what.group()];
    if call.twist != Twist::None {
        groups.push(call.twist.group());
    }
    groups
}

fn fault_groups(fault: &Fault) -> Vec<Group> {
    let when = match &fault.when {
        When::At(ms) => Group::new("fault").with("at", ms),
        When::Hit { point, nth } => Group::new("fault").with("point", point).with("nth", nth),
    };
    vec![when, fault.what.group()]
}

/// What happens in a fault, as a plan says it: `crash node=2 keep=torn down_ms=900`.
pub fn words_of(what: &FaultKind) -> String {
    what.group().to_string()
}

/// The plan that a text says.
///
/// # Errors
/// The first line that is not understood, or what is missing.
pub fn read(text: &str) -> Result<Plan, Unreadable> {
    let mut draft = Draft::default();
    let mut last = 0;
    for (line, words) in (1..).zip(text.lines()) {
        last = line;
        let words = words.split('#').next().unwrap_or_default();
        groups(words).and_then(|groups| draft.take(groups)).map_err(|what| Unreadable { line, what })?;
    }
    draft.finish().map_err(|what| Unreadable { line: last + 1, what })
}

/// What was read so far.
#[derive(Default)]
struct Draft {
    seed: Option<u64>,
    run: Option<Run>,
    network: Option<NetworkOptions>,
    disk: Option<DiskOptions>,
    snapshots: Option<SnapshotPolicy>,
    flow: Option<FlowLimits>,
    limits: Option<Limits>,
    clocks: Vec<ClockOptions>,
    catalog: Vec<CatalogItem>,
    clients: Vec<ClientPlan>,
    faults: Vec<Fault>,
}

impl Draft {
    /// Takes a line in.
    fn take(&mut self, groups: Vec<Taken>) -> Result<(), String> {
        let mut groups = groups.into_iter();
        let Some(first) = groups.next() else { return Ok(()) };
        if self.seed.is_none() && first.name != TITLE {
            return Err(format!("a plan begins with a line `{TITLE} version={VERSION} seed=...`"));
        }
        match first.name.as_str() {
            TITLE => once(&mut self.seed, title(first)?)?,
            "run" => once(&mut self.run, Run::read(first)?)?,
            "network" => once(&mut self.network, NetworkOptions::read(first)?)?,
            "disk" => once(&mut self.disk, DiskOptions::read(first)?)?,
            "snapshots" => once(&mut self.snapshots, SnapshotPolicy::read(first)?)?,
            "flow" => once(&mut self.flow, FlowLimits::read(first)?)?,
            "limits" => once(&mut self.limits, Limits::read(first)?)?,
            "clock" => self.clocks.push(ClockOptions::read(first)?),
            "item" => self.catalog.push(CatalogItem::read(first)?),
            "client" => {
                first.end()?;
                self.clients.push(ClientPlan::default());
            }
            "call" => {
                let client = self.clients.last_mut().ok_or("a call comes after the line of its client")?;
                client.calls.extend(calls(first, groups.by_ref())?);
            }
            "fault" => {
                let fault = fault(first, groups.by_ref())?;
                self.check(&fault)?;
                self.faults.push(fault);
            }
            other => return Err(format!("no line begins with {other:?}")),
        }
        match groups.next() {
            Some(more) => Err(format!("{:?} is too much", more.name)),
            None => Ok(()),
        }
    }

    /// Does a fault name nodes that there are, and happen where it can?
    fn check(&self, fault: &Fault) -> Result<(), String> {
        let voters = self.run.as_ref().ok_or("a fault comes after the line `run`")?.voters;
        if let Some(node) = fault.what.nodes().into_iter().find(|node| !(1..=voters).contains(&node.0)) {
            return Err(format!("there is no node {node} among {voters}"));
        }
        match (&fault.when, &fault.what) {
            (When::At(_), _) | (When::Hit { .. }, FaultKind::Crash { .. }) => Ok(()),
            (When::Hit { .. }, _) => Err("at a crash point nothing but a crash can happen".to_owned()),
        }
    }

    fn finish(self) -> Result<Plan, String> {
        let seed = needed(self.seed, TITLE)?;
        let run = needed(self.run, "run")?;
        if self.clocks.len() as u64 != run.voters {
            return Err(format!("{} voters have {} clocks", run.voters, self.clocks.len()));
        }
        let options = Options {
            voters: run.voters,
            safety_ms: run.safety_ms,
            quiet_ms: run.quiet_ms,
            tick_ms: run.tick_ms,
            heartbeat_ticks: run.heartbeat_ticks,
            election_ticks: run.election_ticks,
            network: needed(self.network, "network")?,
            disk: needed(self.disk, "disk")?,
            clocks: self.clocks,
            snapshots: needed(self.snapshots, "snapshots")?,
            snapshot_bytes_per_s: run.snapshot_bytes_per_s,
            flow: needed(self.flow, "flow")?,
            limits: needed(self.limits, "limits")?,
            catalog: self.catalog,
        };
        Ok(Plan { seed, options, clients: self.clients, faults: self.faults })
    }
}

fn needed<T>(value: Option<T>, line: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("the line `{line}` is missing"))
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    if place.replace(value).is_some() { Err("there is such a line already".to_owned()) } else { Ok(()) }
}

fn title(mut group: Taken) -> Result<u64, String> {
    let (version, seed): (u64, u64) = (group.take("version")?, group.take("seed")?);
    group.end()?;
    if version == VERSION { Ok(seed) } else { Err(format!("version {version}, and {VERSION} is understood")) }
}

/// A line's calls: `times` alike, if it says so.
fn calls(mut group: Taken, mut more: impl Iterator<Item = Taken>) -> Result<Vec<PlannedCall>, String> {
    let start = if group.has("at") { Start::At(group.take("at")?) } else { Start::After(group.take("after")?) };
    let (node, timeout_ms) = (group.take("node")?, group.take("timeout_ms")?);
    let times: u16 = if group.has("times") { group.take("times")? } else { 1 };
    group.end()?;
    let what = Record::read(more.next().ok_or("what is called for?")?)?;
    let twist = more.next().map_or(Ok(Twist::None), Record::read)?;
    Ok(vec![PlannedCall { start, node, timeout_ms, what, twist }; times.into()])
}

fn fault(mut group: Taken, mut more: impl Iterator<Item = Taken>) -> Result<Fault, String> {
    let when = if group.has("point") {
        When::Hit { point: group.take("point")?, nth: group.take("nth")? }
    } else {
        When::At(group.take("at")?)
    };
    group.end()?;
    Ok(Fault { when, what: Record::read(more.next().ok_or("which fault?")?)? })
}
