//! One history: an index, once applied anywhere, is the same bytes in the same term everywhere; and each replica applies
//! one index after the other.
//!
//! Whoever applies an index first fixes it. Since every life of a replica is contiguous from a snapshot of what had been
//! applied, comparing each entry with the one fixed compares all that came before it too.

use std::collections::BTreeMap;

use bytes::Bytes;
use tombola::types::{Index, Term};

use super::{Incarnation, Violation};

const NAME: &str = "ledger";

/// An entry as it was first applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its term.
    pub term: Term,
    /// Its data.
    pub data: Bytes,
}

/// What was applied, by whoever was first.
#[derive(Debug, Default)]
pub struct Ledger {
    /// From index 2 on.
    entries: Vec<Recorded>,
    applied: BTreeMap<Incarnation, Index>,
}

impl Ledger {
    /// A replica starts with, or installs, a snapshot of that index.
    pub fn restore(&mut self, who: Incarnation, at: Index) -> Result<(), Violation> {
        if at > self.last() {
            let detail = format!("{who} has a snapshot of {at}, and nobody has applied more than {}", self.last());
            return Err(Violation::new(NAME, "one history", detail));
        }
        match self.applied.insert(who, at) {
            Some(before) if before > at => {
                let detail = format!("{who} goes back from {before} to a snapshot of {at}");
                Err(Violation::new(NAME, "contiguous", detail))
            }
            _ => Ok(()),
        }
    }

    /// A replica applies an entry.
    pub fn apply(&mut self, who: Incarnation, index: Index, entry: Recorded) -> Result<(), Violation> {
        let applied = self.applied.get_mut(&who);
        let applied = applied.ok_or_else(|| Violation::new(NAME, "contiguous", format!("{who} never started")))?;
        if index != applied.next() {
            let detail = format!("{who} applies {index} after {applied}");
            return Err(Violation::new(NAME, "contiguous", detail));
        }
        *applied = index;
        match self.get(index) {
            None => self.fix(who, index, entry),
            Some(fixed) if *fixed == entry => Ok(()),
            Some(fixed) => {
                let (terms, lens) = ((fixed.term, entry.term), (fixed.data.len(), entry.data.len()));
                let detail = format!("{who} applies another entry at {index}: terms {terms:?}, lengths {lens:?}");
                Err(Violation::new(NAME, "one history", detail))
            }
        }
    }

    fn fix(&mut self, who: Incarnation, index: Index, entry: Recorded) -> Result<(), Violation> {
        assert_eq!(index, self.last().next(), "a life is contiguous and begins within the ledger");
        if let Some(before) = self.entries.last().filter(|before| before.term > entry.term) {
            let detail = format!("{who} applies an entry of term {} at {index}, after {}", entry.term, before.term);
            return Err(Violation::new(NAME, "one history", detail));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The greatest index that anybody has applied.
    pub fn last(&self) -> Index {
        Index(Index::FOUNDING.0 + self.entries.len() as u64)
    }

    /// What was applied at an index.
    pub fn get(&self, index: Index) -> Option<&Recorded> {
        let at = index.0.checked_sub(Index::FOUNDING.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// All of it, from index 2 on.
    pub fn entries(&self) -> impl Iterator<Item = &Recorded> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::{life, refused};

    fn entry(term: u64, data: &'static str) -> Recorded {
        Recorded { term: Term(term), data: Bytes::from_static(data.as_bytes()) }
    }

    /// Replica 1 has applied "a" and "b"; replica 2 has just started.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.restore(life(1, 1), Index(1)).unwrap();
        ledger.apply(life(1, 1), Index(2), entry(2, "a")).unwrap();
        ledger.apply(life(1, 1), Index(3), entry(2, "b")).unwrap();
        ledger.restore(life(2, 1), Index(1)).unwrap();
        ledger
    }

    #[test]
    fn lives_that_agree_are_well() {
        let mut ledger = ledger();
        ledger.apply(life(2, 1), Index(2), entry(2, "a")).unwrap();
        // It falls behind, and gets a snapshot; later it starts anew from there.
        ledger.restore(life(2, 1), Index(3)).unwrap();
        ledger.apply(life(2, 1), Index(4), entry(3, "c")).unwrap();
        ledger.restore(life(2, 2), Index(3)).unwrap();
        ledger.apply(life(2, 2), Index(4), entry(3, "c")).unwrap();
        assert_eq!((ledger.last(), ledger.entries().count()), (Index(4), 3));
    }

    #[test]
    fn other_bytes_are_another_history() {
        let forked = ledger().apply(life(2, 1), Index(2), entry(2, "x"));
        refused(forked, "ledger", "replica 2 in its life 1 applies another entry at 2");
    }

    #[test]
    fn the_same_bytes_of_another_term_are_another_history() {
        refused(ledger().apply(life(2, 1), Index(2), entry(3, "a")), "ledger", "applies another entry at 2");
    }

    #[test]
    fn a_life_after_a_crash_is_held_to_what_it_applied_before() {
        let mut ledger = ledger();
        ledger.restore(life(1, 2), Index(1)).unwrap();
        ledger.apply(life(1, 2), Index(2), entry(2, "a")).unwrap();
        refused(ledger.apply(life(1, 2), Index(3), entry(3, "c")), "ledger", "applies another entry at 3");
    }

    #[test]
    fn an_index_is_neither_skipped_nor_repeated() {
        refused(ledger().apply(life(2, 1), Index(3), entry(2, "b")), "ledger", "applies 3 after 1");
        refused(ledger().apply(life(1, 1), Index(3), entry(2, "b")), "ledger", "applies 3 after 3");
        refused(ledger().apply(life(3, 1), Index(2), entry(2, "a")), "ledger", "never started");
    }

    #[test]
    fn a_snapshot_is_of_what_was_applied_and_never_goes_back() {
        refused(ledger().restore(life(2, 1), Index(4)), "ledger", "nobody has applied more than 3");
        refused(ledger().restore(life(1, 1), Index(2)), "ledger", "goes back from 3");
    }

    #[test]
    fn terms_do_not_fall() {
        refused(ledger().apply(life(1, 1), Index(4), entry(1, "c")), "ledger", "an entry of term 1 at 4, after 2");
    }
}
