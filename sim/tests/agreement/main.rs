//! The pool and its naive model, side by side, through whatever commands may be sent: at every index the same outcomes, the
//! same history digest and the same reads, also after the pool was restored from a snapshot of itself.

mod bounds;
mod world;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tombola::{
    pool::{Effect, Outcome, Query, StateMachine, Step},
    types::Index,
};
use tombola_sim::model::{Decision, Model};
use world::World;

const SEEDS: u64 = 1_000;
const ENTRIES: usize = 40;

/// Both, fed alike.
struct Pair {
    machine: StateMachine,
    model: Model,
}

impl Pair {
    fn new(limits: tombola::pool::Limits) -> Self {
        Self { machine: StateMachine::founding(limits), model: Model::founding(limits) }
    }

    /// Feeds both an entry, and compares what they say of it.
    #[track_caller]
    fn apply(&mut self, entry: &[u8]) -> Vec<Decision> {
        let index = self.model.applied().next();
        let outcomes = self.machine.apply(index, entry);
        let decisions = self.model.apply(entry);
        let expected: Vec<&Outcome> = decisions.iter().map(|decision| &decision.outcome).collect();
        for ((outcome, expected), decision) in outcomes.iter().zip(&expected).zip(&decisions) {
            assert_eq!(outcome, *expected, "at {index}: {:?}", decision.command);
        }
        assert_eq!(outcomes.len(), expected.len());
        assert_eq!(self.machine.digests().history, self.model.history(), "the history at {index}");
        decisions
    }

    #[track_caller]
    fn compare(&self, query: &Query) {
        assert_eq!(self.machine.query(query), self.model.answer_query(query), "{query:?} at {}", self.model.applied());
    }

    /// Every pool with its items, and the list of them.
    #[track_caller]
    fn compare_pools(&self) {
        self.compare(&Query::first_pools());
        self.model.pools().for_each(|pool| self.compare(&Query::Pool(pool.clone())));
    }

    fn restore(&mut self) {
        let body = self.machine.snapshot().encode();
        self.machine = StateMachine::restore(&body).expect("its own snapshot");
    }
}

/// What the runs had in them, refusals and steps by their names: so that the test is known to be worth something.
#[derive(Default)]
struct Seen {
    codes: std::collections::BTreeMap<&'static str, usize>,
    replays: usize,
    executed: usize,
}

impl Seen {
    fn add(&mut self, decision: &Decision) {
        match (&decision.outcome.result, decision.outcome.replayed) {
            (_, true) => self.replays += 1,
            (Ok(effect), false) => {
                self.executed += 1;
                self.add_steps(effect);
            }
            (Err(refusal), false) => *self.codes.entry(refusal.code()).or_default() += 1,
        }
    }

    fn add_steps(&mut self, effect: &Effect) {
        let Effect::Drawn { steps, .. } = effect else { return };
        for step in steps.iter() {
            let code = match step {
                Step::Awarded(_) => "awarded",
                Step::Fallback(_) => "fallback",
                Step::Miss => "miss",
                Step::PoolEmpty => "pool empty",
            };
            *self.codes.entry(code).or_default() += 1;
        }
    }
}

fn run(seed: u64, seen: &mut Seen) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(&mut rng);
    let mut pair = Pair::new(world.limits);
    for _ in 0..ENTRIES {
        let entry = world.entry(&mut rng);
        pair.apply(&entry).iter().for_each(|decision| seen.add(decision));
        pair.compare_pools();
        if let Some(command) = world.some_command(&mut rng) {
            pair.compare(&Query::Outcome(command.pool, command.key));
        }
        pair.compare(&world::page(&mut rng));
        if rng.random_ratio(1, 10) {
            pair.compare(&Query::Verify);
            pair.restore();
            pair.compare_pools();
        }
    }
    pair.compare(&Query::Verify);
    assert_eq!(pair.model.applied(), Index(1 + ENTRIES as u64));
}

#[test]
fn the_pool_does_what_its_model_says() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut seen)));
        ran.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    for code in [
        "NOT_FOUND",
        "POOL_EXISTS",
        "ITEM_EXISTS",
        "ETAG_MISMATCH",
        "POOL_PAUSED",
        "INSUFFICIENT_STOCK",
        "ITEM_UNLIMITED",
        "IS_FALLBACK",
        "POOL_NOT_EMPTY",
        "KEY_REQUIRED",
        "STOCK_OVERFLOW",
        "OUT_OF_RANGE",
        "KEY_REUSED",
        "KEY_EXPIRED",
        "KEY_FROM_FUTURE",
        "KEY_TABLE_FULL",
        "awarded",
        "fallback",
        "miss",
        "pool empty",
    ] {
        assert!(seen.codes.get(code).is_some_and(|&count| count > 50), "{code} is too rare: {:?}", seen.codes);
    }
    assert!(seen.replays > 3_000 && seen.executed > 15_000, "{} replayed, {} done", seen.replays, seen.executed);
}
