//! The one mapping of refusals and failures to gRPC (`semantics.md` section 10).
//!
//! Every status carries an ErrorInfo: the stable code as its reason, [`DOMAIN`], and in its metadata what is known.
//! That is how a caller tells *surely not applied* from *possibly applied*: a status without it comes from the
//! transport and means nothing is known. What may be sent again as it is, because it is surely not applied and time may
//! mend it, carries a RetryInfo as well; an unknown outcome does not, since only the same request under the same key
//! may be sent again.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::proto::v1::Receipt;
use crate::{
    api::{Failure, NotApplied},
    pool::{InvalidName, Refusal, RequestKey},
    types::Index,
};

/// Domain of our ErrorInfo.
pub const DOMAIN: &str = "tombola";

/// About as long as an election takes.
const ELECTION: Duration = Duration::from_millis(500);
/// Width of a bucket of the key table: the soonest that a full one can have room again.
const KEY_BUCKET: Duration = Duration::from_secs(5);

/// A status under construction.
struct Told {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
}

impl Told {
    fn new(code: Code, reason: &'static str, message: String) -> Self {
        Self { code, reason, message, metadata: HashMap::new(), retry_after: None }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    fn into_status(self) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, self.metadata);
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code, self.message, details)
    }
}

/// The status of a request that has no outcome; `key` is the caller's, if it sent one.
pub fn of_failure(failure: &Failure, key: Option<RequestKey>) -> Status {
    let (code, retry_after) = match failure {
        Failure::NotApplied(why) => match why {
            NotApplied::NoLeader | NotApplied::NoQuorum => (Code::Unavailable, Some(ELECTION)),
            NotApplied::Draining => (Code::Unavailable, Some(Duration::ZERO)),
            NotApplied::Overloaded { retry_after_ms } => {
                (Code::ResourceExhausted, Some(Duration::from_millis((*retry_after_ms).into())))
            }
            NotApplied::Malformed(_) => (Code::InvalidArgument, None),
            NotApplied::TransferRefused(_) => (Code::FailedPrecondition, None),
        },
        Failure::Unknown { .. } => (Code::DeadlineExceeded, None),
    };
    let mut told = Told::new(code, failure.code(), failure.to_string());
    told.retry_after = retry_after;
    let key = match failure {
        Failure::Unknown { key } => Some(*key),
        Failure::NotApplied(_) => key,
    };
    match key {
        Some(key) => told.with("key", key).into_status(),
        None => told.into_status(),
    }
}

/// The status of a mutation that was refused, with the receipt of its refusal.
pub fn of_refusal(refusal: &Refusal, receipt: &Receipt) -> Status {
    about(refusal)
        .with("key", &receipt.key)
        .with("index", receipt.index)
        .with("now_ms", receipt.now_ms)
        .with("replayed", receipt.replayed)
        .into_status()
}

/// The status of a read that was refused.
pub fn of_read_refusal(refusal: &Refusal) -> Status {
    about(refusal).into_status()
}

/// The status of a request that breaks a rule of form. Nothing was applied.
pub fn malformed(message: impl ToString) -> Status {
    let failure = Failure::NotApplied(NotApplied::Malformed(message.to_string()));
    of_failure(&failure, None)
}

/// As [`malformed`], of a name or key.
pub fn of_invalid_name(invalid: InvalidName) -> Status {
    malformed(invalid)
}

/// The digest at this index is not known: it is not applied yet, or was long ago.
pub fn index_out_of_range(index: Index) -> Status {
    let message = format!("the digest at index {index} is not known here: not applied yet, or too long ago");
    Told::new(Code::OutOfRange, "INDEX_OUT_OF_RANGE", message).into_status()
}

/// The node answered something else than what was asked: a fault of ours.
pub fn unexpected_answer() -> Status {
    Told::new(Code::Internal, "INTERNAL", "the node gave an answer of another kind".to_owned()).into_status()
}

/// Code, words and facts of a refusal.
fn about(refusal: &Refusal) -> Told {
    let told = Told::new(code_of(refusal), refusal.code(), refusal.to_string());
    match refusal {
        Refusal::EtagMismatch { current } => told.with("current", current),
        Refusal::InsufficientStock { remaining } => told.with("remaining", remaining),
        Refusal::KeyExpired { floor, now } | Refusal::KeyFromFuture { floor, now } => {
            told.with("floor_ms", floor).with("now_ms", now)
        }
        Refusal::KeyTableFull => Told { retry_after: Some(KEY_BUCKET), ..told },
        _ => told,
    }
}

/// The class of a refusal. No wildcard: a new refusal has to be put into a class.
fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::PoolNotFound | Refusal::ItemNotFound => Code::NotFound,
        Refusal::PoolExists | Refusal::ItemExists => Code::AlreadyExists,
        Refusal::EtagMismatch { .. } => Code::Aborted,
        Refusal::PoolPaused
        | Refusal::InsufficientStock { .. }
        | Refusal::ItemUnlimited
        | Refusal::IsFallback
        | Refusal::FallbackFinite
        | Refusal::PoolNotEmpty
        | Refusal::KeyExpired { .. }
        | Refusal::KeyFromFuture { .. } => Code::FailedPrecondition,
        Refusal::PoolsFull | Refusal::ItemsFull | Refusal::KeyTableFull => Code::ResourceExhausted,
        Refusal::KeyRequired | Refusal::StockOverflow | Refusal::OutOfRange | Refusal::KeyReused | Refusal::TooLong => {
            Code::InvalidArgument
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pool::Version, types::Millis};

    fn key() -> RequestKey {
        RequestKey::new(Millis(1), [0; 10])
    }

    fn receipt() -> Receipt {
        Receipt { key: key().to_string(), index: 5, now_ms: 6, replayed: true }
    }

    /// Code, reason, metadata, and whether it may be sent again as it is.
    fn parts(status: &Status) -> (Code, String, HashMap<String, String>, Option<Duration>) {
        let details = status.get_error_details();
        let info = details.error_info().expect("every status has an ErrorInfo");
        assert_eq!(info.domain, "tombola");
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        (status.code(), info.reason.clone(), info.metadata.clone(), retry_after)
    }

    #[test]
    fn refusals_are_classed_as_the_table_says() {
        let now = Millis(2);
        let table = [
            (Refusal::PoolNotFound, Code::NotFound),
            (Refusal::ItemNotFound, Code::NotFound),
            (Refusal::PoolExists, Code::AlreadyExists),
            (Refusal::ItemExists, Code::AlreadyExists),
            (Refusal::EtagMismatch { current: Version(3) }, Code::Aborted),
            (Refusal::PoolPaused, Code::FailedPrecondition),
            (Refusal::InsufficientStock { remaining: 4 }, Code::FailedPrecondition),
            (Refusal::ItemUnlimited, Code::FailedPrecondition),
            (Refusal::IsFallback, Code::FailedPrecondition),
            (Refusal::FallbackFinite, Code::FailedPrecondition),
            (Refusal::PoolNotEmpty, Code::FailedPrecondition),
            (Refusal::PoolsFull, Code::ResourceExhausted),
            (Refusal::ItemsFull, Code::ResourceExhausted),
            (Refusal::KeyRequired, Code::InvalidArgument),
            (Refusal::StockOverflow, Code::InvalidArgument),
            (Refusal::OutOfRange, Code::InvalidArgument),
            (Refusal::KeyReused, Code::InvalidArgument),
            (Refusal::TooLong, Code::InvalidArgument),
            (Refusal::KeyExpired { floor: Millis(1), now }, Code::FailedPrecondition),
            (Refusal::KeyFromFuture { floor: Millis(1), now }, Code::FailedPrecondition),
            (Refusal::KeyTableFull, Code::ResourceExhausted),
        ];
        for (refusal, expected) in table {
            let status = of_refusal(&refusal, &receipt());
            let (code, reason, metadata, retry_after) = parts(&status);
            assert_eq!(code, expected, "{refusal:?}");
            assert_eq!(reason, refusal.code());
            assert_eq!(status.message(), refusal.to_string());
            assert_eq!(metadata["key"], key().to_string());
            assert_eq!((metadata["index"].as_str(), metadata["replayed"].as_str()), ("5", "true"));
            assert_eq!(retry_after.is_some(), refusal == Refusal::KeyTableFull, "{refusal:?}");
        }
    }

    #[test]
    fn a_refusal_tells_its_facts() {
        let facts = |refusal| parts(&of_read_refusal(&refusal)).2;
        assert_eq!(facts(Refusal::InsufficientStock { remaining: 4 })["remaining"], "4");
        assert_eq!(facts(Refusal::EtagMismatch { current: Version(3) })["current"], "3");
        assert_eq!(facts(Refusal::KeyExpired { floor: Millis(1), now: Millis(2) })["floor_ms"], "1");
    }

    #[test]
    fn what_is_surely_not_applied_says_when_to_try_again() {
        let table = [
            (NotApplied::NoLeader, Code::Unavailable, "NO_LEADER", true),
            (NotApplied::NoQuorum, Code::Unavailable, "NO_QUORUM", true),
            (NotApplied::Draining, Code::Unavailable, "DRAINING", true),
            (NotApplied::Overloaded { retry_after_ms: 30 }, Code::ResourceExhausted, "OVERLOADED", true),
            (NotApplied::Malformed("m".to_owned()), Code::InvalidArgument, "MALFORMED", false),
            (NotApplied::TransferRefused("t".to_owned()), Code::FailedPrecondition, "TRANSFER_REFUSED", false),
        ];
        for (why, expected, reason, again) in table {
            let (code, told, metadata, retry_after) = parts(&of_failure(&Failure::NotApplied(why), Some(key())));
            assert_eq!((code, told.as_str(), retry_after.is_some()), (expected, reason, again));
            assert_eq!(metadata["key"], key().to_string());
        }
        let overloaded = Failure::NotApplied(NotApplied::Overloaded { retry_after_ms: 30 });
        assert_eq!(parts(&of_failure(&overloaded, None)).3, Some(Duration::from_millis(30)));
    }

    #[test]
    fn an_unknown_outcome_names_the_key_and_offers_no_blind_retry() {
        let (code, reason, metadata, retry_after) = parts(&of_failure(&Failure::Unknown { key: key() }, None));
        assert_eq!((code, reason.as_str(), retry_after), (Code::DeadlineExceeded, "OUTCOME_UNKNOWN", None));
        assert_eq!(metadata["key"], key().to_string());
    }
}
