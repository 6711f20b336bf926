//! A vector that can be shared as it is and written on: a clone copies one pointer a node, and a write copies the node and
//! the page that it falls on, and only if a clone still holds them. This is what lets a snapshot be taken at once.
//!
//! Two levels, since one would not do: with a pointer a page, a clone of a million elements would visit as many reference
//! counts as there are pages, each in a cache line of its own, and take milliseconds.

use std::sync::Arc;

/// Elements per page. A full batch beside a snapshot copies 16 384 pages at worst.
const PAGE_LEN: usize = 16;
/// Pages per node.
const NODE_PAGES: usize = 32;

/// A few elements side by side.
type Page<T> = Arc<Vec<T>>;

/// A growing sequence in shared pages.
#[derive(Clone, Debug)]
pub(super) struct Paged<T> {
    /// All nodes and pages but the last are full; none is empty.
    nodes: Vec<Arc<Vec<Page<T>>>>,
    len: usize,
}

impl<T: Clone> Paged<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> &T {
        let (node, page, element) = place(at);
        &self.nodes[node][page][element]
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut T {
        let (node, page, element) = place(at);
        let node = Arc::make_mut(&mut self.nodes[node]);
        &mut Arc::make_mut(&mut node[page])[element]
    }

    pub(super) fn push(&mut self, value: T) {
        let (node, page, _) = place(self.len);
        if node == self.nodes.len() {
            self.nodes.push(Arc::default());
        }
        let node = Arc::make_mut(&mut self.nodes[node]);
        if page == node.len() {
            node.push(Arc::new(Vec::with_capacity(PAGE_LEN)));
        }
        Arc::make_mut(&mut node[page]).push(value);
        self.len += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().flat_map(|node| node.iter()).flat_map(|page| page.iter())
    }
}

/// Node, page within it and element within that.
fn place(at: usize) -> (usize, usize, usize) {
    (at / PAGE_LEN / NODE_PAGES, at / PAGE_LEN % NODE_PAGES, at % PAGE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many that the last node is begun, and its last page.
    const COUNT: usize = PAGE_LEN * NODE_PAGES * 3 + PAGE_LEN + 5;

    fn counted() -> Paged<usize> {
        let mut paged = Paged::new();
        (0..COUNT).for_each(|value| paged.push(value));
        paged
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut paged = counted();
        let seen = paged.clone();
        for at in [0, 50, COUNT - 1] {
            *paged.get_mut(at) += 1_000_000;
            assert_eq!((*seen.get(at), *paged.get(at)), (at, at + 1_000_000));
        }
        paged.push(7);
        assert!(seen.iter().copied().eq(0..COUNT));
        assert_eq!((seen.len(), paged.len(), *paged.get(COUNT)), (COUNT, COUNT + 1, 7));
    }

    #[test]
    fn only_what_is_written_to_is_copied() {
        let mut paged = counted();
        let seen = paged.clone();
        *paged.get_mut(PAGE_LEN * NODE_PAGES + 1) = 0;
        let nodes = paged.nodes.iter().zip(&seen.nodes).filter(|(ours, theirs)| !Arc::ptr_eq(ours, theirs));
        let pages = |paged: &Paged<usize>| paged.nodes.iter().flat_map(|node| node.to_vec()).collect::<Vec<_>>();
        let (ours, theirs) = (pages(&paged), pages(&seen));
        let copied = ours.iter().zip(&theirs).filter(|(ours, theirs)| !Arc::ptr_eq(ours, theirs));
        assert_eq!((nodes.count(), copied.count()), (1, 1));
    }
}
