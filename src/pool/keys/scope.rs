//! What belongs together among the keys of one pool: its rings and its floors.

use super::{
    bucket::bucket_number,
    record::{Name, Record},
    ring::Ring,
};
use crate::{
    pool::{
        command::Command,
        digest::{self, KeyOwner},
        names::{PoolId, RequestKey},
    },
    types::Millis,
};

/// How far a key's time may lie ahead of the cluster's.
pub(super) const AHEAD_MS_MAX: u64 = 60_000;

/// Which ring of a scope; its place in [`Scope::rings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingKind {
    Caller,
    Admin,
    Server,
}

/// What a ring counts against; its place in [`super::Keys::used`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    Play,
    Admin,
}

/// Which of the two floors; its place in [`Scope::floors`].
#[derive(Clone, Copy, Debug)]
pub(super) enum FloorKind {
    Caller,
    Server,
}

impl RingKind {
    pub(super) const ALL: [Self; 3] = [Self::Caller, Self::Admin, Self::Server];

    pub(super) fn budget(self) -> Budget {
        if self == Self::Admin { Budget::Admin } else { Budget::Play }
    }

    pub(super) fn floor(self) -> FloorKind {
        if self == Self::Server { FloorKind::Server } else { FloorKind::Caller }
    }

    pub(super) fn of_command(command: &Command) -> Self {
        match (command.key.is_server_made(), command.action.is_administrative()) {
            (true, _) => Self::Server,
            (false, true) => Self::Admin,
            (false, false) => Self::Caller,
        }
    }

    /// Those in which a key may be.
    pub(super) fn of_key(key: &RequestKey) -> &'static [Self] {
        if key.is_server_made() { &[Self::Server] } else { &[Self::Caller, Self::Admin] }
    }
}

impl FloorKind {
    pub(super) fn of_key(key: &RequestKey) -> Self {
        if key.is_server_made() { Self::Server } else { Self::Caller }
    }
}

/// The keys of a pool, or those of all pools that do not exist.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// Whose they are; `None` for the orphans.
    pub(super) pool: Option<PoolId>,
    pub(super) rings: [Ring; 3],
    /// End of the newest bucket dropped for want of room.
    pub(super) floors: [Millis; 2],
    /// When the pool was created.
    pub(super) born: Millis,
    /// Of each ring's keys.
    owners: [KeyOwner; 3],
}

impl Scope {
    pub(super) fn new(pool: Option<PoolId>, born: Millis) -> Self {
        let owners = RingKind::ALL.map(|kind| KeyOwner::new(name(&pool), kind as u8));
        Self { pool, rings: Default::default(), floors: Default::default(), born, owners }
    }

    /// The pool's name; nothing for the orphans, which no pool can be called.
    pub(super) fn name(&self) -> &str {
        name(&self.pool)
    }

    pub(super) fn owner(&self, kind: RingKind) -> KeyOwner {
        self.owners[kind as usize]
    }

    pub(super) fn ring(&self, kind: RingKind) -> &Ring {
        &self.rings[kind as usize]
    }

    pub(super) fn find(&self, tag: u32, key: &RequestKey, name: &Name) -> Option<Record<'_>> {
        let number = bucket_number(key.time());
        RingKind::of_key(key).iter().find_map(|&kind| self.ring(kind).find(tag, number, name))
    }

    /// Is there a bucket in which the key might be?
    pub(super) fn has_bucket(&self, key: &RequestKey) -> bool {
        let number = bucket_number(key.time());
        RingKind::of_key(key).iter().any(|&kind| self.ring(kind).bucket(number).is_some())
    }

    /// The ring with the oldest bucket, and when that ended.
    pub(super) fn oldest(&self, budget: Budget) -> Option<(RingKind, Millis)> {
        let rings = RingKind::ALL.into_iter().filter(|kind| kind.budget() == budget);
        let oldest = rings.filter_map(|kind| Some((kind, self.ring(kind).oldest()?.last_time())));
        oldest.min_by_key(|&(_, last)| last)
    }

    /// Until when a key of that pool may have been refused because the pool did not exist.
    pub(super) fn orphaned_until(&self) -> Millis {
        Millis(self.born.0.saturating_add(AHEAD_MS_MAX))
    }

    /// The hash of its record, which is all of it but the keys.
    pub(super) fn hash(&self) -> u128 {
        digest::Record::Keys { pool: self.pool.as_ref(), born: self.born, floors: self.floors }.hash()
    }
}

fn name(pool: &Option<PoolId>) -> &str {
    pool.as_ref().map_or("", PoolId::as_str)
}
