//! What the disk does by itself: one writer, 4 KiB and fdatasync, over and over.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use crate::figures;

const PIECE: usize = 4 << 10;
/// Written around in circles, so that the file does not grow.
const FILE_BYTES: u64 = 16 << 20;
const LONG: Duration = Duration::from_millis(300);

/// The median time of a write of 4 KiB with fdatasync where temporary files lie, in microseconds.
pub fn fdatasync_us() -> f64 {
    let file = tempfile::tempfile().expect("a temporary file");
    file.write_all_at(&vec![1; FILE_BYTES as usize], 0).and_then(|()| file.sync_all()).expect("room for the file");
    let begin = Instant::now();
    let mut took = Vec::new();
    while begin.elapsed() < LONG || took.is_empty() {
        took.push(write(&file, took.len() as u64 * PIECE as u64 % FILE_BYTES));
    }
    figures::median(&took)
}

fn write(file: &File, offset: u64) -> f64 {
    let begin = Instant::now();
    file.write_all_at(&[0xa5; PIECE], offset).and_then(|()| file.sync_data()).expect("the disk works");
    begin.elapsed().as_secs_f64() * 1e6
}
