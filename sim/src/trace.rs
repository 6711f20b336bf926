//! The trace: one line an event, and a rolling hash over all of them. Two runs of a plan have the same trace, or something
//! that decides is not in the plan.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Where a run's events go; clones share it.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

/// Who sees the lines: the time, the node (0 is nobody's), and the line.
pub type Sink = Box<dyn FnMut(Duration, u64, &str) + Send>;

#[derive(Default)]
struct Lines {
    hash: u64,
    sink: Option<Sink>,
    line: String,
}

impl Trace {
    /// A trace whose lines go to `sink` as well.
    pub fn to(sink: Sink) -> Self {
        Self(Arc::new(Mutex::new(Lines { sink: Some(sink), ..Lines::default() })))
    }

    /// Something happened to a node (0 for none) at that simulated time: `t=12.345678 n2 kind | detail`.
    pub fn event(&self, at: Duration, node: u64, kind: &str, detail: fmt::Arguments<'_>) {
        let lines = &mut *self.0.lock().expect("no panic holds it");
        lines.line.clear();
        let (seconds, micros) = (at.as_secs(), at.subsec_micros());
        write!(lines.line, "t={seconds}.{micros:06} n{node} {kind} | {detail}").expect("a string takes everything");
        lines.hash = chain(lines.hash, lines.line.as_bytes());
        if let Some(sink) = &mut lines.sink {
            sink(at, node, &lines.line);
        }
    }

    /// The hash over all lines so far.
    pub fn hash(&self) -> u64 {
        self.0.lock().expect("no panic holds it").hash
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash())
    }
}

/// FNV-1a over the line, begun with what was before (Fowler, Noll, Vo): not against forgery, and fast.
fn chain(before: u64, line: &[u8]) -> u64 {
    let begin = before ^ 0xcbf2_9ce4_8422_2325;
    line.iter().chain(b"\n").fold(begin, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_every_character_count() {
        let hash = |lines: &[&str]| {
            let trace = Trace::default();
            lines.iter().for_each(|line| trace.event(Duration::from_millis(1_500), 2, "tick", format_args!("{line}")));
            trace.hash()
        };
        let all = [hash(&[]), hash(&["a"]), hash(&["b"]), hash(&["a", "b"]), hash(&["b", "a"]), hash(&["ab"])];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
    }
}
