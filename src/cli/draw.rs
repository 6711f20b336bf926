//! `tombola draw`: draws under one request key.

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals,
    mutate::{self, Target},
    output,
};
use crate::pool::{Action, DRAWS_PER_COMMAND_MAX, DrawSeq, Effect, ItemId, Step, Steps};

/// What can be said about a draw.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits 0 if any draw gave an award, 6 if none did; the same again under the same key.

Examples:
  tombola draw -n 5
  tombola draw -n 5 --key 019f2a00-5c00-7abc-9def-0123456789ab   (again: the same five awards)")]
pub struct Args {
    /// How many draws, 1 to 1000
    #[arg(short = 'n', long, default_value = "1", allow_negative_numbers = true, value_parser = parse_count, value_name = "N")]
    count: u16,
    #[command(flatten)]
    target: Target,
}

fn parse_count(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(count @ 1..=DRAWS_PER_COMMAND_MAX) => Ok(count),
        _ => Err(format!(
            "one call is one request key, and a key holds 1 to {DRAWS_PER_COMMAND_MAX} draws; for more, call again under another key"
        )),
    }
}

/// Draws.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let decided = mutate::submit(globals, args.target, Action::Draw { count: args.count }).await?;
    let Effect::Drawn { first_seq, steps, .. } = &decided.effect else { return Err(decided.unexpected()) };
    decided.print(globals.output, steps_json(*first_seq, steps), &(steps_text(*first_seq, steps) + "\n"));
    if steps.iter().any(|step| step.item().is_some()) {
        return Ok(Exit::Ok);
    }
    output::note(globals.output, "no draw gave an award");
    Ok(Exit::Exhausted)
}

/// Numbers the steps.
fn numbered(first: DrawSeq, steps: &Steps) -> impl Iterator<Item = (u64, Step<&ItemId>)> {
    steps.iter().zip(first.0..).map(|(step, seq)| (seq, step))
}

fn code(step: Step<&ItemId>) -> &'static str {
    match step {
        Step::Awarded(_) => "AWARDED",
        Step::Fallback(_) => "FALLBACK",
        Step::Miss => "MISS",
        Step::PoolEmpty => "POOL_EMPTY",
    }
}

/// `awards` holds what was given, `not_awarded` the steps that gave nothing.
pub(super) fn steps_json(first: DrawSeq, steps: &Steps) -> Value {
    let (awards, not_awarded): (Vec<_>, Vec<_>) = numbered(first, steps).partition(|(_, step)| step.item().is_some());
    let award =
        |(seq, step): (u64, Step<&ItemId>)| json!({"request_id": seq, "item_id": step.into_item().map(ItemId::as_str)});
    let nothing = |(seq, step): (u64, Step<&ItemId>)| json!({"request_id": seq, "result": code(step)});
    json!({
        "awards": awards.into_iter().map(award).collect::<Vec<_>>(),
        "not_awarded": not_awarded.into_iter().map(nothing).collect::<Vec<_>>(),
    })
}

pub(super) fn steps_text(first: DrawSeq, steps: &Steps) -> String {
    let rows = numbered(first, steps).map(|(seq, step)| {
        let item = match step {
            Step::Awarded(item) => item.to_string(),
            Step::Fallback(item) => format!("{item} (fallback)"),
            Step::Miss => "- (miss)".to_owned(),
            Step::PoolEmpty => "- (reward pool is empty)".to_owned(),
        };
        vec![seq.into(), item.into()]
    });
    output::table(&["request_id", "item"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::mutate::tests::decided, pool::Version};

    fn steps() -> Steps {
        let (gold, tin) = ("gold".parse().unwrap(), "tin".parse().unwrap());
        [Step::Awarded(gold), Step::Fallback(tin), Step::Miss, Step::PoolEmpty].into_iter().collect()
    }

    #[test]
    fn json_has_the_documented_keys() {
        let decided = decided(Effect::Drawn { first_seq: DrawSeq(41), version: Version(1), steps: steps() });
        let document = decided.json(steps_json(DrawSeq(41), &steps()));
        for key in ["pool", "key", "index", "replayed", "awards"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        let awards = json!([{"request_id": 41, "item_id": "gold"}, {"request_id": 42, "item_id": "tin"}]);
        assert_eq!(document["awards"], awards);
        let nothing = json!([{"request_id": 43, "result": "MISS"}, {"request_id": 44, "result": "POOL_EMPTY"}]);
        assert_eq!(document["not_awarded"], nothing);
    }

    #[test]
    fn a_row_a_draw() {
        let text = steps_text(DrawSeq(1), &steps());
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("- (reward pool is empty)"));
    }

    #[test]
    fn a_key_holds_at_most_1000_draws() {
        assert_eq!(parse_count("1000"), Ok(1_000));
        for wrong in ["0", "1001", "100000", "-1", "many"] {
            assert!(parse_count(wrong).is_err(), "{wrong}");
        }
    }
}
