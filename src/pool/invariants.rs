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

/// Looks at everything: time by the size of the state.
pub(super) fn verify(machine: &StateMachine) -> Verification {
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
    let (kept, recomputed) = (machine.state, machine.snapshot().recompute());
    if kept != recomputed {
        violations.push(format!("the state digest is {kept}, and should be {recomputed}"));
    }
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
