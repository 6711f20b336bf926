//! What came of a run.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::check::{Report, Violation};

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What was broken, if anything.
    pub failure: Option<Failure>,
    /// Hash over the whole trace.
    pub trace: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rare states that were reached, and how often.
    pub marks: BTreeMap<&'static str, u64>,
    /// What the history had in it. Empty if it was broken.
    pub report: Report,
}

/// Something was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of thing.
    pub kind: FailureKind,
    /// The checker that saw it.
    pub checker: String,
    /// What was seen; may have several lines.
    pub detail: String,
}

/// What sort of thing was broken. In the order of how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A promise about what was decided.
    Correctness,
    /// Nothing is decided any more, though a majority could.
    Liveness,
    /// A panic that no fault explains.
    Panic,
    /// Two runs of one plan differ.
    Determinism,
    /// The simulator itself.
    Harness,
}

impl FailureKind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Correctness => 10,
            Self::Liveness => 11,
            Self::Panic => 12,
            Self::Determinism => 13,
            Self::Harness => 16,
        }
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        let Violation { checker, invariant, detail } = violation;
        let detail = format!("{invariant} is broken: {detail}");
        let kind = if checker == "live" { FailureKind::Liveness } else { FailureKind::Correctness };
        Self { kind, checker: checker.to_owned(), detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}: {}", self.kind, self.checker, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_of_failure_has_the_exit_code_that_the_manual_says() {
        use FailureKind::*;
        let kinds = [Correctness, Liveness, Panic, Determinism, Harness];
        assert_eq!(kinds.map(FailureKind::exit_code), [10, 11, 12, 13, 16]);
        assert!(kinds.is_sorted(), "the worst first");
    }

    #[test]
    fn who_is_not_alive_breaks_no_promise_about_what_was_decided() {
        let of = |checker| {
            let violation = Violation { checker, invariant: "it", detail: "so".to_owned() };
            Failure::from(violation).kind
        };
        assert_eq!((of("live"), of("once")), (FailureKind::Liveness, FailureKind::Correctness));
    }
}
