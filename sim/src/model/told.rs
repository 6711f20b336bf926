//! An answer in the bytes that the history digest hashes and the key table counts, and that digest: written out field by
//! field, so that a format that moves unnoticed is noticed here.
//!
//! An answer is index and time, then a draw (0, first number, version, and per step a code and the item's position) or
//! anything else (1, and the result: each variant by its position as `u32`, its fields in order, text with its length before
//! it as `u64`). All numbers are little-endian.

use sha2::{Digest as _, Sha256};
use tombola::{
    pool::{Claim, DrawSeq, Effect, ItemId, ItemState, Refusal, Step, Stock, Version},
    types::{HistoryDigest, Index, Millis},
};

/// What became of a command, items by position.
pub(super) enum Verdict {
    Drawn {
        first_seq: DrawSeq,
        version: Version,
        /// Each step's result, and the position of the item if there is one.
        steps: Vec<(Step, Option<u32>)>,
    },
    /// Never a draw.
    Plain(Result<Effect, Refusal>),
}

impl Verdict {
    /// The verdict in the words of an outcome.
    pub(super) fn result(self) -> Result<Effect, Refusal> {
        match self {
            Self::Plain(result) => result,
            Self::Drawn { first_seq, version, steps } => {
                let steps = steps.into_iter().map(|(step, _)| step).collect();
                Ok(Effect::Drawn { first_seq, version, steps })
            }
        }
    }

    /// The bytes of an answer.
    pub(super) fn told(&self, index: Index, now: Millis) -> Vec<u8> {
        let mut told = Told(Vec::new());
        told.u64(index.0).u64(now.0);
        match self {
            Self::Drawn { first_seq, version, steps } => {
                told.0.push(0);
                told.u64(first_seq.0).u64(version.0);
                for (step, position) in steps {
                    let code = match step {
                        Step::Awarded(_) => 0,
                        Step::Fallback(_) => 1,
                        Step::Miss => 2,
                        Step::PoolEmpty => 3,
                    };
                    told.0.push(code);
                    told.u32(position.unwrap_or(0));
                }
            }
            Self::Plain(result) => {
                told.0.push(1);
                match result {
                    Ok(effect) => told.u32(0).effect(effect),
                    Err(refusal) => told.u32(1).refusal(refusal),
                }
            }
        }
        told.0
    }
}

/// Bytes that grow.
struct Told(Vec<u8>);

impl Told {
    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn id(&mut self, id: &ItemId) -> &mut Self {
        self.u64(id.as_str().len() as u64).0.extend_from_slice(id.as_str().as_bytes());
        self
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Drawn { .. } => unreachable!("a draw has a form of its own"),
            Effect::Claimed { seq, result: Claim::Awarded } => self.u32(1).u64(seq.0).u32(0),
            Effect::Claimed { seq, result: Claim::OutOfStock { remaining } } => {
                self.u32(1).u64(seq.0).u32(1).u64(*remaining)
            }
            Effect::ItemSet(item) => self.u32(2).item(item),
            Effect::Adjusted { remaining } => self.u32(3).u64(*remaining),
            Effect::ItemRemoved { version } => self.u32(4).u64(version.0),
            Effect::PoolSet { version } => self.u32(5).u64(version.0),
            Effect::Imported { version, items } => self.u32(6).u64(version.0).u32(*items),
        };
    }

    fn item(&mut self, item: &ItemState) -> &mut Self {
        let ItemState { id, weight, stock, reserved, awarded, returned, added, rev } = item;
        self.id(id).u32(weight.0);
        match stock {
            Stock::Finite(quantity) => self.u32(0).u64(*quantity),
            Stock::Unlimited => self.u32(1),
        };
        self.u64(*reserved).u64(*awarded).u64(*returned).u64(*added).u64(rev.0)
    }

    fn refusal(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::PoolNotFound => self.u32(0),
            Refusal::ItemNotFound => self.u32(1),
            Refusal::PoolExists => self.u32(2),
            Refusal::ItemExists => self.u32(3),
            Refusal::EtagMismatch { current } => self.u32(4).u64(current.0),
            Refusal::PoolPaused => self.u32(5),
            Refusal::InsufficientStock { remaining } => self.u32(6).u64(*remaining),
            Refusal::ItemUnlimited => self.u32(7),
            Refusal::IsFallback => self.u32(8),
            Refusal::PoolNotEmpty => self.u32(9),
            Refusal::PoolsFull => self.u32(10),
            Refusal::ItemsFull => self.u32(11),
            Refusal::KeyRequired => self.u32(12),
            Refusal::StockOverflow => self.u32(13),
            Refusal::OutOfRange => self.u32(14),
            Refusal::KeyReused => self.u32(15),
            Refusal::KeyExpired { floor, now } => self.u32(16).u64(floor.0).u64(now.0),
            Refusal::KeyFromFuture { floor, now } => self.u32(17).u64(floor.0).u64(now.0),
            Refusal::KeyTableFull => self.u32(18),
            Refusal::FallbackFinite => self.u32(19),
            Refusal::TooLong => unreachable!("only reads are refused so"),
        };
    }
}

/// The history digest at the founding.
pub(super) fn history_at_founding() -> HistoryDigest {
    HistoryDigest(Sha256::digest(b"tombola.history.v1").into())
}

/// The history digest after an entry, whose answers are told with whether each was a replay.
pub(super) fn history(before: HistoryDigest, index: Index, entry: &[u8], answers: &[(bool, Vec<u8>)]) -> HistoryDigest {
    let mut all = Vec::new();
    for (replayed, told) in answers {
        all.push(u8::from(*replayed));
        all.extend_from_slice(&(told.len() as u32).to_le_bytes());
        all.extend_from_slice(told);
    }
    let link = [before.0.as_slice(), &index.0.to_le_bytes(), &Sha256::digest(entry), &Sha256::digest(&all)].concat();
    HistoryDigest(Sha256::digest(link).into())
}
