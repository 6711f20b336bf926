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
//! **Time** takes buckets away at the first entry whose time, rounded down to 5 s, is a ring's age past their last
//! millisecond; at most 4 096 an entry, by scope, ring and time, the rest in the next.
//!
//! **Over the budget**, before a new key is stored, the scope that uses most (the first by name, among equals) forgets its
//! oldest bucket, and again until there is room; unless that bucket is younger than 30 s: then its new keys are refused,
//! and others' are not, up to twice the budget, where all are. A key's own floor was looked at before. The bytes are
//! counted by formula, since measured ones would differ between replicas.
//!
//! **Nothing takes long**: a table grows by a page at a time, a clone shares all but a few pointers, and a bucket that is
//! forgotten is put aside whole, to be freed elsewhere ([`Keys::take_garbage`]).

mod arena;
mod bucket;
mod image;
mod inspect;
mod record;
mod ring;
mod scope;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};

use self::{
    bucket::{BUCKET_MS, Bucket, Seed, Tally, bucket_number, tag},
    record::{Name, Record},
    scope::{AHEAD_MS_MAX, Budget, FloorKind, RingKind, Scope},
};
pub(super) use self::{
    image::{KeysPiece, ScopeRecord},
    record::Told,
};
use super::{
    Garbage, Limits,
    check::Fingerprint,
    command::Command,
    digest::Sum,
    names::{PoolId, RequestKey},
    outcome::Refusal,
};
use crate::{
    hooks,
    types::{Entropy, Millis},
};

/// How long keys made by nodes are remembered: well beyond every deadline.
const SERVER_AGE_MS_MAX: u64 = 60_000;
/// A bucket younger than this is not forgotten for want of room.
const YOUNG_MS: u64 = 30_000;
/// Budget of administrative commands.
const ADMIN_BYTES_MAX: u64 = 16 << 20;
/// Most buckets that an entry forgets because of their age: there are more only when time leaps.
const DROPS_PER_ENTRY_MAX: usize = 4_096;
/// Place of the orphans in [`Keys::scopes`].
const ORPHANS: usize = 0;

/// All request keys.
#[derive(Debug)]
pub(super) struct Keys {
    limits: Limits,
    /// Key of the tables' hash, out of the first batch's entropy, which no client sees.
    seed: Option<Seed>,
    /// The orphans, then pools in the order of their creation or, after a restore, of their names.
    scopes: Vec<Scope>,
    /// Where a pool's scope is.
    places: BTreeMap<PoolId, usize>,
    /// Bytes used by each scope, by [`Budget`]: side by side, since the greatest is looked for at every key over budget.
    shares: Vec<[u64; 2]>,
    /// Bytes used, by [`Budget`].
    used: [u64; 2],
    len: u64,
    sum: Sum,
    /// Were more buckets too old than an entry forgets? It may be said too often, never too seldom.
    overdue: bool,
    /// Buckets that are forgotten, and not yet freed.
    dropped: Vec<Arc<Bucket>>,
}

/// Where a key's record is, or would be: looked up once, for all that is done with a command.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    /// Its place in [`Keys::scopes`].
    scope: usize,
    name: Name,
    tag: u32,
}

/// How full the tables of request keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStats {
    /// Keys that are remembered, of every kind.
    pub keys: u64,
    /// Bytes used by the keys of draws and claims, as the pool counts them.
    pub bytes_used: u64,
    /// The budget for them, [`Limits::keys_bytes_max`].
    pub bytes_max: u64,
    /// How old a caller's key may be, in milliseconds, in the pool that remembers the least.
    pub horizon_ms: u64,
}

impl Keys {
    pub(super) fn new(limits: Limits) -> Self {
        Self::with_orphans(limits, None, Scope::new(None, Millis(0)))
    }

    fn with_orphans(limits: Limits, seed: Option<Seed>, orphans: Scope) -> Self {
        let mut keys = Self {
            limits,
            seed,
            scopes: Vec::new(),
            places: BTreeMap::new(),
            shares: Vec::new(),
            used: [0; 2],
            len: 0,
            sum: Sum::default(),
            overdue: true,
            dropped: Vec::new(),
        };
        keys.add_scope(orphans);
        keys
    }

    /// All that there is to know of it; it stays as it is while the original changes.
    pub(super) fn view(&self) -> Self {
        Self {
            scopes: self.scopes.clone(),
            places: self.places.clone(),
            shares: self.shares.clone(),
            dropped: Vec::new(),
            ..*self
        }
    }

    /// What was forgotten since the last time.
    pub(super) fn take_garbage(&mut self) -> Option<Garbage> {
        (!self.dropped.is_empty()).then(|| Garbage::new(std::mem::take(&mut self.dropped)))
    }

    pub(super) fn seed(&self) -> &Option<Seed> {
        &self.seed
    }

    /// The sum over all its records.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) fn stats(&self, now: Millis) -> KeyStats {
        let floors = self.places.values().map(|&at| self.floor(at, FloorKind::Caller, now));
        let newest = floors.max().unwrap_or_else(|| self.horizon(FloorKind::Caller, now));
        KeyStats {
            keys: self.len,
            bytes_used: self.used[Budget::Play as usize],
            bytes_max: self.limits.keys_bytes_max,
            horizon_ms: now.0.saturating_sub(newest.0),
        }
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
        self.add_scope(Scope::new(Some(pool), born));
    }

    fn add_scope(&mut self, scope: Scope) {
        self.sum.add(scope.hash());
        if let Some(pool) = &scope.pool {
            let earlier = self.places.insert(pool.clone(), self.scopes.len());
            assert!(earlier.is_none(), "a pool is created once");
        }
        self.scopes.push(scope);
        self.shares.push([0; 2]);
    }

    /// Where the keys of a pool are: in its scope, or among the orphans if there is no such pool.
    fn place(&self, pool: &PoolId) -> usize {
        self.places.get(pool).copied().unwrap_or(ORPHANS)
    }

    /// Forgets what time has taken away, if it has moved on to another bucket.
    pub(super) fn advance(&mut self, before: Millis, now: Millis) {
        if bucket_number(before) == bucket_number(now) && !self.overdue {
            return;
        }
        // Rounded down, so that within a bucket's width it does not matter when, or how often, this is done.
        let now = Millis(bucket_number(now) * BUCKET_MS);
        let mut drops = 0;
        // By name, since an entry may not get through, and how scopes lie here is not the same on every replica.
        let by_name: Vec<usize> = std::iter::once(ORPHANS).chain(self.places.values().copied()).collect();
        for at in by_name {
            for kind in RingKind::ALL {
                let horizon = self.horizon(kind.floor(), now);
                let is_old = |bucket: &Bucket| bucket.last_time() <= horizon;
                while drops < DROPS_PER_ENTRY_MAX && self.scopes[at].ring(kind).oldest().is_some_and(is_old) {
                    self.drop_oldest(at, kind);
                    drops += 1;
                }
            }
        }
        self.overdue = drops == DROPS_PER_ENTRY_MAX;
    }

    /// What is remembered of a key.
    pub(super) fn find(&self, pool: &PoolId, key: &RequestKey) -> Option<Record<'_>> {
        self.seed.and_then(|_| self.find_at(&self.spot(pool, key), pool, key))
    }

    /// Where a key's record is, or would be. The tables have been seeded.
    pub(super) fn spot(&self, pool: &PoolId, key: &RequestKey) -> Spot {
        let scope = self.place(pool);
        let name = if scope == ORPHANS { orphan_name(pool, key) } else { *key.as_bytes() };
        Spot { scope, name, tag: self.tag(&name) }
    }

    /// What is remembered of a key, whose spot is known.
    pub(super) fn find_at(&self, spot: &Spot, pool: &PoolId, key: &RequestKey) -> Option<Record<'_>> {
        if hooks::is_planted("m07") {
            let name = key.as_bytes();
            return self.scopes.iter().find_map(|scope| scope.find(self.tag(name), key, name));
        }
        let scope = &self.scopes[spot.scope];
        let found = scope.find(spot.tag, key, &spot.name);
        let orphans = &self.scopes[ORPHANS];
        let is_no_orphan = || key.time() > scope.orphaned_until() || !orphans.has_bucket(key);
        if found.is_some() || spot.scope == ORPHANS || is_no_orphan() {
            return found;
        }
        let name = orphan_name(pool, key);
        orphans.find(self.tag(&name), key, &name)
    }

    fn tag(&self, name: &Name) -> u32 {
        tag(self.seed.expect("a batch seeds the tables before its first command"), name)
    }

    /// The newest time whose keys, if not found, are refused as forgotten.
    pub(super) fn floor_of_key(&self, pool: &PoolId, key: &RequestKey, now: Millis) -> Millis {
        self.floor(self.place(pool), FloorKind::of_key(key), now)
    }

    /// [`Self::floor_of_key`] for the keys that callers make.
    pub(super) fn floor_of_callers(&self, pool: &PoolId, now: Millis) -> Millis {
        self.floor(self.place(pool), FloorKind::Caller, now)
    }

    fn floor(&self, at: usize, kind: FloorKind, now: Millis) -> Millis {
        let (scope, orphans) = (&self.scopes[at], self.scopes[ORPHANS].floors[kind as usize]);
        let dropped = match at {
            ORPHANS => orphans,
            _ => scope.floors[kind as usize].max(orphans.min(scope.orphaned_until())),
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
    pub(super) fn admit(&mut self, spot: &Spot, command: &Command, now: Millis) -> Result<(), Refusal> {
        let now = if hooks::is_planted("m10") { Millis(now.0 + hooks::whim() % 5_000) } else { now };
        let (at, time) = (spot.scope, command.key.time());
        let floor = self.floor(at, FloorKind::of_key(&command.key), now);
        if time <= floor && !hooks::is_planted("m09") {
            return Err(Refusal::KeyExpired { floor, now });
        }
        if time.0 > now.0.saturating_add(AHEAD_MS_MAX) {
            return Err(Refusal::KeyFromFuture { floor, now });
        }
        let kind = RingKind::of_command(command);
        if self.scopes[at].ring(kind).is_closed(bucket_number(time)) {
            return Err(Refusal::KeyTableFull);
        }
        self.make_room(at, kind.budget(), now)
    }

    /// Stores what was told under a key that was admitted.
    pub(super) fn store(&mut self, spot: &Spot, command: &Command, fingerprint: Fingerprint, told: &[u8]) {
        let kind = RingKind::of_command(command);
        // The command may have made its pool.
        let spot = if spot.scope == ORPHANS { self.spot(&command.pool, &command.key) } else { *spot };
        let parts = [&spot.name, &fingerprint.0, told];
        self.insert(spot.scope, kind, spot.tag, bucket_number(command.key.time()), parts);
    }

    fn insert(&mut self, at: usize, kind: RingKind, tag: u32, number: u64, parts: [&[u8]; 3]) {
        let scope = &mut self.scopes[at];
        let owner = scope.owner(kind);
        let more = scope.rings[kind as usize].insert(tag, number, owner, parts);
        self.shares[at][kind.budget() as usize] += more.bytes;
        self.used[kind.budget() as usize] += more.bytes;
        self.len += more.keys;
        self.sum.merge(more.sum);
    }

    fn drop_oldest(&mut self, at: usize, kind: RingKind) {
        let bucket = self.scopes[at].rings[kind as usize].take_oldest().expect("there is an oldest one");
        let Tally { keys, bytes, sum } = bucket.tally;
        self.shares[at][kind.budget() as usize] -= bytes;
        self.used[kind.budget() as usize] -= bytes;
        self.len -= keys;
        self.sum.unmerge(sum);
        self.dropped.push(bucket);
    }

    fn make_room(&mut self, own: usize, budget: Budget, now: Millis) -> Result<(), Refusal> {
        let bytes_max = match budget {
            Budget::Play => self.limits.keys_bytes_max,
            Budget::Admin => ADMIN_BYTES_MAX,
        };
        while self.used[budget as usize] >= bytes_max {
            let heaviest = self.heaviest(budget);
            match self.scopes[heaviest].oldest(budget) {
                Some((kind, last)) if last.0.saturating_add(YOUNG_MS) < now.0 => {
                    let scope = &mut self.scopes[heaviest];
                    let before = scope.hash();
                    let floor = &mut scope.floors[kind.floor() as usize];
                    *floor = last.max(*floor);
                    self.sum.replace(before, scope.hash());
                    self.drop_oldest(heaviest, kind);
                }
                _ => {
                    let crowded = self.used[budget as usize] >= bytes_max.saturating_mul(2);
                    let refused = crowded || heaviest == own;
                    return if refused { Err(Refusal::KeyTableFull) } else { Ok(()) };
                }
            }
        }
        Ok(())
    }

    /// Who uses most of a budget; among equals the first by name, the orphans before all.
    fn heaviest(&self, budget: Budget) -> usize {
        let share = |at: usize| self.shares[at][budget as usize];
        let most = (0..self.shares.len()).map(share).max();
        let heaviest = (0..self.shares.len()).filter(|&at| Some(share(at)) == most);
        heaviest.min_by_key(|&at| &self.scopes[at].pool).expect("the orphans are always there")
    }
}

/// What a key of a pool that does not exist is found by.
fn orphan_name(pool: &PoolId, key: &RequestKey) -> Name {
    let hash = Sha256::new().chain_update(key.as_bytes()).chain_update(pool.as_str()).finalize();
    hash[..16].try_into().expect("SHA-256 has more than 16 bytes")
}
