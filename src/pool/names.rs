//! The pool's words: ids, keys and numbers, each valid by construction. A value of one of these types has been checked,
//! wherever it came from: decoding checks too.

use std::{fmt, marker::PhantomData, str::FromStr, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::types::{Millis, NotAUuid, parse_uuid, write_uuid};

/// Greatest quantity, sum of weights and `added` counter: the integers that JSON keeps exact.
pub const QUANTITY_MAX: u64 = (1 << 53) - 1;
/// Longest item id in bytes.
pub const ITEM_ID_BYTES_MAX: usize = 64;
/// Longest pool id in bytes.
pub const POOL_ID_BYTES_MAX: usize = 63;
/// Longest actor name in bytes.
pub const ACTOR_BYTES_MAX: usize = 64;

/// A name or key that breaks a rule of form. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A pool id.
    #[error("a pool id has 1 to 63 characters of a-z, 0-9 and -, and starts with a letter: {0:?}")]
    Pool(String),
    /// An item id.
    #[error("an item id has 1 to 64 bytes of UTF-8 without control characters: {0:?}")]
    Item(String),
    /// An actor.
    #[error("an actor's name has at most 64 bytes")]
    Actor,
    /// A request key.
    #[error("a request key is a UUIDv7 in hyphenated form, as `tombola key` makes one: {0:?}")]
    Key(String),
}

/// Names a pool: 1 to 63 characters of `a-z 0-9 -`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(Arc<str>);

impl PoolId {
    /// The pool that exists from the cluster's birth.
    pub fn default_pool() -> Self {
        Self("default".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PoolId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let legal = (1..=POOL_ID_BYTES_MAX).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if legal { Ok(Self(text.into())) } else { Err(InvalidName::Pool(text.to_owned())) }
    }
}

/// Names an item within its pool: 1 to 64 bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(Arc<str>);

impl ItemId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ItemId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let legal = (1..=ITEM_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if legal { Ok(Self(text.into())) } else { Err(InvalidName::Item(text.to_owned())) }
    }
}

/// Who sent a command: the authenticated name, at most 64 bytes; empty when there is none. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Actor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= ACTOR_BYTES_MAX { Ok(Self(text.into())) } else { Err(InvalidName::Actor) }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        // Derived, these would make a `String` of every name that is hashed, written or read.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    };
}
text!(PoolId);
text!(ItemId);
text!(Actor);

/// Reads a name out of its text.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidName>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Names a request for ever: 16 bytes that its caller made, holding their own time (UUIDv7 of RFC 9562: 48 bits of
/// milliseconds, version 7, variant 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u128", into = "u128")]
pub struct RequestKey([u8; 16]);

impl RequestKey {
    /// A key of time `at` (its low 48 bits) with 74 bits out of `entropy`.
    pub fn new(at: Millis, entropy: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&at.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&entropy);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }

    /// A key of time `at` for a caller who sent none, recognisable by its fixed bits ([`Self::is_server_made`]).
    /// `unique` must differ among all keys made for one millisecond by all nodes: node, boot nonce and counter.
    pub fn server_made(at: Millis, unique: [u8; 6]) -> Self {
        let mut entropy = [0xff; 10];
        entropy[4..].copy_from_slice(&unique);
        Self::new(at, entropy)
    }

    /// Does the key carry the mark of [`Self::server_made`]? Such keys are remembered for 60 s only, whoever sends them:
    /// a caller may send the key of an unknown outcome again as its own, and a memory that depended on who sends would
    /// then be looked up in the wrong place. A random key carries the 26 bits of the mark by chance once in 67 million,
    /// and has the shorter memory then, never a second outcome.
    pub fn is_server_made(&self) -> bool {
        self.0[6..10] == [0x7f, 0xff, 0xbf, 0xff]
    }

    /// The time that the key holds.
    pub fn time(&self) -> Millis {
        let head = self.0.first_chunk().expect("a key has 16 bytes");
        Millis(u64::from_be_bytes(*head) >> 16)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<[u8; 16]> for RequestKey {
    type Error = InvalidName;

    fn try_from(bytes: [u8; 16]) -> Result<Self, InvalidName> {
        let key = Self(bytes);
        if bytes[6] >> 4 == 7 && bytes[8] >> 6 == 2 { Ok(key) } else { Err(InvalidName::Key(key.to_string())) }
    }
}

// How keys travel: as the number that has their bytes in little-endian order, which a codec reads and writes as one, and not
// as sixteen.
impl From<RequestKey> for u128 {
    fn from(key: RequestKey) -> Self {
        Self::from_le_bytes(key.0)
    }
}

impl TryFrom<u128> for RequestKey {
    type Error = InvalidName;

    fn try_from(number: u128) -> Result<Self, InvalidName> {
        number.to_le_bytes().try_into()
    }
}

impl FromStr for RequestKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        parse_uuid(text).map_err(|NotAUuid| InvalidName::Key(text.to_owned()))?.try_into()
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestKey({self})")
    }
}

/// An integer weight, what the predecessor's API calls probability: the odds of an item are its weight over the sum of
/// the weights of what can be awarded. 0 is never drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Weight(pub u32);

/// How much of an item there is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stock {
    /// So many units, at most [`QUANTITY_MAX`].
    Finite(u64),
    /// Never exhausted.
    Unlimited,
}

/// Version of a pool's definition: its etag and the version of its odds at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u64);

/// Number of a draw step within its pool, rising, from 1: award id and the predecessor's request id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DrawSeq(pub u64);

macro_rules! shown_as_its_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}
shown_as_its_number!(Weight, Version, DrawSeq);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn names_obey_their_rules_wherever_they_come_from() {
        let long = |len| "a".repeat(len);
        for legal in ["a", "winter-2025", &long(63)] {
            assert_eq!(legal.parse::<PoolId>().unwrap().as_str(), legal);
        }
        for illegal in ["", "A", "1a", "-a", "a_b", "a b", "ä", &long(64)] {
            assert!(illegal.parse::<PoolId>().is_err(), "{illegal:?}");
            assert!(codec::decode::<PoolId>(&codec::encode(&illegal), 100).is_err(), "{illegal:?}");
        }
        for legal in ["a", " ", "x, y", "ä", &long(64)] {
            assert_eq!(codec::decode::<ItemId>(&codec::encode(&legal), 100).unwrap().as_str(), legal);
        }
        for illegal in ["", "a\nb", "\0", "\u{85}", &long(65)] {
            assert!(illegal.parse::<ItemId>().is_err(), "{illegal:?}");
            assert!(codec::decode::<ItemId>(&codec::encode(&illegal), 100).is_err(), "{illegal:?}");
        }
        assert!(long(64).parse::<Actor>().is_ok() && long(65).parse::<Actor>().is_err());
    }

    #[test]
    fn a_key_is_a_uuid_of_version_7_and_holds_its_time() {
        let key = RequestKey::new(Millis(0x0123_4567_89ab), [0xff; 10]);
        assert_eq!(key.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!((key.time(), key.to_string().parse()), (Millis(0x0123_4567_89ab), Ok(key)));
        let version_4 = "01234567-89ab-4fff-bfff-ffffffffffff";
        let other_variant = "01234567-89ab-7fff-cfff-ffffffffffff";
        for illegal in [version_4, other_variant, "", "0123456789ab7fffbfffffffffffffff"] {
            assert!(illegal.parse::<RequestKey>().is_err(), "{illegal}");
        }
        assert!(codec::decode::<RequestKey>(&[0; 16], 16).is_err());
    }

    #[test]
    fn a_key_made_by_a_node_is_known_by_its_form() {
        let made = RequestKey::server_made(Millis(5), [1, 2, 3, 4, 5, 6]);
        assert_eq!(made.to_string(), "00000000-0005-7fff-bfff-010203040506");
        assert!(made.is_server_made());
        assert!(!RequestKey::new(Millis(5), [0; 10]).is_server_made());
        assert_eq!(RequestKey::try_from(*made.as_bytes()), Ok(made));
    }
}
