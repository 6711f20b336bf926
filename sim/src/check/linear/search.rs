//! A check of the check: on tiny histories, every order is tried.
//!
//! The object is a list. A write appends, and is told how long the list is then; a read is told how long it is. A history is
//! linearizable if some order of its operations gives each what it was told and turns round no two of which one had
//! returned before the other was asked. The sweep knows nothing of lists: it must come to the same verdict by rank and time.

use tombola::types::Index;

use super::{Operation, Rank, sweep};
use crate::{chance::number, check::Moment};

/// Is there an order? `told` is what is still to be placed, after so many writes.
fn has_order(left: &[Operation], length: u64) -> bool {
    left.iter().enumerate().any(|(at, next)| {
        let is_free = left.iter().all(|other| other.returned >= next.invoked);
        let length_then = if next.rank.is_read { length } else { length + 1 };
        let rest = [&left[..at], &left[at + 1..]].concat();
        is_free && next.rank.index.0 == length_then && has_order(&rest, length_then)
    }) || left.is_empty()
}

/// A history of up to five operations: who was told what, when, is left to chance.
fn history(seed: u64) -> Vec<Operation> {
    let pick = |what: &str, at: u64, below: u64| number(seed, what, &[at]) % below;
    let operations = 2 + pick("operations", 0, 4);
    let writes = pick("writes", 0, operations + 1);
    let mut places: Vec<u64> = (1..=writes).collect();
    // Fisher and Yates.
    (1..places.len()).rev().for_each(|at| places.swap(at, pick("swap", at as u64, at as u64 + 1) as usize));
    let operation = |at: u64| {
        let invoked = pick("invoked", at, 8);
        let returned = invoked + 1 + pick("length", at, 5);
        let (index, is_read) = match places.get(at as usize) {
            Some(place) => (*place, false),
            None => (pick("read", at, writes + 1), true),
        };
        Operation { invoked: Moment(invoked), returned: Moment(returned), rank: Rank { index: Index(index), is_read } }
    };
    (0..operations).map(operation).collect()
}

#[test]
fn the_sweep_says_what_trying_every_order_says() {
    let mut verdicts = [0, 0];
    for seed in 0..40_000 {
        let history = history(seed);
        let expected = has_order(&history, 0);
        assert_eq!(sweep(&history).is_ok(), expected, "{history:?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 5_000), "{verdicts:?}");
}
