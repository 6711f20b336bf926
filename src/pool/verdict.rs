//! A command's result as it is stored: compact, with items by position. Names are looked up when it is told.
//!
//! A draw is, little-endian: 0, first draw number `u64`, version `u64`, then 5 bytes a step: what became of it (0 awarded,
//! 1 fallback, 2 miss, 3 pool empty) and the item's position as `u32` (0 without an item). Anything else is rarer, and is 1
//! followed by its `Result<Effect, Refusal>` through [`crate::codec`].

use std::fmt;

use super::{
    command::DRAWS_PER_COMMAND_MAX,
    names::{DrawSeq, ItemId, Version},
    outcome::{Claim, Effect, Refusal, Step},
    steps::Steps,
};
use crate::codec;

const DRAWN: u8 = 0;
const PLAIN: u8 = 1;
const STEP_BYTES: usize = 5;
/// No stored effect or refusal comes near.
const PLAIN_BYTES_MAX: usize = 1_024;

/// What a step of a draw gave, the item by its position.
pub(super) type Pick = Step<u32>;

/// Writes what comes before a draw's picks, which follow one by one.
pub(super) fn write_drawn(first_seq: DrawSeq, version: Version, steps: u16, out: &mut Vec<u8>) {
    out.reserve(17 + STEP_BYTES * usize::from(steps));
    out.push(DRAWN);
    out.extend_from_slice(&first_seq.0.to_le_bytes());
    out.extend_from_slice(&version.0.to_le_bytes());
}

/// Writes any other result than a draw's.
pub(super) fn write_plain(result: &Result<Effect, Refusal>, out: &mut Vec<u8>) {
    assert!(!matches!(result, Ok(Effect::Drawn { .. })), "a draw has a form of its own");
    out.push(PLAIN);
    codec::encode_into(result, out);
}

/// A command's result, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    Drawn {
        first_seq: DrawSeq,
        version: Version,
        picks: Picks<'a>,
    },
    /// Never `Effect::Drawn`.
    Plain(Result<Effect, Refusal>),
}

impl<'a> Verdict<'a> {
    /// What was written; `None` if it cannot have been.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        match kind {
            DRAWN => {
                let (first_seq, rest) = rest.split_first_chunk()?;
                let (version, steps) = rest.split_first_chunk()?;
                Some(Self::Drawn {
                    first_seq: DrawSeq(u64::from_le_bytes(*first_seq)),
                    version: Version(u64::from_le_bytes(*version)),
                    picks: Picks::decode(steps)?,
                })
            }
            PLAIN => match codec::decode(rest, PLAIN_BYTES_MAX).ok()? {
                Ok(Effect::Drawn { .. }) => None,
                result => Some(Self::Plain(result)),
            },
            _ => None,
        }
    }

    /// Gave it nothing? For a planted bug, which forgets such.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Drawn { picks, .. } => !picks.iter().any(|pick| matches!(pick, Pick::Awarded(_))),
            Self::Plain(Ok(Effect::Claimed { result, .. })) => *result != Claim::Awarded,
            Self::Plain(result) => result.is_err(),
        }
    }

    /// Is every position in it below `items`?
    pub(super) fn is_within(&self, items: usize) -> bool {
        match self {
            Self::Drawn { picks, .. } => {
                picks.iter().filter_map(Pick::into_item).all(|position| (position as usize) < items)
            }
            Self::Plain(_) => true,
        }
    }

    /// The result in words that leave the pool; `id` names the item at a position.
    pub(super) fn tell<'b>(self, id: impl Fn(u32) -> &'b ItemId) -> Result<Effect, Refusal> {
        match self {
            Self::Drawn { first_seq, version, picks } => {
                let steps = Steps::named(picks.iter(), |position| id(position).clone());
                Ok(Effect::Drawn { first_seq, version, steps })
            }
            Self::Plain(result) => result,
        }
    }
}

/// What the steps of a draw gave, in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Picks<'a>(&'a [[u8; STEP_BYTES]]);

impl<'a> Picks<'a> {
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (picks, rest) = bytes.as_chunks();
        let is_whole = rest.is_empty() && picks.len() <= DRAWS_PER_COMMAND_MAX.into();
        (is_whole && picks.iter().all(|pick| Pick::decode(*pick).is_some())).then_some(Self(picks))
    }

    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = Pick> + 'a {
        self.0.iter().map(|pick| Pick::decode(*pick).expect("all were decoded before"))
    }
}

impl fmt::Debug for Picks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Pick {
    /// Writes one of a draw's picks.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let (code, position) = match self {
            Self::Awarded(position) => (0, position),
            Self::Fallback(position) => (1, position),
            Self::Miss => (2, 0),
            Self::PoolEmpty => (3, 0),
        };
        let [a, b, c, d] = position.to_le_bytes();
        out.extend_from_slice(&[code, a, b, c, d]);
    }

    fn decode([code, position @ ..]: [u8; STEP_BYTES]) -> Option<Self> {
        match (code, u32::from_le_bytes(position)) {
            (0, position) => Some(Self::Awarded(position)),
            (1, position) => Some(Self::Fallback(position)),
            (2, 0) => Some(Self::Miss),
            (3, 0) => Some(Self::PoolEmpty),
            _ => None,
        }
    }
}
