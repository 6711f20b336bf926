//! `tombola state`: a pool and what is left in it.

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals, output,
    pages::{self, Paged},
    session,
};
use crate::{
    api::{Consistency, Read},
    client::Client,
    pool::{Answer, ItemState, Policy, PoolId, PoolState, PoolSummary, Query, Refusal, Stock},
};

/// Which state.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tombola state
  tombola state --pool spring -o json")]
pub struct Args {
    /// The pool
    #[arg(long, default_value = "default", value_name = "POOL")]
    pool: PoolId,
    /// Do not ask the other nodes whether this one is up to date; says its index
    #[arg(long)]
    stale: bool,
}

/// Shows a pool.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let client = session::open(globals).await?;
    let consistency = if args.stale { Consistency::Stale } else { Consistency::Linearizable };
    let shown = pool(&client, &args.pool, consistency).await;
    client.close().await;
    let shown = shown?;
    output::data(globals.output, &pool_json(&shown, args.stale), || pool_text(&shown, args.stale));
    Ok(Exit::Ok)
}

/// A pool and its items: at one index, or page by page if they are too many for that.
async fn pool(client: &Client, pool: &PoolId, consistency: Consistency) -> Result<Paged<PoolState>, CliError> {
    let called = client.read(Query::Pool(pool.clone()), consistency).await;
    let Read { index, now, answer } = called.map_err(|error| session::failed(error, None))?.value;
    match answer {
        Answer::Pool(state) => Ok(Paged::whole(state, index, now)),
        Answer::Refused(Refusal::TooLong) => pages::items(client, pool, consistency).await,
        Answer::Refused(refusal) => Err(session::refused(&refusal, None)),
        other => Err(unexpected(&other)),
    }
}

/// Reads; a refusal is an error.
pub(super) async fn read(client: &Client, query: Query, consistency: Consistency) -> Result<Read, CliError> {
    let read = client.read(query, consistency).await.map_err(|error| session::failed(error, None))?.value;
    match &read.answer {
        Answer::Refused(refusal) => Err(session::refused(refusal, None)),
        _ => Ok(read),
    }
}

/// The error for an answer of another kind than was asked for.
pub(super) fn unexpected(answer: &Answer) -> CliError {
    CliError::new(Exit::Other, "UNEXPECTED", format!("the node answered something else: {answer:?}"))
}

/// An item's JSON.
pub(super) fn item_json(item: &ItemState) -> Value {
    let (unlimited, remaining) = match item.stock {
        Stock::Finite(units) => (false, Some(units)),
        Stock::Unlimited => (true, None),
    };
    json!({
        "id": item.id.as_str(),
        "weight": item.weight.0,
        "unlimited": unlimited,
        "remaining": remaining,
        "reserved": item.reserved,
        "awarded": item.awarded,
        "returned": item.returned,
        "added": item.added,
        "rev": item.rev.0,
    })
}

/// Items as a table.
pub(super) fn items_text<'a>(items: impl IntoIterator<Item = &'a ItemState>) -> String {
    let rows = items.into_iter().map(|item| {
        let remaining = match item.stock {
            Stock::Finite(units) => units.into(),
            Stock::Unlimited => output::Value::Number("unlimited".to_owned()),
        };
        let weight = u64::from(item.weight.0).into();
        vec![item.id.to_string().into(), weight, remaining, item.reserved.into(), item.awarded.into()]
    });
    output::table(&["item", "weight", "remaining", "reserved", "awarded"], rows)
}

/// A policy's name, as `pool create --policy` takes it.
pub(super) fn policy_text(policy: &Policy) -> String {
    match policy {
        Policy::Renormalize => "renormalize".to_owned(),
        Policy::Miss => "miss".to_owned(),
        Policy::Fallback(item) => format!("fallback:{item}"),
    }
}

/// A pool's JSON, its items aside.
pub(super) fn summary_json(summary: &PoolSummary) -> Value {
    json!({
        "pool": summary.id.as_str(),
        "paused": summary.paused,
        "policy": policy_text(&summary.policy),
        "require_key": summary.require_key,
        "version": summary.version.0,
        "draws": summary.draw_seq.0,
        "key_floor_ms": summary.key_floor.0,
    })
}

fn pool_json(shown: &Paged<PoolState>, stale: bool) -> Value {
    let mut document = summary_json(&shown.value.summary);
    document["index"] = json!(shown.first.0);
    document["last_index"] = json!(shown.last.0);
    document["now_ms"] = json!(shown.now.0);
    document["stale"] = json!(stale);
    document["items"] = shown.value.items.iter().map(item_json).collect();
    document
}

fn pool_text(shown: &Paged<PoolState>, stale: bool) -> String {
    let Paged { value: pool, first, last, .. } = shown;
    let PoolSummary { id, paused, policy, require_key, version, draw_seq, .. } = &pool.summary;
    let paused = if *paused { ", paused" } else { "" };
    let keyed = if *require_key { ", keys required" } else { "" };
    let index = if first == last { first.to_string() } else { format!("{first} to {last}, page by page") };
    let how = if stale { "stale: this node's own state" } else { "linearizable" };
    format!(
        "{}\npool   {id}{paused}, policy {}{keyed}, version {version}, {draw_seq} draws so far\nindex  {index} ({how})\n",
        items_text(&pool.items),
        policy_text(policy),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{DrawSeq, Version, Weight},
        types::{Index, Millis},
    };

    pub(super) fn pool() -> PoolState {
        let item = |id: &str, stock| ItemState {
            id: id.parse().unwrap(),
            weight: Weight(10),
            stock,
            reserved: 1,
            awarded: 2,
            returned: 0,
            added: 8,
            rev: Version(3),
        };
        let summary = PoolSummary {
            id: PoolId::default_pool(),
            paused: false,
            policy: Policy::Renormalize,
            require_key: false,
            version: Version(3),
            draw_seq: DrawSeq(2),
            items: 2,
            key_floor: Millis(0),
        };
        PoolState { summary, items: vec![item("gold", Stock::Finite(5)), item("air", Stock::Unlimited)] }
    }

    #[test]
    fn json_has_the_documented_keys_and_no_negative_quantity() {
        let document = pool_json(&Paged::whole(pool(), Index(7), Millis(9)), true);
        assert_eq!(
            (&document["pool"], &document["index"], &document["last_index"], &document["stale"]),
            (&json!("default"), &json!(7), &json!(7), &json!(true))
        );
        let gold = &document["items"][0];
        for (key, value) in [("id", json!("gold")), ("weight", json!(10)), ("unlimited", json!(false))] {
            assert_eq!(gold[key], value);
        }
        for (key, value) in [("remaining", json!(5)), ("reserved", json!(1)), ("awarded", json!(2))] {
            assert_eq!(gold[key], value);
        }
        let air = &document["items"][1];
        assert_eq!((&air["unlimited"], &air["remaining"]), (&json!(true), &Value::Null));
    }

    #[test]
    fn text_says_how_fresh_it_is() {
        let whole = Paged::whole(pool(), Index(7), Millis(9));
        assert!(pool_text(&whole, false).contains("index  7 (linearizable)"));
        assert!(pool_text(&whole, true).contains("index  7 (stale"));
        assert!(pool_text(&whole, true).contains("unlimited"));
        let paged = Paged { last: Index(9), ..whole };
        assert!(pool_text(&paged, false).contains("index  7 to 9, page by page (linearizable)"));
    }
}
