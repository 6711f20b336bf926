//! The one binary: everything is in [`tombola::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Of the leader's time at single draws a sixth went into the system's allocator: thousands of short-lived pieces of all lengths, freed in
/// another order than they came, which it gathers and cuts up again.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tombola::cli::main()
}
