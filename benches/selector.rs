//! The weighted choice alone, by the number of items: on both sides of where the scan ends and the tree begins, and at the
//! sizes that are promised.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

#[allow(dead_code, reason = "a private part of the pool, and not all of it is looked at here")]
#[path = "../src/pool/selector.rs"]
mod selector;

use selector::Selector;

const ITEMS: [u32; 5] = [6, 64, 65, 1_024, 65_536];

/// Tickets are made beforehand: enough that nobody learns them by heart.
fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("selector/find");
    for items in ITEMS {
        let mut weights = Selector::default();
        (0..items).for_each(|item| weights.push(1 + item % 7));
        let mut rng = ChaCha8Rng::seed_from_u64(items.into());
        let tickets: Vec<u64> = (0..1 << 16).map(|_| rng.next_u64() % weights.total()).collect();
        let mut next = tickets.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(items), |bencher| {
            bencher.iter(|| weights.find(*black_box(next.next().expect("they come again"))));
        });
    }
}

/// An item leaves the sum, and comes back.
fn set(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("selector/set");
    for items in ITEMS {
        let mut weights = Selector::default();
        (0..items).for_each(|item| weights.push(1 + item % 7));
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(items), |bencher| {
            bencher.iter(|| {
                at = (at + 40_503) % items as usize;
                weights.set(at, 0);
                weights.set(black_box(at), 5);
            });
        });
    }
}

criterion_group!(benches, find, set);
criterion_main!(benches);
