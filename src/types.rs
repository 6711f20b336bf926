//! Words that several layers share: ids, positions in the log, points in time. What only the pool speaks of lives in
//! [`crate::pool`]; what must reach a disk lives in [`crate::durable`].

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// One raft group. There is one so far, [`ShardId::FIRST`]; it stands in every frame and store key all the same.
    ShardId(u32)
);
number!(
    /// A replica of a shard, 1 or greater. Never used again once its disk is lost.
    ReplicaId(u64)
);
number!(
    /// A raft term.
    Term(u64)
);
number!(
    /// A position in the log. 1 is the founding snapshot; the first entry is at 2.
    Index(u64)
);
number!(
    /// Milliseconds since the Unix epoch.
    Millis(u64)
);

impl ShardId {
    /// The only shard so far.
    pub const FIRST: Self = Self(0);
}

impl Index {
    /// The position of the founding snapshot.
    pub const FOUNDING: Self = Self(1);

    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! bytes_as_hex {
    ($(#[$doc:meta])* $name:ident($len:literal)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

bytes_as_hex!(
    /// Random, written when a store is created: tells a disk from an emptied one under the same replica id.
    DiskId(16)
);
bytes_as_hex!(
    /// SHA-256 of the founding snapshot: two clusters founded apart never share it.
    Genesis(32)
);
bytes_as_hex!(
    /// Rolling SHA-256 over every applied entry and its outcomes.
    HistoryDigest(32)
);

/// A cluster: 16 random bytes from `certs init`, written as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl std::str::FromStr for ClusterId {
    type Err = NotAUuid;

    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        parse_uuid(text).map(Self)
    }
}

/// Sum modulo 2^128 of a hash of every record of the state; independent of the order in which they were written.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest(pub u128);

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

/// 32 fresh bytes from the operating system, stamped on a batch by the leader: the key of its draws.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entropy(pub [u8; 32]);

impl fmt::Debug for Entropy {
    /// Left out of logs: whoever reads it before the answer is out learns the draw.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

/// The text is not 32 hexadecimal digits in the hyphenated form 8-4-4-4-12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in hyphenated form (8-4-4-4-12 hexadecimal digits)")]
pub struct NotAUuid;

/// Writes 16 bytes as lower-case hyphenated hexadecimal (RFC 9562, section 4).
pub(crate) fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// Reads what [`write_uuid`] writes; upper-case digits too.
pub(crate) fn parse_uuid(text: &str) -> Result<[u8; 16], NotAUuid> {
    let text = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    if text.len() != 36 || hyphens.iter().any(|&at| text[at] != b'-') {
        return Err(NotAUuid);
    }
    let digits: Vec<u8> = text
        .iter()
        .enumerate()
        .filter(|(at, _)| !hyphens.contains(at))
        .map(|(_, &digit)| (digit as char).to_digit(16).map(|value| value as u8).ok_or(NotAUuid))
        .collect::<Result<_, _>>()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(bytes)
}
