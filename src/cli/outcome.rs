//! `tombola outcome`: what became of a request.

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, draw, output, session, state};
use crate::{
    api::{Consistency, Read},
    pool::{Answer, Claim, Effect, Outcome, PoolId, Query, Remembered, RequestKey},
};

/// Which request.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A request that was NOT_SEEN may still be on its way: send it again under the same key to settle it.

Example:
  tombola outcome 019f2a00-5c00-7abc-9def-0123456789ab")]
pub struct Args {
    /// The request's key
    key: RequestKey,
    /// The pool it was for
    #[arg(long, default_value = "default", value_name = "POOL")]
    pool: PoolId,
}

/// Shows an outcome.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let client = session::open(globals).await?;
    let read = state::read(&client, Query::Outcome(args.pool.clone(), args.key), Consistency::Linearizable).await;
    client.close().await;
    let read = read?;
    let Answer::Outcome(remembered) = &read.answer else { return Err(state::unexpected(&read.answer)) };
    output::data(globals.output, &json(&args, &read, remembered), || text(&read, remembered));
    Ok(Exit::Ok)
}

fn json(args: &Args, read: &Read, remembered: &Remembered) -> Value {
    let mut document = json!({"pool": args.pool.as_str(), "key": args.key.to_string(), "read_index": read.index.0});
    let more = match remembered {
        Remembered::NotSeen => json!({"status": "NOT_SEEN"}),
        Remembered::Expired { floor } => json!({"status": "EXPIRED", "key_floor_ms": floor.0}),
        Remembered::Outcome(outcome) => decided_json(outcome),
    };
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    document
}

fn decided_json(outcome: &Outcome) -> Value {
    let mut document = match &outcome.result {
        Err(refusal) => json!({"status": "REFUSED", "code": refusal.code(), "message": refusal.to_string()}),
        Ok(effect) => effect_json(effect),
    };
    document["index"] = json!(outcome.index.0);
    document["now_ms"] = json!(outcome.now.0);
    document
}

fn effect_json(effect: &Effect) -> Value {
    let mut document = match effect {
        Effect::Drawn { first_seq, steps, .. } => draw::steps_json(*first_seq, steps),
        Effect::Claimed { seq, result: Claim::Awarded } => json!({"request_id": seq.0, "result": "AWARDED"}),
        Effect::Claimed { seq, result: Claim::OutOfStock { remaining } } => {
            json!({"request_id": seq.0, "result": "OUT_OF_STOCK", "remaining": remaining})
        }
        Effect::ItemSet(item) => json!({"item": state::item_json(item)}),
        Effect::Adjusted { remaining } => json!({"remaining": remaining}),
        Effect::ItemRemoved { version } | Effect::PoolSet { version } => json!({"version": version.0}),
        Effect::Imported { version, items } => json!({"version": version.0, "items": items}),
    };
    document["status"] = json!("DECIDED");
    document
}

fn text(read: &Read, remembered: &Remembered) -> String {
    match remembered {
        Remembered::NotSeen => format!(
            "not seen at index {}: it may still be on its way; the same request under the same key settles it\n",
            read.index
        ),
        Remembered::Expired { floor } => {
            format!("too old: keys up to {floor} ms are forgotten, and never executed again\n")
        }
        Remembered::Outcome(outcome) => format!("{}\nindex  {}\n", decided_text(outcome), outcome.index),
    }
}

fn decided_text(outcome: &Outcome) -> String {
    match &outcome.result {
        Err(refusal) => format!("refused: {}: {refusal}\n", refusal.code()),
        Ok(Effect::Drawn { first_seq, steps, .. }) => draw::steps_text(*first_seq, steps),
        Ok(Effect::Claimed { seq, result: Claim::Awarded }) => format!("claim {seq}: awarded\n"),
        Ok(Effect::Claimed { seq, result: Claim::OutOfStock { remaining } }) => {
            format!("claim {seq}: nothing was taken, only {remaining} left\n")
        }
        Ok(Effect::ItemSet(item)) => state::items_text([item]),
        Ok(Effect::Adjusted { remaining }) => format!("stock adjusted: {remaining} remaining\n"),
        Ok(Effect::ItemRemoved { version }) => format!("item removed: the pool's version is {version}\n"),
        Ok(Effect::PoolSet { version }) => format!("pool set: its version is {version}\n"),
        Ok(Effect::Imported { version, items }) => format!("{items} items imported: the pool's version is {version}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{DrawSeq, Refusal, Step, Version},
        types::{Index, Millis},
    };

    fn shown(remembered: Remembered) -> (Value, String) {
        let args = Args { key: RequestKey::new(Millis(1), [1; 10]), pool: PoolId::default_pool() };
        let read = Read { index: Index(9), now: Millis(1), answer: Answer::Pools { pools: vec![], more: false } };
        (json(&args, &read, &remembered), text(&read, &remembered))
    }

    fn outcome(result: Result<Effect, Refusal>) -> Remembered {
        Remembered::Outcome(Outcome { index: Index(5), now: Millis(1), replayed: true, result })
    }

    #[test]
    fn every_fate_has_its_status() {
        let drawn = Effect::Drawn {
            first_seq: DrawSeq(3),
            version: Version(1),
            steps: [Step::Awarded("gold".parse().unwrap())].into_iter().collect(),
        };
        let (document, text) = shown(outcome(Ok(drawn)));
        assert_eq!((&document["status"], &document["index"]), (&json!("DECIDED"), &json!(5)));
        assert_eq!(document["awards"], json!([{"request_id": 3, "item_id": "gold"}]));
        assert!(text.contains("gold"));

        let (document, text) = shown(outcome(Err(Refusal::PoolPaused)));
        assert_eq!((&document["status"], &document["code"]), (&json!("REFUSED"), &json!("POOL_PAUSED")));
        assert!(text.contains("POOL_PAUSED"));

        assert_eq!(shown(Remembered::NotSeen).0["status"], "NOT_SEEN");
        assert_eq!(shown(Remembered::Expired { floor: Millis(4) }).0["status"], "EXPIRED");
    }
}
