//! Promises that wait for the disk (raft-rs.md, lines 4 to 10).
//!
//! A vote or an acknowledgement may leave a node only when what it promises is durable: the writes of its own Ready and of
//! every one before it, even if its own wrote nothing.

use std::collections::VecDeque;

use super::{RaftBody, RaftMessage};

/// One Ready on its way to the disk.
#[derive(Debug)]
struct Pending {
    /// Its number.
    number: u64,
    /// A WriteSet of this number is at the store, and not yet told durable.
    is_written: bool,
    /// That WriteSet changes term or vote.
    promise: bool,
    /// What to say when it is durable.
    messages: Vec<RaftMessage>,
}

/// The Readys that are not durable, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unpersisted {
    queue: VecDeque<Pending>,
}

impl Unpersisted {
    /// Adds a Ready; `is_written` if a WriteSet was made of it. Returns the messages that promise nothing that is not
    /// durable: they may leave at once.
    pub fn hold(
        &mut self,
        number: u64,
        is_written: bool,
        promise: bool,
        messages: Vec<RaftMessage>,
    ) -> Vec<RaftMessage> {
        let term_in_flight = promise || self.queue.iter().any(|pending| pending.promise);
        let (free, messages) = messages.into_iter().partition(|message| !term_in_flight && is_free(&message.body));
        self.queue.push_back(Pending { number, is_written, promise, messages });
        free
    }

    /// The WriteSets up to `number` are durable.
    pub fn mark_durable(&mut self, number: u64) {
        for pending in self.queue.iter_mut().take_while(|pending| pending.number <= number) {
            pending.is_written = false;
        }
    }

    /// Takes the Readys that are durable: the greatest number, and what was held for them. `None` if there is none.
    pub fn take_durable(&mut self) -> Option<(u64, Vec<RaftMessage>)> {
        let durable = self.queue.iter().take_while(|pending| !pending.is_written).count();
        let mut released = None;
        for pending in self.queue.drain(..durable) {
            let (number, messages) = released.get_or_insert((0, Vec::new()));
            *number = pending.number;
            messages.extend(pending.messages);
        }
        released
    }

    /// Is a WriteSet at the store?
    pub fn is_writing(&self) -> bool {
        self.queue.iter().any(|pending| pending.is_written)
    }
}

/// Promises nothing beyond the term: an answer to a heartbeat, or a question.
fn is_free(body: &RaftBody) -> bool {
    matches!(body, RaftBody::HeartbeatResponse { .. } | RaftBody::ReadIndex { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, ReplicaId, Term};

    fn message(body: RaftBody) -> RaftMessage {
        RaftMessage { to: ReplicaId(1), from: ReplicaId(2), term: Term(3), body }
    }

    fn acknowledgement(index: u64) -> RaftMessage {
        let (index, log_term, commit) = (Index(index), Term(0), Index(0));
        message(RaftBody::AppendResponse { index, log_term, commit, reject: false, reject_hint: Index(0) })
    }

    fn heartbeat_response() -> RaftMessage {
        message(RaftBody::HeartbeatResponse { commit: Index(0), context: Default::default() })
    }

    #[test]
    fn line_5_a_ready_that_writes_nothing_waits_for_those_before_it() {
        let mut unpersisted = Unpersisted::default();
        assert!(unpersisted.hold(1, true, false, vec![]).is_empty());
        assert!(unpersisted.hold(2, false, false, vec![acknowledgement(7)]).is_empty());
        assert_eq!(unpersisted.take_durable(), None);
        unpersisted.mark_durable(1);
        assert_eq!(unpersisted.take_durable(), Some((2, vec![acknowledgement(7)])));
    }

    #[test]
    fn line_5_a_heartbeat_is_answered_early_unless_a_term_or_vote_is_in_flight() {
        let mut unpersisted = Unpersisted::default();
        assert_eq!(unpersisted.hold(1, true, false, vec![heartbeat_response()]), [heartbeat_response()]);
        assert!(unpersisted.hold(2, true, true, vec![heartbeat_response()]).is_empty());
        assert!(unpersisted.hold(3, false, false, vec![heartbeat_response()]).is_empty());
        unpersisted.mark_durable(2);
        let held = unpersisted.take_durable().unwrap();
        assert_eq!(held, (3, vec![heartbeat_response(), heartbeat_response()]));
    }

    #[test]
    fn line_10_with_nothing_in_flight_a_ready_without_a_write_is_durable_at_once() {
        let mut unpersisted = Unpersisted::default();
        unpersisted.hold(1, false, false, vec![acknowledgement(3)]);
        assert_eq!(unpersisted.take_durable(), Some((1, vec![acknowledgement(3)])));
        assert_eq!(unpersisted.take_durable(), None);
    }
}
