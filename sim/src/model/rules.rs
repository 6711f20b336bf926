//! What a command may ask for at all: semantics.md, sections 3, 4 and 11, the numbers as they stand there.

use std::collections::BTreeSet;

use tombola::{
    codec,
    pool::{Action, CATALOG_COMMAND_BYTES_MAX, CatalogItem, Command, ItemId, Policy, Stock},
};

/// Every quantity and counter, and the sum of weights.
pub(super) const QUANTITY_MAX: u64 = (1 << 53) - 1;
/// Items of a pool, removed ones too.
pub(super) const POOL_ITEMS_MAX: usize = 65_536;
/// Items of all pools, removed ones too.
pub(super) const ALL_ITEMS_MAX: usize = 1_000_000;
/// Pools.
pub(super) const POOLS_MAX: usize = 1_024;

/// Is every value in its range, and is no id listed twice?
pub(super) fn is_within(command: &Command) -> bool {
    match &command.action {
        Action::Draw { count } => (1..=1_000).contains(count),
        Action::Claim { quantity, .. } => (1..=1_000_000).contains(quantity),
        Action::SetItem { stock, .. } | Action::UpdateItem { stock, .. } => is_quantity(*stock),
        Action::AdjustStock { delta, .. } => *delta != 0 && delta.unsigned_abs() <= QUANTITY_MAX,
        Action::RemoveItem { .. } | Action::PausePool | Action::ResumePool => true,
        Action::UpdatePool { policy, require_key, .. } => policy.is_some() || require_key.is_some(),
        Action::CreatePool { policy, items, .. } => {
            let fallback = |id: &ItemId| items.iter().any(|item| item.item == *id && item.stock == Stock::Unlimited);
            let has_fallback = match policy {
                Policy::Fallback(id) => fallback(id),
                Policy::Renormalize | Policy::Miss => true,
            };
            has_fallback && is_catalog(items) && fits(command)
        }
        Action::ImportCatalog { items, draw_seq } => draw_seq.0 <= QUANTITY_MAX && is_catalog(items) && fits(command),
    }
}

fn is_quantity(stock: Stock) -> bool {
    !matches!(stock, Stock::Finite(quantity) if quantity > QUANTITY_MAX)
}

fn is_catalog(items: &[CatalogItem]) -> bool {
    let ids: BTreeSet<_> = items.iter().map(|item| &item.item).collect();
    ids.len() == items.len() && items.len() <= POOL_ITEMS_MAX && items.iter().all(|item| is_quantity(item.stock))
}

fn fits(command: &Command) -> bool {
    codec::encoded_len(command) <= CATALOG_COMMAND_BYTES_MAX
}
