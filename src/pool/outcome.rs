//! What can be answered: outcomes are replicated, equal on every node, and a refusal is one of them.

use serde::{Deserialize, Serialize};

use super::{
    names::{DrawSeq, ItemId, Stock, Version, Weight},
    steps::Steps,
};
use crate::types::{Index, Millis};

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The log index at which it was decided. A replay has the first one's.
    pub index: Index,
    /// Cluster time at that index.
    pub now: Millis,
    /// The stored outcome of an earlier command under this key, told again; nothing happened now.
    pub replayed: bool,
    /// What it did, or why it did nothing.
    pub result: Result<Effect, Refusal>,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// A draw: one result per step. Winning and losing are both results.
    Drawn {
        /// Number of the first step; the others follow on it.
        first_seq: DrawSeq,
        /// The version of the odds.
        version: Version,
        /// In order, at most [`super::DRAWS_PER_COMMAND_MAX`].
        steps: Steps,
    },
    /// A claim.
    Claimed {
        /// Its number.
        seq: DrawSeq,
        /// What it gave.
        result: Claim,
    },
    /// An item was created or set; what it is now.
    ItemSet(ItemState),
    /// Stock was adjusted.
    Adjusted {
        /// What is left now.
        remaining: u64,
    },
    /// An item was removed.
    ItemRemoved {
        /// The pool's version since.
        version: Version,
    },
    /// A pool was created, changed, paused or resumed, or was so already.
    PoolSet {
        /// Its version since.
        version: Version,
    },
    /// A catalog was imported.
    Imported {
        /// The pool's version since.
        version: Version,
        /// How many items it has.
        items: u32,
    },
}

/// One draw's result, its item told by an `I`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<I = ItemId> {
    /// The item was awarded.
    Awarded(I),
    /// The pool's fallback item was awarded in place of one that could not be.
    Fallback(I),
    /// An item that cannot be awarded was hit, under [`super::Policy::Miss`].
    Miss,
    /// Nothing in the pool can be awarded.
    PoolEmpty,
}

impl<I> Step<I> {
    /// The item awarded, if one was.
    pub fn item(&self) -> Option<&I> {
        self.as_ref().into_item()
    }

    /// [`Self::item`], and nothing else.
    pub fn into_item(self) -> Option<I> {
        match self {
            Self::Awarded(item) | Self::Fallback(item) => Some(item),
            Self::Miss | Self::PoolEmpty => None,
        }
    }

    /// The same, with the item in place.
    pub fn as_ref(&self) -> Step<&I> {
        match self {
            Self::Awarded(item) => Step::Awarded(item),
            Self::Fallback(item) => Step::Fallback(item),
            Self::Miss => Step::Miss,
            Self::PoolEmpty => Step::PoolEmpty,
        }
    }

    /// The same, with the item told otherwise.
    pub fn map<J>(self, tell: impl FnOnce(I) -> J) -> Step<J> {
        match self {
            Self::Awarded(item) => Step::Awarded(tell(item)),
            Self::Fallback(item) => Step::Fallback(tell(item)),
            Self::Miss => Step::Miss,
            Self::PoolEmpty => Step::PoolEmpty,
        }
    }
}

impl<I: Clone> Step<&I> {
    /// The same, with an item of its own.
    pub fn cloned(self) -> Step<I> {
        self.map(I::clone)
    }
}

/// A claim's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// All units were taken.
    Awarded,
    /// None were: there are not enough.
    OutOfStock {
        /// Units left.
        remaining: u64,
    },
}

/// An item as it is at an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemState {
    /// Its id.
    pub id: ItemId,
    /// Its weight.
    pub weight: Weight,
    /// What is left to give.
    pub stock: Stock,
    /// Units held.
    pub reserved: u64,
    /// Units awarded, ever.
    pub awarded: u64,
    /// Units given back, ever.
    pub returned: u64,
    /// Units stocked, net of withdrawals.
    pub added: u64,
    /// The pool's version at its last change: its etag.
    pub rev: Version,
}

/// Why a command did nothing. Final for its key, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No such pool.
    #[error("there is no such pool")]
    PoolNotFound,
    /// No such item.
    #[error("there is no such item in the pool")]
    ItemNotFound,
    /// The pool exists.
    #[error("the pool exists already")]
    PoolExists,
    /// The item exists, or did and was removed.
    #[error("the item exists already, or did and was removed")]
    ItemExists,
    /// Changed since the caller looked.
    #[error("changed since it was read: its rev is now {current}")]
    EtagMismatch {
        /// The rev it has.
        current: Version,
    },
    /// The pool is paused.
    #[error("pool is paused")]
    PoolPaused,
    /// Fewer units than the adjustment takes away.
    #[error("only {remaining} left")]
    InsufficientStock {
        /// Units left.
        remaining: u64,
    },
    /// An unlimited item has no stock to adjust.
    #[error("the item is unlimited: it has no stock to adjust")]
    ItemUnlimited,
    /// The pool's fallback item cannot be removed, limited or made finite.
    #[error("the item is the pool's fallback")]
    IsFallback,
    /// The pool is not new.
    #[error("the pool is in use already: a catalog is imported into a new one only")]
    PoolNotEmpty,
    /// 1 024 pools exist.
    #[error("the cluster has as many pools as it can hold")]
    PoolsFull,
    /// 65 536 items in this pool, or 1 000 000 in all.
    #[error("the pool, or the cluster, has as many items as it can hold")]
    ItemsFull,
    /// The pool wants a key that the caller made.
    #[error("the pool requires a request key")]
    KeyRequired,
    /// A counter, or the sum of weights, would pass 2^53-1.
    #[error("a quantity, or the sum of weights, would exceed 2^53-1")]
    StockOverflow,
    /// A quantity or count outside its range, or a duplicate id, that got past the node that accepted it.
    #[error("a value of the command is out of range")]
    OutOfRange,
    /// Known key, other command. Not stored.
    #[error("the request key was used for another request")]
    KeyReused,
    /// Older than what is remembered; never executed. Not stored.
    #[error("the request key is too old: keys up to {floor} ms are forgotten, and it is {now} ms")]
    KeyExpired {
        /// Keys of this time and earlier are refused.
        floor: Millis,
        /// Cluster time.
        now: Millis,
    },
    /// Over 60 s ahead of the cluster. Not stored: may be sent again later.
    #[error("the request key is of the future: it is {now} ms")]
    KeyFromFuture {
        /// Keys of this time and earlier are refused.
        floor: Millis,
        /// Cluster time.
        now: Millis,
    },
    /// The pool's share of the key table is full of young keys. Not stored.
    #[error("the table of request keys is full")]
    KeyTableFull,
    /// A pool's fallback item must be unlimited.
    #[error("the item cannot be the pool's fallback: it is not unlimited")]
    FallbackFinite,
    /// Of a read: more than one answer holds.
    #[error("the pool has more items than are told at once: read them page by page")]
    TooLong,
}

impl Refusal {
    /// The stable code of the refusal: gRPC ErrorInfo's reason, and `error[CODE]` on a terminal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PoolNotFound | Self::ItemNotFound => "NOT_FOUND",
            Self::PoolExists => "POOL_EXISTS",
            Self::ItemExists => "ITEM_EXISTS",
            Self::EtagMismatch { .. } => "ETAG_MISMATCH",
            Self::PoolPaused => "POOL_PAUSED",
            Self::InsufficientStock { .. } => "INSUFFICIENT_STOCK",
            Self::ItemUnlimited => "ITEM_UNLIMITED",
            Self::IsFallback => "IS_FALLBACK",
            Self::PoolNotEmpty => "POOL_NOT_EMPTY",
            Self::PoolsFull => "POOLS_FULL",
            Self::ItemsFull => "ITEMS_FULL",
            Self::KeyRequired => "KEY_REQUIRED",
            Self::StockOverflow => "STOCK_OVERFLOW",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::KeyReused => "KEY_REUSED",
            Self::KeyExpired { .. } => "KEY_EXPIRED",
            Self::KeyFromFuture { .. } => "KEY_FROM_FUTURE",
            Self::KeyTableFull => "KEY_TABLE_FULL",
            Self::TooLong => "TOO_LONG",
            Self::FallbackFinite => "FALLBACK_FINITE",
        }
    }
}
