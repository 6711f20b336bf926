//! Which item a ticket hits: the first, in position order, whose running sum of weights exceeds it.
//!
//! Two ways to find it, with one answer: a scan of the packed weights, quicker while they fit in a few cache lines, and a
//! Fenwick tree (P. Fenwick, "A new data structure for cumulative frequency tables", 1994) beyond [`SCAN_ITEMS_MAX`].
//! Positions are never given up, so a catalog that has outgrown the scan stays with the tree.

/// Most items that are scanned; one more, and there is a tree.
pub(super) const SCAN_ITEMS_MAX: usize = 64;

/// The weights of a pool by position, and their sum.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    weights: Vec<u32>,
    total: u64,
    /// `tree[i - 1]` is the sum of the weights at `i - lowbit(i) .. i`; empty up to [`SCAN_ITEMS_MAX`] items.
    tree: Vec<u64>,
}

impl Selector {
    /// The sum of all weights: tickets run from 0 to one less.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The weights, by position.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// Adds a position at the end.
    pub(super) fn push(&mut self, weight: u32) {
        self.weights.push(weight);
        self.total += u64::from(weight);
        if self.weights.len() > SCAN_ITEMS_MAX {
            self.grow_tree();
        }
    }

    /// Changes the weight at a position.
    pub(super) fn set(&mut self, position: usize, weight: u32) {
        let old = std::mem::replace(&mut self.weights[position], weight);
        if old == weight {
            return;
        }
        self.total = self.total - u64::from(old) + u64::from(weight);
        let mut node = position + 1;
        while node <= self.tree.len() {
            let sum = &mut self.tree[node - 1];
            *sum = *sum - u64::from(old) + u64::from(weight);
            node += low_bit(node);
        }
    }

    /// The position that `ticket`, below [`Self::total`], hits.
    pub(super) fn find(&self, ticket: u64) -> usize {
        assert!(ticket < self.total, "a ticket is below the sum of the weights");
        if self.tree.is_empty() { self.scan(ticket) } else { self.descend(ticket) }
    }

    /// Counts the running sums that do not exceed the ticket: all of them, since where to stop cannot be foretold, and a
    /// processor that guesses wrong loses more time than the additions take.
    fn scan(&self, ticket: u64) -> usize {
        let mut sum = 0;
        let not_beyond = self.weights.iter().filter(|&&weight| {
            sum += u64::from(weight);
            sum <= ticket
        });
        not_beyond.count()
    }

    fn descend(&self, mut ticket: u64) -> usize {
        let mut position = 0;
        let mut step = 1 << self.tree.len().ilog2();
        while step > 0 {
            let node = position + step;
            if node <= self.tree.len() && self.tree[node - 1] <= ticket {
                ticket -= self.tree[node - 1];
                position = node;
            }
            step /= 2;
        }
        position
    }

    /// Sum of the weights before `position`, out of the tree.
    fn prefix(&self, mut position: usize) -> u64 {
        let mut sum = 0;
        while position > 0 {
            sum += self.tree[position - 1];
            position -= low_bit(position);
        }
        sum
    }

    /// Adds the tree's missing nodes: one, or all of them when the catalog has just outgrown the scan.
    fn grow_tree(&mut self) {
        while self.tree.len() < self.weights.len() {
            let node = self.tree.len() + 1;
            let covered = self.prefix(node - 1) - self.prefix(node - low_bit(node));
            self.tree.push(covered + u64::from(self.weights[node - 1]));
        }
    }
}

fn low_bit(node: usize) -> usize {
    node & node.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selector(weights: &[u32]) -> Selector {
        let mut selector = Selector::default();
        weights.iter().for_each(|&weight| selector.push(weight));
        selector
    }

    /// By the definition, from the weights alone.
    fn first_beyond(weights: &[u32], ticket: u64) -> usize {
        let mut sum = 0;
        weights
            .iter()
            .position(|&weight| {
                sum += u64::from(weight);
                sum > ticket
            })
            .unwrap()
    }

    #[test]
    fn the_tree_begins_one_past_the_scan() {
        assert!(selector(&[1; SCAN_ITEMS_MAX]).tree.is_empty());
        assert_eq!(selector(&[1; SCAN_ITEMS_MAX + 1]).tree.len(), SCAN_ITEMS_MAX + 1);
    }

    #[test]
    fn items_of_no_weight_are_never_hit() {
        let weights = [0, 3, 0, 0, 2, 0];
        let hits: Vec<_> = (0..5).map(|ticket| selector(&weights).find(ticket)).collect();
        assert_eq!(hits, [1, 1, 1, 4, 4]);
    }

    #[test]
    fn the_greatest_sum_a_pool_can_have_is_exact() {
        let greatest = selector(&vec![u32::MAX; 65_536]);
        assert_eq!(greatest.total(), u64::from(u32::MAX) << 16);
        assert_eq!(greatest.find(greatest.total() - 1), 65_535);
        assert_eq!(greatest.find(0), 0);
    }

    proptest! {
        #[test]
        fn scan_and_tree_agree_with_the_definition(
            mut weights in prop::collection::vec(prop_oneof![Just(0), 0u32..5, any::<u32>()], 1..300),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0), any::<u32>()]), 0..50),
            tickets in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let mut changed = selector(&weights);
            for (at, weight) in changes {
                let at = at.index(weights.len());
                weights[at] = weight;
                changed.set(at, weight);
            }
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            prop_assert_eq!(changed.total(), total);
            prop_assume!(total > 0);
            // Whatever its size says, both ways are tried on it.
            changed.grow_tree();
            let ends = [0, total - 1];
            for ticket in tickets.iter().map(|ticket| ticket.index(total as usize) as u64).chain(ends) {
                let expected = first_beyond(&weights, ticket);
                prop_assert_eq!(changed.scan(ticket), expected);
                prop_assert_eq!(changed.descend(ticket), expected);
                prop_assert_eq!(changed.find(ticket), expected);
            }
        }
    }
}
