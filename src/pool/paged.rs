//! A vector that can be shared as it is and written on: a clone copies one pointer a page, and a write copies the one page
//! it falls on, and only if a clone still holds it. This is what lets a snapshot be taken at once.

use std::sync::Arc;

/// Elements per page: a batch that touches 16 384 items at random copies as many pages at worst, in a few milliseconds.
const PAGE_LEN: usize = 16;

/// A growing sequence in shared pages.
#[derive(Clone, Debug)]
pub(super) struct Paged<T> {
    /// All but the last are full; none is empty.
    pages: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T: Clone> Paged<T> {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> &T {
        &self.pages[at / PAGE_LEN][at % PAGE_LEN]
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.pages[at / PAGE_LEN])[at % PAGE_LEN]
    }

    pub(super) fn push(&mut self, value: T) {
        if self.len.is_multiple_of(PAGE_LEN) {
            self.pages.push(Arc::new(Vec::with_capacity(PAGE_LEN)));
        }
        let last = self.pages.last_mut().expect("a page was added if there was no room");
        Arc::make_mut(last).push(value);
        self.len += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut paged = Paged::new();
        (0..100).for_each(|value| paged.push(value));
        let seen = paged.clone();
        *paged.get_mut(50) = 1_000;
        paged.push(100);
        assert_eq!(seen.iter().copied().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert_eq!((paged.len(), *paged.get(50), *paged.get(100)), (101, 1_000, 100));
    }

    #[test]
    fn only_the_page_written_to_is_copied() {
        let mut paged = Paged::new();
        (0..100).for_each(|value| paged.push(value));
        let seen = paged.clone();
        *paged.get_mut(17) = 0;
        let copied = paged.pages.iter().zip(&seen.pages).filter(|(ours, theirs)| !Arc::ptr_eq(ours, theirs)).count();
        assert_eq!(copied, 1);
    }
}
