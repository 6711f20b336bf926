//! The odds drawn are the odds published: chi-square over 10^6 draws with fixed entropy, p > 10^-3, for every policy,
//! before and after an item ran out; by scan and by tree.

use std::collections::BTreeMap;

use super::*;

const DRAWS: u64 = 1_000_000;

/// What 10^6 draws gave: how often each item was awarded, and how often anything else happened.
fn draw_a_million(bench: &mut Bench) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for _ in 0..DRAWS / 10_000 {
        let commands = (0..10).map(|_| bench.command(Action::Draw { count: 1_000 })).collect();
        for step in bench.apply(commands).into_iter().flat_map(|outcome| steps(outcome.result)) {
            let what = match step {
                Step::Awarded(item) => item.to_string(),
                Step::Fallback(_) => "(fallback)".into(),
                Step::Miss => "(miss)".into(),
                Step::PoolEmpty => "(empty)".into(),
            };
            *counts.entry(what).or_insert(0) += 1;
        }
    }
    counts
}

/// Holds the counts to the weights. Whatever has no weight must not have happened.
#[track_caller]
fn assert_fits(counts: &BTreeMap<String, u64>, weights: &[(&str, u32)]) {
    let total: f64 = weights.iter().map(|&(_, weight)| f64::from(weight)).sum();
    let square = |&(what, weight): &(&str, u32)| {
        let expected = f64::from(weight) / total * DRAWS as f64;
        let seen = counts.get(what).copied().unwrap_or(0) as f64;
        (seen - expected) * (seen - expected) / expected
    };
    let chi_square: f64 = weights.iter().map(square).sum();
    let seen: u64 = weights.iter().filter_map(|&(what, _)| counts.get(what)).sum();
    assert_eq!(seen, DRAWS, "nothing else happened: {counts:?}");
    let limit = chi_square_at_one_in_a_thousand(weights.len() - 1);
    assert!(chi_square < limit, "chi-square {chi_square} is not below {limit}: {counts:?}");
}

/// The 0.999 quantile: out of the tables for few degrees of freedom, after Wilson and Hilferty (within 1 %) for more.
fn chi_square_at_one_in_a_thousand(freedom: usize) -> f64 {
    match freedom {
        1 => 10.828,
        2 => 13.816,
        3 => 16.266,
        _ => {
            let freedom = freedom as f64;
            let ninth = 2.0 / (9.0 * freedom);
            freedom * (1.0 - ninth + 3.0902 * ninth.sqrt()).powi(3)
        }
    }
}

#[test]
fn the_limit_is_that_of_the_tables() {
    for (freedom, tabled) in [(10, 29.588), (100, 149.449), (999, 1_142.8)] {
        let limit = chi_square_at_one_in_a_thousand(freedom);
        assert!((limit / tabled - 1.0f64).abs() < 0.01, "{limit} for {freedom}");
    }
}

#[test]
#[should_panic(expected = "chi-square")]
fn odds_off_by_one_percent_are_found() {
    let counts = [("a", 101_000), ("b", 899_000)].map(|(what, count)| (what.to_owned(), count));
    assert_fits(&counts.into(), &[("a", 10), ("b", 90)]);
}

/// A pool of that policy with 10 of `gone` in every 100, in stock.
fn stocked(policy: Policy) -> Bench {
    let mut bench = Bench::new(Limits::default());
    let items = catalog(&[
        ("gone", Stock::Finite(10 * DRAWS), 10),
        ("rare", Stock::Finite(10 * DRAWS), 3),
        ("silver", Stock::Unlimited, 20),
        ("mud", Stock::Unlimited, 67),
    ]);
    let key = bench.key();
    // The pool of these tests is `default`; its like under another policy has to be made beside it.
    let action = match policy {
        Policy::Renormalize => Action::ImportCatalog { items, draw_seq: DrawSeq(0) },
        policy => Action::CreatePool { policy, items, require_key: false },
    };
    let pool = if matches!(action, Action::CreatePool { .. }) { "other" } else { "default" };
    bench.pool = pool.parse().unwrap();
    bench.send(command(pool, key, action)).result.unwrap();
    bench
}

fn exhaust(bench: &mut Bench) {
    let update = Action::UpdateItem { item: id("gone"), stock: Stock::Finite(0), weight: Weight(10), create: false };
    bench.act(update).unwrap();
}

const FULL: [(&str, u32); 4] = [("gone", 10), ("rare", 3), ("silver", 20), ("mud", 67)];

#[test]
fn renormalize_draws_by_the_weights_of_what_is_left() {
    let mut bench = stocked(Policy::Renormalize);
    assert_fits(&draw_a_million(&mut bench), &FULL);
    exhaust(&mut bench);
    assert_fits(&draw_a_million(&mut bench), &[("rare", 3), ("silver", 20), ("mud", 67)]);
    bench.verify();
}

#[test]
fn fallback_leaves_the_odds_of_the_others_alone() {
    let mut bench = stocked(Policy::Fallback(id("mud")));
    assert_fits(&draw_a_million(&mut bench), &FULL);
    exhaust(&mut bench);
    assert_fits(&draw_a_million(&mut bench), &[("(fallback)", 10), ("rare", 3), ("silver", 20), ("mud", 67)]);
    bench.verify();
}

#[test]
fn miss_leaves_the_odds_of_the_others_alone() {
    let mut bench = stocked(Policy::Miss);
    assert_fits(&draw_a_million(&mut bench), &FULL);
    exhaust(&mut bench);
    assert_fits(&draw_a_million(&mut bench), &[("(miss)", 10), ("rare", 3), ("silver", 20), ("mud", 67)]);
    bench.verify();
}

/// The predecessor's: 10 against 90, and the other way round after an update.
#[test]
fn new_weights_count_from_the_next_draw_on() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Unlimited, 10), ("silver", Stock::Unlimited, 90)])).unwrap();
    assert_fits(&draw_a_million(&mut bench), &[("gold", 10), ("silver", 90)]);
    for (item, weight) in [("gold", 90), ("silver", 10)] {
        let item = id(item);
        bench.act(Action::UpdateItem { item, stock: Stock::Unlimited, weight: Weight(weight), create: false }).unwrap();
    }
    assert_fits(&draw_a_million(&mut bench), &[("gold", 90), ("silver", 10)]);
}

#[test]
fn a_large_catalog_is_drawn_by_its_weights() {
    let mut bench = Bench::new(Limits::default());
    let names: Vec<String> = (1..=1_000).map(|number| format!("item-{number}")).collect();
    let weights: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(1..).collect();
    let items: Vec<_> = weights.iter().map(|&(name, weight)| (name, Stock::Unlimited, weight)).collect();
    bench.act(import(&items)).unwrap();
    assert_fits(&draw_a_million(&mut bench), &weights);
}
