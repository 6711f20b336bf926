//! What can be asked of the pools: commands, and the batch of them that is one log entry.

use serde::{Deserialize, Serialize};

use super::{
    entry,
    names::{Actor, DrawSeq, ItemId, PoolId, RequestKey, Stock, Version, Weight},
};
use crate::{
    codec,
    types::{Entropy, Millis},
};

/// Most draws in one command.
pub const DRAWS_PER_COMMAND_MAX: u16 = 1_000;
/// Most units in one claim.
pub const CLAIM_QUANTITY_MAX: u32 = 1_000_000;
/// Most commands in one batch.
pub const BATCH_COMMANDS_MAX: usize = 4_096;
/// Most draw steps in one batch.
pub const BATCH_DRAWS_MAX: usize = 16_384;
/// Longest encoded batch in bytes.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Longest encoded command in bytes, the catalog of a new pool aside.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;

/// One mutation, under the key that makes it happen at most once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The pool it is for.
    pub pool: PoolId,
    /// Its key, unique within the pool.
    pub key: RequestKey,
    /// Who made the key.
    pub origin: KeyOrigin,
    /// Who sent it.
    pub actor: Actor,
    /// What to do.
    pub action: Action,
}

/// Who made a request key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyOrigin {
    /// The caller, who can send it again: exactly once.
    Caller,
    /// The node that accepted a request without a key, for its own retries: at most once for the caller.
    Server,
}

/// What a command does. Append only: the position of a variant is its wire form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Draw `count` times (1 to [`DRAWS_PER_COMMAND_MAX`]), by weight.
    Draw {
        /// Number of draws.
        count: u16,
    },
    /// Take `quantity` units (1 to [`CLAIM_QUANTITY_MAX`]) of a named item, all or nothing.
    Claim {
        /// The item.
        item: ItemId,
        /// Units.
        quantity: u32,
    },
    /// Create an item (no `etag`), or change its definition (`etag` is its rev). Never touches an existing finite stock.
    SetItem {
        /// The item.
        item: ItemId,
        /// Its weight.
        weight: Weight,
        /// A new item's stock; of an existing one only whether it is unlimited counts.
        stock: Stock,
        /// The rev that the caller saw; none to create.
        etag: Option<Version>,
    },
    /// Add to or take from a finite stock; commutes with draws.
    AdjustStock {
        /// The item.
        item: ItemId,
        /// Units, not 0.
        delta: i64,
    },
    /// The predecessor's absolute set of stock and weight.
    UpdateItem {
        /// The item.
        item: ItemId,
        /// Its stock from now on.
        stock: Stock,
        /// Its weight from now on.
        weight: Weight,
        /// Create it if there is none.
        create: bool,
    },
    /// Take an item out for good; its counters stay.
    RemoveItem {
        /// The item.
        item: ItemId,
        /// The rev that the caller saw, if it cares.
        etag: Option<Version>,
    },
    /// Create the command's pool.
    CreatePool {
        /// What happens when a draw hits an item that cannot be awarded.
        policy: Policy,
        /// Its first items, in order.
        items: Vec<CatalogItem>,
        /// Refuse draws whose key was made by a server.
        require_key: bool,
    },
    /// Refuse draws and claims until resumed.
    PausePool,
    /// Undo a pause.
    ResumePool,
    /// Stock the pool from a catalog, once, while its version and draw sequence are 0.
    ImportCatalog {
        /// The items, in order.
        items: Vec<CatalogItem>,
        /// Draw numbers go on after this one.
        draw_seq: DrawSeq,
    },
    /// Change the pool's definition, its items aside: what is given, which is something.
    UpdatePool {
        /// Its policy from now on. A fallback item must be there, and unlimited.
        policy: Option<Policy>,
        /// Whether draws are refused whose key was made by a server, from now on.
        require_key: Option<bool>,
        /// The pool's version that the caller saw.
        etag: Version,
    },
}

/// An item of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogItem {
    /// Its id.
    pub item: ItemId,
    /// Its first stock.
    pub stock: Stock,
    /// Its weight.
    pub weight: Weight,
}

/// What happens when a draw hits an item that cannot be awarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// It cannot: only what can be awarded is drawn from, so an exhausted item's weight leaves the sum.
    Renormalize,
    /// The fallback item, which must be unlimited, is awarded in its place.
    Fallback(ItemId),
    /// Nothing is awarded.
    Miss,
}

/// One log entry's worth of commands, with the time and the entropy that its leader stamped on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Format of this batch: [`Batch::VERSION`].
    pub version: u16,
    /// The leader's word on the time.
    pub time: Millis,
    /// The key of its draws.
    pub entropy: Entropy,
    /// In order. None at all is a tick: it only moves time.
    pub commands: Vec<Command>,
}

impl Batch {
    /// The only format so far.
    pub const VERSION: u16 = 1;

    /// Encodes the batch as a log entry's data.
    pub fn encode(&self) -> Vec<u8> {
        entry::write(self)
    }

    /// Decodes a log entry's data, checking version and limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBatch> {
        let batch = match entry::read(bytes) {
            Some(batch) => batch,
            None => codec::decode(bytes, BATCH_BYTES_MAX)?,
        };
        if batch.version != Self::VERSION {
            return Err(BadBatch::Version(batch.version));
        }
        let draws: usize = batch.commands.iter().map(|command| usize::from(command.draws())).sum();
        if batch.commands.len() > BATCH_COMMANDS_MAX || draws > BATCH_DRAWS_MAX {
            return Err(BadBatch::TooLarge);
        }
        Ok(batch)
    }
}

/// A log entry that is no batch. On every replica alike, so it is skipped by all.
#[derive(Debug, thiserror::Error)]
pub enum BadBatch {
    /// Not the bytes of a batch.
    #[error(transparent)]
    Undecodable(#[from] codec::DecodeError),
    /// A format of another build.
    #[error("batch format {0} is not known to this build")]
    Version(u16),
    /// More than [`BATCH_COMMANDS_MAX`] commands or [`BATCH_DRAWS_MAX`] draws.
    #[error("more commands or draws than a batch may hold")]
    TooLarge,
}
