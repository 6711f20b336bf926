//! A histogram that is only ever added to, with atomics: observing takes no lock and allocates nothing.
//!
//! prometheus-client's own holds a lock and counts in floats. This one counts whole units, nanoseconds or commands, and
//! makes floats of them when it is read. A reader may see an observation in the buckets and not yet in the sum: each by
//! itself is right, and the count is the sum of the buckets, so that a text never contradicts itself.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Bounds for durations in nanoseconds: 100 µs to 10 s.
const DURATIONS_NS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Bounds for what shares something: 1 to 4 096, each twice the one before.
const COUNTS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

/// A distribution of durations or counts. Clones are the same histogram.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The greatest value of each bucket but the last, which has none; rising.
    bounds: &'static [u64],
    /// Observed, by bucket; one more than there are bounds.
    buckets: Vec<AtomicU64>,
    /// Of all that was observed, modulo 2^64.
    sum: AtomicU64,
    /// How many units of counting make one of telling.
    per_unit: f64,
}

impl Histogram {
    /// Of durations; told in seconds.
    pub fn of_durations() -> Self {
        Self::new(DURATIONS_NS, 1e9)
    }

    /// Of counts.
    pub fn of_counts() -> Self {
        Self::new(COUNTS, 1.0)
    }

    fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0), per_unit }))
    }

    /// Adds a duration.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds a value: nanoseconds to a histogram of durations.
    pub fn observe(&self, value: u64) {
        let Inner { bounds, buckets, sum, .. } = &*self.0;
        buckets[bounds.partition_point(|bound| *bound < value)].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let Inner { bounds, buckets, sum, per_unit } = &*self.0;
        let bounds = bounds.iter().map(|bound| *bound as f64 / per_unit).chain([f64::INFINITY]);
        let counts = buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / per_unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    fn told(histogram: &Histogram) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register("h", "H", histogram.clone());
        let mut told = String::new();
        text::encode(&mut told, &registry).unwrap();
        told.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_value_is_in_the_first_bucket_that_is_not_below_it() {
        let histogram = Histogram::of_counts();
        [0, 1, 2, 3, 4_096, 4_097].iter().for_each(|value| histogram.observe(*value));
        let told = told(&histogram);
        for line in ["h_sum 8199.0", "h_count 6", "h_bucket{le=\"1.0\"} 2", "h_bucket{le=\"2.0\"} 3"] {
            assert!(told.contains(&line.to_owned()), "{line} in {told:?}");
        }
        for line in ["h_bucket{le=\"4.0\"} 4", "h_bucket{le=\"4096.0\"} 5", "h_bucket{le=\"+Inf\"} 6"] {
            assert!(told.contains(&line.to_owned()), "{line} in {told:?}");
        }
    }

    #[test]
    fn durations_are_told_in_seconds() {
        let histogram = Histogram::of_durations();
        histogram.observe_duration(Duration::from_millis(1_500));
        histogram.observe_duration(Duration::MAX);
        let told = told(&histogram);
        assert!(told.contains(&"h_bucket{le=\"1.0\"} 0".to_owned()), "{told:?}");
        assert!(told.contains(&"h_bucket{le=\"2.5\"} 1".to_owned()), "{told:?}");
        assert!(told.contains(&"h_bucket{le=\"+Inf\"} 2".to_owned()), "{told:?}");
    }
}
