//! Request keys: semantics.md, section 1, with every record in plain sight.
//!
//! A record stands in a bucket: whose it is, of which kind, and which five seconds its key's time lies in. Everything else
//! (how many bytes a pool uses, who uses most, what is oldest) is added up when it is asked for.
//!
//! Where semantics.md leaves room, this is how it was decided. The keys of all pools that do not exist are one owner's; a
//! pool created later looks there too, for keys of up to 60 s after its birth, and is subject to that owner's floor as far
//! as that. Keys made by nodes are told by their form, not by who sends them. What is older than the horizon is forgotten
//! bucket by bucket when time, rounded down to five seconds, has left it behind: those of pools that do not exist first,
//! then by name of the pool, and no more than 4 096 buckets an entry. Between the budget and twice the budget only the
//! fullest owner is refused; from there on, all.

use std::collections::{BTreeMap, BTreeSet};

use tombola::{
    pool::{Action, Command, Limits, Outcome, PoolId, Refusal, RequestKey},
    types::Millis,
};

/// Width of a bucket in key time.
const BUCKET_MS: u64 = 5_000;
/// A bucket counts as this, and each record as that beside what it holds.
const BUCKET_BYTES: u64 = 1_024;
const RECORD_BYTES: u64 = 18;
/// A record holds its name and its fingerprint, of 16 bytes each, and the answer.
const NAME_BYTES: u64 = 32;
/// Budget of administrative commands.
const ADMIN_BYTES_MAX: u64 = 16 << 20;
const AHEAD_MS_MAX: u64 = 60_000;
const SERVER_AGE_MS_MAX: u64 = 60_000;
const YOUNG_MS: u64 = 30_000;
/// Most buckets that one entry forgets because of their age.
const DROPS_PER_ENTRY_MAX: usize = 4_096;

/// Whose keys: a pool's, or (`None`) those of all pools that do not exist.
type Owner = Option<PoolId>;

/// Kinds of keys, in the order in which equally old buckets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Caller,
    Admin,
    Server,
}

impl Kind {
    fn of(command: &Command) -> Self {
        let plays = matches!(command.action, Action::Draw { .. } | Action::Claim { .. });
        match (command.key.is_server_made(), plays) {
            (true, _) => Self::Server,
            (false, true) => Self::Caller,
            (false, false) => Self::Admin,
        }
    }

    /// Draws and claims share one budget, whoever made their keys.
    fn shares_budget_with(self, other: Self) -> bool {
        (self == Self::Admin) == (other == Self::Admin)
    }
}

/// A bucket's place: owner, kind, and key time divided by its width.
type Place = (Owner, Kind, u64);

/// What is remembered of a key.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pool: PoolId,
    key: RequestKey,
    /// What it was used for.
    pub(super) action: Action,
    /// What was answered.
    pub(super) outcome: Outcome,
    /// The same in bytes.
    pub(super) told: Vec<u8>,
}

impl Record {
    pub(super) fn new(command: &Command, outcome: Outcome, told: Vec<u8>) -> Self {
        Self { pool: command.pool.clone(), key: command.key, action: command.action.clone(), outcome, told }
    }
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    records: Vec<Record>,
    /// As the budget counts them.
    bytes: u64,
}

/// All request keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    limits: Limits,
    buckets: BTreeMap<Place, Bucket>,
    /// The last millisecond of the newest bucket dropped for want of room; that of keys made by nodes (`true`) apart.
    floors: BTreeMap<(Owner, bool), Millis>,
    /// When each pool was created.
    born: BTreeMap<PoolId, Millis>,
}

impl Keys {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, buckets: BTreeMap::new(), floors: BTreeMap::new(), born: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.records.len()).sum()
    }

    pub(super) fn pool_created(&mut self, pool: PoolId, now: Millis) {
        self.born.insert(pool, now);
    }

    /// Forgets what the passing of time takes away.
    pub(super) fn pass(&mut self, now: Millis) {
        let now = Millis(now.0 / BUCKET_MS * BUCKET_MS);
        let is_old =
            |&(_, kind, number): &&Place| last_ms(*number) <= horizon(&self.limits, *kind == Kind::Server, now);
        let old: Vec<Place> = self.buckets.keys().filter(is_old).take(DROPS_PER_ENTRY_MAX).cloned().collect();
        old.iter().for_each(|place| drop(self.buckets.remove(place)));
    }

    pub(super) fn find(&self, pool: &PoolId, key: &RequestKey) -> Option<&Record> {
        let own = self.born.contains_key(pool).then(|| self.find_of(&Some(pool.clone()), pool, key)).flatten();
        own.or_else(|| {
            let orphaned = self.orphaned_until(pool).is_none_or(|until| key.time() <= until);
            orphaned.then(|| self.find_of(&None, pool, key)).flatten()
        })
    }

    fn find_of(&self, owner: &Owner, pool: &PoolId, key: &RequestKey) -> Option<&Record> {
        let number = key.time().0 / BUCKET_MS;
        [Kind::Caller, Kind::Admin, Kind::Server]
            .into_iter()
            .filter_map(|kind| self.buckets.get(&(owner.clone(), kind, number)))
            .flat_map(|bucket| &bucket.records)
            .find(|record| record.key == *key && record.pool == *pool)
    }

    /// Until when a key of that pool may have been refused because the pool did not exist; `None` while it does not.
    fn orphaned_until(&self, pool: &PoolId) -> Option<Millis> {
        self.born.get(pool).map(|born| Millis(born.0.saturating_add(AHEAD_MS_MAX)))
    }

    /// Keys up to this time that are not found are refused as forgotten.
    pub(super) fn floor(&self, pool: &PoolId, server: bool, now: Millis) -> Millis {
        let dropped = |owner: Owner| self.floors.get(&(owner, server)).copied().unwrap_or_default();
        let dropped = match self.orphaned_until(pool) {
            Some(until) => dropped(Some(pool.clone())).max(dropped(None).min(until)),
            None => dropped(None),
        };
        dropped.max(horizon(&self.limits, server, now))
    }

    /// May a command whose key was not found be executed? Drops what has to make room for it.
    pub(super) fn admit(&mut self, command: &Command, now: Millis) -> Result<(), Refusal> {
        let time = command.key.time();
        let floor = self.floor(&command.pool, command.key.is_server_made(), now);
        if time <= floor {
            return Err(Refusal::KeyExpired { floor, now });
        }
        if time.0 > now.0.saturating_add(AHEAD_MS_MAX) {
            return Err(Refusal::KeyFromFuture { floor, now });
        }
        let kind = Kind::of(command);
        let bytes_max = if kind == Kind::Admin { ADMIN_BYTES_MAX } else { self.limits.keys_bytes_max };
        loop {
            let used: u64 = self.owners().iter().map(|owner| self.bytes_of(owner, kind)).sum();
            if used < bytes_max {
                return Ok(());
            }
            let heaviest = self.heaviest(kind);
            match self.oldest(&heaviest, kind) {
                Some(place) if last_ms(place.2).0.saturating_add(YOUNG_MS) < now.0 => self.forget(&place),
                _ if used >= bytes_max.saturating_mul(2) || heaviest == self.owner(&command.pool) => {
                    return Err(Refusal::KeyTableFull);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Remembers what was answered, now that the command was executed.
    pub(super) fn store(&mut self, command: &Command, record: Record) {
        let place = (self.owner(&command.pool), Kind::of(command), command.key.time().0 / BUCKET_MS);
        let bucket = self.buckets.entry(place).or_insert_with(|| Bucket { bytes: BUCKET_BYTES, records: Vec::new() });
        bucket.bytes += RECORD_BYTES + NAME_BYTES + record.told.len() as u64;
        bucket.records.push(record);
    }

    fn owner(&self, pool: &PoolId) -> Owner {
        self.born.contains_key(pool).then(|| pool.clone())
    }

    /// Those who have keys, the pools that do not exist first, the others by name.
    fn owners(&self) -> BTreeSet<Owner> {
        self.buckets.keys().map(|(owner, ..)| owner.clone()).collect()
    }

    fn bytes_of(&self, of: &Owner, kind: Kind) -> u64 {
        let of = self.buckets.iter().filter(|((owner, other, _), _)| owner == of && kind.shares_budget_with(*other));
        of.map(|(_, bucket)| bucket.bytes).sum()
    }

    /// Who uses most; the first among equals.
    fn heaviest(&self, kind: Kind) -> Owner {
        let mut heaviest = (0, None);
        for owner in self.owners() {
            let bytes = self.bytes_of(&owner, kind);
            if bytes > heaviest.0 {
                heaviest = (bytes, owner);
            }
        }
        heaviest.1
    }

    fn oldest(&self, of: &Owner, kind: Kind) -> Option<Place> {
        let of = self.buckets.keys().filter(|(owner, other, _)| owner == of && kind.shares_budget_with(*other));
        of.min_by_key(|(_, kind, number)| (*number, *kind)).cloned()
    }

    fn forget(&mut self, place: &Place) {
        self.buckets.remove(place);
        let (owner, kind, number) = place;
        let floor = self.floors.entry((owner.clone(), *kind == Kind::Server)).or_default();
        *floor = last_ms(*number).max(*floor);
    }
}

/// The last millisecond of a bucket.
fn last_ms(number: u64) -> Millis {
    Millis(number * BUCKET_MS + (BUCKET_MS - 1))
}

fn horizon(limits: &Limits, server: bool, now: Millis) -> Millis {
    let age_ms_max = if server { limits.keys_age_ms_max.min(SERVER_AGE_MS_MAX) } else { limits.keys_age_ms_max };
    Millis(now.0.saturating_sub(age_ms_max))
}
