//! DESIGN section 3 as far as one state can show it, checked from nothing: for `verify`, and for whoever restores a
//! snapshot.

use super::{
    StateMachine,
    command::Policy,
    machine::ITEMS_MAX,
    names::{PoolId, QUANTITY_MAX},
    query::Verification,
    state::Pool,
};

/// Looks at everything, and recomputes the state digest: time by the size of the state.
pub(super) fn verify(machine: &StateMachine) -> Verification {
    let mut verification = check(machine);
    let (kept, recomputed) = (machine.state, machine.snapshot().recompute());
    if kept != recomputed {
        verification.violations.push(format!("the state digest is {kept}, and should be {recomputed}"));
    }
    verification
}

/// Looks at everything but the digest, which a state just restored has computed from nothing anyway.
pub(super) fn check(machine: &StateMachine) -> Verification {
    let mut violations = Vec::new();
    let mut items = 0;
    for (id, pool) in &machine.pools {
        items += pool.items.len();
        check_pool(id, pool, &mut violations);
    }
    if items != machine.items_len || items > ITEMS_MAX {
        violations.push(format!("there are {items} items, counted are {}", machine.items_len));
    }
    let items_of = |id: &PoolId| machine.pools.get(id).map(|pool| pool.items.len());
    let keys = machine.keys.check(items_of, (machine.applied, machine.now), &mut violations);
    Verification { pools: machine.pools.len() as u64, items: items as u64, keys, violations }
}

fn check_pool(id: &PoolId, pool: &Pool, violations: &mut Vec<String>) {
    for (item_id, item) in pool.items.iter() {
        if !item.is_conserved() {
            violations.push(format!("pool {id}: item {item_id} is not conserved: {item:?}"));
        }
        if item.rev > pool.facts.version {
            violations.push(format!("pool {id}: item {item_id} has rev {}, the pool {}", item.rev, pool.facts.version));
        }
    }
    if let Err(why) = pool.items.check() {
        violations.push(format!("pool {id}: {why}"));
    }
    if matches!(pool.facts.policy, Policy::Fallback(_)) {
        let fallback = pool.fallback().map(|position| pool.items.get(position));
        if !fallback.is_some_and(|item| item.unlimited && !item.removed) {
            violations.push(format!("pool {id}: there is no unlimited fallback item"));
        }
    }
    if pool.facts.draw_seq.0 > QUANTITY_MAX * 2 {
        violations.push(format!("pool {id}: draw number {} cannot have been reached", pool.facts.draw_seq));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{Limits, Weight},
        types::StateDigest,
    };

    fn machine() -> StateMachine {
        let mut machine = StateMachine::founding(Limits::default());
        let pool = machine.pools.get_mut(&PoolId::default_pool()).unwrap();
        let gold = "gold".to_owned().try_into().unwrap();
        pool.set_item(&gold, Weight(1), crate::pool::Stock::Finite(3), None, 1).unwrap();
        machine.items_len += 1;
        machine.touched.push(PoolId::default_pool());
        machine.settle();
        machine
    }

    /// What `verify` says of a state that was tampered with.
    fn found(tamper: impl FnOnce(&mut StateMachine)) -> String {
        let mut machine = machine();
        tamper(&mut machine);
        verify(&machine).violations.join("; ")
    }

    fn pool(machine: &mut StateMachine) -> &mut Pool {
        machine.pools.get_mut(&PoolId::default_pool()).unwrap()
    }

    #[test]
    fn a_state_that_is_well_is_found_well() {
        assert_eq!(found(|_| {}), "");
    }

    #[test]
    fn whatever_is_tampered_with_is_found() {
        let item = |machine: &mut StateMachine, change: fn(&mut crate::pool::stock::Item)| {
            let mut item = *pool(machine).items.get(0);
            change(&mut item);
            pool(machine).items.put(0, item);
        };
        assert!(found(|machine| item(machine, |item| item.remaining += 1)).contains("is not conserved"));
        assert!(found(|machine| item(machine, |item| item.rev.0 = 9)).contains("has rev 9"));
        assert!(found(|machine| item(machine, |item| item.weight = Weight(2))).contains("the state digest is"));
        assert!(found(|machine| machine.items_len += 1).contains("counted are 2"));
        assert!(found(|machine| machine.state = StateDigest(1)).contains("the state digest is"));
        assert!(found(|machine| pool(machine).facts.draw_seq.0 = u64::MAX).contains("cannot have been reached"));
        let fallback = || Policy::Fallback("gold".to_owned().try_into().unwrap());
        assert!(found(|machine| pool(machine).facts.policy = fallback()).contains("no unlimited fallback"));
    }
}
