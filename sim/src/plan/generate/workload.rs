//! What is in the pools, and what clients and operators do with it.
//!
//! Callers draw, claim and read, in closed loops (the next call waits for the answer) or open ones (it does not), in bursts
//! with quiet between. Operators change stock and weights, make and pause pools, and hand leadership around. Racers all ask
//! for the same unit in the same millisecond. A crowd is thousands of draws at once, as many as an entry has room for, or more.

use tombola::{
    pool::{CatalogItem, Stock, Weight},
    types::ReplicaId,
};

use super::Swarm;
use crate::plan::{ClientPlan, Dice, Options, PlannedCall, Start, Twist, What};

/// Most calls of a client.
const CALLS_MAX: u64 = 300;
/// Most calls of a crowd at once; an entry has room for 4,096.
const CROWD_MAX: u64 = 6_000;

/// What a run's callers have in common.
struct Shop {
    /// Voters.
    nodes: u64,
    /// When the last call begins.
    end: u64,
    /// Pools that are spoken of; all but the first have to be made.
    pools: u8,
    /// Items of the catalog.
    items: u8,
    /// How long a key lives.
    keys_age_ms: u64,
    /// Percent of calls that have a twist.
    twisted: u64,
    /// Longest time that a call is given.
    timeout_ms_max: u64,
}

pub(super) fn draw(swarm: &Swarm, options: &Options) -> (Vec<CatalogItem>, Vec<ClientPlan>) {
    let catalog = catalog(swarm);
    let mut dice = swarm.dice("workload");
    let shop = Shop {
        nodes: options.voters,
        end: options.safety_ms,
        pools: if dice.percent(50) { 1 } else { dice.between(2, 4) as u8 },
        items: catalog.len() as u8,
        keys_age_ms: options.limits.keys_age_ms_max,
        twisted: swarm.on("twists").map_or(0, |mut dice| dice.between(5, 50)),
        timeout_ms_max: dice.skewed(1_000, 15_000),
    };
    let count = dice.between(1, 8);
    let mut clients: Vec<ClientPlan> = (0..count).map(|number| caller(swarm, &shop, number)).collect();
    if clients.len() < 8 && (shop.pools > 1 || dice.percent(75)) {
        clients.insert(0, operator(swarm, &shop));
    }
    if let Some(dice) = swarm.on("race").filter(|_| shop.items > 0) {
        race(dice, &shop, &mut clients);
    }
    clients.extend(crowd(swarm, &shop));
    (catalog, clients)
}

/// Stock of none, one, few, many, or without end; weights of none, one, some, or huge.
fn catalog(swarm: &Swarm) -> Vec<CatalogItem> {
    let mut dice = swarm.dice("catalog");
    let count = if dice.percent(10) { dice.between(0, 1) } else { dice.skewed(2, 24) };
    // Every second seed has an item that never runs out.
    let endless = dice.percent(50).then_some(0);
    let item = |number| {
        let stock = match dice.between(0, 9) {
            _ if endless == Some(number) => Stock::Unlimited,
            0 => Stock::Finite(0),
            1 | 2 => Stock::Finite(1),
            3..6 => Stock::Finite(dice.between(2, 20)),
            6..9 => Stock::Finite(dice.skewed(21, 100_000)),
            _ => Stock::Unlimited,
        };
        let weight = match dice.between(0, 9) {
            0 => 0,
            1 | 2 => 1,
            3..9 => dice.skewed(1, 1_000) as u32,
            _ => u32::MAX - dice.between(0, 1_000) as u32,
        };
        let id = format!("item-{number}").parse().expect("a good name");
        CatalogItem { item: id, stock, weight: Weight(weight) }
    };
    (0..count).map(item).collect()
}

/// Draws, claims and reads, in one of the two loops, at one pace or in bursts.
fn caller(swarm: &Swarm, shop: &Shop, number: u64) -> ClientPlan {
    let mut dice = Dice::new(swarm.seed, "plan caller", &[number]);
    let taste = Taste {
        reads: dice.pick(&[0, 5, 20, 20, 50]),
        claims: dice.pick(&[0, 10, 40]),
        draws_max: dice.skewed(1, 100),
    };
    let starts = if dice.percent(50) { closed(&mut dice, shop) } else { open(&mut dice, shop) };
    let calls = starts.into_iter().map(|start| {
        let what = taste.call(&mut dice, shop);
        shop.call(&mut dice, start, what)
    });
    ClientPlan { calls: calls.collect() }
}

fn closed(dice: &mut Dice, shop: &Shop) -> Vec<Start> {
    let pace = dice.skewed(5, 2_000);
    let count = (shop.end / (pace + 50)).clamp(1, CALLS_MAX);
    (0..count)
        .map(|_| Start::After(if dice.percent(5) { dice.between(0, 5_000) } else { dice.between(0, 2 * pace) }))
        .collect()
}

/// Bursts with quiet between; a burst of one is no burst.
fn open(dice: &mut Dice, shop: &Shop) -> Vec<Start> {
    let (pace, burst_max) = (dice.skewed(20, 2_000), dice.pick(&[1, 1, 10, 50]));
    let mut starts = Vec::new();
    let mut at = dice.between(0, 5_000);
    while at < shop.end && (starts.len() as u64) < CALLS_MAX {
        let burst = dice.between(1, burst_max).min(CALLS_MAX - starts.len() as u64);
        for _ in 0..burst {
            starts.push(Start::At(at));
            at += dice.between(0, 3);
        }
        at += burst * dice.between(1, 2 * pace);
    }
    starts.retain(|start| matches!(start, Start::At(at) if *at < shop.end));
    starts
}

/// What a caller likes to ask for, in percent; draws are the rest.
struct Taste {
    reads: u64,
    claims: u64,
    draws_max: u64,
}

impl Taste {
    fn call(&self, dice: &mut Dice, shop: &Shop) -> What {
        let pool = shop.pool(dice);
        if dice.percent(self.reads) {
            return match dice.between(0, 9) {
                0..5 => What::Read { pool },
                5..7 => What::StaleRead { pool },
                7..9 => What::Outcome { back: dice.skewed(1, 20) as u8 },
                _ => What::Verify,
            };
        }
        if dice.percent(self.claims) {
            return What::Claim { pool, item: shop.item(dice), quantity: dice.skewed(1, 5) as u32 };
        }
        // Now and then more than one may ask for, which must be refused.
        let count = if dice.percent(1) { dice.pick(&[0, 1_000, 1_001]) } else { dice.skewed(1, self.draws_max) };
        What::Draw { pool, count: count as u16 }
    }
}

/// Makes the pools, then goes on about stock, weights, pauses and leaders.
fn operator(swarm: &Swarm, shop: &Shop) -> ClientPlan {
    let mut dice = swarm.dice("operator");
    let pace = dice.skewed(500, 10_000);
    let makes = (1..shop.pools).map(|pool| What::Create { pool });
    let mut calls: Vec<PlannedCall> =
        makes.map(|what| PlannedCall { timeout_ms: 10_000, ..shop.call(&mut dice, Start::After(10), what) }).collect();
    let mut paused: Option<u8> = None;
    let mut at = 1_000;
    while at < shop.end && (calls.len() as u64) < CALLS_MAX {
        // A pool that is paused is so until the next call but one or so, or nothing would ever be drawn.
        let what = match paused.take_if(|_| dice.percent(60)) {
            Some(pool) => What::Resume { pool },
            None => operation(&mut dice, shop, &mut paused),
        };
        calls.push(shop.call(&mut dice, Start::At(at), what));
        at += dice.between(1, 2 * pace);
    }
    if let Some(pool) = paused {
        calls.push(shop.call(&mut dice, Start::After(100), What::Resume { pool }));
    }
    ClientPlan { calls }
}

fn operation(dice: &mut Dice, shop: &Shop, paused: &mut Option<u8>) -> What {
    let pool = shop.pool(dice);
    // One more than there are: unknown, or made.
    let item = dice.between(0, shop.items.into()) as u8;
    match dice.between(0, 19) {
        0..7 => {
            let stock = if dice.percent(15) { None } else { Some(dice.pick(&[0, 1, 10, 1_000, (1 << 53) - 1])) };
            let weight = dice.pick(&[0, 1, 10, 1_000, u32::MAX]);
            What::Update { pool, item, stock, weight, create: dice.percent(30) }
        }
        7..12 => What::Adjust { pool, item, delta: dice.pick(&[1, 5, 100, -1, -5, 1 << 53, -(1 << 53)]) },
        12 if paused.is_none() => {
            *paused = Some(pool);
            What::Pause { pool }
        }
        12 | 13 => What::Create { pool },
        14 => What::Verify,
        // One more than there are: nobody has that number.
        _ => What::Transfer { to: ReplicaId(dice.between(1, shop.nodes + 1)) },
    }
}

/// Again and again an operator leaves one unit of an item, and all others ask for it at once.
fn race(mut dice: Dice, shop: &Shop, clients: &mut [ClientPlan]) {
    let (item, pool) = (shop.item(&mut dice), 0);
    let mean = dice.between(2_000, 10_000);
    for time in dice.times(mean, shop.end) {
        for (number, client) in clients.iter_mut().enumerate() {
            let claim = dice.percent(70);
            let (start, what) = match number {
                0 => (time.saturating_sub(500), What::Update { pool, item, stock: Some(1), weight: 1, create: true }),
                _ if claim => (time, What::Claim { pool, item, quantity: 1 }),
                _ => (time, What::Draw { pool, count: 1 }),
            };
            let call = PlannedCall { twist: Twist::None, ..shop.call(&mut dice, Start::At(start), what) };
            insert(&mut client.calls, start, call);
        }
    }
}

/// Thousands ask one node, beginning in the same millisecond.
fn crowd(swarm: &Swarm, shop: &Shop) -> Option<ClientPlan> {
    let mut dice = swarm.crowd()?;
    let (node, draws_max) = (ReplicaId(dice.between(1, shop.nodes)), dice.pick(&[1, 1, 4]));
    let time = dice.between(5_000, shop.end - 1);
    // They come over a connection that is open already, if all goes well.
    let opening = PlannedCall { node, ..shop.call(&mut dice, Start::At(time - 1_500), What::Read { pool: 0 }) };
    let draws = (0..dice.between(CROWD_MAX / 4, CROWD_MAX)).map(|_| {
        let what = What::Draw { pool: 0, count: dice.between(1, draws_max) as u16 };
        PlannedCall { node, ..shop.call(&mut dice, Start::At(time), what) }
    });
    Some(ClientPlan { calls: std::iter::once(opening).chain(draws).collect() })
}

/// In the order of their times, where they have one.
fn insert(calls: &mut Vec<PlannedCall>, start: u64, call: PlannedCall) {
    let later = |call: &PlannedCall| matches!(call.start, Start::At(at) if at > start);
    let place = calls.iter().position(later).unwrap_or(calls.len());
    calls.insert(place, call);
}

impl Shop {
    fn pool(&self, dice: &mut Dice) -> u8 {
        // The first is the hot one.
        if dice.percent(50) { 0 } else { dice.between(0, u64::from(self.pools) - 1) as u8 }
    }

    fn item(&self, dice: &mut Dice) -> u8 {
        dice.between(0, u64::from(self.items.max(1)) - 1) as u8
    }

    fn call(&self, dice: &mut Dice, start: Start, what: What) -> PlannedCall {
        let node = ReplicaId(dice.between(1, self.nodes));
        let timeout_ms = dice.skewed(self.timeout_ms_max / 4, self.timeout_ms_max) as u32;
        let twist = if dice.percent(self.twisted) { self.twist(dice) } else { Twist::None };
        PlannedCall { start, node, timeout_ms, what, twist }
    }

    fn twist(&self, dice: &mut Dice) -> Twist {
        match dice.between(0, 9) {
            0..3 => Twist::Twice,
            3..5 => Twist::Again { after_ms: dice.skewed(1, 20_000) },
            5 => Twist::Again { after_ms: self.keys_age_ms.min(60_000) + dice.between(0, 6_000) },
            6 => Twist::Reuse,
            7 => Twist::Keyless,
            _ => Twist::Hasty,
        }
    }
}
