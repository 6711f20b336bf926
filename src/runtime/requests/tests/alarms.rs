//! What is looked at again when its time comes, and what is not.

use super::*;

#[test]
fn the_alarm_of_one_that_is_answered_does_not_ring_for_the_next_in_its_place() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let _answered = bench.caller();
    bench.requests.handle_tick(Tick(1));
    assert_eq!(bench.requests.alarms.len(), 1);
    let id = bench.propose();
    bench.tell(id, Teller::Here, applied());
    let mut late = bench.accept(draw(key(2), KeyOrigin::Caller, 1), 40);
    bench.now_ms = 40 * 50;
    bench.requests.handle_tick(Tick(40));
    assert!(late.try_recv().unwrap().is_err());
    assert_eq!(bench.next(), None);
    let _next = bench.accept(draw(key(3), KeyOrigin::Caller, 1), 80);
    assert_eq!(bench.next(), Some(key(3)));
}

#[test]
fn who_is_answered_within_a_tick_leaves_no_alarm() {
    let mut bench = Bench::new(view(1, Leader::Here));
    let _answered = bench.caller();
    let id = bench.propose();
    bench.tell(id, Teller::Here, applied());
    let mut other = bench.accept(draw(key(2), KeyOrigin::Caller, 1), 40);
    bench.requests.handle_tick(Tick(1));
    let alarms: Vec<_> = bench.requests.alarms.iter().map(|(at, ids)| (*at, ids.len())).collect();
    assert_eq!((alarms, bench.requests.young.len()), (vec![(Tick(40), 1)], 0));
    bench.requests.handle_tick(Tick(40));
    assert!(other.try_recv().is_ok());
}

#[test]
fn at_the_deadline_what_never_left_is_surely_not_applied() {
    let mut bench = Bench::new(view(1, Leader::Unknown));
    let mut answer = bench.caller();
    bench.requests.handle_tick(Tick(39));
    assert!(answer.try_recv().is_err());
    bench.requests.handle_tick(Tick(40));
    assert_eq!(answer.try_recv().unwrap(), Err(NotApplied::NoLeader.into()));
    assert!(!bench.waits_to_be_sent() && bench.requests.is_empty());

    let mut bench = Bench::new(view(1, Leader::Here));
    let mut answer = bench.caller();
    bench.requests.handle_tick(Tick(40));
    assert_eq!(answer.try_recv().unwrap(), Err(overloaded(10).into()), "there is a leader, but no turn came");
}
