//! What the workers count, and the percentiles of how long it took.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;

use super::workload::{Ended, Failed, Given, Unknown};
use crate::{
    pool::{Effect, ItemId},
    server::proto::v1::DrawCode,
    types::Term,
};

/// The histograms' range; longer calls count as this long.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Most slices that a run's time is cut into.
const SLICES_MAX: u32 = 120;
/// A slice of the time is no shorter than this.
const SLICE_MIN: Duration = Duration::from_secs(1);

/// When a run begins, counts, and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The load begins.
    pub(super) start: Instant,
    /// What begins from here on is counted.
    pub(super) from: Instant,
    /// Nothing begins any more.
    pub(super) until: Instant,
}

impl Window {
    /// Starts now.
    pub(super) fn now(warmup: Duration, duration: Duration) -> Self {
        let start = Instant::now();
        Self { start, from: start + warmup, until: start + warmup + duration }
    }

    /// How long a slice is: a second, or as long as there may be slices.
    pub(super) fn slice(&self) -> Duration {
        let counted = self.until - self.from;
        Duration::from_secs((counted / SLICES_MAX).as_secs_f64().ceil() as u64).max(SLICE_MIN)
    }
}

/// What some workers, or all of them together, did.
///
/// Calls belong to the run that they were due in: what was due before the warm-up was over counts for the books alone.
#[derive(Debug)]
pub(super) struct Tally {
    window: Window,
    /// From when a call was due to its answer; of one that never began, to the end of the time.
    pub(super) latency_us: Histogram<u64>,
    /// From when a call was due to its start.
    pub(super) late_us: Histogram<u64>,
    /// Latency again, by the slice of time in which the call was due; coarser.
    pub(super) slices: Vec<Histogram<u64>>,
    /// Calls answered.
    pub(super) calls: u64,
    /// Draws answered.
    pub(super) draws: u64,
    /// Calls answered in the warm-up.
    pub(super) warmup_calls: u64,
    /// Draws answered in the warm-up.
    pub(super) warmup_draws: u64,
    /// Draws and claims that gave nothing.
    pub(super) empty: u64,
    pub(super) retries: u64,
    /// Calls that failed, or were refused.
    pub(super) errors: u64,
    /// Terms that began while somebody waited.
    pub(super) new_terms: BTreeSet<Term>,
    /// Units awarded.
    pub(super) awards: FxHashMap<Box<str>, u64>,
    /// Requests whose outcome is not known.
    pub(super) unknown: Vec<Unknown>,
    /// The last thing that went wrong.
    pub(super) last_error: Option<String>,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            latency_us: histogram(3),
            late_us: histogram(3),
            slices: Vec::new(),
            calls: 0,
            draws: 0,
            warmup_calls: 0,
            warmup_draws: 0,
            empty: 0,
            retries: 0,
            errors: 0,
            new_terms: BTreeSet::new(),
            awards: FxHashMap::default(),
            unknown: Vec::new(),
            last_error: None,
        }
    }

    /// A call that was due, begun and ended then.
    pub(super) fn record(&mut self, due: Instant, begun: Instant, now: Instant, ended: Ended) {
        self.retries += u64::from(ended.retries);
        self.new_terms.extend(ended.new_term);
        let given = match ended.result {
            Ok(given) => given,
            Err(failed) => return self.failed(failed),
        };
        let draws = match self.given(given) {
            Ok(draws) => draws,
            Err(why) => return self.error(why),
        };
        let Some(since) = due.checked_duration_since(self.window.from) else {
            self.warmup_calls += 1;
            self.warmup_draws += draws;
            return;
        };
        self.calls += 1;
        self.draws += draws;
        let latency = micros(now.saturating_duration_since(due));
        self.latency_us.saturating_record(latency);
        self.late_us.saturating_record(micros(begun.saturating_duration_since(due)));
        self.slice(since).saturating_record(latency);
    }

    fn slice(&mut self, since: Duration) -> &mut Histogram<u64> {
        let slice = (since.as_micros() / self.window.slice().as_micros()) as usize;
        if slice >= self.slices.len() {
            self.slices.resize_with(slice + 1, || histogram(2));
        }
        &mut self.slices[slice]
    }

    /// So many calls never began, and had waited so long when the time was over.
    pub(super) fn waited(&mut self, wait: Duration, calls: u64) {
        self.latency_us.saturating_record_n(micros(wait), calls);
    }

    /// Something went wrong.
    pub(super) fn error(&mut self, why: String) {
        self.errors += 1;
        self.last_error = Some(why);
    }

    fn failed(&mut self, failed: Failed) {
        self.unknown.extend(failed.unknown);
        self.error(failed.why);
    }

    /// Counts awards; gives the number of draws answered.
    pub(super) fn given(&mut self, given: Given) -> Result<u64, String> {
        match given {
            Given::Effect(Effect::Drawn { steps, .. }) => {
                let draws = steps.len() as u64;
                let mut empty = draws;
                for (item, units) in steps.awards() {
                    self.award(item.as_str(), units);
                    empty -= units;
                }
                self.empty += empty;
                Ok(draws)
            }
            Given::Effect(other) => Err(format!("the cluster answered something else: {other:?}")),
            Given::Streamed(draws) => {
                for draw in &draws {
                    self.award_one((!draw.item_id.is_empty()).then_some(&draw.item_id));
                }
                Ok(draws.len() as u64)
            }
            Given::Called(draws) => {
                for draw in &draws {
                    self.award_one((draw.code() == DrawCode::Awarded).then_some(&draw.item_id));
                }
                Ok(draws.len() as u64)
            }
            Given::Claimed(item) => {
                self.award_one(item.as_ref().map(ItemId::as_str));
                Ok(0)
            }
            Given::Read => Ok(0),
        }
    }

    fn award_one(&mut self, item: Option<&str>) {
        match item {
            Some(item) => self.award(item, 1),
            None => self.empty += 1,
        }
    }

    fn award(&mut self, item: &str, units: u64) {
        match self.awards.get_mut(item) {
            Some(before) => *before += units,
            None => {
                self.awards.insert(item.into(), units);
            }
        }
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, digits).expect("the bounds are legal")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(LATENCY_US_MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pool::{DrawSeq, RequestKey, Step, Version};
    use crate::types::Millis;

    pub(in crate::cli::bench) fn drawn(ids: &[&str]) -> Given {
        let mut steps: Vec<_> = ids.iter().map(|id| Step::Awarded(id.parse().unwrap())).collect();
        steps.push(Step::PoolEmpty);
        Given::Effect(Effect::Drawn { first_seq: DrawSeq(1), version: Version(1), steps: steps.into_iter().collect() })
    }

    pub(in crate::cli::bench) fn window() -> Window {
        Window::now(Duration::from_secs(1), Duration::from_secs(10))
    }

    pub(in crate::cli::bench) fn ended(result: Result<Given, Failed>) -> Ended {
        Ended { retries: 2, new_term: Some(Term(7)), result }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_of_the_time_since_a_call_was_due() {
        let window = window();
        let mut tally = Tally::new(window);
        for n in 1..=1_000 {
            let due = window.from + ms(n);
            tally.record(due, due + ms(n / 2), due + ms(n), ended(Ok(Given::Read)));
        }
        for (quantile, expected_us) in [(0.5, 500_000), (0.9, 900_000), (0.99, 990_000), (0.999, 999_000)] {
            let found = tally.latency_us.value_at_quantile(quantile);
            assert!(found.abs_diff(expected_us) <= expected_us / 1_000, "{quantile}: {found}");
        }
        assert!(tally.latency_us.max() >= 1_000_000);
        assert!(tally.late_us.value_at_quantile(0.5).abs_diff(250_000) <= 1_000);
        tally.record(window.from, window.from, window.from + ms(500_000), ended(Ok(Given::Read)));
        assert!(tally.latency_us.max() >= LATENCY_US_MAX, "too long for the histogram counts as its longest");
    }

    #[test]
    fn the_warm_up_counts_for_the_books_alone() {
        let window = window();
        let mut tally = Tally::new(window);
        let begun = window.from - ms(1);
        tally.record(begun, begun, window.from + ms(5), ended(Ok(drawn(&["gold"]))));
        assert_eq!((tally.calls, tally.draws, tally.latency_us.len()), (0, 0, 0));
        assert_eq!((tally.warmup_calls, tally.warmup_draws, tally.awards["gold"]), (1, 2, 1));
        tally.record(window.from, window.from, window.from + ms(5), ended(Ok(drawn(&["gold"]))));
        assert_eq!((tally.calls, tally.draws, tally.awards["gold"], tally.empty), (1, 2, 2, 2));
    }

    #[test]
    fn slices_tell_when_it_was_slow() {
        let window = window();
        let mut all = Tally::new(window);
        for (at, latency) in [(0, 1), (999, 2), (3_500, 700)] {
            let due = window.from + ms(at);
            all.record(due, due, due + ms(latency), ended(Ok(Given::Read)));
        }
        let told: Vec<_> = all.slices.iter().map(|slice| (slice.len(), slice.max() / 1_000)).collect();
        assert_eq!(told, [(2, 2), (0, 0), (0, 0), (1, 700)]);
        let day = Window::now(Duration::ZERO, Duration::from_secs(86_400));
        assert_eq!((window.slice(), day.slice()), (SLICE_MIN, Duration::from_secs(720)));
    }

    #[test]
    fn every_kind_of_answer_is_counted() {
        let mut tally = Tally::new(window());
        let streamed = |item: &str| crate::server::proto::rewardpool::DrawResponse {
            request_id: 1,
            item_id: item.to_owned(),
            error: String::new(),
        };
        let called = |code: DrawCode| crate::server::proto::v1::DrawResult {
            request_id: 1,
            code: code.into(),
            item_id: "gold".to_owned(),
            via: 0,
        };
        assert_eq!(tally.given(Given::Streamed(vec![streamed("gold"), streamed("")])), Ok(2));
        assert_eq!(tally.given(Given::Called(vec![called(DrawCode::Awarded), called(DrawCode::PoolEmpty)])), Ok(2));
        assert_eq!(tally.given(Given::Claimed(Some("gold".parse().unwrap()))), Ok(0));
        assert_eq!(tally.given(Given::Claimed(None)), Ok(0));
        assert!(tally.given(Given::Effect(Effect::Adjusted { remaining: 1 })).is_err());
        assert_eq!((tally.awards["gold"], tally.empty), (3, 3));
    }

    #[test]
    fn failures_are_counted_and_unknown_outcomes_kept() {
        let window = window();
        let mut tally = Tally::new(window);
        let key = Unknown::Key(RequestKey::new(Millis(1), [0; 10]));
        for unknown in [None, Some(key), Some(Unknown::Keyless)] {
            let failed = Failed { why: format!("{unknown:?}"), unknown };
            tally.record(window.start, window.start, window.start, ended(Err(failed)));
        }
        assert_eq!((tally.errors, tally.retries, tally.new_terms.len(), tally.calls), (3, 6, 1, 0));
        assert_eq!((tally.unknown, tally.last_error.unwrap()), (vec![key, Unknown::Keyless], "Some(Keyless)".into()));
    }
}
