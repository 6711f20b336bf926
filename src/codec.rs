//! The one door to bincode: fixed-width little-endian integers, a limit on every value, and exact consumption.
//!
//! bincode's own top-level helpers set no limit and accept trailing bytes, and its reader path allocates the length a
//! peer claims before reading it; so everything decodes from a slice through [`decode`]. Formats are append-only: a new
//! enum variant goes last, a struct never changes. Golden bytes in each type's own tests hold that.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

/// The bytes are not exactly one value of the type asked for, or exceed the limit.
#[derive(Debug, thiserror::Error)]
#[error("undecodable bytes: {0}")]
pub struct DecodeError(#[from] bincode::Error);

fn options(limit_bytes: u64) -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(limit_bytes)
        .reject_trailing_bytes()
}

/// Encodes `value`.
///
/// # Panics
/// If a `Serialize` implementation refuses; ours are derived and do not.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    options(u64::MAX).serialize(value).expect("derived serialization into memory does not fail")
}

/// Appends what [`encode`] gives to `out`.
///
/// # Panics
/// As [`encode`] does.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // With a limit bincode would measure the value before it writes it, which takes as long again.
    options(u64::MAX)
        .with_no_limit()
        .serialize_into(out, value)
        .expect("derived serialization into memory does not fail");
}

/// The length in bytes that [`encode`] would give.
pub fn encoded_len<T: Serialize>(value: &T) -> usize {
    let len = options(u64::MAX).serialized_size(value).expect("derived serialization into memory does not fail");
    usize::try_from(len).expect("a value in memory has a length in memory")
}

/// Decodes exactly one value from `bytes`, which must not be longer than `limit_bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit_bytes: usize) -> Result<T, DecodeError> {
    Ok(options(limit_bytes as u64).deserialize(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_fixed_width_little_endian() {
        assert_eq!(encode(&(1u16, 2u64)), [1, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert!(decode::<u8>(&[1, 2], 10).is_err());
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_allocation() {
        let claims_an_exabyte = encode(&(1u64 << 60));
        assert!(decode::<Vec<u8>>(&claims_an_exabyte, 1 << 20).is_err());
    }
}
