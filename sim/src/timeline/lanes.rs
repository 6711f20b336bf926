//! What is drawn of a run: gathered event by event, in the order of time.

use std::collections::BTreeMap;

use super::{Event, micros};

/// More messages than these make a page that no browser scrolls; those after them are counted.
const MESSAGES_MAX: usize = 60_000;

/// All that is drawn.
#[derive(Default)]
pub(super) struct Picture {
    /// Microseconds of the last event.
    pub(super) end: u64,
    /// Nodes' lanes.
    pub(super) lanes: BTreeMap<u64, Lane>,
    /// What the plan had happen, in the order in which it began.
    pub(super) faults: Vec<Stretch>,
    /// What was asked, by number.
    calls: BTreeMap<u64, Stretch>,
    pub(super) messages: Vec<Message>,
    pub(super) messages_left_out: usize,
    /// The highest commit index of all.
    pub(super) commit_max: u64,
}

/// A node's.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) spans: Vec<Span>,
    /// When, and the commit index from then on.
    pub(super) commits: Vec<(u64, u64)>,
    pub(super) signs: Vec<Sign>,
    /// Does the last span go on?
    is_up: bool,
}

/// A time in one role and term.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) role: &'static str,
    pub(super) term: String,
    pub(super) commits: (u64, u64),
}

/// Something that happened to a node.
pub(super) struct Sign {
    pub(super) at: u64,
    pub(super) kind: String,
    pub(super) detail: String,
}

/// Something that took its time.
pub(super) struct Stretch {
    pub(super) from: u64,
    /// None if that was never seen.
    pub(super) to: Option<u64>,
    pub(super) what: String,
    /// How it ended.
    pub(super) end: String,
}

/// A frame that arrived.
pub(super) struct Message {
    pub(super) sent: u64,
    pub(super) from: u64,
    pub(super) at: u64,
    pub(super) to: u64,
    /// Has it to do with an election?
    pub(super) elects: bool,
}

impl Picture {
    pub(super) fn add(&mut self, event: &Event<'_>) {
        self.end = self.end.max(event.at);
        match (event.kind, event.node) {
            ("plan", _) => self.plan(event),
            ("heal", _) => self.happens(event.at, format!("heal {}", event.detail)),
            ("fault", 0) if event.detail == "power cycle" => self.happens(event.at, event.detail.to_owned()),
            ("ask", _) => self.ask(event),
            ("told", _) => self.told(event),
            (_, 0) => {}
            ("turn", _) => self.turn(event),
            ("deliver", _) => self.deliver(event),
            ("fault" | "start" | "crash" | "ended" | "restored", _) => self.sign(event),
            _ => {}
        }
    }

    /// The calls, in the order in which they began.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Stretch> {
        self.calls.values()
    }

    fn plan(&mut self, event: &Event<'_>) {
        let fields = event.fields();
        let ms = ["ms", "down_ms"].iter().find_map(|key| fields.get(key)?.parse::<u64>().ok());
        let to = ms.map(|ms| event.at.saturating_add(ms.saturating_mul(1_000)));
        self.faults.push(Stretch { from: event.at, to, what: event.detail.to_owned(), end: String::new() });
    }

    fn happens(&mut self, at: u64, what: String) {
        self.faults.push(Stretch { from: at, to: None, what, end: String::new() });
    }

    fn ask(&mut self, event: &Event<'_>) {
        if let Some((call, _)) = call(event.detail) {
            let what = event.detail.to_owned();
            self.calls.insert(call, Stretch { from: event.at, to: None, what, end: String::new() });
        }
    }

    fn told(&mut self, event: &Event<'_>) {
        let Some((call, words)) = call(event.detail) else { return };
        if let Some(call) = self.calls.get_mut(&call) {
            call.to.get_or_insert(event.at);
            call.end = words.to_owned();
        }
    }

    fn turn(&mut self, event: &Event<'_>) {
        let fields = event.fields();
        let role = match event.detail.split_whitespace().next() {
            Some("L") => "leader",
            Some("F") => "follower",
            Some("C") => "candidate",
            Some("P") => "pre-candidate",
            _ => "unknown",
        };
        let term = fields.get("term").copied().unwrap_or("-").to_owned();
        let commit = fields.get("commit").and_then(|commit| commit.parse().ok()).unwrap_or(0);
        self.commit_max = self.commit_max.max(commit);
        let lane = self.lanes.entry(event.node).or_default();
        if lane.commits.last().is_none_or(|(_, last)| *last != commit) {
            lane.commits.push((event.at, commit));
        }
        if let Some(span) = lane.spans.last_mut().filter(|_| lane.is_up) {
            span.to = event.at;
            if span.role == role && span.term == term {
                span.commits.1 = commit;
                return;
            }
        }
        lane.spans.push(Span { from: event.at, to: event.at, role, term, commits: (commit, commit) });
        lane.is_up = true;
    }

    /// `append n1>n3 #4 sent=0.551100`, from one node to another.
    fn deliver(&mut self, event: &Event<'_>) {
        let mut words = event.detail.split_whitespace();
        let (Some(kind), Some(way)) = (words.next(), words.next()) else { return };
        let node = |party: &str| party.strip_prefix('n')?.parse().ok();
        let Some((Some(from), Some(to))) = way.split_once('>').map(|(from, to)| (node(from), node(to))) else { return };
        if self.messages.len() == MESSAGES_MAX {
            self.messages_left_out += 1;
            return;
        }
        let sent = event.fields().get("sent").and_then(|sent| micros(sent)).unwrap_or(event.at);
        let elects = kind.contains("vote") || kind == "timeout-now";
        self.messages.push(Message { sent, from, at: event.at, to, elects });
    }

    fn sign(&mut self, event: &Event<'_>) {
        let lane = self.lanes.entry(event.node).or_default();
        if event.kind == "crash" {
            if let Some(span) = lane.spans.last_mut().filter(|_| lane.is_up) {
                span.to = event.at;
            }
            lane.is_up = false;
        }
        lane.signs.push(Sign { at: event.at, kind: event.kind.to_owned(), detail: event.detail.to_owned() });
    }

    /// A span that nothing has ended goes on to the last event.
    pub(super) fn spans<'a>(&self, lane: &'a Lane) -> impl Iterator<Item = Span> + use<'a> {
        let (last, end, is_up) = (lane.spans.len(), self.end, lane.is_up);
        lane.spans.iter().cloned().zip(1..).map(move |(span, number)| {
            let to = if number == last && is_up { end } else { span.to };
            Span { to, ..span }
        })
    }
}

/// Each with the first of so many rows in which it lies over no other; the last takes what has no room. Drawn, a stretch
/// is at least `drawn_min` microseconds long.
pub(super) fn rows<'a>(
    stretches: impl Iterator<Item = &'a Stretch>,
    rows: usize,
    drawn_min: impl Fn(&Stretch) -> u64,
) -> Vec<(&'a Stretch, usize)> {
    let mut free_from: Vec<u64> = Vec::new();
    let place = |stretch: &'a Stretch| {
        let to = stretch.to.unwrap_or(stretch.from).max(stretch.from.saturating_add(drawn_min(stretch)));
        let row = free_from.iter().position(|free| *free <= stretch.from).unwrap_or(free_from.len()).min(rows - 1);
        match free_from.get_mut(row) {
            Some(free) => *free = (*free).max(to),
            None => free_from.push(to),
        }
        (stretch, row)
    };
    stretches.map(place).collect()
}

/// `#12 words`.
fn call(detail: &str) -> Option<(u64, &str)> {
    let (number, words) = detail.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, words))
}
