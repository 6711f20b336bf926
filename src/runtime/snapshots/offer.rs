//! What is checked of an offer before anything is asked for or staged. Its bytes are a peer's, trusted for nothing.

use super::BODY_BYTES_MAX;
use crate::{
    durable::{Founders, SnapshotMeta},
    replica::{RaftBody, RaftMessage},
    types::{Index, ReplicaId, Term},
};

/// What the receiver knows of its own replica.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Own<'a> {
    pub me: ReplicaId,
    pub term: Term,
    pub leader: Option<ReplicaId>,
    pub applied: Index,
    pub founders: &'a Founders,
}

impl Own<'_> {
    /// Checks an offer; gives what its snapshot is of. The error says what is wrong with it.
    pub(super) fn check(&self, from: ReplicaId, message: &RaftMessage) -> Result<SnapshotMeta, &'static str> {
        let RaftBody::Snapshot { meta } = &message.body else { return Err("it offers no snapshot") };
        let voters = &meta.voters;
        let checks = [
            (message.from == from && message.to == self.me && from != self.me, "it is not between these two"),
            (message.term >= self.term && meta.term <= message.term && meta.term > Term(0), "its term is not right"),
            (message.term > self.term || self.leader.is_none_or(|leader| leader == from), "the peer does not lead"),
            (meta.founders == *self.founders, "it has other founders"),
            (voters.is_sorted_by(|a, b| a < b) && voters.contains(&self.me), "we are not among its voters"),
            (voters.iter().all(|voter| self.founders.disks.contains_key(voter)), "it has unknown voters"),
            ((1..=BODY_BYTES_MAX).contains(&meta.body_bytes), "its length is out of range"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(reason),
            None => Ok(meta.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::snapshots::tests::{founders, message, meta};

    const ME: ReplicaId = ReplicaId(1);
    const LEADER: ReplicaId = ReplicaId(2);

    fn check(change: impl FnOnce(&mut RaftMessage, &mut SnapshotMeta)) -> Result<SnapshotMeta, &'static str> {
        let (mut message, mut meta) = (message(LEADER, ME), meta(3));
        change(&mut message, &mut meta);
        if let RaftBody::Snapshot { meta: announced } = &mut message.body {
            *announced = meta;
        }
        let founders = founders();
        let own = Own { me: ME, term: Term(5), leader: Some(LEADER), applied: Index(7), founders: &founders };
        own.check(LEADER, &message)
    }

    #[test]
    fn a_good_offer_passes() {
        assert_eq!(check(|_, _| {}), Ok(meta(3)));
        assert_eq!(check(|message, _| message.term = Term(6)), Ok(meta(3)), "of a leader not heard of yet");
        let largest = check(|_, meta| meta.body_bytes = BODY_BYTES_MAX);
        assert!(largest.is_ok());
    }

    #[test]
    fn each_check_can_fail() {
        type Change = fn(&mut RaftMessage, &mut SnapshotMeta);
        let changes: [Change; 14] = [
            |message, _| message.body = RaftBody::TimeoutNow,
            |message, _| message.from = ReplicaId(3),
            |message, _| message.to = ReplicaId(3),
            |message, _| message.term = Term(4),
            |_, meta| meta.term = Term(6),
            |_, meta| meta.term = Term(0),
            |_, meta| meta.founders.disks.clear(),
            |_, meta| meta.founders.limits.keys_bytes_max += 1,
            |_, meta| meta.voters.clear(),
            |_, meta| meta.voters = vec![ReplicaId(2), ReplicaId(3)],
            |_, meta| meta.voters.reverse(),
            |_, meta| meta.voters.push(ReplicaId(9)),
            |_, meta| meta.body_bytes = 0,
            |_, meta| meta.body_bytes = BODY_BYTES_MAX + 1,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(check(change).is_err(), "change {number}");
        }
    }

    #[test]
    fn only_who_leads_may_offer() {
        let founders = founders();
        let mut own = Own { me: ME, term: Term(5), leader: Some(ReplicaId(3)), applied: Index(7), founders: &founders };
        assert!(own.check(LEADER, &message(LEADER, ME)).is_err(), "another leads in this term");
        own.leader = None;
        assert!(own.check(LEADER, &message(LEADER, ME)).is_ok());
        own = Own { term: Term(4), leader: Some(ReplicaId(3)), ..own };
        assert!(own.check(LEADER, &message(LEADER, ME)).is_ok(), "another led in an earlier term");
    }
}
