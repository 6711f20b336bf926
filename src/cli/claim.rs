//! `tombola claim`: takes a named item.

use serde_json::json;

use super::{
    CliError, Exit, Globals,
    mutate::{self, Target},
    output,
};
use crate::pool::{Action, CLAIM_QUANTITY_MAX, Claim, Effect, ItemId};

/// What can be said about a claim.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits 6 if there are not enough; then nothing was taken.

Example:
  tombola claim gold --quantity 2")]
pub struct Args {
    /// The item
    item: ItemId,
    /// How many units, all or none
    #[arg(long, default_value = "1", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(CLAIM_QUANTITY_MAX)), value_name = "N")]
    quantity: u32,
    #[command(flatten)]
    target: Target,
}

/// Claims.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let Args { item, quantity, target } = args;
    let decided = mutate::submit(globals, target, Action::Claim { item: item.clone(), quantity }).await?;
    let Effect::Claimed { seq, result } = &decided.effect else { return Err(decided.unexpected()) };
    let (code, remaining, exit) = match result {
        Claim::Awarded => ("AWARDED", None, Exit::Ok),
        Claim::OutOfStock { remaining } => ("OUT_OF_STOCK", Some(*remaining), Exit::Exhausted),
    };
    let json = json!({"request_id": seq.0, "item_id": item.as_str(), "quantity": quantity, "result": code, "remaining": remaining});
    let row = vec![seq.0.into(), item.to_string().into(), u64::from(quantity).into(), code.into()];
    decided.print(globals.output, json, &(output::table(&["request_id", "item", "quantity", "result"], [row]) + "\n"));
    if let Some(remaining) = remaining {
        output::note(globals.output, &format!("nothing was taken: only {remaining} left"));
    }
    Ok(exit)
}
