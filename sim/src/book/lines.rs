//! How things are put into the trace: short, and one line.

use std::fmt;

use tombola::{
    pool::{Action, Command, Query},
    replica::{Role, Status},
};

use crate::check::{Ask, Told};

/// A turn of a node's loop: `L term=7 commit=83 last=98 applied=83 snap=50 dig=9f3a`.
pub struct Turn<'a>(pub &'a Status);

impl fmt::Display for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.0.role {
            Role::Leader => 'L',
            Role::Follower => 'F',
            Role::Candidate => 'C',
            Role::PreCandidate => 'P',
        };
        let Status { term, commit, last_index, digests, snapshot_index, .. } = self.0;
        let [high, low, ..] = digests.history.0;
        write!(f, "{role} term={term} commit={commit} last={last_index} applied={} ", digests.index)?;
        write!(f, "snap={snapshot_index} dig={high:02x}{low:02x}")
    }
}

/// Is it worth another line?
pub fn has_moved(before: &Status, now: &Status) -> bool {
    let key = |status: &Status| (status.role, status.term, status.commit, status.digests.index);
    key(before) != key(now)
}

/// What is asked.
pub fn asks(ask: &Ask) -> String {
    match ask {
        Ask::Request(Command { pool, key, actor, action, .. }) => {
            format!("{actor} {} of {pool} under {key}", named(action))
        }
        Ask::Keyless(keyless) => {
            format!("{} {} of {} under no key", keyless.actor, named(&keyless.action), keyless.pool)
        }
        Ask::Read(query) => format!("reads {}", of(query)),
        Ask::StaleRead(query) => format!("reads stale {}", of(query)),
    }
}

/// What is told.
pub fn told(told: &Told) -> String {
    let outcome = |outcome: &tombola::pool::Outcome| {
        let result = match &outcome.result {
            Ok(_) => "done",
            Err(refusal) => refusal.code(),
        };
        format!("{result} at {}{}", outcome.index, if outcome.replayed { " again" } else { "" })
    };
    match told {
        Told::Outcome(told) => outcome(told),
        Told::Answered(answered) => outcome(&answered.outcome),
        Told::MaybeUnder(key) => format!("unknown under {key}"),
        Told::Read(read) => format!("read at {}", read.index),
        Told::NotApplied => "surely not applied".to_owned(),
    }
}

fn named(action: &Action) -> String {
    match action {
        Action::Draw { count } => format!("draw {count}"),
        Action::Claim { item, quantity } => format!("claim {quantity} {item}"),
        Action::SetItem { item, .. } => format!("set {item}"),
        Action::AdjustStock { item, delta } => format!("adjust {item} by {delta}"),
        Action::UpdateItem { item, .. } => format!("update {item}"),
        Action::RemoveItem { item, .. } => format!("remove {item}"),
        Action::CreatePool { .. } => "create".to_owned(),
        Action::PausePool => "pause".to_owned(),
        Action::ResumePool => "resume".to_owned(),
        Action::ImportCatalog { .. } => "import".to_owned(),
        Action::UpdatePool { .. } => "change".to_owned(),
    }
}

fn of(query: &Query) -> String {
    match query {
        Query::Pool(pool) => pool.to_string(),
        Query::Outcome(pool, key) => format!("{key} of {pool}"),
        Query::Verify => "everything".to_owned(),
        Query::Pools { .. } => "the pools".to_owned(),
        Query::Items { pool, .. } => format!("items of {pool}"),
    }
}
