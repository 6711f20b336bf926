//! How long a gRPC request may take: what its caller allows. The node cuts it to [`crate::runtime::TIMEOUT_MAX`].

use std::time::Duration;

use tonic::metadata::MetadataMap;

use crate::calls::TIMEOUT_DEFAULT;

/// The most that is kept back of a gRPC deadline for the answer's way.
const ANSWERING_MAX: Duration = Duration::from_millis(50);

/// The time a node may take over a gRPC request with this metadata. It is a little less than the caller allows: tonic
/// ends the call at the deadline itself, with a bare status that says nothing about the outcome, and ours is to be
/// first.
pub fn of_metadata(metadata: &MetadataMap) -> Duration {
    match metadata.get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?)) {
        None => TIMEOUT_DEFAULT,
        Some(allowed) => allowed - (allowed / 10).min(ANSWERING_MAX),
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout"). `None` for anything else,
/// which the protocol lets us take for no deadline.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_header(value: &str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", value.parse().unwrap());
        of_metadata(&metadata)
    }

    #[test]
    fn a_request_without_a_deadline_has_two_seconds() {
        assert_eq!(of_metadata(&MetadataMap::new()), Duration::from_secs(2));
    }

    #[test]
    fn a_deadline_is_kept_with_room_to_answer() {
        assert_eq!(of_header("100m"), Duration::from_millis(90));
        assert_eq!(of_header("1S"), Duration::from_millis(950));
        assert_eq!(of_header("0m"), Duration::ZERO);
        assert_eq!(of_header("99999999H"), Duration::from_secs(99_999_999 * 3_600) - ANSWERING_MAX);
    }

    #[test]
    fn what_is_no_timeout_is_no_deadline() {
        for text in ["S", "1", "1x", "123456789S", "-1S", "+1S", "1.5S"] {
            assert_eq!(of_header(text), TIMEOUT_DEFAULT, "{text}");
        }
    }
}
