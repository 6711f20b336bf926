//! The requests that are to be sent.

use std::collections::VecDeque;

use super::RequestId;

/// The requests that are to be sent, oldest first. Nearly all come behind the last and leave from the front, where neither
/// costs more than in a plain queue. What is sent again, or turned away in between, is looked for, and as many places are
/// moved as lie between it and the nearer end: whoever puts many back begins with the youngest.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ids: VecDeque<RequestId>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The oldest.
    pub fn first(&self) -> Option<RequestId> {
        self.ids.front().copied()
    }

    /// Puts a request in its place; one that is there already stays.
    pub fn insert(&mut self, id: RequestId) {
        if self.ids.back().is_none_or(|last| *last < id) {
            self.ids.push_back(id);
        } else if let Err(place) = self.ids.binary_search(&id) {
            self.ids.insert(place, id);
        }
    }

    /// Takes a request out; `false` if it is not there.
    pub fn remove(&mut self, id: RequestId) -> bool {
        if self.ids.front() == Some(&id) {
            self.ids.pop_front();
            return true;
        }
        self.ids.binary_search(&id).is_ok_and(|place| self.ids.remove(place).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> RequestId {
        RequestId { number, slot: 7 }
    }

    #[test]
    fn they_leave_in_the_order_of_acceptance_however_they_came() {
        let mut queue = Queue::default();
        [4, 6, 2, 9, 6, 3].into_iter().for_each(|number| queue.insert(id(number)));
        assert!(queue.remove(id(6)) && !queue.remove(id(6)) && !queue.remove(id(5)));
        queue.insert(id(8));
        let left: Vec<_> = std::iter::from_fn(|| {
            let first = queue.first()?;
            assert!(queue.remove(first));
            Some(first.number)
        })
        .collect();
        assert_eq!(left, [2, 3, 4, 8, 9]);
        assert!(queue.is_empty() && !queue.remove(id(9)));
    }
}
