//! What a plan's words ask for.

use tombola::{
    api::Consistency,
    client::Call,
    pool::{Action, CatalogItem, ItemId, Policy, PoolId, Query, Stock, Weight},
};

use crate::plan::What;

/// Most steps of a draw.
const DRAWS_MAX: u16 = tombola::pool::DRAWS_PER_COMMAND_MAX;

/// What a call of a plan is, once its names are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A mutation.
    Mutation(PoolId, Action),
    /// A read.
    Read(Query, Consistency),
    /// What became of the client's call that many before.
    Outcome(usize),
    /// Something that is neither: it is not in the history.
    Other(Call),
}

impl Asked {
    /// What these words ask for, of a cluster founded with that catalog.
    pub fn of(what: &What, catalog: &[CatalogItem]) -> Self {
        let mutation = |pool: &u8, action| Self::Mutation(pool_id(*pool), action);
        let item = |number: &u8| item_id(*number, catalog);
        match what {
            What::Draw { pool, count } => mutation(pool, Action::Draw { count: *count }),
            What::Claim { pool, item: number, quantity } => {
                mutation(pool, Action::Claim { item: item(number), quantity: *quantity })
            }
            What::Update { pool, item: number, stock, weight, create } => {
                let stock = stock.map_or(Stock::Unlimited, Stock::Finite);
                let (item, weight, create) = (item(number), Weight(*weight), *create);
                mutation(pool, Action::UpdateItem { item, stock, weight, create })
            }
            What::Adjust { pool, item: number, delta } => {
                mutation(pool, Action::AdjustStock { item: item(number), delta: *delta })
            }
            What::Create { pool } => {
                let (policy, items) = (policy(*pool, catalog), catalog.to_vec());
                mutation(pool, Action::CreatePool { policy, items, require_key: false })
            }
            What::Pause { pool } => mutation(pool, Action::PausePool),
            What::Resume { pool } => mutation(pool, Action::ResumePool),
            What::Read { pool } => Self::Read(Query::Pool(pool_id(*pool)), Consistency::Linearizable),
            What::StaleRead { pool } => Self::Read(Query::Pool(pool_id(*pool)), Consistency::Stale),
            What::Outcome { back } => Self::Outcome((*back).into()),
            What::Verify => Self::Read(Query::Verify, Consistency::Linearizable),
            What::Transfer { to } => Self::Other(Call::Transfer(*to)),
        }
    }
}

/// Something else that can be asked for in the place of this action.
pub fn another(action: &Action) -> Action {
    match action {
        Action::Draw { count } if *count < DRAWS_MAX => Action::Draw { count: count + 1 },
        _ => Action::Draw { count: 1 },
    }
}

/// The pool of that number.
fn pool_id(number: u8) -> PoolId {
    match number {
        0 => PoolId::default_pool(),
        _ => format!("pool-{number}").parse().expect("a legal id"),
    }
}

/// The item of that number: the catalog's, or one that there is not at first.
fn item_id(number: u8, catalog: &[CatalogItem]) -> ItemId {
    match catalog.get(usize::from(number)) {
        Some(listed) => listed.item.clone(),
        None => format!("other-{number}").parse().expect("a legal id"),
    }
}

/// A pool that is not this one.
pub fn neighbour(pool: &PoolId) -> PoolId {
    if *pool == PoolId::default_pool() { pool_id(1) } else { PoolId::default_pool() }
}

/// Pools differ by what happens when an item cannot be awarded.
fn policy(pool: u8, catalog: &[CatalogItem]) -> Policy {
    let unlimited = catalog.iter().find(|listed| listed.stock == Stock::Unlimited);
    match (pool % 3, unlimited) {
        (1, _) => Policy::Miss,
        (2, Some(fallback)) => Policy::Fallback(fallback.item.clone()),
        _ => Policy::Renormalize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Vec<CatalogItem> {
        let listed = |id: &str, stock| CatalogItem { item: id.parse().unwrap(), stock, weight: Weight(1) };
        vec![listed("gold", Stock::Finite(3)), listed("mud", Stock::Unlimited)]
    }

    #[test]
    fn numbers_are_names() {
        let Asked::Mutation(pool, Action::Claim { item, .. }) =
            Asked::of(&What::Claim { pool: 0, item: 1, quantity: 2 }, &catalog())
        else {
            panic!("a claim")
        };
        assert_eq!((pool.as_str(), item.as_str()), ("default", "mud"));
        let other = Asked::of(&What::Adjust { pool: 2, item: 9, delta: -1 }, &catalog());
        let Asked::Mutation(pool, Action::AdjustStock { item, .. }) = other else { panic!("{other:?}") };
        assert_eq!((pool.as_str(), item.as_str()), ("pool-2", "other-9"));
    }

    #[test]
    fn each_pool_that_is_made_is_legal() {
        for number in 1..=3 {
            for catalog in [catalog(), catalog()[..1].to_vec(), vec![]] {
                let made = Asked::of(&What::Create { pool: number }, &catalog);
                let Asked::Mutation(_, Action::CreatePool { policy, items, .. }) = made else { panic!("{made:?}") };
                assert_eq!(items, catalog);
                if let Policy::Fallback(id) = policy {
                    assert!(items.iter().any(|item| item.item == id && item.stock == Stock::Unlimited));
                }
            }
        }
    }

    #[test]
    fn another_request_is_another_one() {
        for action in [Action::Draw { count: 1 }, Action::Draw { count: DRAWS_MAX }, Action::PausePool] {
            assert_ne!(another(&action), action);
        }
    }
}
