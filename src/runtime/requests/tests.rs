use std::sync::Arc;

use super::*;
use crate::{
    pool::{Action, Actor, Effect, PoolId, Version},
    runtime::admission::Admission,
    types::Index,
};

const PEER: ReplicaId = ReplicaId(2);
const OTHER: ReplicaId = ReplicaId(3);

type Answer = oneshot::Receiver<Result<Answered, Failure>>;

/// [`Requests`] with ids that count up, and callers.
struct Bench {
    requests: Requests,
    admission: Arc<Admission>,
    ids: u64,
}

fn key(number: u8) -> RequestKey {
    RequestKey::new(Millis(1_000), [number; 10])
}

fn draw(key: RequestKey, origin: KeyOrigin, count: u16) -> Measured {
    let (pool, actor) = (PoolId::default_pool(), Actor::default());
    Measured::new(Command { pool, key, origin, actor, action: Action::Draw { count } }).unwrap()
}

fn view(term: u64, leader: Leader) -> View {
    View { term: Term(term), leader }
}

fn outcome(result: Result<Effect, Refusal>) -> ProposalResult {
    ProposalResult::Applied(Outcome { index: Index(9), now: Millis(5_000), replayed: false, result })
}

fn applied() -> ProposalResult {
    outcome(Ok(Effect::PoolSet { version: Version(1) }))
}

fn expired() -> ProposalResult {
    outcome(Err(Refusal::KeyExpired { floor: Millis(4_000), now: Millis(5_000) }))
}

const NOT_PROPOSED: ProposalResult = ProposalResult::NotProposed { leader: None };

impl Bench {
    fn new(view: View) -> Self {
        let mut requests = Requests::default();
        requests.handle_view(view);
        Self { requests, admission: Arc::default(), ids: 0 }
    }

    fn accept(&mut self, command: Measured, deadline: u64) -> Answer {
        let (reply, answer) = oneshot::channel();
        let permit = self.admission.enter(command.bytes).unwrap();
        self.requests.accept(command, Waiter { reply, deadline: Tick(deadline), permit });
        answer
    }

    /// A caller's request, due at tick 40.
    fn caller(&mut self) -> Answer {
        self.accept(draw(key(1), KeyOrigin::Caller, 1), 40)
    }

    fn id(&mut self) -> ProposalId {
        self.ids += 1;
        ProposalId(self.ids)
    }

    fn propose(&mut self) -> ProposalId {
        let id = self.id();
        self.requests.propose(id);
        id
    }

    fn forward(&mut self, to: ReplicaId, now: u64) -> ProposalId {
        let id = self.id();
        self.requests.forward(id, to, Tick(now));
        id
    }

    fn tell(&mut self, id: ProposalId, teller: Teller, result: ProposalResult) {
        self.requests.handle_result(id, teller, result, Tick(0), |time| RequestKey::new(time, [0xff; 10]));
    }

    fn waits_to_be_sent(&self) -> bool {
        self.requests.peek().is_some()
    }
}

fn unknown() -> Failure {
    Failure::Unknown { key: key(1) }
}

#[test]
fn a_proposal_here_is_answered() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut answer = bench.caller();
    let id = bench.propose();
    assert!(!bench.waits_to_be_sent());
    bench.tell(id, Teller::Here, applied());
    assert_eq!(answer.try_recv().unwrap().unwrap().key, key(1));
    assert!(bench.requests.is_empty());
}

#[test]
fn a_forward_is_answered_by_whom_it_was_sent_to_alone() {
    let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
    let mut answer = bench.caller();
    let id = bench.forward(PEER, 0);
    bench.tell(id, Teller::Peer(OTHER), applied());
    bench.tell(id, Teller::Here, applied());
    assert!(answer.try_recv().is_err(), "neither was asked");
    bench.tell(id, Teller::Peer(PEER), applied());
    answer.try_recv().unwrap().unwrap();
}

#[test]
fn the_same_key_is_sent_again_after_a_pause_when_the_leader_says_no() {
    for result in [NOT_PROPOSED, ProposalResult::Superseded] {
        let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
        let _answer = bench.caller();
        let id = bench.forward(PEER, 0);
        bench.tell(id, Teller::Peer(PEER), result);
        assert!(!bench.waits_to_be_sent(), "not at once: that would spin");
        bench.requests.handle_tick(Tick(PAUSE_TICKS));
        assert_eq!(bench.requests.peek().unwrap().command.key, key(1));
    }
}

#[test]
fn a_change_of_leader_or_term_sends_again_and_makes_the_old_copy_s_answer_late() {
    let views =
        [view(2, Leader::Peer(PEER)), view(2, Leader::Peer(OTHER)), view(2, Leader::Here), view(2, Leader::Unknown)];
    for (leader, next) in
        [Leader::Peer(PEER), Leader::Here].into_iter().flat_map(|leader| views.map(|next| (leader, next)))
    {
        let mut bench = Bench::new(view(1, leader));
        let mut answer = bench.caller();
        let (id, teller) = match leader {
            Leader::Here => (bench.propose(), Teller::Here),
            _ => (bench.forward(PEER, 0), Teller::Peer(PEER)),
        };
        bench.requests.handle_view(view(1, leader));
        assert!(!bench.waits_to_be_sent(), "nothing changed");
        bench.requests.handle_view(next);
        assert!(bench.waits_to_be_sent(), "{leader:?} then {next:?}");
        bench.tell(id, teller, applied());
        assert!(answer.try_recv().is_err(), "the old copy is ignored");
        bench.requests.handle_tick(Tick(40));
        assert_eq!(answer.try_recv().unwrap(), Err(unknown()), "but it may have been applied");
    }
}

#[test]
fn a_lost_link_sends_again_what_went_over_it() {
    let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
    let _answer = bench.caller();
    bench.forward(PEER, 0);
    bench.requests.handle_unreachable(OTHER, Tick(0));
    bench.requests.handle_tick(Tick(PAUSE_TICKS));
    assert!(!bench.waits_to_be_sent());
    bench.requests.handle_unreachable(PEER, Tick(1));
    bench.requests.handle_tick(Tick(1 + PAUSE_TICKS));
    assert!(bench.waits_to_be_sent());
}

#[test]
fn silence_is_not_waited_out_and_patience_grows() {
    let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
    let _answer = bench.accept(draw(key(1), KeyOrigin::Caller, 1), 500);
    let mut now = 0;
    for patience in [1, 2, 4, 8, 8].map(|times| times * PATIENCE_TICKS) {
        bench.forward(PEER, now);
        bench.requests.handle_tick(Tick(now + patience - 1));
        assert!(!bench.waits_to_be_sent(), "at {now}");
        now += patience;
        bench.requests.handle_tick(Tick(now));
        assert!(bench.waits_to_be_sent(), "at {now}");
    }
}

#[test]
fn at_the_deadline_what_never_left_is_surely_not_applied() {
    let mut bench = Bench::new(view(1, Leader::Unknown));
    let mut answer = bench.caller();
    bench.requests.handle_tick(Tick(39));
    assert!(answer.try_recv().is_err());
    bench.requests.handle_tick(Tick(40));
    assert_eq!(answer.try_recv().unwrap(), Err(NotApplied::NoLeader.into()));
    assert!(bench.requests.is_empty() && !bench.waits_to_be_sent());

    let mut bench = Bench::new(view(1, Leader::Here));
    let mut answer = bench.caller();
    bench.requests.handle_tick(Tick(40));
    assert_eq!(answer.try_recv().unwrap(), Err(overloaded().into()), "there is a leader, but no turn came");
}

/// What happens to a bench's request.
type Deed = fn(&mut Bench);

#[test]
fn at_the_deadline_what_may_be_in_a_log_is_unknown() {
    let sends: [(Leader, Deed); 4] = [
        (Leader::Here, |bench| _ = bench.propose()),
        (Leader::Here, |bench| {
            let id = bench.propose();
            bench.tell(id, Teller::Here, ProposalResult::Superseded);
        }),
        (Leader::Peer(PEER), |bench| _ = bench.forward(PEER, 39)),
        (Leader::Peer(PEER), |bench| {
            let id = bench.forward(PEER, 0);
            // The network may bring a second copy, to a node that leads by then.
            bench.tell(id, Teller::Peer(PEER), NOT_PROPOSED);
        }),
    ];
    for (leader, send) in sends {
        let mut bench = Bench::new(view(1, leader));
        let mut answer = bench.caller();
        send(&mut bench);
        bench.requests.handle_tick(Tick(40));
        assert_eq!(answer.try_recv().unwrap(), Err(unknown()));
    }
}

#[test]
fn what_this_replica_or_the_transport_gives_back_is_surely_not_applied() {
    let gives_back: [(Leader, Deed); 2] = [
        (Leader::Here, |bench| {
            let id = bench.propose();
            bench.tell(id, Teller::Here, NOT_PROPOSED);
        }),
        (Leader::Peer(PEER), |bench| {
            let id = bench.forward(PEER, 0);
            bench.requests.handle_dropped(id, Tick(0));
        }),
    ];
    for (leader, give_back) in gives_back {
        let mut bench = Bench::new(view(1, leader));
        let mut answer = bench.caller();
        give_back(&mut bench);
        bench.requests.handle_view(view(1, Leader::Unknown));
        bench.requests.handle_tick(Tick(40));
        assert_eq!(answer.try_recv().unwrap(), Err(NotApplied::NoLeader.into()));
    }
}

#[test]
fn the_very_same_request_attaches_and_each_waiter_has_its_own_deadline() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut early = bench.accept(draw(key(1), KeyOrigin::Caller, 1), 10);
    let id = bench.propose();
    let mut late = bench.caller();
    assert!(!bench.waits_to_be_sent(), "attached, not sent");
    bench.requests.handle_tick(Tick(10));
    assert_eq!(early.try_recv().unwrap(), Err(unknown()));
    bench.tell(id, Teller::Here, applied());
    late.try_recv().unwrap().unwrap();
}

#[test]
fn a_request_that_differs_in_anything_is_sent_on_its_own() {
    let first = draw(key(1), KeyOrigin::Caller, 1);
    let mut others = vec![draw(key(1), KeyOrigin::Caller, 2), draw(key(1), KeyOrigin::Server, 1)];
    let mut actor = first.clone();
    actor.command.actor = "ada".parse().unwrap();
    let mut pool = first.clone();
    pool.command.pool = "other".parse().unwrap();
    others.extend([actor, pool]);
    for other in others {
        let mut bench = Bench::new(view(1, Leader::Here));
        let mut answers = [bench.accept(first.clone(), 40), bench.accept(other.clone(), 40)];
        let ids = [bench.propose(), bench.propose()];
        bench.tell(ids[1], Teller::Here, applied());
        answers[1].try_recv().unwrap().unwrap();
        assert!(answers[0].try_recv().is_err());
        bench.tell(ids[0], Teller::Here, applied());
        answers[0].try_recv().unwrap().unwrap();
    }
}

#[test]
fn a_key_made_here_that_was_too_old_is_replaced_once_it_is_sure_that_nothing_was_done() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut answer = bench.accept(draw(key(1), KeyOrigin::Server, 1), 40);
    let id = bench.propose();
    bench.tell(id, Teller::Here, expired());
    assert_eq!(bench.requests.peek().unwrap().command.key.time(), Millis(5_000));
    let id = bench.propose();
    bench.tell(id, Teller::Here, applied());
    assert_eq!(answer.try_recv().unwrap().unwrap().key.time(), Millis(5_000));
}

#[test]
fn a_key_that_was_too_old_for_a_second_copy_leaves_the_outcome_unknown_whoever_made_it() {
    for origin in [KeyOrigin::Server, KeyOrigin::Caller] {
        let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
        let mut answer = bench.accept(draw(key(1), origin, 1), 40);
        bench.forward(PEER, 0);
        bench.requests.handle_view(view(2, Leader::Here));
        let id = bench.propose();
        bench.tell(id, Teller::Here, expired());
        assert_eq!(answer.try_recv().unwrap(), Err(unknown()), "{origin:?}");
    }
}

#[test]
fn a_caller_s_key_is_never_replaced() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut answer = bench.caller();
    let id = bench.propose();
    bench.tell(id, Teller::Here, expired());
    let answered = answer.try_recv().unwrap().unwrap();
    assert!(matches!(answered.outcome.result, Err(Refusal::KeyExpired { .. })));
}

#[test]
fn requests_that_are_sent_again_keep_their_order() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let answers: Vec<_> = (1..=3).map(|n| bench.accept(draw(key(n), KeyOrigin::Caller, 1), 40)).collect();
    (0..3).for_each(|_| _ = bench.propose());
    bench.requests.handle_view(view(2, Leader::Here));
    let order: Vec<_> = (0..3)
        .map(|_| {
            let id = bench.id();
            bench.requests.propose(id).command.key
        })
        .collect();
    assert_eq!(order, [key(1), key(2), key(3)]);
    drop(answers);
}

#[test]
fn however_the_node_ends_everybody_hears_the_truth_and_gives_the_place_back() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut sent = bench.caller();
    bench.propose();
    let mut unsent = bench.accept(draw(key(2), KeyOrigin::Caller, 1), 40);
    drop(bench.requests);
    assert_eq!(sent.try_recv().unwrap(), Err(unknown()));
    assert_eq!(unsent.try_recv().unwrap(), Err(NotApplied::Draining.into()));
    bench.admission.enter(crate::runtime::PENDING_BYTES_MAX).expect("both places are free");
}
