//! What is still to come, by time, and by who came first at the same time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// What is still to come.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Duration,
    sequence: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }

    /// When the next is due.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Adds something. `true` if it is now the first to come.
    pub(super) fn push(&mut self, at: Duration, what: T) -> bool {
        let is_first = self.next_at().is_none_or(|first| at < first);
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, what }));
        is_first
    }

    /// Takes the first, if it is due.
    pub(super) fn pop(&mut self, now: Duration) -> Option<T> {
        self.next_at().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }

    /// Has come by `at` whatever is chosen, in the order that it would have come in.
    pub(super) fn hasten(&mut self, at: Duration, chosen: impl Fn(&T) -> bool) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.sort_by(|one, other| other.cmp(one));
        for (sequence, Reverse(entry)) in entries.iter_mut().enumerate() {
            entry.sequence = sequence as u64;
            if chosen(&entry.what) {
                entry.at = entry.at.min(at);
            }
        }
        self.sequence = self.sequence.max(entries.len() as u64);
        self.heap = entries.into();
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn drain(agenda: &mut Agenda<char>) -> String {
        std::iter::from_fn(|| agenda.pop(ms(1_000))).collect()
    }

    #[test]
    fn things_come_by_time_and_then_in_order() {
        let mut agenda = Agenda::new();
        let firsts = [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')].map(|(at, what)| agenda.push(ms(at), what));
        assert_eq!(firsts, [true, true, false, false]);
        assert_eq!((agenda.pop(ms(2)), agenda.next_at()), (None, Some(ms(3))));
        assert_eq!(drain(&mut agenda), "abcd");
    }

    #[test]
    fn what_is_hastened_keeps_its_order() {
        let mut agenda = Agenda::new();
        for (at, what) in [(900, 'C'), (2, 'b'), (700, 'A'), (800, 'x'), (900, 'D'), (1, 'a')] {
            agenda.push(ms(at), what);
        }
        agenda.hasten(ms(5), |what| what.is_uppercase());
        agenda.push(ms(5), 'E');
        assert_eq!(drain(&mut agenda), "abACDEx");
    }
}
