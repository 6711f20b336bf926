//! Bytes of the hot path: what a client writes, what a node answers, and a batch as a log entry.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{HUNDREDS, SINGLE, Shape, calls, draws, replies};
use tombola::{
    client::{
        ClientFrame, ServerFrame,
        wire::{Frame, FrameReader, encode_frame},
    },
    pool::Batch,
};

/// Calls and replies of a frame.
const FRAME_LEN: u64 = 250;

fn frames(criterion: &mut Criterion) {
    for draws in [1, 100] {
        let shape = Shape { keys: FRAME_LEN, draws };
        both_ways::<ClientFrame>(criterion, "frame of 250 calls", draws, &calls(shape));
        both_ways::<ServerFrame>(criterion, "frame of 250 outcomes", draws, &replies(shape));
    }
}

fn both_ways<F: Frame>(criterion: &mut Criterion, what: &str, draws: u16, frame: &F) {
    let mut group = criterion.benchmark_group(what);
    let bytes = encode_frame(frame).expect("it fits into a frame");
    println!("{what}, {draws} draws each: {} bytes", bytes.len());
    group.throughput(Throughput::Elements(FRAME_LEN));
    group.bench_function(BenchmarkId::new("encode", draws), |bencher| {
        bencher.iter(|| encode_frame(black_box(frame)));
    });
    group.bench_function(BenchmarkId::new("decode", draws), |bencher| {
        bencher.iter(|| {
            let mut reader = FrameReader::<F>::default();
            reader.push(black_box(&bytes));
            reader.next_frame().expect("it is a frame").expect("it is whole")
        });
    });
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    for shape in [SINGLE, HUNDREDS] {
        let batch = draws(shape, 1);
        let bytes = batch.encode();
        group.throughput(Throughput::Elements(shape.keys));
        group.bench_function(BenchmarkId::new("encode", shape.keys), |bencher| {
            bencher.iter(|| black_box(&batch).encode());
        });
        group.bench_function(BenchmarkId::new("decode", shape.keys), |bencher| {
            bencher.iter(|| Batch::decode(black_box(&bytes)).expect("it is a batch"));
        });
    }
}

criterion_group!(benches, frames, batches);
criterion_main!(benches);
