//! The one binary: everything is in [`tombola::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tombola::cli::main()
}
