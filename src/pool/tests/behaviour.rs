//! What the predecessor's users relied on, and what it got wrong.

use super::*;

#[test]
fn every_unit_is_awarded_once_and_then_the_pool_is_empty() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(1), 100), ("silver", Stock::Finite(100), 10)])).unwrap();
    let drawn = steps(bench.act(Action::Draw { count: 200 }));
    let gold = drawn.iter().filter(|step| **step == Step::Awarded(id("gold"))).count();
    let silver = drawn.iter().filter(|step| **step == Step::Awarded(id("silver"))).count();
    assert_eq!((gold, silver), (1, 100));
    assert!(drawn[101..].iter().all(|step| *step == Step::PoolEmpty));
    bench.verify();
}
