//! Alive: with a core of nodes healed, which is a quorum, everything goes on within [`WITHIN`]: one of them leads, a fresh
//! write and a read are answered, and all of the core come to the same state.
//!
//! Whoever watches looks again and again. What is still missing when time is over says where it is stuck.

use std::{collections::BTreeMap, time::Duration};

use tombola::{
    replica::{Role, Status},
    types::ReplicaId,
};

use super::Violation;

const NAME: &str = "live";
const INVARIANT: &str = "alive";

/// How long after healing a core may take.
pub const WITHIN: Duration = Duration::from_secs(30);

/// What a caller that asks the core for something fresh is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// A fresh write was answered.
    pub wrote: bool,
    /// And then a linearizable read.
    pub read: bool,
}

/// A core as it shows itself.
#[derive(Clone, Debug, Default)]
pub struct Core {
    /// Each of its nodes; `None` if it does not answer.
    pub shown: BTreeMap<ReplicaId, Option<Status>>,
    /// What was asked of it since it was healed.
    pub probe: Probe,
}

impl Core {
    /// Is all well?
    ///
    /// # Errors
    /// Everything that is missing, in words.
    pub fn check(&self) -> Result<(), Violation> {
        let stuck = self.stuck();
        if stuck.is_empty() { Ok(()) } else { Err(Violation::new(NAME, INVARIANT, stuck.join("; "))) }
    }

    /// What is missing.
    pub fn stuck(&self) -> Vec<String> {
        let mut stuck = self.who_leads().err().into_iter().collect::<Vec<_>>();
        let silent = self.shown.iter().filter(|(_, status)| status.is_none());
        stuck.extend(silent.map(|(node, _)| format!("node {node} does not answer")));
        if !self.probe.wrote {
            stuck.push("a fresh write is not answered".to_owned());
        } else if !self.probe.read {
            stuck.push("a read is not answered".to_owned());
        }
        let statuses: Vec<_> = self.statuses().collect();
        if statuses.windows(2).any(|pair| pair[0].digests != pair[1].digests) {
            let stand = |status: &&Status| {
                let Status { replica, role, term, commit, last_index, digests, .. } = status;
                format!("{replica} ({role}, term {term}, commit {commit}, last {last_index}) at {}", digests.index)
            };
            let all: Vec<_> = statuses.iter().map(stand).collect();
            stuck.push(format!("nodes stand apart: {}", all.join(", ")));
        }
        stuck
    }

    /// One of them leads, and all know it.
    fn who_leads(&self) -> Result<(), String> {
        let leaders: Vec<_> = self.statuses().filter(|status| status.role == Role::Leader).collect();
        let leader = match leaders[..] {
            [leader] => leader,
            [] => return Err("nobody leads".to_owned()),
            [one, other, ..] => return Err(format!("{} and {} both lead", one.replica, other.replica)),
        };
        let follows = |status: &&Status| (status.term, status.leader) == (leader.term, Some(leader.replica));
        match self.statuses().find(|status| !follows(status)) {
            None => Ok(()),
            Some(Status { replica, term, leader: theirs, .. }) => {
                let (who, of) = (leader.replica, leader.term);
                Err(format!("{who} leads in term {of}, but {replica} follows {theirs:?} in term {term}"))
            }
        }
    }

    fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.shown.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use tombola::types::{Index, Term};

    use super::*;
    use crate::check::made_up::{digests, refused};

    fn status(replica: u64, leader: u64) -> Status {
        Status {
            replica: ReplicaId(replica),
            role: if replica == leader { Role::Leader } else { Role::Follower },
            term: Term(7),
            leader: Some(ReplicaId(leader)),
            commit: Index(9),
            digests: digests(9, 3, 4),
            snapshot_index: Index(1),
            first_index: Index(2),
            last_index: Index(9),
            matched: Vec::new(),
            transferring: false,
        }
    }

    /// Nodes 2 and 3; 3 leads.
    fn core() -> Core {
        let shown = [2, 3].map(|node| (ReplicaId(node), Some(status(node, 3)))).into();
        Core { shown, probe: Probe { wrote: true, read: true } }
    }

    fn with(change: impl FnOnce(&mut Status)) -> Core {
        let mut core = core();
        change(core.shown.get_mut(&ReplicaId(2)).unwrap().as_mut().unwrap());
        core
    }

    #[test]
    fn a_core_that_goes_on_is_well() {
        core().check().unwrap();
    }

    #[test]
    fn one_leads_and_all_know_it() {
        refused(with(|second| second.role = Role::Leader).check(), "live", "2 and 3 both lead");
        refused(with(|second| second.leader = None).check(), "live", "but 2 follows None");
        refused(with(|second| second.term = Term(8)).check(), "live", "in term 8");
        let mut core = core();
        core.shown.remove(&ReplicaId(3));
        refused(core.check(), "live", "nobody leads");
    }

    #[test]
    fn all_answer() {
        let mut core = core();
        core.shown.insert(ReplicaId(1), None);
        refused(core.check(), "live", "node 1 does not answer");
        refused(Core { probe: Probe::default(), ..self::core() }.check(), "live", "write is not answered");
        let probe = Probe { wrote: true, read: false };
        refused(Core { probe, ..self::core() }.check(), "live", "read is not answered");
    }

    #[test]
    fn all_come_to_the_same_state() {
        refused(with(|second| second.digests = digests(8, 3, 4)).check(), "live", "2 (follower, term 7");
        refused(with(|second| second.digests = digests(9, 3, 5)).check(), "live", "stand apart");
    }
}
