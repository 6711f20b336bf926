//! A run as one HTML file that a person can read: a lane for each node, time from left to right. It needs no network, and no
//! script but the one line that stretches it.
//!
//! Made from the trace alone. At the top what went wrong, as the plan says it and for as long as it lasted (`plan`). Then a
//! lane for each node: `turn` gives its role, term and commit index, so colour shows who it was, and a line how far it had
//! come; `start`, `crash` and what else befell it stand upright; `deliver` is a line from whoever sent, since then. At the
//! bottom what clients asked for (`ask`) until they were told (`told`). What else a trace has, is left out. Whatever has a
//! meaning shows its text where the pointer rests.

mod lanes;
mod page;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::lanes::Picture;

/// The page of a run's trace lines.
pub fn page(seed: u64, failure: Option<&str>, lines: &[String]) -> String {
    let mut picture = Picture::default();
    lines.iter().filter_map(|line| Event::parse(line)).for_each(|event| picture.add(&event));
    page::write(seed, failure, &picture)
}

/// A line of the trace, taken apart.
struct Event<'a> {
    /// Microseconds.
    at: u64,
    /// 0 is nobody's.
    node: u64,
    kind: &'a str,
    detail: &'a str,
}

impl<'a> Event<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, detail) = line.split_once(" | ")?;
        let mut words = head.splitn(3, ' ');
        let at = micros(words.next()?.strip_prefix("t=")?)?;
        let node = words.next()?.strip_prefix('n')?.parse().ok()?;
        Some(Self { at, node, kind: words.next()?, detail })
    }

    /// The detail's `key=value` words.
    fn fields(&self) -> BTreeMap<&'a str, &'a str> {
        self.detail.split_whitespace().filter_map(|word| word.split_once('=')).collect()
    }
}

/// Microseconds of `12.345678`.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.')?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?;
    if part.len() == 6 { whole.checked_add(part.parse().ok()?) } else { None }
}
