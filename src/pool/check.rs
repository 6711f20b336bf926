//! What can be said of a command without knowing the state: is it well formed, what is its fingerprint, how many draws
//! does it ask for. A node checks before it proposes; `apply` checks again, since a log is not to be trusted on it.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{
    command::{Action, BATCH_BYTES_MAX, CLAIM_QUANTITY_MAX, CatalogItem, Command, DRAWS_PER_COMMAND_MAX, Policy},
    entry,
    names::{QUANTITY_MAX, Stock},
};
use crate::codec;

/// Most items in a pool, removed ones too.
pub const ITEMS_PER_POOL_MAX: usize = 65_536;
/// Longest encoded command that carries a catalog: what a batch holds beside its own fields.
pub const CATALOG_COMMAND_BYTES_MAX: usize = BATCH_BYTES_MAX - 1_024;

/// The first 16 bytes of SHA-256 over what a command asks for: two commands under one key are the same request exactly
/// if their fingerprints are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Command {
    /// The length in bytes that [`codec::encode`] gives for it.
    pub(crate) fn encoded_len(&self) -> usize {
        entry::command_len(self)
    }

    /// Checks every rule of form and every fixed limit. An error says, for its sender, which one is broken.
    pub fn check(&self) -> Result<(), String> {
        self.action.check()?;
        // Every other command is far below COMMAND_BYTES_MAX, by the lengths of its names.
        if let Action::CreatePool { .. } | Action::ImportCatalog { .. } = self.action {
            let len = codec::encoded_len(self);
            if len > CATALOG_COMMAND_BYTES_MAX {
                return Err(format!("the command takes {len} bytes, more than {CATALOG_COMMAND_BYTES_MAX}; split it"));
            }
        }
        Ok(())
    }

    /// What identifies the request under its key: everything but the key, its origin and the actor.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::digest(codec::encode(&(&self.pool, &self.action)));
        Fingerprint(digest[..16].try_into().expect("SHA-256 has more than 16 bytes"))
    }

    /// Does it ask for the same as another, under whatever key? Then their fingerprints are equal.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        (&self.pool, &self.action) == (&other.pool, &other.action)
    }

    /// Draw steps that it asks for; each takes one word of the batch's randomness, even if it is refused.
    pub fn draws(&self) -> u16 {
        match self.action {
            Action::Draw { count } => count,
            _ => 0,
        }
    }
}

impl Action {
    /// Is it an operator's business, rather than a draw or a claim?
    pub fn is_administrative(&self) -> bool {
        !matches!(self, Self::Draw { .. } | Self::Claim { .. })
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Draw { count } => in_range("a draw's count", (*count).into(), DRAWS_PER_COMMAND_MAX.into()),
            Self::Claim { quantity, .. } => {
                in_range("a claim's quantity", (*quantity).into(), CLAIM_QUANTITY_MAX.into())
            }
            Self::SetItem { stock, .. } | Self::UpdateItem { stock, .. } => check_stock(*stock),
            Self::AdjustStock { delta, .. } => in_range("an adjustment's size", delta.unsigned_abs(), QUANTITY_MAX),
            Self::CreatePool { policy, items, .. } => check_catalog(items).and_then(|()| check_policy(policy, items)),
            Self::ImportCatalog { items, draw_seq } if draw_seq.0 <= QUANTITY_MAX => check_catalog(items),
            Self::ImportCatalog { .. } => Err(format!("a draw number is at most {QUANTITY_MAX}")),
            Self::UpdatePool { policy: None, require_key: None, .. } => {
                Err("an update of a pool changes its policy, require_key, or both".to_owned())
            }
            Self::UpdatePool { .. } | Self::RemoveItem { .. } | Self::PausePool | Self::ResumePool => Ok(()),
        }
    }
}

fn in_range(what: &str, value: u64, max: u64) -> Result<(), String> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(format!("{what} is 1 to {max}, not {value}")) }
}

fn check_stock(stock: Stock) -> Result<(), String> {
    match stock {
        Stock::Finite(quantity) if quantity > QUANTITY_MAX => {
            Err(format!("a quantity is at most {QUANTITY_MAX}, not {quantity}"))
        }
        _ => Ok(()),
    }
}

fn check_catalog(items: &[CatalogItem]) -> Result<(), String> {
    if items.len() > ITEMS_PER_POOL_MAX {
        return Err(format!("a pool has at most {ITEMS_PER_POOL_MAX} items, not {}", items.len()));
    }
    let mut seen = BTreeSet::new();
    for CatalogItem { item, stock, .. } in items {
        check_stock(*stock).map_err(|why| format!("item {item}: {why}"))?;
        if !seen.insert(item) {
            return Err(format!("item {item} is listed twice"));
        }
    }
    Ok(())
}

fn check_policy(policy: &Policy, items: &[CatalogItem]) -> Result<(), String> {
    let Policy::Fallback(fallback) = policy else { return Ok(()) };
    match items.iter().find(|listed| listed.item == *fallback) {
        Some(CatalogItem { stock: Stock::Unlimited, .. }) => Ok(()),
        Some(_) => Err(format!("the fallback item {fallback} must be unlimited")),
        None => Err(format!("the fallback item {fallback} is not among the items")),
    }
}
