//! What a run of `bench` did, whether its books balance, and how it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Args;
use crate::{
    pool::{Effect, ItemId, ItemState, Refusal, RequestKey, Stock},
    types::Term,
};

/// The histogram's range; longer calls count as this long.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What one worker, or all of them together, did.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) latency_us: Histogram<u64>,
    /// Calls answered.
    pub(super) calls: u64,
    /// Draw steps answered.
    pub(super) draws: u64,
    /// Steps that gave nothing.
    pub(super) empty: u64,
    pub(super) retries: u64,
    /// Calls that failed, or were refused.
    pub(super) errors: u64,
    /// Terms that began while somebody waited.
    pub(super) new_terms: BTreeSet<Term>,
    /// Units awarded.
    pub(super) awards: BTreeMap<ItemId, u64>,
    /// Requests whose outcome is not known.
    pub(super) unknown: Vec<RequestKey>,
    /// The last thing that went wrong.
    pub(super) last_error: Option<String>,
}

/// Is what each item lost and awarded exactly what was received of it?
pub(super) fn is_balanced(before: &[ItemState], after: &[ItemState], awards: &BTreeMap<ItemId, u64>) -> bool {
    let known = |item: &&ItemId| before.iter().any(|state| state.id == **item);
    let same = |before: &ItemState| {
        let received = awards.get(&before.id).copied().unwrap_or(0);
        let Some(after) = after.iter().find(|after| after.id == before.id) else { return false };
        let taken = match (before.stock, after.stock) {
            (Stock::Finite(before), Stock::Finite(after)) => before.checked_sub(after),
            (Stock::Unlimited, Stock::Unlimited) => Some(received),
            _ => None,
        };
        taken == Some(received) && after.awarded.checked_sub(before.awarded) == Some(received)
    };
    awards.keys().all(|item| known(&item)) && before.iter().all(same)
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are legal");
        Self {
            latency_us,
            calls: 0,
            draws: 0,
            empty: 0,
            retries: 0,
            errors: 0,
            new_terms: BTreeSet::new(),
            awards: BTreeMap::new(),
            unknown: Vec::new(),
            last_error: None,
        }
    }
}

impl Tally {
    pub(super) fn answered(&mut self, start: Instant, retries: u32) {
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(micros.min(LATENCY_US_MAX));
        self.calls += 1;
        self.retries += u64::from(retries);
    }

    pub(super) fn error(&mut self, why: String) {
        self.errors += 1;
        self.last_error = Some(why);
    }

    pub(super) fn outcome(&mut self, result: &Result<Effect, Refusal>) {
        match result {
            Ok(Effect::Drawn { steps, .. }) => {
                self.draws += steps.len() as u64;
                for step in steps {
                    match step.item() {
                        Some(item) => *self.awards.entry(item.clone()).or_default() += 1,
                        None => self.empty += 1,
                    }
                }
            }
            Ok(other) => self.error(format!("the cluster answered something else: {other:?}")),
            Err(refusal) => self.error(format!("{}: {refusal}", refusal.code())),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.latency_us.add(&other.latency_us).expect("all histograms have the same bounds");
        self.calls += other.calls;
        self.draws += other.draws;
        self.empty += other.empty;
        self.retries += other.retries;
        self.errors += other.errors;
        self.new_terms.extend(other.new_terms);
        for (item, units) in other.awards {
            *self.awards.entry(item).or_default() += units;
        }
        self.unknown.extend(other.unknown);
        self.last_error = other.last_error.or(self.last_error.take());
    }
}

fn per_s(count: u64, elapsed: Duration) -> f64 {
    (count as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0
}

pub(super) fn json(args: &Args, tally: &Tally, elapsed: Duration, conserved: bool) -> Value {
    let at = |quantile| tally.latency_us.value_at_quantile(quantile);
    json!({
        "mode": if args.reads { "reads" } else { "draws" },
        "duration_s": elapsed.as_secs_f64(),
        "connections": args.connections,
        "in_flight": args.in_flight,
        "draws_per_key": args.draws_per_key,
        "calls": tally.calls,
        "calls_per_s": per_s(tally.calls, elapsed),
        "draws": tally.draws,
        "draws_per_s": per_s(tally.draws, elapsed),
        "empty": tally.empty,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": tally.latency_us.max(),
        "errors": tally.errors,
        "last_error": tally.last_error,
        "retries": tally.retries,
        "leader_changes": tally.new_terms.len(),
        "unknown": tally.unknown.len(),
        "conserved": conserved,
    })
}

pub(super) fn text(args: &Args, tally: &Tally, elapsed: Duration, conserved: bool) -> String {
    let at = |quantile| tally.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let rate = if args.reads {
        format!("reads      {:.0}/s", per_s(tally.calls, elapsed))
    } else {
        let (draws, calls) = (per_s(tally.draws, elapsed), per_s(tally.calls, elapsed));
        format!("draws      {draws:.0}/s, {} a key, {calls:.0} keys/s", args.draws_per_key)
    };
    let books = match (conserved, args.reads) {
        (true, true) => "stock unchanged",
        (true, false) => "conserved: every award received is an award given, item by item",
        (false, _) => "NOT CONSERVED",
    };
    let error = tally.last_error.as_ref().map(|why| format!(" (last: {why})")).unwrap_or_default();
    format!(
        "{rate}\nlatency    p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms\nload       {:.1} s, {} connections, {} in flight each\ntrouble    {} errors{error}, {} retries, {} changes of leader, {} draws without an award\nbooks      {books}\n",
        at(0.5),
        at(0.99),
        at(0.999),
        tally.latency_us.max() as f64 / 1_000.0,
        elapsed.as_secs_f64(),
        args.connections,
        args.in_flight,
        tally.errors,
        tally.retries,
        tally.new_terms.len(),
        tally.empty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{DrawSeq, Step, Version, Weight};

    fn item(id: &str, stock: Stock, awarded: u64) -> ItemState {
        ItemState {
            id: id.parse().unwrap(),
            weight: Weight(1),
            stock,
            reserved: 0,
            awarded,
            returned: 0,
            added: 100,
            rev: Version(1),
        }
    }

    fn drawn(ids: &[&str]) -> Result<Effect, Refusal> {
        let mut steps: Vec<_> = ids.iter().map(|id| Step::Awarded(id.parse().unwrap())).collect();
        steps.push(Step::PoolEmpty);
        Ok(Effect::Drawn { first_seq: DrawSeq(1), version: Version(1), steps })
    }

    fn args() -> Args {
        Args {
            duration: Duration::from_secs(2),
            connections: 1,
            in_flight: 1,
            draws_per_key: 3,
            reads: false,
            pool: None,
        }
    }

    #[test]
    fn books_are_balanced_item_by_item() {
        let before = [item("gold", Stock::Finite(10), 0), item("air", Stock::Unlimited, 5)];
        let after = [item("gold", Stock::Finite(8), 2), item("air", Stock::Unlimited, 6)];
        let mut tally = Tally::default();
        tally.outcome(&drawn(&["gold", "air", "gold"]));
        assert!(is_balanced(&before, &after, &tally.awards));

        assert!(!is_balanced(&before, &before, &tally.awards), "received and never given");
        assert!(!is_balanced(&before, &after, &BTreeMap::new()), "given and never received");
        tally.outcome(&drawn(&["ghost"]));
        assert!(!is_balanced(&before, &after, &tally.awards), "an item that is not in the pool");
        let moved = [item("gold", Stock::Finite(8), 3), item("air", Stock::Unlimited, 6)];
        assert!(!is_balanced(
            &before,
            &moved,
            &BTreeMap::from([("gold".parse().unwrap(), 2), ("air".parse().unwrap(), 1)])
        ));
    }

    #[test]
    fn json_has_the_documented_keys() {
        let mut tally = Tally::default();
        tally.answered(Instant::now(), 2);
        tally.outcome(&drawn(&["gold", "gold"]));
        tally.outcome(&Err(Refusal::PoolPaused));
        let mut all = Tally::default();
        all.add(tally.clone());
        all.add(tally);
        let json = json(&args(), &all, Duration::from_secs(2), true);
        for key in ["draws_per_s", "p50_us", "p99_us", "p999_us", "max_us", "errors", "retries", "conserved"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!((&json["draws"], &json["draws_per_s"], &json["empty"]), (&json!(6), &json!(3.0), &json!(2)));
        assert_eq!((&json["errors"], &json["retries"], &json["calls"]), (&json!(2), &json!(4), &json!(2)));
        assert!(text(&args(), &all, Duration::from_secs(2), true).contains("conserved"));
        assert!(text(&args(), &all, Duration::from_secs(2), false).contains("NOT CONSERVED"));
    }
}
