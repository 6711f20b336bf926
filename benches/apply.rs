//! What applying an entry costs, by how its draws are divided among keys, where nobody waits for the outcomes and where
//! somebody does; and what a key costs in a table that holds many.

mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{HUNDREDS, SINGLE, START, Shape, THOUSANDS, batch, command, draws, key, stocked};
use tombola::{
    pool::{Action, PoolId, Query, StateMachine},
    types::Index,
};

type Apply = fn(&mut StateMachine, Index, &[u8]);

fn unheard(machine: &mut StateMachine, index: Index, entry: &[u8]) {
    machine.apply_unheard(index, entry);
}

fn heard(machine: &mut StateMachine, index: Index, entry: &[u8]) {
    black_box(machine.apply(index, entry));
}

/// Entries are made and garbage is freed outside of what is measured.
fn time_entries(machine: &mut StateMachine, shape: Shape, numbers: std::ops::Range<u64>, apply: Apply) -> Duration {
    let mut took = Duration::ZERO;
    for number in numbers {
        let entry = draws(shape, number).encode();
        let start = Instant::now();
        apply(machine, machine.applied().next(), black_box(&entry));
        took += start.elapsed();
        drop(machine.take_garbage());
    }
    took
}

fn shapes(criterion: &mut Criterion) {
    let sides: [(&str, Apply); 2] = [("apply/unheard", unheard), ("apply/heard", heard)];
    for (side, apply) in sides {
        let mut group = criterion.benchmark_group(side);
        for shape in [SINGLE, HUNDREDS, THOUSANDS] {
            let mut machine = stocked(6);
            let mut number = 0;
            group.throughput(Throughput::Elements(shape.keys * u64::from(shape.draws)));
            let name = format!("{} keys x {}", shape.keys, shape.draws);
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_custom(|iterations| {
                    number += iterations;
                    time_entries(&mut machine, shape, number - iterations..number, apply)
                });
            });
        }
    }
}

/// Keys of one bucket, told again and looked for in vain. A new one costs what an entry of single draws says.
fn keys(criterion: &mut Criterion) {
    for held in [1 << 16, 1 << 20] {
        let mut machine = stocked(6);
        let single = |number| command(key(number, START), Action::Draw { count: 1 });
        let entry = |from| batch(START, (from..from + 1_024).map(single).collect()).encode();
        for from in (0..held).step_by(1_024) {
            machine.apply_unheard(machine.applied().next(), &entry(from));
        }
        assert_eq!(machine.key_stats().keys, held + 1, "and the import's");
        let mut group = criterion.benchmark_group("keys");
        let again: Vec<_> = (0..64).map(|part| entry(part * 7_919 % (held / 1_024) * 1_024)).collect();
        let mut next = again.iter().cycle();
        group.throughput(Throughput::Elements(1_024));
        group.bench_function(BenchmarkId::new("told again, of", held), |bencher| {
            bencher.iter(|| machine.apply_unheard(machine.applied().next(), next.next().expect("they come again")));
        });
        let mut number = held;
        group.throughput(Throughput::Elements(1));
        for (what, step) in [("read, of", 7_919), ("not there, of", 1)] {
            group.bench_function(BenchmarkId::new(what, held), |bencher| {
                bencher.iter(|| {
                    number = if step == 1 { number + 1 } else { (number + step) % held };
                    black_box(machine.query(&Query::Outcome(PoolId::default_pool(), key(number, START))))
                });
            });
            number = held;
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(3));
    targets = shapes, keys
}
criterion_main!(benches);
