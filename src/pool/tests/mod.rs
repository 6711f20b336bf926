//! Tests of the state machine as a whole. What a single file promises is tested in that file.

mod behaviour;
mod distribution;
mod formats;
mod keys;
mod random;
mod restoring;

use super::*;
use crate::types::{Entropy, Index, Millis};

/// When these tests begin: 2025-01-01.
const START: Millis = Millis(1_735_689_600_000);

/// A state machine, fed one batch at a time.
struct Bench {
    machine: StateMachine,
    /// Whose [`Bench::command`]s are made.
    pool: PoolId,
    now: Millis,
    entries: Vec<Vec<u8>>,
    keys_made: u64,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let (machine, pool) = (StateMachine::founding(limits), PoolId::default_pool());
        Self { machine, pool, now: START, entries: Vec::new(), keys_made: 0 }
    }

    /// A fresh caller's key of now.
    fn key(&mut self) -> RequestKey {
        self.keys_made += 1;
        key(self.now, self.keys_made)
    }

    fn command(&mut self, action: Action) -> Command {
        let key = self.key();
        command(self.pool.as_str(), key, action)
    }

    /// Applies a batch; its entropy follows from its index.
    fn apply(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let index = self.machine.applied().next();
        let batch = Batch { version: Batch::VERSION, time: self.now, entropy: entropy(index.0), commands };
        self.apply_bytes(batch.encode())
    }

    fn apply_bytes(&mut self, entry: Vec<u8>) -> Vec<Outcome> {
        let outcomes = self.machine.apply(self.machine.applied().next(), &entry);
        self.entries.push(entry);
        outcomes
    }

    /// One command under a fresh key, in a batch of its own.
    fn act(&mut self, action: Action) -> Result<Effect, Refusal> {
        let command = self.command(action);
        self.send(command).result
    }

    fn send(&mut self, command: Command) -> Outcome {
        self.apply(vec![command]).pop().expect("one outcome a command")
    }

    fn item(&self, id: &str) -> ItemState {
        let Answer::Pool(pool) = self.machine.query(&Query::Pool(self.pool.clone())) else { panic!("no pool") };
        pool.items.into_iter().find(|item| item.id.as_str() == id).expect("the item is listed")
    }

    #[track_caller]
    fn verify(&self) {
        let Answer::Verified(verification) = self.machine.query(&Query::Verify) else { panic!("no verification") };
        assert_eq!(verification.violations, Vec::<String>::new());
    }
}

fn entropy(seed: u64) -> Entropy {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Entropy(bytes)
}

fn key(at: Millis, number: u64) -> RequestKey {
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&number.to_be_bytes());
    RequestKey::new(at, unique)
}

fn command(pool: &str, key: RequestKey, action: Action) -> Command {
    Command { pool: pool.parse().unwrap(), key, origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

fn id(text: &str) -> ItemId {
    text.parse().unwrap()
}

fn catalog(items: &[(&str, Stock, u32)]) -> Vec<CatalogItem> {
    items.iter().map(|&(item, stock, weight)| CatalogItem { item: id(item), stock, weight: Weight(weight) }).collect()
}

fn import(items: &[(&str, Stock, u32)]) -> Action {
    Action::ImportCatalog { items: catalog(items), draw_seq: DrawSeq(0) }
}

fn steps(result: Result<Effect, Refusal>) -> Vec<Step> {
    match result {
        Ok(Effect::Drawn { steps, .. }) => steps.iter().map(Step::cloned).collect(),
        other => panic!("no draw: {other:?}"),
    }
}
