//! Who may speak to this node: what peers say of themselves at the beginning of every connection, and whether that is
//! acceptable.
//!
//! The transport proves which replica a peer is. Whether it is one of *this* cluster, with the disk that the cluster knows
//! it by, is judged here, once for each connection, before anything else it says is looked at; a peer that was not accepted
//! is neither heard nor spoken to. So a node with an emptied disk, which has forgotten its votes, never gets to vote again; and a data
//! directory of another cluster is noticed before a byte of it counts.
//!
//! | what differs | is refused |
//! |---|---|
//! | format of the introduction, cluster, shard, replica | always |
//! | genesis | when both are founded: two clusters of one name, founded apart |
//! | disk | when this node is founded, and its cluster knows the peer with another disk |
//!
//! Who is not founded yet is accepted, to be founded; that it says nothing else is seen to frame by frame. A peer that this
//! node's cluster does not know is accepted too: this node may be behind the change that added it.
//!
//! Refusals name both values and the next step, since an operator reads them, here and on the other side.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, DecodeError},
    durable::{Founders, Identity},
    hooks,
    transport::HELLO_BYTES_MAX,
    types::{ClusterId, DiskId, Genesis, ReplicaId, ShardId},
};

/// Longest reason of a peer's that is kept, in characters.
const REASON_CHARS_MAX: usize = 512;

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Format of the introduction.
    pub version: u16,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its shard.
    pub shard: ShardId,
    /// Which replica it is.
    pub replica: ReplicaId,
    /// Its disk.
    pub disk: DiskId,
    /// How its cluster was founded, once it is.
    pub genesis: Option<Genesis>,
}

impl Hello {
    /// The format that is spoken. Builds of format 1 make state digests of another hash: together with this one they would
    /// find that they differ.
    pub const VERSION: u16 = 2;

    /// An unfounded node's.
    fn of(identity: &Identity) -> Self {
        let Identity { cluster, shard, replica, disk } = *identity;
        Self { version: Self::VERSION, cluster, shard, replica, disk, genesis: None }
    }

    /// Reads an introduction. The version stands first, so that a later format is told from damage.
    fn decode(bytes: &[u8]) -> Result<Self, Unacceptable> {
        let version = bytes.first_chunk().map_or(Self::VERSION, |bytes| u16::from_le_bytes(*bytes));
        if version != Self::VERSION {
            return Err(Unacceptable::Version(version));
        }
        Ok(codec::decode(bytes, HELLO_BYTES_MAX)?)
    }
}

/// Why a peer is not accepted. Told to its node as well.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unacceptable {
    #[error("the introduction cannot be read: {0}")]
    Undecodable(#[from] DecodeError),
    #[error(
        "the introduction has format {0}, and this build knows format {known} alone: run the same version on all nodes",
        known = Hello::VERSION
    )]
    Version(u16),
    #[error("it calls itself replica {said}, and its certificate is that of replica {proved}: give it its own")]
    Replica { said: ReplicaId, proved: ReplicaId },
    #[error(
        "replica {replica} is of cluster {theirs}, and this node is of cluster {ours}: a data directory serves the cluster \
         it was made in alone"
    )]
    Cluster { replica: ReplicaId, theirs: ClusterId, ours: ClusterId },
    #[error("replica {replica} is of shard {theirs}, and this node is of shard {ours}")]
    Shard { replica: ReplicaId, theirs: ShardId, ours: ShardId },
    #[error(
        "the cluster of replica {replica} was founded as {theirs}, and this node's as {ours}: two clusters of one name, \
         founded apart. Bring back the data directory that belongs here, or replace the node under a new id"
    )]
    Genesis { replica: ReplicaId, theirs: Genesis, ours: Genesis },
    #[error(
        "replica {replica} comes with disk {theirs}, and the cluster knows it with disk {ours}: an emptied disk cannot come \
         back under its old id. Bring its data directory back, or replace the node under a new id"
    )]
    Disk { replica: ReplicaId, theirs: DiskId, ours: DiskId },
}

/// This node's introduction, and what became of its peers'.
#[derive(Debug)]
pub(super) struct Introductions {
    own: Hello,
    /// The disks that the cluster knows its replicas by; empty until it is founded.
    disks: BTreeMap<ReplicaId, DiskId>,
    /// What those said who are accepted.
    met: BTreeMap<ReplicaId, Hello>,
    /// Who is not accepted, and why.
    refused: BTreeMap<ReplicaId, String>,
    /// Who does not accept this node, and why.
    refused_by: BTreeMap<ReplicaId, String>,
}

impl Introductions {
    /// Of a node that is not founded, as far as is known yet.
    pub fn new(identity: &Identity) -> Self {
        let (disks, met, refused, refused_by) = Default::default();
        Self { own: Hello::of(identity), disks, met, refused, refused_by }
    }

    /// What this node says of itself.
    pub fn hello(&self) -> Bytes {
        codec::encode(&self.own).into()
    }

    /// This node is founded. Returns those who were accepted before, and are not any more.
    pub fn handle_founded(&mut self, genesis: Genesis, founders: &Founders) -> Vec<(ReplicaId, Unacceptable)> {
        self.own.genesis = Some(genesis);
        self.disks = founders.disks.clone();
        let met = std::mem::take(&mut self.met);
        let judged = met.into_iter().map(|(peer, hello)| (peer, self.judge(peer, hello)));
        judged.collect::<Vec<_>>().into_iter().filter_map(|(peer, judged)| Some((peer, judged.err()?))).collect()
    }

    /// A connection to `peer` is up, and this is what it says of itself.
    ///
    /// # Errors
    /// It is not acceptable: nothing that it says is to be heard.
    pub fn handle_hello(&mut self, peer: ReplicaId, hello: &[u8]) -> Result<(), Unacceptable> {
        self.met.remove(&peer);
        self.judge(peer, Hello::decode(hello)?)
    }

    fn judge(&mut self, peer: ReplicaId, hello: Hello) -> Result<(), Unacceptable> {
        let (ours, theirs) = (&self.own, &hello);
        if theirs.replica != peer {
            return Err(Unacceptable::Replica { said: theirs.replica, proved: peer });
        }
        if theirs.cluster != ours.cluster {
            return Err(Unacceptable::Cluster { replica: peer, theirs: theirs.cluster, ours: ours.cluster });
        }
        if theirs.shard != ours.shard {
            return Err(Unacceptable::Shard { replica: peer, theirs: theirs.shard, ours: ours.shard });
        }
        if let (Some(theirs), Some(ours)) = (theirs.genesis, ours.genesis)
            && theirs != ours
        {
            return Err(Unacceptable::Genesis { replica: peer, theirs, ours });
        }
        if let Some(&ours) = self.disks.get(&peer)
            && theirs.disk != ours
            && !hooks::is_planted("m25")
        {
            hooks::sometimes("id_reuse_refused");
            return Err(Unacceptable::Disk { replica: peer, theirs: theirs.disk, ours });
        }
        self.met.insert(peer, hello);
        self.refused.remove(&peer);
        Ok(())
    }

    /// Is this peer to be heard, and spoken to?
    pub fn has_met(&self, peer: ReplicaId) -> bool {
        self.met.contains_key(&peer)
    }

    /// Is it known to be founded?
    pub fn is_founded(&self, peer: ReplicaId) -> bool {
        self.met.get(&peer).is_some_and(|hello| hello.genesis.is_some())
    }

    /// A peer said something: so it accepts this node.
    pub fn handle_frame(&mut self, peer: ReplicaId) {
        self.refused_by.remove(&peer);
    }

    /// This node refused a peer. `true` if that is news.
    pub fn handle_refused(&mut self, peer: ReplicaId, reason: &str) -> bool {
        self.refused.insert(peer, reason.to_owned()).as_deref() != Some(reason)
    }

    /// A peer refused this node. `true` if that is news.
    pub fn handle_refused_by(&mut self, peer: ReplicaId, reason: &str) -> bool {
        self.refused_by.insert(peer, reason.to_owned()).as_deref() != Some(reason)
    }

    /// Those who are not accepted, or do not accept this node, and why.
    pub fn strangers(&self) -> BTreeMap<ReplicaId, String> {
        self.refused_by.iter().chain(&self.refused).map(|(peer, why)| (*peer, why.clone())).collect()
    }
}

/// A peer's reason, fit for a log: on one line, and not too long.
pub(super) fn printable(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool::Limits;

    const ME: ReplicaId = ReplicaId(1);
    const PEER: ReplicaId = ReplicaId(2);

    fn identity(replica: ReplicaId) -> Identity {
        let disk = DiskId([replica.0 as u8; 16]);
        Identity { cluster: ClusterId([7; 16]), shard: ShardId::FIRST, replica, disk }
    }

    fn founders() -> Founders {
        let disks = [ME, PEER].map(|replica| (replica, identity(replica).disk));
        Founders { cluster: ClusterId([7; 16]), limits: Limits::default(), disks: disks.into() }
    }

    fn unfounded() -> Introductions {
        Introductions::new(&identity(ME))
    }

    fn founded() -> Introductions {
        let mut introductions = unfounded();
        assert!(introductions.handle_founded(Genesis([1; 32]), &founders()).is_empty());
        introductions
    }

    fn hello(genesis: Option<u8>) -> Hello {
        Hello { genesis: genesis.map(|byte| Genesis([byte; 32])), ..Hello::of(&identity(PEER)) }
    }

    /// The reason for which a peer with this introduction is refused, if it is.
    fn reason(introductions: &mut Introductions, hello: &Hello) -> Option<String> {
        let judged = introductions.handle_hello(PEER, &codec::encode(hello));
        assert_eq!(introductions.has_met(PEER), judged.is_ok());
        judged.err().map(|why| why.to_string())
    }

    #[test]
    fn an_introduction_has_these_bytes() {
        let mut expected = vec![2, 0];
        expected.extend([7; 16]);
        expected.extend([0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2; 16]);
        expected.push(1);
        expected.extend([9; 32]);
        assert_eq!(codec::encode(&hello(Some(9))), expected);
        assert!(expected.len() <= HELLO_BYTES_MAX);
    }

    #[test]
    fn who_is_founded_alike_or_not_yet_is_accepted() {
        for genesis in [None, Some(1)] {
            assert_eq!(reason(&mut founded(), &hello(genesis)), None);
            assert_eq!(reason(&mut unfounded(), &hello(genesis)), None);
        }
        let mut introductions = unfounded();
        reason(&mut introductions, &hello(None));
        assert!(!introductions.is_founded(PEER));
        reason(&mut introductions, &hello(Some(1)));
        assert!(introductions.is_founded(PEER));
    }

    #[test]
    fn what_differs_is_refused_and_both_values_are_named() {
        let ours = hello(Some(1));
        let differ: [(Hello, &[&str]); 5] = [
            (Hello { cluster: ClusterId([8; 16]), ..ours }, &["08080808-0808", "07070707-0707"]),
            (Hello { shard: ShardId(4), ..ours }, &["shard 4", "shard 0"]),
            (Hello { replica: ReplicaId(3), ..ours }, &["replica 3", "replica 2"]),
            (Hello { genesis: Some(Genesis([2; 32])), ..ours }, &["founded as 0202", "as 0101", "founded apart"]),
            (
                Hello { disk: DiskId([9; 16]), genesis: None, ..ours },
                &["disk 0909", "disk 0202", "an emptied disk cannot come back under its old id", "replace the node"],
            ),
        ];
        for (hello, says) in differ {
            let mut introductions = founded();
            let reason = reason(&mut introductions, &hello).expect("it differs");
            assert!(says.iter().all(|part| reason.contains(part)), "{reason}");
            assert!(reason.chars().count() <= REASON_CHARS_MAX);
        }
    }

    #[test]
    fn a_format_of_another_build_is_told_from_damage() {
        let mut bytes = codec::encode(&hello(None));
        for len in 0..bytes.len() {
            assert!(founded().handle_hello(PEER, &bytes[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(founded().handle_hello(PEER, &[&bytes[..], &[0]].concat()).is_err());
        bytes[0] = 1;
        let refused = founded().handle_hello(PEER, &bytes).unwrap_err();
        assert!(matches!(refused, Unacceptable::Version(1)), "{refused}");
    }

    /// Nothing is accepted but what this node would accept from its peer, to the byte; anything else has a reason.
    fn is_the_peer_s_or_has_a_reason(bytes: &[u8]) -> proptest::test_runner::TestCaseResult {
        let mut introductions = founded();
        let judged = introductions.handle_hello(PEER, bytes);
        let is_the_peer_s = [None, Some(1)].iter().any(|genesis| codec::encode(&hello(*genesis)) == bytes);
        prop_assert_eq!((judged.is_ok(), introductions.has_met(PEER)), (is_the_peer_s, is_the_peer_s));
        prop_assert!(judged.err().is_none_or(|why| !why.to_string().is_empty()));
        Ok(())
    }

    proptest! {
        #[test]
        fn an_introduction_with_bytes_changed_is_refused(
            is_founded: bool,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            more in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let mut bytes = codec::encode(&hello(is_founded.then_some(1)));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            is_the_peer_s_or_has_a_reason(&[bytes, more].concat())?;
        }

        #[test]
        fn any_bytes_as_an_introduction_are_refused(
            is_of_this_format: bool, bytes in prop::collection::vec(any::<u8>(), 0..2 * HELLO_BYTES_MAX),
        ) {
            let version: &[u8] = if is_of_this_format { &[1, 0] } else { &[] };
            is_the_peer_s_or_has_a_reason(&[version, &bytes].concat())?;
        }
    }

    #[test]
    fn who_was_accepted_before_the_founding_is_judged_again_after_it() {
        let mut introductions = unfounded();
        assert_eq!(reason(&mut introductions, &Hello { disk: DiskId([9; 16]), ..hello(None) }), None);
        let [(PEER, Unacceptable::Disk { .. })] = introductions.handle_founded(Genesis([1; 32]), &founders())[..]
        else {
            panic!("the disk is not the one that founded")
        };
        assert!(!introductions.has_met(PEER));
    }

    #[test]
    fn who_comes_back_with_another_introduction_is_not_heard_for_the_old_one() {
        let mut introductions = founded();
        assert_eq!(reason(&mut introductions, &hello(Some(1))), None);
        assert!(reason(&mut introductions, &hello(Some(2))).is_some());
    }

    #[test]
    fn a_reason_is_news_once() {
        let mut introductions = founded();
        assert!(introductions.handle_refused(PEER, "a"));
        assert!(!introductions.handle_refused(PEER, "a"));
        assert!(introductions.handle_refused(PEER, "b"));
        assert!(introductions.handle_refused_by(PEER, "c"));
        assert_eq!(introductions.strangers(), BTreeMap::from([(PEER, "b".to_owned())]));
        reason(&mut introductions, &hello(None));
        assert!(!introductions.handle_refused_by(PEER, "c"), "that it is accepted here says nothing of there");
        introductions.handle_frame(PEER);
        assert!(introductions.strangers().is_empty());
        assert_eq!(printable("a\nb\u{7}"), "a b ");
    }
}
