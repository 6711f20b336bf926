//! The words of `tombola.v1` and those of [`crate::pool`], turned into each other.

use tonic::Status;

use crate::{
    api::Answered,
    pool::{self, Claim, Effect, InvalidName, ItemId, ItemState, PoolId, PoolSummary, RequestKey, Step, Stock, Weight},
    server::{
        proto::v1::{
            AdjustItemResponse, CatalogItem, ClaimCode, ClaimResponse, CreatePoolResponse, DrawCode, DrawResponse,
            DrawResult, DrawVia, Imported, Item, Policy, Pool, Receipt, Refused, RemoveItemResponse,
            UpdateItemResponse, get_outcome_response::Found,
        },
        status,
    },
};

/// Most items in one answer.
pub const ITEMS_PER_PAGE_MAX: usize = 1_000;

/// A pool's name; empty stands for `default`.
pub fn pool_id(text: String) -> Result<PoolId, Status> {
    if text.is_empty() { Ok(PoolId::default_pool()) } else { text.try_into().map_err(status::of_invalid_name) }
}

/// A request key.
pub fn request_key(text: &str) -> Result<RequestKey, Status> {
    text.parse().map_err(status::of_invalid_name)
}

/// A stock from its two fields.
pub fn stock(unlimited: bool, quantity: u64) -> Result<Stock, Status> {
    match (unlimited, quantity) {
        (true, 0) => Ok(Stock::Unlimited),
        (true, _) => Err(status::malformed("an unlimited item has no quantity: leave it 0")),
        (false, _) => Ok(Stock::Finite(quantity)),
    }
}

/// An item of a new pool.
pub fn catalog_item(item: CatalogItem) -> Result<pool::CatalogItem, Status> {
    let stock = stock(item.unlimited, item.quantity)?;
    let id = item.item_id.try_into().map_err(status::of_invalid_name)?;
    Ok(pool::CatalogItem { item: id, stock, weight: Weight(item.weight) })
}

/// A policy from its two fields.
pub fn policy(number: i32, fallback_item_id: String) -> Result<pool::Policy, Status> {
    let policy = Policy::try_from(number).map_err(|_| status::malformed(format!("policy {number} is not known")))?;
    let fallback: Result<ItemId, InvalidName> = match (policy, fallback_item_id.is_empty()) {
        (Policy::Unspecified | Policy::Renormalize, true) => return Ok(pool::Policy::Renormalize),
        (Policy::Miss, true) => return Ok(pool::Policy::Miss),
        (Policy::Fallback, _) => fallback_item_id.try_into(),
        (_, false) => return Err(status::malformed("fallback_item_id is for POLICY_FALLBACK only")),
    };
    fallback.map(pool::Policy::Fallback).map_err(status::of_invalid_name)
}

/// Where and when a mutation was decided.
pub fn receipt(answered: &Answered) -> Receipt {
    let Answered { key, outcome } = answered;
    Receipt { key: key.to_string(), index: outcome.index.0, now_ms: outcome.now.0, replayed: outcome.replayed }
}

/// An outcome in the message in which it is told.
pub fn found(answered: &Answered) -> Found {
    let receipt = Some(receipt(answered));
    match &answered.outcome.result {
        Err(refusal) => {
            Found::Refused(Refused { receipt, code: refusal.code().to_owned(), message: refusal.to_string() })
        }
        Ok(Effect::Drawn { first_seq, version, steps }) => {
            let results = (first_seq.0..).zip(steps).map(|(seq, step)| draw_result(seq, step)).collect();
            Found::Draw(DrawResponse { receipt, odds_version: version.0, results })
        }
        Ok(Effect::Claimed { seq, result }) => {
            let (code, remaining) = match result {
                Claim::Awarded => (ClaimCode::Awarded, 0),
                Claim::OutOfStock { remaining } => (ClaimCode::OutOfStock, *remaining),
            };
            Found::Claim(ClaimResponse { receipt, request_id: seq.0, code: code.into(), remaining })
        }
        Ok(Effect::ItemSet(state)) => Found::Item(UpdateItemResponse { receipt, item: Some(item(state)) }),
        Ok(Effect::Adjusted { remaining }) => Found::Adjusted(AdjustItemResponse { receipt, remaining: *remaining }),
        Ok(Effect::ItemRemoved { version }) => Found::Removed(RemoveItemResponse { receipt, version: version.0 }),
        Ok(Effect::PoolSet { version }) => Found::Pool(CreatePoolResponse { receipt, version: version.0 }),
        Ok(Effect::Imported { version, items }) => {
            Found::Imported(Imported { receipt, version: version.0, items: *items })
        }
    }
}

fn draw_result(request_id: u64, step: &Step) -> DrawResult {
    let (code, via) = match step {
        Step::Awarded(_) => (DrawCode::Awarded, DrawVia::Unspecified),
        Step::Fallback(_) => (DrawCode::Awarded, DrawVia::Fallback),
        Step::Miss => (DrawCode::Miss, DrawVia::Unspecified),
        Step::PoolEmpty => (DrawCode::PoolEmpty, DrawVia::Unspecified),
    };
    let item_id = step.item().map(ToString::to_string).unwrap_or_default();
    DrawResult { request_id, code: code.into(), item_id, via: via.into() }
}

fn item(state: &ItemState) -> Item {
    let (unlimited, remaining) = match state.stock {
        Stock::Finite(units) => (false, units),
        Stock::Unlimited => (true, 0),
    };
    Item {
        item_id: state.id.to_string(),
        weight: state.weight.0,
        unlimited,
        remaining,
        reserved: state.reserved,
        awarded: state.awarded,
        returned: state.returned,
        added: state.added,
        rev: state.rev.0,
    }
}

/// A pool without its items.
pub fn pool(summary: &PoolSummary) -> Pool {
    let (policy, fallback_item_id) = match &summary.policy {
        pool::Policy::Renormalize => (Policy::Renormalize, String::new()),
        pool::Policy::Fallback(item) => (Policy::Fallback, item.to_string()),
        pool::Policy::Miss => (Policy::Miss, String::new()),
    };
    Pool {
        id: summary.id.to_string(),
        paused: summary.paused,
        policy: policy.into(),
        fallback_item_id,
        version: summary.version.0,
        last_request_id: summary.draw_seq.0,
        items: summary.items,
        key_floor_ms: summary.key_floor.0,
    }
}

/// The page after the item that `token` names (empty: the first), and the token of the next one.
pub fn page(items: &[ItemState], size: usize, token: &str) -> Result<(Vec<Item>, String), Status> {
    let start = match token {
        "" => 0,
        _ => {
            let last = items.iter().position(|item| item.id.as_str() == token);
            last.ok_or_else(|| status::malformed("page_token is of no item of the pool: start over"))? + 1
        }
    };
    let rest = &items[start..];
    let (page, more) = rest.split_at(size.min(rest.len()));
    let next = match (page.last(), more.is_empty()) {
        (Some(last), false) => last.id.to_string(),
        _ => String::new(),
    };
    Ok((page.iter().map(item).collect(), next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{DrawSeq, Outcome, Refusal, Version},
        types::{Index, Millis},
    };

    fn answered(result: Result<Effect, Refusal>) -> Answered {
        let key = RequestKey::new(Millis(1), [0; 10]);
        Answered { key, outcome: Outcome { index: Index(2), now: Millis(3), replayed: true, result } }
    }

    fn state(id: &str, stock: Stock) -> ItemState {
        let id = id.parse().unwrap();
        ItemState { id, weight: Weight(1), stock, reserved: 2, awarded: 3, returned: 4, added: 5, rev: Version(6) }
    }

    #[test]
    fn a_draw_is_told_step_by_step() {
        let steps = vec![
            Step::Awarded("a".parse().unwrap()),
            Step::Fallback("b".parse().unwrap()),
            Step::Miss,
            Step::PoolEmpty,
        ];
        let outcome = answered(Ok(Effect::Drawn { first_seq: DrawSeq(9), version: Version(8), steps }));
        let Found::Draw(told) = found(&outcome) else { panic!("a draw is told as a draw") };
        assert_eq!(told.odds_version, 8);
        let receipt = told.receipt.unwrap();
        assert_eq!(
            (receipt.key, receipt.index, receipt.now_ms, receipt.replayed),
            (outcome.key.to_string(), 2, 3, true)
        );
        let results: Vec<_> =
            told.results.iter().map(|r| (r.request_id, r.code(), r.item_id.as_str(), r.via())).collect();
        let expected = [
            (9, DrawCode::Awarded, "a", DrawVia::Unspecified),
            (10, DrawCode::Awarded, "b", DrawVia::Fallback),
            (11, DrawCode::Miss, "", DrawVia::Unspecified),
            (12, DrawCode::PoolEmpty, "", DrawVia::Unspecified),
        ];
        assert_eq!(results, expected);
    }

    #[test]
    fn a_refusal_is_told_with_its_code() {
        let Found::Refused(told) = found(&answered(Err(Refusal::PoolPaused))) else { panic!("told as refused") };
        assert_eq!((told.code.as_str(), told.message.as_str()), ("POOL_PAUSED", "pool is paused"));
    }

    #[test]
    fn a_claim_says_what_is_left_only_if_there_was_not_enough() {
        let claim = |result| match found(&answered(Ok(Effect::Claimed { seq: DrawSeq(4), result }))) {
            Found::Claim(told) => (told.request_id, told.code(), told.remaining),
            _ => panic!("a claim is told as a claim"),
        };
        assert_eq!(claim(Claim::Awarded), (4, ClaimCode::Awarded, 0));
        assert_eq!(claim(Claim::OutOfStock { remaining: 7 }), (4, ClaimCode::OutOfStock, 7));
    }

    #[test]
    fn unlimited_is_a_flag_and_never_a_number() {
        assert_eq!(stock(true, 0).unwrap(), Stock::Unlimited);
        assert_eq!(stock(true, 1).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(stock(false, 7).unwrap(), Stock::Finite(7));
        let told = item(&state("a", Stock::Unlimited));
        assert_eq!((told.unlimited, told.remaining), (true, 0));
    }

    #[test]
    fn a_policy_and_its_fallback_must_agree() {
        let read = |number: Policy, item: &str| policy(number.into(), item.to_owned());
        assert_eq!(read(Policy::Unspecified, "").unwrap(), pool::Policy::Renormalize);
        assert_eq!(read(Policy::Miss, "").unwrap(), pool::Policy::Miss);
        assert_eq!(read(Policy::Fallback, "mud").unwrap(), pool::Policy::Fallback("mud".parse().unwrap()));
        for (number, item) in [(Policy::Fallback, ""), (Policy::Renormalize, "mud"), (Policy::Miss, "mud")] {
            assert_eq!(read(number, item).unwrap_err().code(), tonic::Code::InvalidArgument, "{number:?} {item:?}");
        }
        assert!(policy(99, String::new()).is_err());
    }

    #[test]
    fn pages_cover_every_item_once() {
        let items: Vec<_> = (0..7).map(|n| state(&format!("item-{n}"), Stock::Finite(n))).collect();
        for size in 1..9 {
            let (mut seen, mut token) = (vec![], String::new());
            loop {
                let (page, next) = page(&items, size, &token).unwrap();
                assert!(page.len() <= size);
                seen.extend(page.into_iter().map(|item| item.remaining));
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            assert_eq!(seen, (0..7).collect::<Vec<_>>(), "pages of {size}");
        }
        assert!(page(&items, 3, "nothing").is_err());
        assert_eq!(page(&[], 3, "").unwrap(), (vec![], String::new()));
    }
}
