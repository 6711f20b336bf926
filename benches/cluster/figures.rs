//! Figures of several runs: their median, the least and the greatest.

use std::fmt;

/// What one run of one row gave: names and values, in the order in which they are told.
pub type Measured = Vec<(&'static str, f64)>;

/// All runs.
#[derive(Default)]
pub struct Figures(Vec<(&'static str, &'static str, Vec<f64>)>);

impl Figures {
    /// Adds a run of a row.
    pub fn add(&mut self, row: &'static str, measured: Measured) {
        for (name, value) in measured {
            match self.0.iter_mut().find(|known| (known.0, known.1) == (row, name)) {
                Some((_, _, values)) => values.push(value),
                None => self.0.push((row, name, vec![value])),
            }
        }
    }
}

/// The median; of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A run in one line.
pub fn one_line(measured: &Measured) -> String {
    let told = measured.iter().map(|(name, value)| format!("{name} {}", short(*value)));
    told.collect::<Vec<_>>().join(", ")
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:<34} {:>12} {:>12} {:>12}", "row", "figure", "median", "min", "max")?;
        for (row, name, values) in &self.0 {
            let (least, greatest) =
                values.iter().fold((f64::MAX, f64::MIN), |(min, max), &value| (min.min(value), max.max(value)));
            let [median, least, greatest] = [median(values), least, greatest].map(short);
            writeln!(f, "{row:<12} {name:<34} {median:>12} {least:>12} {greatest:>12}")?;
        }
        Ok(())
    }
}
