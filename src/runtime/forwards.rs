//! The requests that peers forwarded to this node because they take it for the leader. Sans-I/O.
//!
//! They are proposed together with this node's own. What cannot be is answered as not proposed, at once: the peer owns the
//! request and decides what next. Proposals that were open when leadership went are answered whenever the replica does.

use std::collections::{BTreeMap, VecDeque};

use super::{
    batch::Measured,
    view::{Leader, View},
};
use crate::{
    pool::Command,
    replica::{ProposalId, ProposalResult},
    types::ReplicaId,
};

/// Most requests of one peer that wait for their answer here.
pub(super) const FORWARDED_COMMANDS_MAX: usize = 16_384;
/// Most bytes that they may have, encoded.
pub(super) const FORWARDED_BYTES_MAX: usize = 8 << 20;

/// A request of a peer, under the peer's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    peer: ReplicaId,
    id: ProposalId,
    bytes: usize,
}

/// What waits here for one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    commands: usize,
    bytes: usize,
}

/// Every request that peers forwarded and that is not answered.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    queue: VecDeque<(Origin, Measured)>,
    proposed: BTreeMap<ProposalId, Origin>,
    loads: BTreeMap<ReplicaId, Load>,
    answers: BTreeMap<ReplicaId, Vec<(ProposalId, ProposalResult)>>,
    view: View,
    closed: bool,
}

impl Forwards {
    /// A peer forwarded a request.
    ///
    /// # Errors
    /// If the command breaks a rule that the peer should have checked; it is dropped.
    pub fn offer(&mut self, peer: ReplicaId, id: ProposalId, command: Command) -> Result<(), String> {
        let command = Measured::new(command)?;
        let load = self.loads.entry(peer).or_default();
        let is_full = load.commands >= FORWARDED_COMMANDS_MAX || load.bytes + command.bytes > FORWARDED_BYTES_MAX;
        if is_full || self.closed || self.view.leader != Leader::Here {
            self.turn_away(peer, id);
            return Ok(());
        }
        load.commands += 1;
        load.bytes += command.bytes;
        self.queue.push_back((Origin { peer, id, bytes: command.bytes }, command));
        Ok(())
    }

    /// Takes no more, and turns away what is not proposed: the node is stopping.
    pub fn handle_stop(&mut self) {
        self.closed = true;
        self.turn_all_away();
    }

    /// Does nothing wait here?
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.proposed.is_empty()
    }

    /// How many wait to be proposed.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The oldest that is to be proposed.
    pub fn peek(&self) -> Option<&Measured> {
        self.queue.front().map(|(_, command)| command)
    }

    /// Takes what [`Self::peek`] shows.
    pub fn propose(&mut self, id: ProposalId) -> Measured {
        let (origin, command) = self.queue.pop_front().expect("what is taken was seen by peek");
        self.proposed.insert(id, origin);
        command
    }

    /// Something became of a proposal; given back if it is none of a peer's.
    pub fn handle_result(&mut self, id: ProposalId, result: ProposalResult) -> Option<ProposalResult> {
        let Some(origin) = self.proposed.remove(&id) else { return Some(result) };
        self.answer(origin, result);
        None
    }

    /// The leader or the term may have changed: a node that does not lead turns away what it has not proposed.
    pub fn handle_view(&mut self, view: View) {
        self.view = view;
        if view.leader != Leader::Here {
            self.turn_all_away();
        }
    }

    fn turn_all_away(&mut self) {
        for (origin, _) in std::mem::take(&mut self.queue) {
            self.answer(origin, ProposalResult::NotProposed);
        }
    }

    /// The answers since the last call, by peer.
    pub fn take_answers(&mut self) -> BTreeMap<ReplicaId, Vec<(ProposalId, ProposalResult)>> {
        std::mem::take(&mut self.answers)
    }

    fn turn_away(&mut self, peer: ReplicaId, id: ProposalId) {
        self.answers.entry(peer).or_default().push((id, ProposalResult::NotProposed));
    }

    fn answer(&mut self, origin: Origin, result: ProposalResult) {
        if let Some(load) = self.loads.get_mut(&origin.peer) {
            load.commands -= 1;
            load.bytes -= origin.bytes;
        }
        self.answers.entry(origin.peer).or_default().push((origin.id, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{Action, Actor, KeyOrigin, PoolId, RequestKey},
        types::{Millis, Term},
    };

    const PEER: ReplicaId = ReplicaId(2);
    const HERE: View = View { term: Term(1), leader: Leader::Here };

    fn draw(count: u16) -> Command {
        let (pool, actor, key) = (PoolId::default_pool(), Actor::default(), RequestKey::new(Millis(1), [1; 10]));
        Command { pool, key, origin: KeyOrigin::Caller, actor, action: Action::Draw { count } }
    }

    fn leading() -> Forwards {
        let mut forwards = Forwards::default();
        forwards.handle_view(HERE);
        forwards
    }

    fn turned_away(id: u64) -> BTreeMap<ReplicaId, Vec<(ProposalId, ProposalResult)>> {
        BTreeMap::from([(PEER, vec![(ProposalId(id), ProposalResult::NotProposed)])])
    }

    #[test]
    fn what_is_proposed_is_answered_under_the_peer_s_own_number() {
        let mut forwards = leading();
        forwards.offer(PEER, ProposalId(70), draw(1)).unwrap();
        forwards.propose(ProposalId(1));
        assert!(!forwards.is_empty());
        assert_eq!(forwards.handle_result(ProposalId(1), ProposalResult::Superseded), None);
        assert!(forwards.is_empty());
        let answers = BTreeMap::from([(PEER, vec![(ProposalId(70), ProposalResult::Superseded)])]);
        assert_eq!(forwards.take_answers(), answers);
        let other = ProposalResult::Superseded;
        assert_eq!(forwards.handle_result(ProposalId(1), other.clone()), Some(other), "no peer's any more");
    }

    #[test]
    fn without_leading_everything_is_turned_away() {
        let mut forwards = leading();
        forwards.offer(PEER, ProposalId(1), draw(1)).unwrap();
        let leader = Leader::Peer(ReplicaId(3));
        forwards.handle_view(View { term: Term(2), leader });
        assert_eq!(forwards.take_answers(), turned_away(1), "what was queued");
        forwards.offer(PEER, ProposalId(2), draw(1)).unwrap();
        assert_eq!(forwards.take_answers(), turned_away(2), "what comes");
        assert!(forwards.is_empty());
    }

    #[test]
    fn one_peer_s_requests_are_bounded_and_another_s_are_not_touched_by_it() {
        let mut forwards = leading();
        for id in 0..FORWARDED_COMMANDS_MAX as u64 {
            forwards.offer(PEER, ProposalId(id), draw(1)).unwrap();
        }
        assert!(forwards.take_answers().is_empty());
        forwards.offer(PEER, ProposalId(99_999), draw(1)).unwrap();
        assert_eq!(forwards.take_answers(), turned_away(99_999));
        forwards.offer(ReplicaId(3), ProposalId(1), draw(1)).unwrap();
        assert!(forwards.take_answers().is_empty());
        forwards.propose(ProposalId(1));
        forwards.handle_result(ProposalId(1), ProposalResult::Superseded);
        forwards.take_answers();
        forwards.offer(PEER, ProposalId(100_000), draw(1)).unwrap();
        assert!(forwards.take_answers().is_empty(), "an answer makes room");
    }

    #[test]
    fn a_command_that_breaks_a_rule_is_dropped() {
        let mut forwards = leading();
        assert!(forwards.offer(PEER, ProposalId(1), draw(0)).is_err());
        assert!(forwards.is_empty() && forwards.take_answers().is_empty());
    }

    #[test]
    fn a_node_that_stops_takes_no_more() {
        let mut forwards = leading();
        for id in [1, 2] {
            forwards.offer(PEER, ProposalId(id), draw(1)).unwrap();
        }
        forwards.propose(ProposalId(7));
        forwards.handle_stop();
        assert_eq!(forwards.take_answers(), turned_away(2), "what is not proposed never is");
        forwards.offer(PEER, ProposalId(3), draw(1)).unwrap();
        assert_eq!(forwards.take_answers(), turned_away(3));
        assert!(!forwards.is_empty(), "what was proposed is answered yet");
    }
}
