//! A reader of OpenMetrics text (version 1.0.0), strict in what Prometheus is strict in.

use std::collections::{BTreeMap, BTreeSet};

/// A whole text.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Families by name, each with its type.
    types: BTreeMap<String, String>,
    /// Samples by name and labels, as written.
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a text, and checks that it keeps the rules.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(lines) = text.strip_suffix("# EOF\n") else { return Err("it does not end in `# EOF`".to_owned()) };
        let mut told = Self::default();
        let (mut helped, mut family) = (BTreeSet::new(), String::new());
        for line in lines.lines() {
            let wrong = |what: &str| format!("{what}: {line:?}");
            match line.strip_prefix("# ").map(|rest| rest.splitn(3, ' ').collect::<Vec<_>>()).as_deref() {
                Some(["HELP", name, help]) if !help.is_empty() => {
                    if !helped.insert((*name).to_owned()) {
                        return Err(wrong("a family twice"));
                    }
                }
                Some(["TYPE", name, kind @ ("counter" | "gauge" | "histogram" | "info")]) => {
                    if !helped.contains(*name) || told.types.insert((*name).to_owned(), (*kind).to_owned()).is_some() {
                        return Err(wrong("a type without help, or twice"));
                    }
                    family = (*name).to_owned();
                }
                Some(["UNIT", name, unit]) if *name == family && name.ends_with(&format!("_{unit}")) => {}
                Some(_) => return Err(wrong("an unknown comment")),
                None => told.add(line, &family).map_err(wrong)?,
            }
        }
        told.check_histograms()?;
        Ok(told)
    }

    fn add(&mut self, line: &str, family: &str) -> Result<(), &'static str> {
        let (sample, value) = line.rsplit_once(' ').ok_or("no value")?;
        let name = sample.split_once('{').map_or(sample, |(name, _)| name);
        if let Some((_, labels)) = sample.split_once('{') {
            let labels = labels.strip_suffix("\"}").ok_or("labels that do not end")?;
            let is_label = |label: &str| {
                label.split_once("=\"").is_some_and(|(name, value)| !name.is_empty() && !value.contains('"'))
            };
            labels.split("\",").all(is_label).then_some(()).ok_or("labels of another form")?;
        }
        let suffix = name.strip_prefix(family).filter(|_| !family.is_empty()).ok_or("a sample of no family")?;
        let suffixes: &[&str] = match self.types.get(family).map(String::as_str) {
            Some("counter") => &["_total"],
            Some("gauge") => &[""],
            Some("histogram") => &["_sum", "_count", "_bucket"],
            Some("info") => &["_info"],
            _ => &[],
        };
        suffixes.contains(&suffix).then_some(()).ok_or("a name that is not of its type")?;
        let value: f64 = value.parse().map_err(|_| "a value that is no number")?;
        (value.is_finite() && value >= 0.0).then_some(()).ok_or("a value that nothing here has")?;
        self.samples.insert(sample.to_owned(), value).map_or(Ok(()), |_| Err("a sample twice"))
    }

    /// Buckets never fall, and the last one is the count.
    fn check_histograms(&self) -> Result<(), String> {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let bound =
                |sample: &str| match sample.strip_prefix(&format!("{name}_bucket{{le=\""))?.strip_suffix("\"}")? {
                    "+Inf" => Some(f64::INFINITY),
                    bound => bound.parse().ok(),
                };
            let mut buckets: Vec<_> =
                self.samples.iter().filter_map(|(sample, count)| Some((bound(sample)?, *count))).collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let rises = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
            let last = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, count)| *count);
            if !rises || last.is_none() || last != self.samples.get(&format!("{name}_count")).copied() {
                return Err(format!("{name} is no histogram: {buckets:?}"));
            }
        }
        Ok(())
    }

    /// The value of a sample, its labels included.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample} among {:?}", self.samples.keys()))
    }

    /// Every family's name as its samples begin, and its type.
    pub fn families(&self) -> BTreeSet<(String, String)> {
        let suffix = |kind: &str| match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        self.types.iter().map(|(name, kind)| (format!("{name}{}", suffix(kind)), kind.clone())).collect()
    }
}

#[test]
fn the_reader_is_strict() {
    let right = "# HELP a A.\n# TYPE a counter\na_total{b=\"c\"} 1\n# EOF\n";
    assert_eq!(Exposition::parse(right).unwrap().value("a_total{b=\"c\"}"), 1.0);
    for (from, to) in [
        ("# EOF\n", ""),
        ("a_total", "a"),
        ("a_total", "b_total"),
        ("counter", "counting"),
        (" 1\n", " x\n"),
        (" 1\n", " -1\n"),
        ("c\"}", "c}"),
        ("# HELP a A.\n", ""),
        ("a_total{b=\"c\"} 1\n", "a_total 1\na_total 1\n"),
    ] {
        assert!(Exposition::parse(&right.replacen(from, to, 1)).is_err(), "{from:?} to {to:?}");
    }
    let histogram =
        "# HELP h H.\n# TYPE h histogram\nh_sum 3\nh_count 2\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n# EOF\n";
    Exposition::parse(histogram).unwrap();
    for (from, to) in [("h_count 2", "h_count 3"), ("\"} 1", "\"} 3"), ("h_bucket{le=\"+Inf\"} 2\n", "")] {
        assert!(Exposition::parse(&histogram.replacen(from, to, 1)).is_err(), "{from:?} to {to:?}");
    }
}
