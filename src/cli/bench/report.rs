//! How a run is told: text for people, JSON for scripts.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    args::{Args, Grpc},
    load::Offered,
    tally::Tally,
};
use crate::cli::output;

/// The percentiles that are told, with their keys in the JSON.
const PERCENTILES: [(f64, &str, &str); 4] =
    [(0.5, "p50", "p50_us"), (0.9, "p90", "p90_us"), (0.99, "p99", "p99_us"), (0.999, "p99.9", "p999_us")];

/// A run, as it came out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub(super) elapsed: Duration,
    /// How long one of the tally's slices is.
    pub(super) slice: Duration,
    /// Open loop: what was offered.
    pub(super) offered: Option<Offered>,
    /// The books balance.
    pub(super) conserved: bool,
    /// Voters of the cluster.
    pub(super) nodes: usize,
}

impl Run {
    /// Calls answered a second.
    pub(super) fn calls_per_s(&self) -> f64 {
        per_s(self.tally.calls, self.elapsed)
    }

    /// The latency that this share of the calls was answered within, in microseconds.
    pub(super) fn latency_us(&self, quantile: f64) -> u64 {
        self.tally.latency_us.value_at_quantile(quantile)
    }
}

fn per_s(count: u64, elapsed: Duration) -> f64 {
    (count as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0
}

/// What is counted.
pub(super) fn mode(args: &Args) -> &'static str {
    match &args.claims {
        _ if args.reads => "reads",
        Some(_) => "claims",
        None => "draws",
    }
}

fn protocol(args: &Args) -> &'static str {
    match args.grpc {
        None => "native",
        Some(Grpc::Unary) => "grpc",
        Some(Grpc::Stream) => "grpc-stream",
    }
}

/// A run's document.
pub(super) fn json(args: &Args, run: &Run) -> Value {
    let Run { tally, elapsed, .. } = run;
    let mut document = json!({
        "mode": mode(args),
        "protocol": protocol(args),
        "stale": args.stale,
        "spread": args.spread,
        "duration_s": elapsed.as_secs_f64(),
        "warmup_s": args.warmup.as_secs_f64(),
        "connections": args.connections,
        "in_flight": args.in_flight,
        "draws_per_key": args.draws_per_key,
        "calls": tally.calls,
        "calls_per_s": run.calls_per_s(),
        "draws": tally.draws,
        "draws_per_s": per_s(tally.draws, *elapsed),
        "warmup_calls": tally.warmup_calls,
        "warmup_draws": tally.warmup_draws,
        "empty": tally.empty,
        "max_us": tally.latency_us.max(),
        "errors": tally.errors,
        "last_error": tally.last_error,
        "retries": tally.retries,
        "leader_changes": tally.new_terms.len(),
        "unknown": tally.unknown.len(),
        "nodes": run.nodes,
        "conserved": run.conserved,
        "slice_s": run.slice.as_secs(),
        "slices": tally.slices.iter().map(slice).collect::<Vec<_>>(),
    });
    for (quantile, _, key) in PERCENTILES {
        document[key] = run.latency_us(quantile).into();
    }
    if let Some(offered) = &run.offered {
        document["rate"] = offered.per_s.into();
        document["due"] = offered.due.into();
        document["not_started"] = offered.not_started.into();
        document["late_p50_us"] = tally.late_us.value_at_quantile(0.5).into();
        document["late_p99_us"] = tally.late_us.value_at_quantile(0.99).into();
    }
    document
}

fn slice(latency_us: &Histogram<u64>) -> Value {
    let at = |quantile| latency_us.value_at_quantile(quantile);
    json!({"calls": latency_us.len(), "p50_us": at(0.5), "p999_us": at(0.999), "max_us": latency_us.max()})
}

/// A run in words.
pub(super) fn text(args: &Args, run: &Run) -> String {
    let Run { tally, elapsed, .. } = run;
    let calls = run.calls_per_s();
    let what = match mode(args) {
        "draws" => format!("{:.0}/s, {} a key, {calls:.0} keys/s", per_s(tally.draws, *elapsed), args.draws_per_key),
        _ if args.stale => format!("{calls:.0}/s, stale"),
        "reads" => format!("{calls:.0}/s, linearizable"),
        _ => format!("{calls:.0}/s"),
    };
    let error = tally.last_error.as_ref().map(|why| format!(" (last: {why})")).unwrap_or_default();
    let mut lines = vec![format!("{:<11}{what}", mode(args))];
    lines.extend(run.offered.as_ref().map(|offered| format!("offered    {}", in_words(offered, tally))));
    lines.push(format!("latency    {}", latency(run)));
    lines.push(format!(
        "load       {:.1} s after {:.1} s of warm-up, {} connections to {}, {}, {} in flight on each",
        elapsed.as_secs_f64(),
        args.warmup.as_secs_f64(),
        args.connections,
        if args.spread { "all nodes" } else { "the leader" },
        protocol(args),
        args.in_flight
    ));
    lines.push(format!(
        "trouble    {} errors{error}, {} retries, {} changes of leader, {} without an award",
        tally.errors,
        tally.retries,
        tally.new_terms.len(),
        tally.empty
    ));
    if !args.reads {
        let (nodes, majority) = (run.nodes, run.nodes / 2 + 1);
        lines.push(format!("durable    before it was answered, on the disks of {majority} of {nodes} nodes"));
    }
    lines.push(format!("books      {}", books(args, run.conserved)));
    lines.join("\n") + "\n"
}

fn in_words(offered: &Offered, tally: &Tally) -> String {
    let Offered { per_s, due, not_started } = offered;
    let late = millis(tally.late_us.value_at_quantile(0.99));
    let hidden = if *not_started > 0 { ", and count as waiting to the end" } else { "" };
    format!("{per_s}/s: {due} were due, {not_started} of them never began{hidden}; began late by {late} ms (p99)")
}

fn latency(run: &Run) -> String {
    let told = PERCENTILES.map(|(quantile, name, _)| format!("{name} {} ms, ", millis(run.latency_us(quantile))));
    let since = if run.offered.is_some() { ", since it was due" } else { "" };
    format!("{}max {} ms{since}", told.concat(), millis(run.tally.latency_us.max()))
}

fn millis(us: u64) -> String {
    format!("{:.2}", us as f64 / 1_000.0)
}

fn books(args: &Args, conserved: bool) -> &'static str {
    match (conserved, args.reads) {
        (true, true) => "stock unchanged",
        (true, false) => "conserved: every award received is an award given, item by item",
        (false, _) => "NOT CONSERVED",
    }
}

/// One rate after another: a document of runs.
pub(super) fn rates_json(args: &Args, runs: &[Run]) -> Value {
    json!({
        "mode": mode(args),
        "conserved": runs.iter().all(|run| run.conserved),
        "runs": runs.iter().map(|run| json(args, run)).collect::<Vec<_>>(),
    })
}

/// One rate after another: a row each.
pub(super) fn rates_text(args: &Args, runs: &[Run]) -> String {
    let rows = runs.iter().map(|run| {
        let number = |text: String| output::Value::Number(text);
        let (per_s, not_started) = run.offered.map_or((0, 0), |offered| (offered.per_s, offered.not_started));
        let mut row = vec![u64::from(per_s).into(), number(format!("{:.0}", run.calls_per_s()))];
        row.extend(PERCENTILES.map(|(quantile, ..)| number(millis(run.latency_us(quantile)))));
        row.push(number(millis(run.tally.latency_us.max())));
        row.extend([not_started.into(), run.tally.errors.into()]);
        row
    });
    let headings = ["rate", "answered/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "never began", "errors"];
    let conserved = runs.iter().all(|run| run.conserved);
    output::table(&headings, rows) + &format!("books      {}\n", books(args, conserved))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::bench::{
        tally::tests::{drawn, ended, window},
        workload::Failed,
    };

    pub(in crate::cli::bench) fn run(offered: Option<Offered>) -> Run {
        let window = window();
        let mut tally = Tally::new(window);
        for _ in 0..2 {
            tally.record(
                window.from,
                window.from,
                window.from + Duration::from_millis(3),
                ended(Ok(drawn(&["gold", "gold"]))),
            );
            tally.record(window.from, window.from, window.from, ended(Err(Failed::surely("POOL_PAUSED"))));
        }
        let slice = window.slice();
        Run { tally, elapsed: Duration::from_secs(2), slice, offered, conserved: true, nodes: 3 }
    }

    #[test]
    fn json_has_the_documented_keys() {
        let args = Args::parsed(&["--draws-per-key", "3"]).unwrap();
        let document = json(&args, &run(None));
        for key in ["draws_per_s", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "errors", "retries", "conserved"]
        {
            assert!(document.get(key).is_some(), "{key}");
        }
        let expected = [("draws", json!(6)), ("draws_per_s", json!(3.0)), ("empty", json!(2)), ("errors", json!(2))];
        let more =
            [("retries", json!(8)), ("calls", json!(2)), ("protocol", json!("native")), ("mode", json!("draws"))];
        for (key, value) in expected.into_iter().chain(more) {
            assert_eq!(document[key], value, "{key}");
        }
        assert_eq!(document["slices"][0]["calls"], 2);
        assert!(document.get("rate").is_none(), "nothing was offered");
    }

    #[test]
    fn an_open_loop_tells_what_was_due() {
        let args = Args::parsed(&["--rate", "10"]).unwrap();
        let run = run(Some(Offered { per_s: 10, due: 20, not_started: 4 }));
        let document = json(&args, &run);
        assert_eq!(
            (&document["due"], &document["not_started"], &document["rate"]),
            (&json!(20), &json!(4), &json!(10))
        );
        let text = text(&args, &run);
        assert!(text.contains("20 were due, 4 of them never began, and count as waiting to the end"), "{text}");
        assert!(text.contains("since it was due"), "{text}");
    }

    #[test]
    fn text_tells_what_was_durable_and_whether_the_books_balance() {
        let args = Args::parsed(&[]).unwrap();
        let mut run = run(None);
        let told = text(&args, &run);
        assert!(told.contains("on the disks of 2 of 3 nodes") && told.contains("books      conserved"), "{told}");
        assert!(told.contains("p50 3.00 ms, p90 3.00 ms, p99 3.00 ms, p99.9 3.00 ms, max 3.00 ms"), "{told}");
        run.conserved = false;
        assert!(text(&args, &run).contains("NOT CONSERVED"));
        assert!(text(&Args::parsed(&["--reads", "--stale"]).unwrap(), &run).starts_with("reads      1/s, stale\n"));
    }

    #[test]
    fn one_rate_after_another_is_a_row_each() {
        let args = Args::parsed(&["--rates", "10,20"]).unwrap();
        let offered = |per_s| Some(Offered { per_s, due: 20, not_started: 0 });
        let mut runs = [run(offered(10)), run(offered(20))];
        let text = rates_text(&args, &runs);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.lines().nth(2).unwrap().trim_start().starts_with("20 "), "{text}");
        runs[1].conserved = false;
        assert_eq!(rates_json(&args, &runs)["conserved"], false);
    }
}
