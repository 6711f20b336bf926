//! `tombola item`: changes a pool's items.

use serde_json::json;

use super::{
    CliError, Exit, Globals,
    mutate::{self, Decided, Target},
    state,
};
use crate::pool::{Action, Effect, ItemId, QUANTITY_MAX, Stock, Version, Weight};

/// What to do with an item.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Set an item's stock and weight, whatever they were; creates it if there is none
    #[command(after_help = "\
Examples:
  tombola item set diamond --quantity 5 --weight 10
  tombola item set sticker --quantity unlimited --weight 500")]
    Set {
        /// The item
        item: ItemId,
        /// Its stock from now on: a number, or `unlimited`
        #[arg(long, value_parser = parse_stock, allow_hyphen_values = true, value_name = "N")]
        quantity: Stock,
        /// Its weight from now on; 0 is never drawn
        #[arg(long, allow_negative_numbers = true, value_name = "W")]
        weight: u32,
        /// Which pool, and under which key.
        #[command(flatten)]
        target: Target,
    },
    /// Add to or take from an item's stock; never below zero
    #[command(after_help = "\
Examples:
  tombola item adjust diamond --by +10
  tombola item adjust diamond --by -3")]
    Adjust {
        /// The item
        item: ItemId,
        /// Units, with their sign
        #[arg(long, value_parser = parse_delta, allow_hyphen_values = true, value_name = "+N|-N")]
        by: i64,
        /// Which pool, and under which key.
        #[command(flatten)]
        target: Target,
    },
    /// Take an item out for good; what it awarded stays on record
    #[command(after_help = "\
Example:
  tombola item remove diamond")]
    Remove {
        /// The item
        item: ItemId,
        /// Only if its rev is still this one, as `state -o json` shows it
        #[arg(long, value_name = "REV")]
        etag: Option<u64>,
        /// Which pool, and under which key.
        #[command(flatten)]
        target: Target,
    },
}

/// Reads a quantity of units, or `unlimited`.
pub(super) fn parse_stock(text: &str) -> Result<Stock, String> {
    match text.parse() {
        _ if text == "unlimited" => Ok(Stock::Unlimited),
        Ok(units @ 0..=QUANTITY_MAX) => Ok(Stock::Finite(units)),
        _ => Err(format!("a quantity is a number from 0 to {QUANTITY_MAX}, or `unlimited`")),
    }
}

fn parse_delta(text: &str) -> Result<i64, String> {
    // Without a sign it might be meant as what the stock shall be.
    match text.parse() {
        Ok(delta) if delta != 0 && text.starts_with(['+', '-']) => Ok(delta),
        _ => Err("an adjustment is a whole number other than 0, with its sign, as +10 or -3".to_owned()),
    }
}

/// Changes an item.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let (target, item, action) = match args {
        Args::Set { item, quantity, weight, target } => {
            let action =
                Action::UpdateItem { item: item.clone(), stock: quantity, weight: Weight(weight), create: true };
            (target, item, action)
        }
        Args::Adjust { item, by, target } => (target, item.clone(), Action::AdjustStock { item, delta: by }),
        Args::Remove { item, etag, target } => {
            (target, item.clone(), Action::RemoveItem { item, etag: etag.map(Version) })
        }
    };
    let decided = mutate::submit(globals, target, action).await?;
    let (json, text) = shown(&decided, &item)?;
    decided.print(globals.output, json, &text);
    Ok(Exit::Ok)
}

fn shown(decided: &Decided, item: &ItemId) -> Result<(serde_json::Value, String), CliError> {
    match &decided.effect {
        Effect::ItemSet(now) => Ok((json!({"item": state::item_json(now)}), state::items_text([now]) + "\n")),
        Effect::Adjusted { remaining } => {
            let text = format!("item       {item}\nremaining  {remaining}\n\n");
            Ok((json!({"item_id": item.as_str(), "remaining": remaining}), text))
        }
        Effect::ItemRemoved { version } => {
            let json = json!({"item_id": item.as_str(), "removed": true, "version": version.0});
            Ok((json, format!("item   {item}, removed\n")))
        }
        _ => Err(decided.unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mutate::tests::decided;

    #[test]
    fn quantities_are_exact_and_never_negative() {
        assert_eq!(parse_stock("unlimited"), Ok(Stock::Unlimited));
        assert_eq!(parse_stock("9007199254740991"), Ok(Stock::Finite(QUANTITY_MAX)));
        for wrong in ["-1", "9007199254740992", "1.5", "", "Unlimited"] {
            assert!(parse_stock(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_adjustment_has_a_sign_and_is_not_nothing() {
        assert_eq!((parse_delta("+10"), parse_delta("-3")), (Ok(10), Ok(-3)));
        for wrong in ["0", "+0", "-0", "7", "", "+-1", "ten"] {
            assert!(parse_delta(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_done_is_shown() {
        let item: ItemId = "gold".parse().unwrap();
        let (json, text) = shown(&decided(Effect::Adjusted { remaining: 4 }), &item).unwrap();
        assert_eq!((&json["item_id"], &json["remaining"]), (&json!("gold"), &json!(4)));
        assert!(text.contains("remaining  4"));
        let drawn = Effect::PoolSet { version: Version(1) };
        assert_eq!(shown(&decided(drawn), &item).unwrap_err().code, "UNEXPECTED");
    }
}
