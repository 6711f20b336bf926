//! A small world in which names, keys and numbers meet often: a few pools, a few items, tiny budgets, time that jumps.

use rand::{Rng, RngExt, rngs::StdRng, seq::IndexedRandom};
use tombola::{
    pool::{
        Action, Actor, Batch, CatalogItem, Command, DrawSeq, ItemId, KeyOrigin, Limits, Policy, PoolId, Query,
        RequestKey, Stock, Version, Weight,
    },
    types::{Entropy, Millis},
};

const QUANTITY_MAX: u64 = (1 << 53) - 1;

/// Who sends what, and when.
pub struct World {
    pub limits: Limits,
    now: Millis,
    sent: Vec<Command>,
}

impl World {
    pub fn new(rng: &mut StdRng) -> Self {
        let keys_bytes_max = *[0, 1_500, 1_500, 4_000, 4_000, 20_000, 1 << 20, 1 << 20].choose(rng).unwrap();
        let keys_age_ms_max = *[7_001, 20_000, 90_000, 86_400_000, 86_400_000].choose(rng).unwrap();
        let now = *[Millis(0), Millis(1_735_689_600_000)].choose(rng).unwrap();
        Self { limits: Limits { keys_bytes_max, keys_age_ms_max }, now, sent: Vec::new() }
    }

    /// A log entry: mostly a batch; now and then a leader's no-op, or bytes that are none.
    pub fn entry(&mut self, rng: &mut StdRng) -> Vec<u8> {
        self.now.0 += match rng.random_range(0..20) {
            0..10 => 0,
            10..14 => rng.random_range(0..3_000),
            14..17 => rng.random_range(0..40_000),
            17 => 5_000 - self.now.0 % 5_000 - rng.random_range(0..2),
            18 => rng.random_range(0..3_600_000),
            _ => rng.random_range(0..90_000_000),
        };
        let commands = match rng.random_range(0..20) {
            0 => return Vec::new(),
            1 => return (0..rng.random_range(0..60)).map(|_| rng.random()).collect(),
            2 => return self.batch(rng, vec![]),
            3 if rng.random_bool(0.3) => {
                let pool = pool_id(rng);
                (0..rng.random_range(20..100)).map(|_| self.flood(&pool, rng)).collect()
            }
            _ => (0..rng.random_range(1..7)).map(|_| self.command(rng)).collect::<Vec<_>>(),
        };
        self.batch(rng, commands)
    }

    /// A command that was sent before, if there is one.
    pub fn some_command(&self, rng: &mut StdRng) -> Option<Command> {
        self.sent.choose(rng).cloned()
    }

    fn batch(&mut self, rng: &mut StdRng, commands: Vec<Command>) -> Vec<u8> {
        self.sent.extend(commands.iter().cloned());
        let mut entropy = [0; 32];
        rng.fill_bytes(&mut entropy);
        // A leader's clock may be behind what was applied already.
        let late = if rng.random_ratio(1, 10) { rng.random_range(0..100_000) } else { 0 };
        let time = Millis(self.now.0.saturating_sub(late));
        Batch { version: Batch::VERSION, time, entropy: Entropy(entropy), commands }.encode()
    }

    /// One of the draws that fill the key table.
    fn flood(&self, pool: &PoolId, rng: &mut StdRng) -> Command {
        let at = Millis(self.now.0.saturating_sub(rng.random_range(0..20_000)));
        let action = Action::Draw { count: rng.random_range(1..3) };
        Command { pool: pool.clone(), key: fresh_key(at, rng), origin: KeyOrigin::Caller, actor: actor(rng), action }
    }

    /// A new command, one sent before, or something in between.
    fn command(&self, rng: &mut StdRng) -> Command {
        let origin = if rng.random_ratio(1, 5) { KeyOrigin::Server } else { KeyOrigin::Caller };
        let new = Command { pool: pool_id(rng), key: self.key(rng), origin, actor: actor(rng), action: action(rng) };
        match (self.some_command(rng), rng.random_range(0..12)) {
            (Some(old), 0..2) => Command { actor: new.actor, origin, ..old },
            (Some(old), 2) => Command { key: old.key, pool: old.pool, ..new },
            (Some(old), 3) => Command { key: old.key, ..new },
            _ => new,
        }
    }

    fn key(&self, rng: &mut StdRng) -> RequestKey {
        let (now, ahead) = (self.now.0, rng.random_range(0..70_000));
        let at = match rng.random_range(0..20) {
            0..12 => now,
            12..14 => now + ahead,
            14 => now + 59_999 + rng.random_range(0..3),
            15..18 => now.saturating_sub(rng.random_range(0..60_000)),
            18 => now.saturating_sub(self.limits.keys_age_ms_max + rng.random_range(0..3)),
            _ => now.saturating_sub(rng.random_range(0..100_000_000)),
        };
        if rng.random_ratio(1, 6) {
            RequestKey::server_made(Millis(at), rng.random())
        } else {
            fresh_key(Millis(at), rng)
        }
    }
}

/// A read of a page, from anywhere and of any length.
pub fn page(rng: &mut StdRng) -> Query {
    let limit = *[0, 1, 2, 3, 1_000, 1_001].choose(rng).unwrap();
    if rng.random() {
        Query::Pools { after: rng.random_bool(0.7).then(|| pool_id(rng)), limit }
    } else {
        Query::Items { pool: pool_id(rng), after: rng.random_bool(0.7).then(|| item_id(rng)), limit }
    }
}

fn fresh_key(at: Millis, rng: &mut StdRng) -> RequestKey {
    RequestKey::new(at, rng.random())
}

fn actor(rng: &mut StdRng) -> Actor {
    ["", "ann", "bob"].choose(rng).unwrap().parse().unwrap()
}

fn pool_id(rng: &mut StdRng) -> PoolId {
    ["default", "default", "default", "a", "a", "b", "zz"].choose(rng).unwrap().parse().unwrap()
}

fn item_id(rng: &mut StdRng) -> ItemId {
    ["w", "x", "y", "zebra", "\u{e4}"].choose(rng).unwrap().parse().unwrap()
}

fn stock(rng: &mut StdRng) -> Stock {
    match rng.random_range(0..24) {
        0..6 => Stock::Unlimited,
        6 => Stock::Finite(QUANTITY_MAX),
        7 => Stock::Finite(QUANTITY_MAX - rng.random_range(0..3)),
        8 => Stock::Finite(QUANTITY_MAX + rng.random_range(0..3)),
        _ => Stock::Finite(rng.random_range(0..9)),
    }
}

fn weight(rng: &mut StdRng) -> Weight {
    Weight(*[0, 1, 2, 3, 10, 1_000_000, u32::MAX].choose(rng).unwrap())
}

fn etag(rng: &mut StdRng) -> Option<Version> {
    rng.random_bool(0.6).then(|| Version(rng.random_range(0..6)))
}

/// A few items, now and then one of them twice.
fn catalog(rng: &mut StdRng) -> Vec<CatalogItem> {
    let count = rng.random_range(0..5);
    let mut items: Vec<CatalogItem> = Vec::new();
    for _ in 0..count {
        let item = item_id(rng);
        if items.iter().all(|listed| listed.item != item) || rng.random_ratio(1, 20) {
            items.push(CatalogItem { item, stock: stock(rng), weight: weight(rng) });
        }
    }
    items
}

fn create_pool(rng: &mut StdRng) -> Action {
    let mut items = catalog(rng);
    let policy = match rng.random_range(0..5) {
        0 => Policy::Renormalize,
        1 => Policy::Miss,
        2 => Policy::Fallback(item_id(rng)),
        _ => match items.first_mut() {
            Some(first) => {
                first.stock = Stock::Unlimited;
                Policy::Fallback(first.item.clone())
            }
            None => Policy::Miss,
        },
    };
    Action::CreatePool { policy, items, require_key: rng.random_ratio(1, 4) }
}

fn update_pool(rng: &mut StdRng) -> Action {
    let policy = match rng.random_range(0..4) {
        0 => None,
        1 => Some(Policy::Renormalize),
        2 => Some(Policy::Miss),
        _ => Some(Policy::Fallback(item_id(rng))),
    };
    let require_key = rng.random_ratio(1, 3).then(|| rng.random_ratio(1, 4));
    Action::UpdatePool { policy, require_key, etag: Version(rng.random_range(0..12)) }
}

fn action(rng: &mut StdRng) -> Action {
    match rng.random_range(0..32) {
        0..9 => Action::Draw { count: rng.random_range(0..12) },
        9 => Action::Draw { count: *[0, 999, 1_000, 1_001, 16_384, 16_385].choose(rng).unwrap() },
        10..13 => Action::Claim { item: item_id(rng), quantity: rng.random_range(0..5) },
        13 => Action::Claim { item: item_id(rng), quantity: *[999_999, 1_000_000, 1_000_001].choose(rng).unwrap() },
        14..17 => Action::SetItem { item: item_id(rng), weight: weight(rng), stock: stock(rng), etag: etag(rng) },
        17..19 => Action::AdjustStock { item: item_id(rng), delta: rng.random_range(-6..9) },
        19 => {
            let far = [i64::MIN, i64::MAX, QUANTITY_MAX as i64, -(QUANTITY_MAX as i64), QUANTITY_MAX as i64 + 1];
            Action::AdjustStock { item: item_id(rng), delta: *far.choose(rng).unwrap() }
        }
        20..23 => {
            let create = rng.random();
            Action::UpdateItem { item: item_id(rng), stock: stock(rng), weight: weight(rng), create }
        }
        23 => Action::RemoveItem { item: item_id(rng), etag: etag(rng) },
        24..26 => create_pool(rng),
        26 => Action::PausePool,
        27 | 28 => Action::ResumePool,
        29 | 30 => update_pool(rng),
        _ => {
            let far = [0, 7, QUANTITY_MAX, QUANTITY_MAX + 1];
            Action::ImportCatalog { items: catalog(rng), draw_seq: DrawSeq(*far.choose(rng).unwrap()) }
        }
    }
}
