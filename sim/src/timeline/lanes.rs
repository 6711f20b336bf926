//! What is drawn of a run: gathered event by event, in the order of time.

use std::collections::BTreeMap;

use super::Event;

/// More messages than these make a page that no browser scrolls; those after them are counted.
const MESSAGES_MAX: usize = 60_000;

/// All that is drawn.
#[derive(Default)]
pub(super) struct Picture {
    /// Microseconds of the last event.
    pub(super) end: u64,
    pub(super) lanes: BTreeMap<u64, Lane>,
    pub(super) messages: Vec<Message>,
    pub(super) messages_left_out: usize,
    /// The highest commit index of all.
    pub(super) commit_max: u64,
}

/// A node's; 0 is the lane of what is nobody's.
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
    pub(super) role: String,
    pub(super) term: String,
    pub(super) commits: (u64, u64),
}

/// Something that happened.
pub(super) struct Sign {
    pub(super) at: u64,
    pub(super) kind: String,
    pub(super) detail: String,
}

/// A frame that arrived.
pub(super) struct Message {
    pub(super) sent: u64,
    pub(super) from: u64,
    pub(super) at: u64,
    pub(super) to: u64,
}

impl Picture {
    pub(super) fn add(&mut self, event: &Event<'_>) {
        self.end = self.end.max(event.at);
        match event.kind {
            "turn" => self.turn(event),
            "deliver" => self.deliver(event),
            "fault" | "start" | "crash" | "answer" => self.sign(event),
            _ => {}
        }
    }

    fn turn(&mut self, event: &Event<'_>) {
        let fields = event.fields();
        let text = |key| fields.get(key).copied().unwrap_or("-");
        let commit = text("commit").parse().unwrap_or(0);
        self.commit_max = self.commit_max.max(commit);
        let lane = self.lanes.entry(event.node).or_default();
        if lane.commits.last().is_none_or(|(_, last)| *last != commit) {
            lane.commits.push((event.at, commit));
        }
        if let Some(span) = lane.spans.last_mut().filter(|_| lane.is_up) {
            span.to = event.at;
            if span.role == text("role") && span.term == text("term") {
                span.commits.1 = commit;
                return;
            }
        }
        let (role, term) = (text("role").to_owned(), text("term").to_owned());
        lane.spans.push(Span { from: event.at, to: event.at, role, term, commits: (commit, commit) });
        lane.is_up = true;
    }

    fn deliver(&mut self, event: &Event<'_>) {
        let fields = event.fields();
        let Some(from) = fields.get("from").and_then(|from| from.trim_start_matches('n').parse().ok()) else { return };
        if self.messages.len() == MESSAGES_MAX {
            self.messages_left_out += 1;
            return;
        }
        let sent = fields.get("sent").and_then(|sent| micros(sent)).unwrap_or(event.at);
        self.messages.push(Message { sent, from, at: event.at, to: event.node });
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

/// Microseconds of `12.345678`.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let part: u64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}
