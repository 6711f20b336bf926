//! Request keys: what makes a command happen at most once.
//!
//! **What it promises.** A key that was answered is answered the same again, from its record. A key whose record may have
//! been forgotten is refused, never executed. So per (pool, key) there is at most one outcome, ever.
//!
//! **How.** A pool's keys are a [`Scope`]: three [`Ring`]s of buckets by key time, and two floors. Which ring a key's record
//! goes to follows from the key and the command alone, so that the same request is always looked up where it was stored:
//!
//! | ring | what | remembered for | counts against |
//! |---|---|---|---|
//! | server | keys that a node made ([`RequestKey::is_server_made`]) | 60 s | `keys_bytes_max` |
//! | admin | administrative commands | `keys_age_ms_max` | 16 MiB of their own |
//! | caller | draws and claims | `keys_age_ms_max` | `keys_bytes_max` |
//!
//! A key is unique in its pool whatever the command, hence one floor for caller and admin ring together; keys made by nodes
//! are told by their form and have their own.
//!
//! **Pools that do not exist** are refused under a key as well, and the refusal is final. Those records, of all such pools,
//! live in one scope, the *orphans*, under a hash of pool and key. When the pool is created later, keys
//! of up to 60 s after its birth may have been answered there: they are looked up in both, and are subject to both floors.
//! `CreatePool` itself is stored in the pool that it made.
//!
//! **Over the budget** the scope that uses most (the first by name, among equals) forgets its oldest bucket, unless that is
//! younger than 30 s: then its new keys are refused, and others' are not, up to twice the budget, where all are. The bytes
//! are counted by formula, since measured ones would differ between replicas.

mod arena;
mod image;
mod record;
mod ring;
mod table;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

pub(super) use self::{
    image::{BucketRecord, ScopeRecord},
    record::{Told, write_told},
};
use self::{
    record::{Name, Record},
    ring::{Change, Ring, Seed, bucket_number},
};
use super::{
    Limits,
    check::Fingerprint,
    command::Command,
    digest::{self, Sum},
    names::{PoolId, RequestKey},
    outcome::Refusal,
};
use crate::types::{Entropy, Millis};

/// How far a key's time may lie ahead of the cluster's.
const AHEAD_MS_MAX: u64 = 60_000;
/// How long keys made by nodes are remembered: well beyond every deadline.
const SERVER_AGE_MS_MAX: u64 = 60_000;
/// A bucket younger than this is not forgotten for want of room.
const YOUNG_MS: u64 = 30_000;
/// Budget of administrative commands.
const ADMIN_BYTES_MAX: u64 = 16 << 20;

/// Which ring of a scope; its place in [`Scope::rings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RingKind {
    Caller,
    Admin,
    Server,
}

/// What a ring counts against; its place in [`Keys::used`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Budget {
    Play,
    Admin,
}

/// Which of the two floors; its place in [`Scope::floors`].
#[derive(Clone, Copy, Debug)]
enum FloorKind {
    Caller,
    Server,
}

impl RingKind {
    const ALL: [Self; 3] = [Self::Caller, Self::Admin, Self::Server];

    fn budget(self) -> Budget {
        if self == Self::Admin { Budget::Admin } else { Budget::Play }
    }

    fn floor(self) -> FloorKind {
        if self == Self::Server { FloorKind::Server } else { FloorKind::Caller }
    }

    fn of_command(command: &Command) -> Self {
        match (command.key.is_server_made(), command.action.is_administrative()) {
            (true, _) => Self::Server,
            (false, true) => Self::Admin,
            (false, false) => Self::Caller,
        }
    }

    /// Those in which a key may be.
    fn of_key(key: &RequestKey) -> &'static [Self] {
        if key.is_server_made() { &[Self::Server] } else { &[Self::Caller, Self::Admin] }
    }
}

impl FloorKind {
    fn of_key(key: &RequestKey) -> Self {
        if key.is_server_made() { Self::Server } else { Self::Caller }
    }
}

/// The keys of a pool, or those of all pools that do not exist.
#[derive(Clone, Debug, Default)]
struct Scope {
    rings: [Ring; 3],
    /// End of the newest bucket dropped for want of room.
    floors: [Millis; 2],
    /// When the pool was created.
    born: Millis,
}

impl Scope {
    fn find(&self, seed: Seed, key: &RequestKey, name: &Name) -> Option<Record<'_>> {
        let number = bucket_number(key.time());
        RingKind::of_key(key).iter().find_map(|&ring| self.rings[ring as usize].find(seed, number, name))
    }

    fn rings_of(&self, budget: Budget) -> impl Iterator<Item = (RingKind, &Ring)> {
        RingKind::ALL
            .into_iter()
            .filter(move |kind| kind.budget() == budget)
            .map(|kind| (kind, &self.rings[kind as usize]))
    }

    fn bytes(&self, budget: Budget) -> u64 {
        self.rings_of(budget).map(|(_, ring)| ring.bytes()).sum()
    }

    /// The ring with the oldest bucket, and when that ended.
    fn oldest(&self, budget: Budget) -> Option<(RingKind, Millis)> {
        let oldest = self.rings_of(budget).filter_map(|(kind, ring)| Some((kind, ring.oldest()?.last_time())));
        oldest.min_by_key(|&(_, last)| last)
    }

    fn hash(&self, pool: Option<&PoolId>) -> u128 {
        digest::Record::Keys { pool, born: self.born, floors: self.floors }.hash()
    }
}

/// All request keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    limits: Limits,
    /// Key of the tables' hash, out of the first batch's entropy, which no client sees.
    seed: Option<Seed>,
    scopes: BTreeMap<PoolId, Scope>,
    orphans: Scope,
    /// Bytes used, by [`Budget`].
    used: [u64; 2],
    sum: Sum,
}

impl Keys {
    pub(super) fn new(limits: Limits) -> Self {
        let mut keys = Self {
            limits,
            seed: None,
            scopes: BTreeMap::new(),
            orphans: Scope::default(),
            used: [0; 2],
            sum: Sum::default(),
        };
        keys.sum.add(keys.orphans.hash(None));
        keys
    }

    pub(super) fn seed(&self) -> &Option<Seed> {
        &self.seed
    }

    /// The sum over all its records.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    /// Chooses the tables' hash, once and for all, before the first key is stored.
    pub(super) fn seed_once(&mut self, entropy: &Entropy) {
        if self.seed.is_none() {
            let hash = Sha256::new().chain_update(b"tombola.keys.v1").chain_update(entropy.0).finalize();
            let word = |at: usize| u64::from_le_bytes(hash[at..at + 8].try_into().expect("8 bytes"));
            self.seed = Some([word(0), word(8)]);
        }
    }

    /// A pool has come to be.
    pub(super) fn open(&mut self, pool: PoolId, born: Millis) {
        let scope = Scope { born, ..Scope::default() };
        self.sum.add(scope.hash(Some(&pool)));
        let earlier = self.scopes.insert(pool, scope);
        assert!(earlier.is_none(), "a pool is created once");
    }

    /// Forgets what time has taken away. Only whole buckets go, so there is nothing to do within one bucket's width.
    pub(super) fn advance(&mut self, before: Millis, now: Millis) {
        if bucket_number(before) == bucket_number(now) {
            return;
        }
        let horizons = RingKind::ALL.map(|kind| self.horizon(kind.floor(), now));
        for scope in std::iter::once(&mut self.orphans).chain(self.scopes.values_mut()) {
            for (kind, horizon) in RingKind::ALL.into_iter().zip(horizons) {
                let ring = &mut scope.rings[kind as usize];
                while ring.oldest().is_some_and(|bucket| bucket.last_time() <= horizon) {
                    let change = ring.drop_oldest().expect("there is an oldest one");
                    forget(&mut self.used, &mut self.sum, kind, change);
                }
            }
        }
    }

    /// What is remembered of a key.
    pub(super) fn find(&self, pool: &PoolId, key: &RequestKey) -> Option<Record<'_>> {
        let seed = self.seed?;
        if let Some(scope) = self.scopes.get(pool) {
            let found = scope.find(seed, key, key.as_bytes());
            if found.is_some() || key.time() > orphaned_until(scope) {
                return found;
            }
        }
        self.orphans.find(seed, key, &orphan_name(pool, key))
    }

    /// The newest time whose keys, if not found, are refused as forgotten.
    pub(super) fn floor_of_key(&self, pool: &PoolId, key: &RequestKey, now: Millis) -> Millis {
        self.floor(pool, FloorKind::of_key(key), now)
    }

    /// [`Self::floor_of_key`] for the keys that callers make.
    pub(super) fn floor_of_callers(&self, pool: &PoolId, now: Millis) -> Millis {
        self.floor(pool, FloorKind::Caller, now)
    }

    fn floor(&self, pool: &PoolId, kind: FloorKind, now: Millis) -> Millis {
        let orphans = self.orphans.floors[kind as usize];
        let dropped = match self.scopes.get(pool) {
            Some(scope) => scope.floors[kind as usize].max(orphans.min(orphaned_until(scope))),
            None => orphans,
        };
        dropped.max(self.horizon(kind, now))
    }

    fn horizon(&self, kind: FloorKind, now: Millis) -> Millis {
        let age_ms_max = match kind {
            FloorKind::Caller => self.limits.keys_age_ms_max,
            FloorKind::Server => self.limits.keys_age_ms_max.min(SERVER_AGE_MS_MAX),
        };
        Millis(now.0.saturating_sub(age_ms_max))
    }

    /// May a command be executed under a key that was not found? Makes room for its record, if need be by forgetting keys
    /// of its own time and later: it is not among those, since it was looked for.
    pub(super) fn admit(&mut self, command: &Command, now: Millis) -> Result<(), Refusal> {
        let (pool, time) = (&command.pool, command.key.time());
        let floor = self.floor_of_key(pool, &command.key, now);
        if time <= floor {
            return Err(Refusal::KeyExpired { floor, now });
        }
        if time.0 > now.0.saturating_add(AHEAD_MS_MAX) {
            return Err(Refusal::KeyFromFuture { floor, now });
        }
        let kind = RingKind::of_command(command);
        let ring = &self.scopes.get(pool).unwrap_or(&self.orphans).rings[kind as usize];
        if ring.is_closed(bucket_number(time)) {
            return Err(Refusal::KeyTableFull);
        }
        self.make_room(pool, kind.budget(), now)
    }

    /// Stores what was told under a key that was admitted.
    pub(super) fn store(&mut self, command: &Command, fingerprint: Fingerprint, told: &[u8]) {
        let kind = RingKind::of_command(command);
        let seed = self.seed.expect("a batch seeds the tables before its first command");
        let number = bucket_number(command.key.time());
        let ring = kind as u8;
        let change = match self.scopes.get_mut(&command.pool) {
            Some(scope) => {
                let parts = [command.key.as_bytes().as_slice(), &fingerprint.0, told];
                scope.rings[kind as usize].insert(seed, number, command.pool.as_str(), ring, parts)
            }
            None => {
                let name = orphan_name(&command.pool, &command.key);
                self.orphans.rings[kind as usize].insert(seed, number, "", ring, [&name, &fingerprint.0, told])
            }
        };
        self.used[kind.budget() as usize] += change.bytes;
        self.sum.merge(change.sum);
    }

    fn make_room(&mut self, pool: &PoolId, budget: Budget, now: Millis) -> Result<(), Refusal> {
        let bytes_max = match budget {
            Budget::Play => self.limits.keys_bytes_max,
            Budget::Admin => ADMIN_BYTES_MAX,
        };
        while self.used[budget as usize] >= bytes_max {
            let heaviest = self.heaviest(budget);
            let scope = match &heaviest {
                Some(id) => self.scopes.get_mut(id).expect("the heaviest is one of them"),
                None => &mut self.orphans,
            };
            match scope.oldest(budget) {
                Some((kind, last)) if last.0.saturating_add(YOUNG_MS) < now.0 => {
                    self.sum.replace(scope.hash(heaviest.as_ref()), 0);
                    let floor = &mut scope.floors[kind.floor() as usize];
                    *floor = last.max(*floor);
                    self.sum.add(scope.hash(heaviest.as_ref()));
                    let change = scope.rings[kind as usize].drop_oldest().expect("it has an oldest one");
                    forget(&mut self.used, &mut self.sum, kind, change);
                }
                _ => {
                    let own = self.scopes.contains_key(pool).then_some(pool);
                    let crowded = self.used[budget as usize] >= bytes_max.saturating_mul(2);
                    let refused = crowded || heaviest.as_ref() == own;
                    return if refused { Err(Refusal::KeyTableFull) } else { Ok(()) };
                }
            }
        }
        Ok(())
    }

    /// Who uses most of a budget: a pool, or (`None`, before all pools) the orphans.
    fn heaviest(&self, budget: Budget) -> Option<PoolId> {
        let mut heaviest = (self.orphans.bytes(budget), None);
        for (id, scope) in &self.scopes {
            let bytes = scope.bytes(budget);
            if bytes > heaviest.0 {
                heaviest = (bytes, Some(id));
            }
        }
        heaviest.1.cloned()
    }
}

/// Until when a key of that pool may have been refused because the pool did not exist.
fn orphaned_until(scope: &Scope) -> Millis {
    Millis(scope.born.0.saturating_add(AHEAD_MS_MAX))
}

fn forget(used: &mut [u64; 2], sum: &mut Sum, kind: RingKind, change: Change) {
    used[kind.budget() as usize] -= change.bytes;
    sum.unmerge(change.sum);
}

/// What a key of a pool that does not exist is found by.
fn orphan_name(pool: &PoolId, key: &RequestKey) -> Name {
    let hash = Sha256::new().chain_update(key.as_bytes()).chain_update(pool.as_str()).finalize();
    hash[..16].try_into().expect("SHA-256 has more than 16 bytes")
}
