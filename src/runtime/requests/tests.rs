use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    pool::{Action, Actor, Effect, PoolId, Version},
    runtime::admission::Admission,
    types::Index,
};

mod alarms;

const PEER: ReplicaId = ReplicaId(2);
const OTHER: ReplicaId = ReplicaId(3);

type Answer = tokio::sync::oneshot::Receiver<Result<Answered, Failure>>;

/// [`Requests`] with ids that count up, and callers.
struct Bench {
    requests: Requests,
    admission: Arc<Admission>,
    ids: u64,
    now_ms: u64,
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

const NOT_PROPOSED: ProposalResult = ProposalResult::NotProposed;

impl Bench {
    fn new(view: View) -> Self {
        let pace = Pace::new(Duration::from_millis(50));
        let mut requests = Requests::new(ServerKeys::new(ReplicaId(1), 7), pace, 7);
        requests.handle_time(Millis(1_000));
        requests.handle_view(view);
        Self { requests, admission: Arc::default(), ids: 0, now_ms: 0 }
    }

    /// The time, in ticks of 50 ms.
    fn now(&self) -> Now {
        Now { tick: Tick(self.now_ms / 50), at: Duration::from_millis(self.now_ms) }
    }

    fn accept(&mut self, command: Measured, deadline: u64) -> Answer {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let permit = self.admission.enter(&command).unwrap();
        self.requests.accept(command, Waiter { reply: reply.into(), deadline: Tick(deadline), permit }, self.now());
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
        let (id, now) = (self.id(), self.now());
        self.requests.propose(id, now);
        id
    }

    fn forward(&mut self, to: ReplicaId, now: u64) -> ProposalId {
        self.now_ms = 50 * now;
        let (id, now) = (self.id(), self.now());
        self.requests.forward(id, to, now);
        id
    }

    fn tell(&mut self, id: ProposalId, teller: Teller, result: ProposalResult) {
        let now = self.now();
        self.requests.handle_result(id, teller, result, now);
    }

    /// The key of the next one to be sent.
    fn next(&mut self) -> Option<RequestKey> {
        let now = self.now();
        self.requests.peek(now).map(|command| command.command.key)
    }

    fn waits_to_be_sent(&mut self) -> bool {
        self.next().is_some()
    }

    /// The command of the next one, which is proposed.
    fn take(&mut self) -> Command {
        let (id, now) = (self.id(), self.now());
        self.requests.propose(id, now).command
    }

    /// A request is proposed, and decided so many milliseconds later.
    fn decide_one(&mut self, took_ms: u64) {
        let mut answer = self.accept(draw(key(200), KeyOrigin::Caller, 1), u64::MAX);
        let id = self.propose();
        self.now_ms += took_ms;
        self.tell(id, Teller::Here, applied());
        answer.try_recv().unwrap().unwrap();
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
        assert_eq!(bench.next(), Some(key(1)));
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
fn a_key_made_here_that_is_refused_for_its_time_is_replaced_once_it_is_sure_that_nothing_was_done() {
    for refused in [expired(), outcome(Err(Refusal::KeyFromFuture { now: Millis(5_000), floor: Millis(0) }))] {
        let mut bench = Bench::new(view(1, Leader::Here));
        let mut answer = bench.accept(draw(key(1), KeyOrigin::Server, 1), 40);
        let id = bench.propose();
        bench.tell(id, Teller::Here, refused);
        assert_eq!(bench.next().unwrap().time(), Millis(5_000));
        let id = bench.propose();
        bench.tell(id, Teller::Here, applied());
        assert_eq!(answer.try_recv().unwrap().unwrap().key.time(), Millis(5_000));
    }
}

#[test]
fn a_key_made_here_is_of_the_cluster_time_at_its_first_sending_and_stays() {
    let mut bench = Bench::new(view(1, Leader::Here));
    bench.requests.handle_time(Millis(0));
    let _answers = [KeyOrigin::Server, KeyOrigin::Caller].map(|origin| bench.accept(draw(key(1), origin, 1), 40));
    assert!(!bench.waits_to_be_sent(), "there is no time yet");
    let mut made = Vec::new();
    for (term, time) in [(1, 2_000), (2, 3_000)] {
        bench.requests.handle_time(Millis(time));
        bench.requests.handle_view(view(term, Leader::Here));
        made.push(bench.take().key);
        assert_eq!(bench.take().key, key(1), "a caller's is the caller's");
    }
    assert_eq!((made[0].time(), made[0].is_server_made()), (Millis(2_000), true));
    assert_eq!(made[0], made[1], "a second copy has the same");
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
        let answer = answer.try_recv().unwrap();
        assert!(
            matches!(answer, Err(Failure::Unknown { key: told }) if (told == key(1)) == (origin == KeyOrigin::Caller))
        );
    }
}

#[test]
fn a_peer_s_refusal_that_leaves_no_trace_and_may_pass_is_not_final() {
    let may_pass = [Refusal::KeyFromFuture { now: Millis(0), floor: Millis(0) }, Refusal::KeyTableFull];
    for (refusal, origin) in
        may_pass.iter().flat_map(|refusal| [KeyOrigin::Caller, KeyOrigin::Server].map(|origin| (refusal, origin)))
    {
        for last in [outcome(Err(refusal.clone())), applied()] {
            let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
            let mut answer = bench.accept(draw(key(1), origin, 1), 40);
            let id = bench.forward(PEER, 0);
            let sent = bench.requests.open.iter().next().unwrap().1.command.command.key;
            bench.tell(id, Teller::Peer(PEER), outcome(Err(refusal.clone())));
            assert!(answer.try_recv().is_err(), "the network may have brought a second copy, to be decided yet");
            bench.requests.handle_tick(Tick(PAUSE_TICKS));
            assert_eq!(bench.next(), Some(sent), "under the same key");
            let id = bench.forward(PEER, PAUSE_TICKS);
            bench.tell(id, Teller::Peer(PEER), last.clone());
            match answer.try_recv().unwrap() {
                Ok(answered) => assert_eq!((answered.key, last == applied()), (sent, true)),
                Err(failure) => assert_eq!((failure, last == applied()), (Failure::Unknown { key: sent }, false)),
            }
        }
    }
}

#[test]
fn a_key_hours_ahead_is_refused_for_good_by_a_peer_too() {
    let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
    let mut answer = bench.accept(draw(RequestKey::new(Millis(PASSES_MS_MAX), [1; 10]), KeyOrigin::Caller, 1), 40);
    let id = bench.forward(PEER, 0);
    let refused = outcome(Err(Refusal::KeyFromFuture { now: Millis(0), floor: Millis(0) }));
    bench.tell(id, Teller::Peer(PEER), refused.clone());
    let ProposalResult::Applied(refused) = refused else { unreachable!("it was decided") };
    assert_eq!(answer.try_recv().unwrap().unwrap().outcome, refused);
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
    let order: Vec<_> = (0..3).map(|_| bench.take().key).collect();
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
    assert_eq!(bench.admission.waiting(), (0, 0), "both places are free");
}

#[test]
fn who_stops_refuses_what_was_not_sent_and_pursues_what_was() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut sent = bench.caller();
    let id = bench.propose();
    let mut unsent = bench.accept(draw(key(2), KeyOrigin::Caller, 1), 40);
    bench.requests.handle_stop();
    assert_eq!(unsent.try_recv().unwrap(), Err(NotApplied::Draining.into()));
    assert!(!bench.waits_to_be_sent());
    bench.requests.handle_view(view(2, Leader::Here));
    let again = bench.propose();
    bench.tell(id, Teller::Here, applied());
    bench.tell(again, Teller::Here, applied());
    sent.try_recv().unwrap().unwrap();

    let mut bench = Bench::new(view(1, Leader::Here));
    let mut given_back = bench.caller();
    let id = bench.propose();
    bench.requests.handle_stop();
    bench.tell(id, Teller::Here, NOT_PROPOSED);
    assert_eq!(given_back.try_recv().unwrap(), Err(NotApplied::Draining.into()), "it is not sent again");
    assert!(bench.requests.is_empty());
}

#[test]
fn what_cannot_be_decided_in_time_is_turned_away_when_its_turn_comes() {
    let mut bench = Bench::new(view(1, Leader::Here));
    bench.decide_one(200);
    assert_eq!(bench.now().tick, Tick(4));
    let mut short = bench.accept(draw(key(1), KeyOrigin::Caller, 1), 7);
    let mut shorter = bench.accept(draw(key(2), KeyOrigin::Caller, 1), 7);
    let mut long = bench.accept(draw(key(3), KeyOrigin::Caller, 1), 8);
    assert_eq!(bench.next(), Some(key(1)), "with nothing on its way, it is sent to see how long it takes now");
    bench.propose();
    assert_eq!(bench.next(), Some(key(3)));
    assert_eq!(shorter.try_recv().unwrap(), Err(overloaded(200).into()));
    assert!(short.try_recv().is_err() && long.try_recv().is_err());
    assert_eq!(bench.requests.turned_away().too_late, 1);
    // What was sent once is never taken back, however late it is.
    let id = bench.propose();
    bench.requests.handle_view(view(2, Leader::Here));
    bench.now_ms = 7 * 50 + 49;
    assert_eq!(bench.next(), Some(key(1)));
    bench.propose();
    let again = bench.propose();
    bench.tell(id, Teller::Here, applied());
    bench.tell(again, Teller::Here, applied());
    long.try_recv().unwrap().unwrap();
}

#[test]
fn a_standing_queue_turns_the_newest_away_but_not_who_asks_again() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let _waiting: Vec<_> = (1..=4).map(|n| bench.accept(draw(key(n), KeyOrigin::Caller, 1), 400)).collect();
    for at in [60, 160] {
        bench.now_ms = at;
        bench.propose();
    }
    for origin in [KeyOrigin::Caller, KeyOrigin::Server] {
        let mut newest = bench.accept(draw(key(9), origin, 1), 400);
        assert_eq!(newest.try_recv().unwrap(), Err(overloaded(160).into()));
    }
    assert_eq!(bench.requests.turned_away().shed, 2);
    for open in [1, 4] {
        let mut again = bench.accept(draw(key(open), KeyOrigin::Caller, 1), 400);
        assert!(again.try_recv().is_err(), "it waits with the first, sent or not");
    }
    assert_eq!(bench.admission.waiting().0, 4, "and takes no place");
    bench.propose();
    bench.propose();
    let mut newest = bench.accept(draw(key(9), KeyOrigin::Caller, 1), 400);
    assert!(newest.try_recv().is_err(), "the queue was empty");
}

/// Two requests wait, one is on its way, and the queue stands.
fn standing() -> (Bench, ProposalId, Vec<Answer>) {
    let mut bench = Bench::new(view(1, Leader::Here));
    let answers = (1..=4).map(|n| bench.accept(draw(key(n), KeyOrigin::Caller, 1), 8)).collect();
    bench.now_ms = 60;
    let first = bench.propose();
    bench.now_ms = 160;
    bench.tell(first, Teller::Here, applied());
    let second = bench.propose();
    assert!(bench.requests.pace().is_standing());
    (bench, second, answers)
}

#[test]
fn a_queue_that_ends_otherwise_than_by_sending_stands_no_more() {
    let ends: [Deed; 3] = [
        |bench| bench.requests.handle_tick(Tick(8)),
        |bench| {
            bench.now_ms = 7 * 50;
            assert_eq!(bench.next(), None, "it is too late for both");
        },
        |bench| bench.requests.handle_stop(),
    ];
    for end in ends {
        let (mut bench, second, mut answers) = standing();
        end(&mut bench);
        bench.tell(second, Teller::Here, applied());
        assert!(answers[2..].iter_mut().all(|answer| answer.try_recv().unwrap().is_err()));
        assert!(!bench.requests.pace().is_standing());
        let mut newest = bench.accept(draw(key(9), KeyOrigin::Caller, 1), 400);
        assert!(newest.try_recv().is_err(), "nobody waits before it");
    }
}

#[test]
fn a_standing_queue_is_over_when_those_who_waited_have_given_up() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut waiting: Vec<_> = (1..=3).map(|n| bench.accept(draw(key(n), KeyOrigin::Caller, 1), 10)).collect();
    for at in [60, 160] {
        bench.now_ms = at;
        bench.propose();
    }
    bench.requests.handle_tick(Tick(10));
    assert!(waiting.iter_mut().all(|answer| answer.try_recv().unwrap().is_err()));
    let mut newest = bench.accept(draw(key(9), KeyOrigin::Caller, 1), 400);
    assert!(newest.try_recv().is_err(), "it is sent to see how long it takes now");
}

#[test]
fn who_came_in_beside_the_others_is_for_an_open_request_alone() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let mut first = bench.caller();
    let big = Measured { bytes: crate::runtime::PENDING_BYTES_MAX - 1_000, ..draw(key(9), KeyOrigin::Caller, 1) };
    let full = bench.admission.enter(&big).unwrap();
    let wide = |n| Measured { bytes: 2_000, ..draw(key(n), KeyOrigin::Caller, 1) };
    let mut again = bench.accept(wide(1), 40);
    let mut other = bench.accept(wide(2), 40);
    assert_eq!(other.try_recv().unwrap(), Err(overloaded(10).into()));
    drop(full);
    let id = bench.propose();
    bench.tell(id, Teller::Here, applied());
    assert_eq!(first.try_recv().unwrap(), again.try_recv().unwrap());
}

#[test]
fn no_more_is_on_its_way_to_the_leader_than_it_takes() {
    let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
    let mut sent = Vec::new();
    let actors = (0..3).map(|n| format!("client {n}").parse().unwrap());
    let commands = actors.flat_map(|actor: Actor| std::iter::repeat_n(actor, WINDOW_COMMANDS_MAX / 2));
    let answers: Vec<_> = (0..)
        .zip(commands)
        .map(|(n, actor)| {
            let mut command = draw(RequestKey::new(Millis(n), [1; 10]), KeyOrigin::Caller, 1);
            command.command.actor = actor;
            bench.accept(command, 400)
        })
        .collect();
    let now = bench.now();
    while bench.requests.peek_forward(now).is_some() {
        sent.push(bench.forward(PEER, 0));
    }
    assert_eq!(sent.len(), WINDOW_COMMANDS_MAX);
    bench.tell(sent[0], Teller::Peer(PEER), applied());
    assert!(bench.requests.peek_forward(now).is_some(), "an answer makes room");
    drop(answers);
    let big = |bytes| Measured { bytes, ..draw(key(1), KeyOrigin::Caller, 1) };
    let mut bench = Bench::new(view(1, Leader::Peer(PEER)));
    let _answers =
        [bench.accept(big(WINDOW_BYTES_MAX + 1), 400), bench.accept(draw(key(2), KeyOrigin::Caller, 1), 400)];
    assert!(bench.requests.peek_forward(now).is_some(), "one of any length");
    bench.forward(PEER, 0);
    assert!(bench.requests.peek_forward(now).is_none());
}
