//! DESIGN section 3 as far as one state can show it, checked from nothing: for `verify`, and for whoever restores a
//! snapshot.

use std::collections::BTreeMap;

use super::{
    StateMachine,
    command::Policy,
    keys::Keys,
    machine::ITEMS_MAX,
    names::{ItemId, PoolId, QUANTITY_MAX},
    query::Verification,
    state::Facts,
    stock::{Item, ItemList},
};
use crate::types::{Index, Millis};

/// Looks at everything, and recomputes the state digest: time by the size of the state.
pub(super) fn verify(machine: &StateMachine) -> Verification {
    let mut verification = machine.snapshot().verify();
    check_derived(machine, &mut verification);
    verification
}

/// Looks at everything but the digest, which a state just restored has computed from nothing anyway.
pub(super) fn check(machine: &StateMachine) -> Verification {
    let pools = machine.pools.iter().map(|(id, pool)| (id, &pool.facts, pool.items.list()));
    let mut verification = check_records(pools, &machine.keys, (machine.applied, machine.now));
    check_derived(machine, &mut verification);
    verification
}

/// Looks at what a snapshot has: pools in the order of names, and keys.
pub(super) fn check_records<'a>(
    pools: impl Iterator<Item = (&'a PoolId, &'a Facts, &'a ItemList)>,
    keys: &Keys,
    (applied, now): (Index, Millis),
) -> Verification {
    let mut violations = Vec::new();
    let mut lens = BTreeMap::new();
    for (id, facts, items) in pools {
        lens.insert(id, items.len());
        check_pool(id, facts, items, &mut violations);
    }
    let items: usize = lens.values().sum();
    if items > ITEMS_MAX {
        violations.push(format!("there are {items} items, more than there can be"));
    }
    let keys = keys.check(|id| lens.get(id).copied(), (applied, now), &mut violations);
    Verification { pools: lens.len() as u64, items: items as u64, keys, violations }
}

/// Looks at what a snapshot leaves out.
fn check_derived(machine: &StateMachine, verification: &mut Verification) {
    let violations = &mut verification.violations;
    if verification.items != machine.items_len as u64 {
        violations.push(format!("there are {} items, counted are {}", verification.items, machine.items_len));
    }
    for (id, pool) in &machine.pools {
        if let Err(why) = pool.items.check() {
            violations.push(format!("pool {id}: {why}"));
        }
    }
}

fn check_pool(id: &PoolId, facts: &Facts, items: &ItemList, violations: &mut Vec<String>) {
    for (item_id, item) in items.iter() {
        if !item.is_conserved() {
            violations.push(format!("pool {id}: item {item_id} is not conserved: {item:?}"));
        }
        if item.rev > facts.version {
            violations.push(format!("pool {id}: item {item_id} has rev {}, the pool {}", item.rev, facts.version));
        }
    }
    if let Policy::Fallback(fallback) = &facts.policy {
        let is_it = |&(item_id, item): &(&ItemId, &Item)| item_id == fallback && item.unlimited && !item.removed;
        if items.iter().find(is_it).is_none() {
            violations.push(format!("pool {id}: there is no unlimited fallback item"));
        }
    }
    // Far beyond what can be counted to, and far from where counting on would end.
    if facts.draw_seq.0.max(facts.version.0) > QUANTITY_MAX * 2 {
        let Facts { draw_seq, version, .. } = facts;
        violations.push(format!("pool {id}: draw number {draw_seq} or version {version} cannot have been reached"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{Limits, Weight, state::Pool},
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
            pool(machine).items.settle(|_, _, _, _| {});
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
