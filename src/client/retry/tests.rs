use proptest::prelude::*;

use super::*;
use crate::{
    api::Answered,
    pool::{Outcome, RequestKey},
    types::{Index, Millis},
};

const POLICY: RetryPolicy = RetryPolicy {
    timeout: Duration::from_secs(10),
    attempt_timeout: Duration::from_secs(2),
    pause_first_max: Duration::from_millis(20),
    pause_max: Duration::from_secs(1),
};
const LONGEST: u64 = u64::MAX;

fn key() -> RequestKey {
    RequestKey::new(Millis(1), [7; 10])
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn mutation() -> Retry {
    Retry::new(POLICY, Some(key()), 3, 0, Duration::ZERO)
}

fn read() -> Retry {
    Retry::new(POLICY, None, 3, 0, Duration::ZERO)
}

fn not_applied(why: NotApplied) -> Attempt {
    Attempt::Failed(Failure::NotApplied(why))
}

fn step(retry: &mut Retry, now: Duration, attempt: Attempt) -> Decision {
    retry.handle_attempt(now, attempt, LONGEST, &mut RetryBudget::default())
}

/// Ends the call at its deadline with this attempt, and says how.
fn end(mut retry: Retry, attempt: Attempt) -> GaveUp {
    match step(&mut retry, seconds(10), attempt) {
        Decision::GiveUp(how) => how,
        other => panic!("{other:?}"),
    }
}

fn submitted(result: Result<crate::pool::Effect, Refusal>) -> Result<Reply, Failure> {
    let outcome = Outcome { index: Index(9), now: Millis(9), replayed: false, result };
    Ok(Reply::Submitted(Answered { key: key(), outcome }))
}

#[test]
fn an_answer_settles_the_call_whatever_was_before() {
    let mut retry = mutation();
    assert!(matches!(step(&mut retry, seconds(1), Attempt::Lost), Decision::Again { .. }));
    assert_eq!(step(&mut retry, seconds(99), Attempt::Answered), Decision::Answer);
    assert_eq!(retry.retries(), 1);
}

#[test]
fn failures_of_a_node_send_the_call_to_the_next_endpoint() {
    let failures = [
        Attempt::NotSent,
        Attempt::Lost,
        Attempt::TimedOut,
        Attempt::Failed(Failure::Unknown { key: key() }),
        not_applied(NotApplied::NoLeader),
        not_applied(NotApplied::NoQuorum),
        not_applied(NotApplied::Draining),
    ];
    for failure in failures {
        let mut retry = mutation();
        for expected in [1, 2, 0, 1] {
            match step(&mut retry, Duration::ZERO, failure.clone()) {
                Decision::Again { endpoint, .. } => assert_eq!((endpoint, retry.endpoint()), (expected, expected)),
                other => panic!("{failure:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn overload_stays_and_waits_as_long_as_it_was_told() {
    let mut retry = mutation();
    let overloaded = not_applied(NotApplied::Overloaded { retry_after_ms: 300 });
    let Decision::Again { endpoint, pause } = step(&mut retry, Duration::ZERO, overloaded) else { panic!() };
    assert_eq!((endpoint, pause), (0, Duration::from_millis(320)));
}

#[test]
fn surely_not_applied_is_said_only_if_no_attempt_may_have_been() {
    assert_eq!(end(mutation(), Attempt::NotSent), GaveUp::Unreachable);
    assert_eq!(end(mutation(), not_applied(NotApplied::NoLeader)), GaveUp::NotApplied(NotApplied::NoLeader));

    for ambiguous in [Attempt::Lost, Attempt::TimedOut, Attempt::Failed(Failure::Unknown { key: key() })] {
        assert_eq!(end(mutation(), ambiguous.clone()), GaveUp::Unknown { key: key() });
        for later in [Attempt::NotSent, not_applied(NotApplied::NoLeader), not_applied(NotApplied::Draining)] {
            let mut retry = mutation();
            step(&mut retry, seconds(1), ambiguous.clone());
            assert_eq!(end(retry, later), GaveUp::Unknown { key: key() }, "an ambiguous attempt stays ambiguous");
        }
    }
}

#[test]
fn what_a_node_said_is_told_rather_than_that_another_was_silent() {
    let mut retry = mutation();
    step(&mut retry, seconds(1), not_applied(NotApplied::NoLeader));
    assert_eq!(end(retry, Attempt::NotSent), GaveUp::NotApplied(NotApplied::NoLeader));
}

#[test]
fn who_is_refused_everywhere_in_turn_gives_up_at_once() {
    let refused = || Attempt::Refused("foreign".to_owned());
    for retry in [mutation(), read()] {
        let mut retry = retry;
        for attempt in [refused(), refused(), Attempt::NotSent, refused(), refused()] {
            assert!(
                matches!(step(&mut retry, Duration::ZERO, attempt), Decision::Again { .. }),
                "one may accept it yet"
            );
        }
        assert_eq!(
            step(&mut retry, Duration::ZERO, refused()),
            Decision::GiveUp(GaveUp::Refused("foreign".to_owned()))
        );
    }
    let mut retry = mutation();
    step(&mut retry, Duration::ZERO, refused());
    assert_eq!(end(retry, Attempt::NotSent), GaveUp::Refused("foreign".to_owned()), "it says more than silence");
    let mut retry = mutation();
    step(&mut retry, Duration::ZERO, Attempt::Lost);
    assert_eq!(end(retry, refused()), GaveUp::Unknown { key: key() }, "what was sent elsewhere may be applied");
}

#[test]
fn a_read_is_never_unknown() {
    for attempt in [Attempt::Lost, Attempt::TimedOut, Attempt::Failed(Failure::Unknown { key: key() })] {
        assert_eq!(end(read(), attempt), GaveUp::Unreachable);
    }
    assert_eq!(end(read(), not_applied(NotApplied::NoQuorum)), GaveUp::NotApplied(NotApplied::NoQuorum));
}

#[test]
fn what_is_wrong_with_the_request_itself_is_not_retried() {
    for why in [NotApplied::Malformed("zero".to_owned()), NotApplied::TransferRefused("no voter".to_owned())] {
        let decision = step(&mut mutation(), Duration::ZERO, not_applied(why.clone()));
        assert_eq!(decision, Decision::GiveUp(GaveUp::NotApplied(why)));
    }
}

#[test]
fn unstored_refusals_do_not_settle_an_earlier_attempt() {
    let floor = Millis(5);
    let refusals = [
        Refusal::KeyExpired { floor, now: Millis(9) },
        Refusal::KeyFromFuture { floor, now: Millis(9) },
        Refusal::KeyTableFull,
    ];
    for refusal in refusals {
        let attempt = Attempt::replied(&submitted(Err(refusal)));
        assert_eq!(attempt, Attempt::Unrecorded);
        assert_eq!(step(&mut mutation(), Duration::ZERO, attempt.clone()), Decision::Answer);

        let mut retry = mutation();
        step(&mut retry, Duration::ZERO, Attempt::Lost);
        assert_eq!(step(&mut retry, seconds(1), attempt), Decision::GiveUp(GaveUp::Unknown { key: key() }));
    }
}

#[test]
fn stored_refusals_and_reads_are_answers_and_failures_are_told() {
    assert_eq!(Attempt::replied(&submitted(Err(Refusal::PoolPaused))), Attempt::Answered);
    assert_eq!(Attempt::replied(&submitted(Err(Refusal::KeyReused))), Attempt::Answered);
    assert_eq!(Attempt::replied(&Ok(Reply::Transferred)), Attempt::Answered);
    let failure = Failure::NotApplied(NotApplied::NoLeader);
    assert_eq!(Attempt::replied(&Err(failure.clone())), Attempt::Failed(failure));
}

#[test]
fn ceilings_double_up_to_a_bound() {
    let mut retry = Retry::new(RetryPolicy { timeout: seconds(1_000), ..POLICY }, None, 1, 0, Duration::ZERO);
    let mut pauses = Vec::new();
    for _ in 0..40 {
        let Decision::Again { pause, .. } = step(&mut retry, Duration::ZERO, Attempt::NotSent) else { panic!() };
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses[..8], [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    assert!(pauses[8..].iter().all(|&pause| pause == 1_000));
}

#[test]
fn an_attempt_never_outlasts_the_call() {
    let retry = mutation();
    assert_eq!(retry.timeout(Duration::ZERO), seconds(2));
    assert_eq!(retry.timeout(seconds(9)), seconds(1));
    assert_eq!(retry.timeout(seconds(11)), Duration::ZERO);
}

#[test]
fn retries_of_overload_are_a_tenth_of_the_calls_beyond_a_reserve() {
    let mut budget = RetryBudget::default();
    let overloaded = |budget: &mut RetryBudget| {
        let attempt = not_applied(NotApplied::Overloaded { retry_after_ms: 0 });
        matches!(mutation().handle_attempt(Duration::ZERO, attempt, 0, budget), Decision::Again { .. })
    };
    let reserve = (0..100).filter(|_| overloaded(&mut budget)).count();
    assert_eq!(reserve, 10);
    let granted = (0..1_000)
        .filter(|_| {
            budget.deposit();
            overloaded(&mut budget)
        })
        .count();
    assert_eq!(granted, 100);
    (0..1_000_000).for_each(|_| budget.deposit());
    assert_eq!((0..1_000).filter(|_| overloaded(&mut budget)).count(), 100, "what is saved up is bounded");
}

#[test]
fn other_retries_cost_no_budget() {
    let mut spent = RetryBudget { tenths: 0 };
    let decision = mutation().handle_attempt(Duration::ZERO, Attempt::Lost, 0, &mut spent);
    assert!(matches!(decision, Decision::Again { .. }));
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![
        Just(Attempt::NotSent),
        Just(Attempt::Refused("foreign".to_owned())),
        Just(Attempt::Lost),
        Just(Attempt::TimedOut),
        Just(Attempt::Failed(Failure::Unknown { key: key() })),
        Just(not_applied(NotApplied::NoLeader)),
        Just(not_applied(NotApplied::Draining)),
        (0u32..5_000).prop_map(|retry_after_ms| not_applied(NotApplied::Overloaded { retry_after_ms })),
    ]
}

proptest! {
    /// Whatever happens, a call ends in bounded time and attempts, keeps its endpoints in range, never starts an attempt
    /// that is over at once, and says "surely not applied" exactly if no attempt was ambiguous.
    #[test]
    fn every_call_ends_in_time_and_honestly(
        attempts in proptest::collection::vec((any_attempt(), any::<u64>(), 0u64..3_000), 1..64),
        endpoints in 1usize..5,
    ) {
        let mut retry = Retry::new(POLICY, Some(key()), endpoints, endpoints - 1, Duration::ZERO);
        let mut budget = RetryBudget::default();
        let (mut now, mut ambiguous) = (Duration::ZERO, false);
        for (attempt, random, took_ms) in attempts.into_iter().cycle() {
            let timeout = retry.timeout(now);
            prop_assert!(timeout >= ATTEMPT_TIMEOUT_MIN && retry.endpoint() < endpoints);
            prop_assert!(retry.retries() < 10_000);
            now += Duration::from_millis(took_ms).min(timeout).max(Duration::from_millis(1));
            ambiguous |= matches!(attempt, Attempt::Lost | Attempt::TimedOut | Attempt::Failed(Failure::Unknown { .. }));
            match retry.handle_attempt(now, attempt, random, &mut budget) {
                Decision::Again { pause, .. } => now += pause,
                Decision::GiveUp(how) => {
                    prop_assert_eq!(how == GaveUp::Unknown { key: key() }, ambiguous);
                    break;
                }
                Decision::Answer => prop_assert!(false, "no attempt was answered"),
            }
        }
        prop_assert!(now <= POLICY.timeout);
    }

    #[test]
    fn pauses_are_spread_over_the_whole_range(random: u64) {
        let pause = uniform(Duration::from_millis(20), random);
        prop_assert!(pause <= Duration::from_millis(20));
        let share = random as f64 / u64::MAX as f64;
        prop_assert!((pause.as_secs_f64() - 0.020 * share).abs() < 0.000_002);
    }
}
