//! The books: what was received is what was given, item by item, and nothing stays unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    tally::Tally,
    workload::{Native, Unknown},
};
use crate::{
    api::Consistency,
    cli::{CliError, Exit, state},
    client::Client,
    pool::{Answer, ItemState, PoolId, Query, Stock},
};

/// The pool's items, as they are now.
pub(super) async fn stock(client: &Client, pool: &PoolId) -> Result<Vec<ItemState>, CliError> {
    let read = state::read(client, Query::Pool(pool.clone()), Consistency::Linearizable).await?;
    match read.answer {
        Answer::Pool(pool) => Ok(pool.items),
        other => Err(state::unexpected(&other)),
    }
}

/// Sends every request of unknown outcome again, under its key, so that its awards are counted. What cannot be settled
/// stays unknown.
pub(super) async fn settle(caller: &Native, tally: &mut Tally) {
    for unknown in std::mem::take(&mut tally.unknown) {
        let (Unknown::Key(key), Some(action)) = (unknown, caller.work.ask.action()) else {
            tally.unknown.push(unknown);
            continue;
        };
        match caller.change(key, action).await.result.map(|given| tally.given(given)) {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => tally.error(why),
            Err(failed) => {
                tally.unknown.extend(failed.unknown);
                tally.error(failed.why);
            }
        }
    }
}

/// Is what each item lost and awarded exactly what was received of it, and nothing unknown?
pub(super) fn is_balanced(before: &[ItemState], after: &[ItemState], tally: &Tally) -> bool {
    let after: BTreeMap<_, _> = after.iter().map(|item| (&item.id, item)).collect();
    let same = |before: &ItemState| {
        let received = tally.awards.get(before.id.as_str()).copied().unwrap_or(0);
        let Some(after) = after.get(&before.id) else { return false };
        let taken = match (before.stock, after.stock) {
            (Stock::Finite(before), Stock::Finite(after)) => before.checked_sub(after),
            (Stock::Unlimited, Stock::Unlimited) => Some(received),
            _ => None,
        };
        taken == Some(received) && after.awarded.checked_sub(before.awarded) == Some(received)
    };
    let known: BTreeSet<_> = before.iter().map(|item| item.id.as_str()).collect();
    tally.unknown.is_empty() && before.iter().all(same) && tally.awards.keys().all(|item| known.contains(&**item))
}

/// The error that takes the place of a good end.
pub(super) fn unbalanced(pool: &PoolId, tally: &Tally) -> CliError {
    let message = match tally.unknown.len() {
        0 => format!("what pool {pool} awarded meanwhile is not what was received"),
        unknown => format!("{unknown} requests have no known outcome, so that the books cannot be balanced"),
    };
    CliError::new(Exit::Unhealthy, "NOT_CONSERVED", message)
        .hint("did anybody else draw from the pool meanwhile? `tombola verify` checks the cluster itself")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::bench::tally::tests::{drawn, window},
        pool::{Version, Weight},
    };

    fn item(id: &str, stock: Stock, awarded: u64) -> ItemState {
        ItemState {
            id: id.parse().unwrap(),
            weight: Weight(1),
            stock,
            reserved: 0,
            awarded,
            returned: 0,
            added: 100,
            rev: Version(1),
        }
    }

    fn received(ids: &[&str]) -> Tally {
        let mut tally = Tally::new(window());
        tally.given(drawn(ids)).unwrap();
        tally
    }

    #[test]
    fn books_are_balanced_item_by_item() {
        let before = [item("gold", Stock::Finite(10), 0), item("air", Stock::Unlimited, 5)];
        let after = [item("gold", Stock::Finite(8), 2), item("air", Stock::Unlimited, 6)];
        let mut all = received(&["gold", "air", "gold"]);
        assert!(is_balanced(&before, &after, &all));
        assert!(!is_balanced(&before, &before, &all), "received and never given");
        assert!(!is_balanced(&before, &after, &received(&[])), "given and never received");
        assert!(!is_balanced(&before, &after[..1], &all), "an item is gone");
        let moved = [item("gold", Stock::Finite(8), 3), item("air", Stock::Unlimited, 6)];
        assert!(!is_balanced(&before, &moved, &all), "awarded and still in stock");
        assert!(!is_balanced(&before, &after, &received(&["gold", "air", "gold", "ghost"])), "an item not in the pool");
        all.unknown.push(Unknown::Keyless);
        assert!(!is_balanced(&before, &after, &all), "what is unknown is not balanced");
    }
}
