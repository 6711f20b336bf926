//! Wishes to hand leadership over, on whichever node they were expressed. Sans-I/O.
//!
//! A wish is fulfilled when its target is seen to lead. Until then it is brought to whoever leads, again when the leader or
//! the term changes, and now and then since frames get lost; asking twice does no harm. The first refusal is not final:
//! raft forgets once in an election timeout, for a heartbeat, which followers answer.

use tokio::sync::oneshot;

use super::{
    clock::Tick,
    view::{Leader, View},
};
use crate::{
    api::{Failure, NotApplied},
    types::{ReplicaId, Term},
};

/// How long to wait before asking again, in ticks: no multiple of an election timeout.
const AGAIN_TICKS: u64 = 7;
/// Most wishes that wait.
const WISHES_MAX: usize = 64;
/// When it is worth wishing again if too many wish, in milliseconds: a wish takes about an election.
const RETRY_AFTER_MS: u32 = 1_000;

/// Names a wish on the node where it was expressed.
pub(super) type WishId = u64;

/// What to do for a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This node leads: hand over, or say why not.
    HandOver { wish: WishId, to: ReplicaId },
    /// Ask the leader to.
    Ask { leader: ReplicaId, wish: WishId, to: ReplicaId },
}

/// A wish.
#[derive(Debug)]
struct Wish {
    id: WishId,
    to: ReplicaId,
    deadline: Tick,
    reply: oneshot::Sender<Result<(), Failure>>,
    /// Whom it was last brought to, in which term; to be asked again at this tick.
    asked: Option<(Leader, Term, Tick)>,
    /// It was refused once.
    is_refused: bool,
}

/// The wishes that are not fulfilled.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    wishes: Vec<Wish>,
    numbered: WishId,
}

impl Transfers {
    /// Leadership shall go to `to`, before the deadline.
    pub fn add(&mut self, to: ReplicaId, deadline: Tick, reply: oneshot::Sender<Result<(), Failure>>) {
        if self.wishes.len() >= WISHES_MAX {
            let _ = reply.send(Err(super::admission::overloaded(RETRY_AFTER_MS).into()));
            return;
        }
        self.numbered += 1;
        self.wishes.push(Wish { id: self.numbered, to, deadline, reply, asked: None, is_refused: false });
    }

    /// Answers what is fulfilled, and says what is to be done for the others. `me` is this node.
    pub fn handle_view(&mut self, view: View, me: ReplicaId, now: Tick) -> Vec<Step> {
        let leading = match view.leader {
            Leader::Here => Some(me),
            Leader::Peer(peer) => Some(peer),
            Leader::Unknown => None,
        };
        self.settle(|wish| leading == Some(wish.to), || Ok(()));
        self.wishes.iter_mut().filter_map(|wish| wish.step(view, now)).collect()
    }

    /// Answers what it is too late for.
    pub fn handle_tick(&mut self, view: View, now: Tick) {
        let answer = || match view.leader {
            Leader::Unknown => Err(NotApplied::NoLeader.into()),
            Leader::Here | Leader::Peer(_) => Err(refused("leadership was not handed over in time".to_owned())),
        };
        self.settle(|wish| wish.deadline <= now, answer);
    }

    /// The leader that was asked refuses: this node itself, or `from`. The second time is final.
    pub fn handle_refusal(&mut self, wish: WishId, from: Leader, why: String) {
        let was_asked = |open: &Wish| open.id == wish && open.asked.is_some_and(|(leader, _, _)| leader == from);
        self.settle(|open| was_asked(open) && open.is_refused, || Err(refused(why.clone())));
        if let Some(open) = self.wishes.iter_mut().find(|open| was_asked(open)) {
            open.is_refused = true;
        }
    }

    fn settle(&mut self, which: impl Fn(&Wish) -> bool, answer: impl Fn() -> Result<(), Failure>) {
        for wish in self.wishes.extract_if(.., |wish| which(wish)) {
            let _ = wish.reply.send(answer());
        }
    }
}

impl Wish {
    fn step(&mut self, view: View, now: Tick) -> Option<Step> {
        let is_asked =
            self.asked.is_some_and(|(leader, term, again)| (leader, term) == (view.leader, view.term) && now < again);
        if is_asked || view.leader == Leader::Unknown {
            return None;
        }
        self.asked = Some((view.leader, view.term, now.plus(AGAIN_TICKS)));
        match view.leader {
            Leader::Here => Some(Step::HandOver { wish: self.id, to: self.to }),
            Leader::Peer(leader) => Some(Step::Ask { leader, wish: self.id, to: self.to }),
            Leader::Unknown => None,
        }
    }
}

fn refused(why: String) -> Failure {
    NotApplied::TransferRefused(why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ReplicaId = ReplicaId(1);
    const TO: ReplicaId = ReplicaId(3);

    fn view(term: u64, leader: Leader) -> View {
        View { term: Term(term), leader }
    }

    fn wish() -> (Transfers, oneshot::Receiver<Result<(), Failure>>) {
        let (reply, answer) = oneshot::channel();
        let mut transfers = Transfers::default();
        transfers.add(TO, Tick(100), reply);
        (transfers, answer)
    }

    #[test]
    fn a_wish_is_brought_to_each_leader_in_turn_until_its_target_leads() {
        let (mut transfers, mut answer) = wish();
        assert_eq!(transfers.handle_view(view(1, Leader::Unknown), ME, Tick(0)), []);
        let there = view(1, Leader::Peer(ReplicaId(2)));
        let ask = [Step::Ask { leader: ReplicaId(2), wish: 1, to: TO }];
        assert_eq!(transfers.handle_view(there, ME, Tick(1)), ask);
        assert_eq!(transfers.handle_view(there, ME, Tick(2)), [], "once is enough for now");
        assert_eq!(transfers.handle_view(there, ME, Tick(1 + AGAIN_TICKS)), ask, "frames get lost");
        assert_eq!(transfers.handle_view(view(2, Leader::Here), ME, Tick(20)), [Step::HandOver { wish: 1, to: TO }]);
        assert!(answer.try_recv().is_err());
        assert_eq!(transfers.handle_view(view(3, Leader::Peer(TO)), ME, Tick(21)), []);
        assert_eq!(answer.try_recv().unwrap(), Ok(()));
    }

    #[test]
    fn a_refusal_counts_only_if_it_comes_from_whom_was_asked() {
        let (mut transfers, mut answer) = wish();
        transfers.handle_view(view(1, Leader::Peer(ReplicaId(2))), ME, Tick(1));
        transfers.handle_refusal(1, Leader::Peer(ReplicaId(9)), "no".to_owned());
        transfers.handle_refusal(2, Leader::Peer(ReplicaId(2)), "no".to_owned());
        transfers.handle_refusal(1, Leader::Peer(ReplicaId(2)), "not now".to_owned());
        assert!(answer.try_recv().is_err(), "the first refusal is not final");
        transfers.handle_refusal(1, Leader::Peer(ReplicaId(2)), "no".to_owned());
        assert_eq!(answer.try_recv().unwrap(), Err(refused("no".to_owned())));
    }

    #[test]
    fn a_wish_ends_at_its_deadline() {
        let (mut transfers, mut answer) = wish();
        transfers.handle_tick(view(1, Leader::Unknown), Tick(100));
        assert_eq!(answer.try_recv().unwrap(), Err(NotApplied::NoLeader.into()));
    }
}
