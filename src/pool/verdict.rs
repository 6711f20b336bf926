//! A command's result as it is stored: compact, with items by position. Names are looked up when it is told.
//!
//! A draw is, little-endian: 0, first draw number `u64`, version `u64`, then 5 bytes a step: what became of it (0 awarded,
//! 1 fallback, 2 miss, 3 pool empty) and the item's position as `u32` (0 without an item). Anything else is rarer, and is 1
//! followed by its `Result<Effect, Refusal>` through [`crate::codec`].

use super::{
    names::{DrawSeq, ItemId, Version},
    outcome::{Claim, Effect, Refusal, Step},
};
use crate::codec;

const DRAWN: u8 = 0;
const PLAIN: u8 = 1;
const STEP_BYTES: usize = 5;
/// No stored effect or refusal comes near.
const PLAIN_BYTES_MAX: usize = 1_024;

/// What a step of a draw gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    Awarded(u32),
    Fallback(u32),
    Miss,
    PoolEmpty,
}

/// A command's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drawn {
        first_seq: DrawSeq,
        version: Version,
        picks: Vec<Pick>,
    },
    /// Never `Effect::Drawn`.
    Plain(Result<Effect, Refusal>),
}

impl Verdict {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Drawn { first_seq, version, picks } => {
                out.push(DRAWN);
                out.extend_from_slice(&first_seq.0.to_le_bytes());
                out.extend_from_slice(&version.0.to_le_bytes());
                for pick in picks {
                    let (code, position) = pick.parts();
                    out.push(code);
                    out.extend_from_slice(&position.to_le_bytes());
                }
            }
            Self::Plain(result) => {
                out.push(PLAIN);
                out.extend_from_slice(&codec::encode(result));
            }
        }
    }

    /// What [`Self::encode`] wrote; `None` if it cannot have.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        match kind {
            DRAWN => {
                let (first_seq, rest) = rest.split_first_chunk()?;
                let (version, steps) = rest.split_first_chunk()?;
                let steps = steps.chunks(STEP_BYTES);
                Some(Self::Drawn {
                    first_seq: DrawSeq(u64::from_le_bytes(*first_seq)),
                    version: Version(u64::from_le_bytes(*version)),
                    picks: steps.map(Pick::decode).collect::<Option<_>>()?,
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
                picks.iter().filter_map(|pick| pick.position()).all(|position| (position as usize) < items)
            }
            Self::Plain(_) => true,
        }
    }

    /// The result in words that leave the pool; `id` names the item at a position.
    pub(super) fn tell<'a>(self, id: impl Fn(u32) -> &'a ItemId) -> Result<Effect, Refusal> {
        let step = |pick: &Pick| match *pick {
            Pick::Awarded(position) => Step::Awarded(id(position).clone()),
            Pick::Fallback(position) => Step::Fallback(id(position).clone()),
            Pick::Miss => Step::Miss,
            Pick::PoolEmpty => Step::PoolEmpty,
        };
        match self {
            Self::Drawn { first_seq, version, picks } => {
                Ok(Effect::Drawn { first_seq, version, steps: picks.iter().map(step).collect() })
            }
            Self::Plain(result) => result,
        }
    }
}

impl Pick {
    fn position(self) -> Option<u32> {
        match self {
            Self::Awarded(position) | Self::Fallback(position) => Some(position),
            Self::Miss | Self::PoolEmpty => None,
        }
    }

    fn parts(self) -> (u8, u32) {
        match self {
            Self::Awarded(position) => (0, position),
            Self::Fallback(position) => (1, position),
            Self::Miss => (2, 0),
            Self::PoolEmpty => (3, 0),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&code, position) = bytes.split_first()?;
        let position = u32::from_le_bytes(position.try_into().ok()?);
        match (code, position) {
            (0, position) => Some(Self::Awarded(position)),
            (1, position) => Some(Self::Fallback(position)),
            (2, 0) => Some(Self::Miss),
            (3, 0) => Some(Self::PoolEmpty),
            _ => None,
        }
    }
}
