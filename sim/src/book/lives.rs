//! Who lives where.

use std::collections::BTreeMap;

use madsim::task::NodeId;
use tombola::{
    replica::Status,
    types::{Index, ReplicaId},
};

use crate::check::Incarnation;

/// The lives of all nodes.
#[derive(Default)]
pub struct Lives {
    /// Every life there ever was, and whether it still has a say.
    by_place: BTreeMap<NodeId, Life>,
    /// Where each node's present life is.
    present: BTreeMap<ReplicaId, NodeId>,
}

/// How far a life has come with a peer's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipment {
    /// Nowhere.
    None,
    /// It is staged.
    Staged,
    /// It is installed, and the replica has not gone on from it.
    Installed,
}

/// One life.
pub struct Life {
    /// Whose.
    pub who: Incarnation,
    /// What it showed last.
    pub shown: Option<Status>,
    /// As it showed last, it leads with entries that nobody has acknowledged.
    pub has_lonely_tail: bool,
    /// What the node had applied before this life.
    pub applied_before: Index,
    /// The state that it went on from last.
    pub restored: Index,
    /// How far it has come with a peer's snapshot.
    pub shipment: Shipment,
    is_over: bool,
}

impl Life {
    /// One that begins, of a node that had applied so much before.
    pub fn new(who: Incarnation, applied_before: Index) -> Self {
        let (restored, shipment) = (Index(0), Shipment::None);
        Self { who, shown: None, has_lonely_tail: false, applied_before, restored, shipment, is_over: false }
    }
}

impl Lives {
    /// A life begins; an earlier one of the same node is over.
    pub fn start(&mut self, on: NodeId, who: Incarnation, applied_before: Index) {
        self.end(who.replica);
        self.by_place.insert(on, Life::new(who, applied_before));
        self.present.insert(who.replica, on);
    }

    /// A node's present life is over, if there is one.
    pub fn end(&mut self, node: ReplicaId) -> Option<&Life> {
        let life = self.by_place.get_mut(&self.present.remove(&node)?)?;
        (life.is_over, life.shown) = (true, None);
        Some(life)
    }

    /// A node's present life, to be changed.
    pub fn of_mut(&mut self, node: ReplicaId) -> Option<&mut Life> {
        self.by_place.get_mut(self.present.get(&node)?)
    }

    /// What all that live showed last, but for one.
    pub fn shown_by_others(&self, than: ReplicaId) -> impl Iterator<Item = &Status> {
        let others = self.present.iter().filter(move |(node, _)| **node != than);
        others.filter_map(|(_, place)| self.by_place.get(place)?.shown.as_ref())
    }

    /// A node's present life.
    pub fn of(&self, node: ReplicaId) -> Option<Incarnation> {
        Some(self.by_place.get(self.present.get(&node)?)?.who)
    }

    /// Whose life is on that madsim node, if it has a say.
    pub fn on(&mut self, place: NodeId) -> Option<&mut Life> {
        self.by_place.get_mut(&place).filter(|life| !life.is_over)
    }

    /// Is it a life that is over?
    pub fn is_over(&self, place: NodeId) -> bool {
        self.by_place.get(&place).is_some_and(|life| life.is_over)
    }
}
