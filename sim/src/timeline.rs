//! A run as one HTML file that a person can read: a lane for each node, time from left to right. It needs no network, and no
//! script but the one line that stretches it.
//!
//! Made from the trace alone. `turn` gives a node's role, term and commit index, so its lane shows who it was as colour, and
//! how far it had come as a line; `start` and `crash` say when it was there at all; `fault`s stand in a lane of their own and
//! in that of whom they struck; `answer`s are ticks, and `deliver` a faint line from whoever sent. What else a trace has, is
//! left out. Whatever has a meaning shows its text where the pointer rests.

mod lanes;
mod page;

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
        let (seconds, micros) = words.next()?.strip_prefix("t=")?.split_once('.')?;
        let at = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
        let node = words.next()?.strip_prefix('n')?.parse().ok()?;
        Some(Self { at, node, kind: words.next()?, detail })
    }

    /// The detail's `key=value` words.
    fn fields(&self) -> BTreeMap<&'a str, &'a str> {
        self.detail.split_whitespace().filter_map(|word| word.split_once('=')).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_line_is_taken_apart() {
        let event = Event::parse("t=12.000345 n2 turn | role=leader term=7 x").unwrap();
        assert_eq!((event.at, event.node, event.kind), (12_000_345, 2, "turn"));
        assert_eq!(event.fields(), BTreeMap::from([("role", "leader"), ("term", "7")]));
        assert!(Event::parse("trace 0123").is_none());
    }

    #[test]
    fn roles_faults_and_lives_are_drawn() {
        let page = page(
            7,
            Some("Correctness by once: <twice>"),
            &lines(&[
                "t=0.000000 n1 start | incarnation=1",
                "t=0.100000 n1 turn | role=follower term=1 commit=1 applied=1 last=1",
                "t=0.500000 n1 turn | role=leader term=2 commit=1 applied=1 last=2",
                "t=0.900000 n1 turn | role=leader term=2 commit=9 applied=9 last=9",
                "t=0.950000 n2 deliver | from=1 kind=append",
                "t=1.000000 n0 fault | partition <a&b>",
                "t=1.000000 n1 crash | keep=torn",
                "t=1.500000 n2 answer | client=3",
                "t=2.000000 n1 start | incarnation=2",
            ]),
        );
        for part in [
            "seed 7",
            "once: &lt;twice&gt;",
            "class=\"l\"",
            "n1 leader, term 2, 0.500 s to 1.000 s, commit 1 to 9",
            "n1 follower, term 1, 0.100 s to 0.500 s",
            "partition &lt;a&amp;b&gt;",
            "n1 crash, 1.000 s: keep=torn",
            "n2 answer, 1.500 s: client=3",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        // From n1's lane to that of n2, at 0.95 s.
        assert!(page.contains("M950000 "), "{page}");
        let outside = ["http://", "https://", "<link", "src=", "<a&b>"];
        assert!(outside.iter().all(|part| !page.contains(part)));
    }

    #[test]
    fn an_empty_trace_is_an_empty_page() {
        assert!(page(1, None, &[]).contains("0.0 s"));
    }
}
