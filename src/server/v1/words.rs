//! The words of `tombola.v1` and those of [`crate::pool`], turned into each other.

use tonic::Status;

use crate::{
    api::Answered,
    pool::{
        self, Claim, Effect, InvalidName, ItemId, ItemState, PAGE_LEN_MAX, PoolId, PoolSummary, RequestKey, Step,
        Stock, Weight,
    },
    server::{
        proto::v1::{
            AdjustItemResponse, CatalogItem, ClaimCode, ClaimResponse, DrawCode, DrawResponse, DrawResult, DrawVia,
            ImportCatalogResponse, Item, ItemResponse, Policy, Pool, PoolResponse, Receipt, Refused,
            RemoveItemResponse, get_outcome_response::Found,
        },
        status,
    },
};

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
            let results = (first_seq.0..).zip(steps.iter()).map(|(seq, step)| draw_result(seq, step)).collect();
            Found::Draw(DrawResponse { receipt, odds_version: version.0, results })
        }
        Ok(Effect::Claimed { seq, result }) => {
            let (code, remaining) = match result {
                Claim::Awarded => (ClaimCode::Awarded, 0),
                Claim::OutOfStock { remaining } => (ClaimCode::OutOfStock, *remaining),
            };
            Found::Claim(ClaimResponse { receipt, request_id: seq.0, code: code.into(), remaining })
        }
        Ok(Effect::ItemSet(state)) => Found::Item(ItemResponse { receipt, item: Some(item(state)) }),
        Ok(Effect::Adjusted { remaining }) => Found::Adjusted(AdjustItemResponse { receipt, remaining: *remaining }),
        Ok(Effect::ItemRemoved { version }) => Found::Removed(RemoveItemResponse { receipt, version: version.0 }),
        Ok(Effect::PoolSet { version }) => Found::Pool(PoolResponse { receipt, version: version.0 }),
        Ok(Effect::Imported { version, items }) => {
            Found::Imported(ImportCatalogResponse { receipt, version: version.0, items: *items })
        }
    }
}

fn draw_result(request_id: u64, step: Step<&ItemId>) -> DrawResult {
    let (code, via) = match step {
        Step::Awarded(_) => (DrawCode::Awarded, DrawVia::Unspecified),
        Step::Fallback(_) => (DrawCode::Awarded, DrawVia::Fallback),
        Step::Miss => (DrawCode::Miss, DrawVia::Unspecified),
        Step::PoolEmpty => (DrawCode::PoolEmpty, DrawVia::Unspecified),
    };
    let item_id = step.item().map(ToString::to_string).unwrap_or_default();
    DrawResult { request_id, code: code.into(), item_id, via: via.into() }
}

/// An item.
pub fn item(state: &ItemState) -> Item {
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
        require_key: summary.require_key,
    }
}

/// How many are on a page: as asked, or `default` if not asked.
pub fn page_len(asked: u32, default: u16) -> Result<u16, Status> {
    match u16::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(len) if len <= PAGE_LEN_MAX => Ok(len),
        _ => Err(status::malformed(format!("page_size is {asked}: it must be 1 to {PAGE_LEN_MAX}"))),
    }
}

/// What a page goes on from: the id that its token is, if it has one.
pub fn page_after<I: TryFrom<String>>(token: String) -> Result<Option<I>, Status> {
    let of_nothing = |_| status::malformed("page_token is not one that was given out: start over");
    if token.is_empty() { Ok(None) } else { token.try_into().map(Some).map_err(of_nothing) }
}

/// The token of the next page, if there is one.
pub fn next_page(last: Option<&str>, more: bool) -> String {
    last.filter(|_| more).unwrap_or_default().to_owned()
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
        let outcome = answered(Ok(Effect::Drawn {
            first_seq: DrawSeq(9),
            version: Version(8),
            steps: steps.into_iter().collect(),
        }));
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
    fn a_page_has_a_length_and_goes_on_from_a_name() {
        assert_eq!([0, 1, 1_000].map(|asked| page_len(asked, 100).unwrap()), [100, 1, 1_000]);
        assert!(page_len(1_001, 100).is_err() && page_len(u32::MAX, 100).is_err() && page_len(65_536, 100).is_err());
        assert_eq!(page_after::<PoolId>(String::new()).unwrap(), None);
        assert_eq!(page_after("gold".to_owned()).unwrap(), Some("gold".parse::<ItemId>().unwrap()));
        assert!(page_after::<PoolId>("No Pool".to_owned()).is_err());
        assert_eq!((next_page(Some("a"), true), next_page(Some("a"), false)), ("a".to_owned(), String::new()));
        assert_eq!(next_page(None, false), "");
    }
}
