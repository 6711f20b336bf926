//! Who lives where.

use std::collections::BTreeMap;

use madsim::task::NodeId;
use tombola::{replica::Status, types::ReplicaId};

use crate::check::Incarnation;

/// The lives of all nodes.
#[derive(Default)]
pub struct Lives {
    /// Every life there ever was, and whether it still has a say.
    by_place: BTreeMap<NodeId, Life>,
    /// Where each node's present life is.
    present: BTreeMap<ReplicaId, NodeId>,
}

/// One life.
pub struct Life {
    /// Whose.
    pub who: Incarnation,
    /// What it showed last.
    pub shown: Option<Status>,
    is_over: bool,
}

impl Lives {
    /// A life begins; an earlier one of the same node is over.
    pub fn start(&mut self, on: NodeId, who: Incarnation) {
        self.end(who.replica);
        self.by_place.insert(on, Life { who, shown: None, is_over: false });
        self.present.insert(who.replica, on);
    }

    /// A node's present life is over, if there is one.
    pub fn end(&mut self, node: ReplicaId) -> Option<Incarnation> {
        let life = self.by_place.get_mut(&self.present.remove(&node)?)?;
        (life.is_over, life.shown) = (true, None);
        Some(life.who)
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
