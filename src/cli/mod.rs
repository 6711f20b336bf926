//! The command line: one binary for operators, clients and the server itself.
//!
//! `args` says what can be typed, one file a verb does it, `output` prints it, `exit` says how it ended.

pub mod certs;
pub mod config;
pub mod dev;
pub mod serve;
