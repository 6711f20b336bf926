//! Catalogs: what a pool is first stocked with, checked here once, with the place of whatever is wrong.

use std::{collections::BTreeMap, path::Path};

use serde_saphyr::Spanned;

use super::{
    diagnostic::{Diagnostic, Rejected, Source},
    file,
};
use crate::{
    codec,
    pool::{BATCH_BYTES_MAX, CatalogItem, ITEM_ID_BYTES_MAX, ItemId, QUANTITY_MAX, Stock, Weight},
};

/// Most items in a pool.
const ITEMS_MAX: usize = 65_536;
/// Room in the one log entry that imports a catalog for everything but the catalog.
const ENTRY_REST_BYTES: usize = 4 << 10;

/// The predecessor's sample catalog, for clusters that are not given one: id, quantity (-1 is unlimited), weight.
const SAMPLE: [(&str, i64, u32); 6] = [
    ("diamond", 100, 10),
    ("gold", 1_000, 20),
    ("silver", 10_000, 30),
    ("rock", 100_000, 40),
    ("mud", -1, 70),
    ("log", -1, 50),
];

/// The predecessor's sample catalog.
pub fn sample_catalog() -> Vec<CatalogItem> {
    let item = |(id, quantity, weight): (&str, i64, u32)| CatalogItem {
        item: id.parse().expect("a legal id"),
        stock: u64::try_from(quantity).map_or(Stock::Unlimited, Stock::Finite),
        weight: Weight(weight),
    };
    SAMPLE.map(item).into()
}

/// Reads a YAML or JSON file with a `pool.catalog` or a `catalog`; whatever else is in it is passed over.
pub fn read_catalog(path: &Path) -> Result<Vec<CatalogItem>, Rejected> {
    let source = Source::read(path)?;
    let file: file::CatalogFile = source.parse()?;
    let in_pool = file.pool.and_then(|pool| pool.catalog);
    let Some(items) = in_pool.or(file.catalog) else {
        return Err(source.about_all("holds no catalog").help("a list under `pool.catalog` or `catalog`").into());
    };
    let mut wrong = Vec::new();
    let catalog = check(&items, &source, &mut wrong);
    Rejected::unless_any(wrong, catalog)
}

/// A catalog's items; what is wrong with it is added to `wrong`, and the answer is then of no use.
pub(super) fn check(
    items: &Spanned<Vec<Spanned<file::Item>>>,
    source: &Source,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<CatalogItem> {
    let mut lines_by_id = BTreeMap::new();
    let mut weights: u64 = 0;
    let mut catalog = Vec::with_capacity(items.value.len());
    for Spanned { value: item, .. } in &items.value {
        let at = item.item_id.referenced;
        if let Some(line) = lines_by_id.insert(item.item_id.value.clone(), at.line()) {
            wrong.push(source.diagnostic(at, format!("the item `{}` is in line {line} already", item.item_id.value)));
        }
        match check_item(item, source) {
            Ok(item) => {
                weights += u64::from(item.weight.0);
                catalog.push(item);
            }
            Err(diagnostics) => wrong.extend(diagnostics),
        }
    }
    // Weights are 32 bits wide, so that ITEMS_MAX of them stay below the greatest sum; checked all the same.
    if weights > QUANTITY_MAX || catalog.len() > ITEMS_MAX {
        wrong.push(source.diagnostic(items.referenced, format!("a pool has at most {ITEMS_MAX} items")));
    } else if codec::encoded_len(&catalog) > BATCH_BYTES_MAX - ENTRY_REST_BYTES {
        let message = "the catalog is too large for one log entry (1 MiB)";
        wrong.push(
            source
                .diagnostic(items.referenced, message)
                .help("start with a part of it, and add the rest with `item set`"),
        );
    }
    catalog
}

fn check_item(item: &file::Item, source: &Source) -> Result<CatalogItem, Vec<Diagnostic>> {
    let id = ItemId::try_from(item.item_id.value.clone()).map_err(|_| {
        let message = format!("an item id has 1 to {ITEM_ID_BYTES_MAX} bytes without control characters");
        source.diagnostic(item.item_id.referenced, message)
    });
    let stock = match item.quantity.value {
        -1 => Ok(Stock::Unlimited),
        quantity => {
            u64::try_from(quantity).ok().filter(|&quantity| quantity <= QUANTITY_MAX).map(Stock::Finite).ok_or_else(
                || {
                    let message = format!("a quantity is -1 (unlimited) or 0 to {QUANTITY_MAX}");
                    source.diagnostic(item.quantity.referenced, message)
                },
            )
        }
    };
    let weight = u32::try_from(item.probability.value).map(Weight).map_err(|_| {
        let message = format!("a weight (`probability`) is a whole number from 0 to {}", u32::MAX);
        source.diagnostic(item.probability.referenced, message)
    });
    match (id, stock, weight) {
        (Ok(item), Ok(stock), Ok(weight)) => Ok(CatalogItem { item, stock, weight }),
        (id, stock, weight) => Err([id.err(), stock.err(), weight.err()].into_iter().flatten().collect()),
    }
}
