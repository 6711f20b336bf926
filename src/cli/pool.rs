//! `tombola pool`: creates, lists, changes, pauses and resumes pools.

use serde_json::json;

use super::{
    CliError, Exit, Globals, item,
    mutate::{self, Target},
    output,
    pages::{self, Paged},
    session, state,
};
use crate::{
    api::Consistency,
    pool::{Action, Answer, CatalogItem, Effect, Policy, PoolId, PoolSummary, Query, RequestKey, Version, Weight},
};

/// What to do with pools.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Create a pool
    #[command(after_help = "\
Examples:
  tombola pool create spring --item gold:10:1 --item sticker:unlimited:99
  tombola pool create lottery --policy fallback:nothing --item car:1:1 --item nothing:unlimited:999")]
    Create {
        /// Its id: a-z, 0-9 and -, starting with a letter
        pool: PoolId,
        /// An item as ID:QUANTITY:WEIGHT; again for more
        #[arg(long = "item", value_parser = parse_item, value_name = "ID:QUANTITY:WEIGHT")]
        items: Vec<CatalogItem>,
        /// When an item is hit that cannot be awarded: leave its weight out, give nothing, or give another item
        #[arg(long, value_parser = parse_policy, default_value = "renormalize", value_name = "renormalize|miss|fallback:ITEM")]
        policy: Policy,
        /// Refuse draws that come without a key of the caller's own
        #[arg(long)]
        require_key: bool,
        /// Request key [default: a new one, which is printed]
        #[arg(long, value_name = "UUID")]
        key: Option<RequestKey>,
    },
    /// List the pools
    #[command(after_help = "\
Example:
  tombola pool list -o json")]
    List,
    /// Change a pool's policy, or whether it wants keys
    #[command(after_help = "\
What is not given stays as it is. --etag refuses the change if the pool has another version by then.

Examples:
  tombola pool update spring --policy miss
  tombola pool update spring --require-key true --etag 3")]
    Update {
        /// The pool
        pool: PoolId,
        /// When an item is hit that cannot be awarded: leave its weight out, give nothing, or give another item
        #[arg(long, value_parser = parse_policy, value_name = "renormalize|miss|fallback:ITEM", required_unless_present = "require_key")]
        policy: Option<Policy>,
        /// Refuse draws that come without a key of the caller's own
        #[arg(long, value_name = "true|false")]
        require_key: Option<bool>,
        /// The version that the pool must have [default: the one it has now]
        #[arg(long, value_name = "VERSION")]
        etag: Option<u64>,
        /// Request key [default: a new one, which is printed]
        #[arg(long, value_name = "UUID", requires = "etag")]
        key: Option<RequestKey>,
    },
    /// Refuse draws and claims from now on
    #[command(after_help = "\
Example:
  tombola pool pause spring")]
    Pause {
        /// The pool
        pool: PoolId,
        /// Request key [default: a new one, which is printed]
        #[arg(long, value_name = "UUID")]
        key: Option<RequestKey>,
    },
    /// Accept draws and claims again
    #[command(after_help = "\
Example:
  tombola pool resume spring")]
    Resume {
        /// The pool
        pool: PoolId,
        /// Request key [default: a new one, which is printed]
        #[arg(long, value_name = "UUID")]
        key: Option<RequestKey>,
    },
}

/// Reads `ID:QUANTITY:WEIGHT`. The id may have colons itself.
fn parse_item(text: &str) -> Result<CatalogItem, String> {
    let wrong = "an item is ID:QUANTITY:WEIGHT, as gold:10:1 or sticker:unlimited:99";
    let mut parts = text.rsplitn(3, ':');
    let (Some(weight), Some(stock), Some(item)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong.to_owned());
    };
    Ok(CatalogItem {
        item: item.parse().map_err(|error| format!("{error}"))?,
        stock: item::parse_stock(stock)?,
        weight: Weight(weight.parse().map_err(|_| format!("{weight:?} is no weight; {wrong}"))?),
    })
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    match text.split_once(':') {
        None if text == "renormalize" => Ok(Policy::Renormalize),
        None if text == "miss" => Ok(Policy::Miss),
        Some(("fallback", item)) => Ok(Policy::Fallback(item.parse().map_err(|error| format!("{error}"))?)),
        _ => Err("a policy is `renormalize`, `miss`, or `fallback:ITEM`".to_owned()),
    }
}

/// Does it.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    // Told to whoever has to send the request again.
    let mut etag_read = None;
    let (target, action, done) = match args {
        Args::List => return list(globals).await,
        Args::Create { pool, items, policy, require_key, key } => {
            (Target { pool, key }, Action::CreatePool { policy, items, require_key }, "created")
        }
        Args::Update { pool, policy, require_key, etag, key } => {
            let etag = match etag {
                Some(etag) => Version(etag),
                None => *etag_read.insert(version(&pool, globals).await?),
            };
            (Target { pool, key }, Action::UpdatePool { policy, require_key, etag }, "updated")
        }
        Args::Pause { pool, key } => (Target { pool, key }, Action::PausePool, "paused"),
        Args::Resume { pool, key } => (Target { pool, key }, Action::ResumePool, "resumed"),
    };
    let decided = mutate::submit(globals, target, action).await.map_err(|error| match (etag_read, error.key) {
        (Some(etag), Some(key)) if error.exit == Exit::Unavailable => {
            error.hint(format!("it is safe to send again as it was: with --key {key} --etag {etag}"))
        }
        _ => error,
    })?;
    let Effect::PoolSet { version } = &decided.effect else { return Err(decided.unexpected()) };
    let text = format!("pool   {}, {done}, version {version}\n", decided.pool);
    decided.print(globals.output, json!({"result": done, "version": version.0}), &text);
    Ok(Exit::Ok)
}

/// The version that a pool has now.
async fn version(pool: &PoolId, globals: &Globals) -> Result<Version, CliError> {
    let client = session::open(globals).await?;
    let query = Query::Items { pool: pool.clone(), after: None, limit: 1 };
    let read = state::read(&client, query, Consistency::Linearizable).await;
    client.close().await;
    match read?.answer {
        Answer::Items { summary, .. } => Ok(summary.version),
        other => Err(state::unexpected(&other)),
    }
}

async fn list(globals: &Globals) -> Result<Exit, CliError> {
    let client = session::open(globals).await?;
    let listed = pages::pools(&client).await;
    client.close().await;
    let Paged { value: pools, first, last, .. } = listed?;
    let all: Vec<_> = pools.iter().map(listed_json).collect();
    let json = json!({"index": first.0, "last_index": last.0, "pools": all});
    output::data(globals.output, &json, || format!("{}\nindex  {last}\n", listed_text(&pools)));
    Ok(Exit::Ok)
}

fn listed_json(pool: &PoolSummary) -> serde_json::Value {
    let mut json = state::summary_json(pool);
    json["items"] = json!(pool.items);
    json
}

fn listed_text(pools: &[PoolSummary]) -> String {
    let rows = pools.iter().map(|pool| {
        let state = if pool.paused { "paused" } else { "active" };
        let items = u64::from(pool.items).into();
        let policy = state::policy_text(&pool.policy);
        vec![
            pool.id.to_string().into(),
            state.into(),
            policy.into(),
            items,
            pool.draw_seq.0.into(),
            pool.version.0.into(),
        ]
    });
    output::table(&["pool", "state", "policy", "items", "draws", "version"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Stock;

    #[test]
    fn items_are_read_from_the_right() {
        let item = parse_item("a:b:10:3").unwrap();
        assert_eq!((item.item.as_str(), item.stock, item.weight), ("a:b", Stock::Finite(10), Weight(3)));
        assert_eq!(parse_item("x:unlimited:0").unwrap().stock, Stock::Unlimited);
        for wrong in ["", "gold", "gold:1", ":1:1", "gold:-1:1", "gold:1:-1", "gold:1:4294967296"] {
            assert!(parse_item(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_policy_is_read_as_it_is_shown() {
        for text in ["renormalize", "miss", "fallback:a:b"] {
            assert_eq!(state::policy_text(&parse_policy(text).unwrap()), text);
        }
        for wrong in ["", "fallback", "fallback:", "other", "miss:x"] {
            assert!(parse_policy(wrong).is_err(), "{wrong}");
        }
    }
}
