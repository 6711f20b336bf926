//! How a command ends: the exit codes that scripts rely on, and the error that a person reads.

use std::{borrow::Cow, process::ExitCode};

use crate::pool::{InvalidName, RequestKey};

/// Exit codes. Their numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something else went wrong.
    Other = 1,
    /// Wrong usage or configuration; nothing was asked of any node.
    Usage = 2,
    /// Unavailable, timed out, no leader. The outcome may be unknown: the error says so, with the key.
    Unavailable = 3,
    /// Refused by the cluster: final for the request.
    Refused = 4,
    /// The cluster is unhealthy, or verification failed.
    Unhealthy = 5,
    /// No draw of the call gave an award: sold out.
    Exhausted = 6,
    /// Interrupted (Ctrl-C): 128 + SIGINT.
    Interrupted = 130,
}

/// The exit codes as `--help` shows them.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    ok
  1    other
  2    usage or configuration
  3    unavailable, timed out or no leader (if the outcome is unknown, the same --key is safe)
  4    refused by the cluster
  5    cluster unhealthy, or verification failed
  6    no draw of the call gave an award: sold out
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked to: what happened, a stable code, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// How the process ends.
    pub exit: Exit,
    /// Stable code, upper case: the one that the APIs use, where they have one.
    pub code: Cow<'static, str>,
    /// What happened, and why.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The request key, if there is one: with it the request can be sent again.
    pub key: Option<RequestKey>,
}

impl CliError {
    /// An error of any kind.
    pub fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), hint: None, key: None }
    }

    /// Wrong usage: code USAGE, exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Repeats the request key.
    #[must_use]
    pub fn key(mut self, key: Option<RequestKey>) -> Self {
        self.key = key;
        self
    }
}

impl From<InvalidName> for CliError {
    fn from(name: InvalidName) -> Self {
        Self::usage(name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_contract_and_stand_in_the_help() {
        let contract = [
            (Exit::Ok, 0),
            (Exit::Other, 1),
            (Exit::Usage, 2),
            (Exit::Unavailable, 3),
            (Exit::Refused, 4),
            (Exit::Unhealthy, 5),
            (Exit::Exhausted, 6),
            (Exit::Interrupted, 130),
        ];
        for (exit, number) in contract {
            assert_eq!(exit as u8, number);
            assert!(EXIT_CODES_HELP.lines().any(|line| line.trim_start().starts_with(&format!("{number} "))));
        }
        assert_eq!(EXIT_CODES_HELP.lines().count(), contract.len() + 1);
    }
}
