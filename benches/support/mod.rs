//! What benchmarks of the pool, and a test, have in common: a pool of six items, as a small campaign has, and entries of draws.

#![allow(dead_code, reason = "each takes what it needs")]

use tombola::{
    api::Answered,
    client::{Call, ClientCall, ClientFrame, ClientReply, Reply, ServerFrame},
    pool::{
        Action, Actor, Batch, CatalogItem, Command, KeyOrigin, Limits, PoolId, RequestKey, StateMachine, Stock, Weight,
    },
    types::{Entropy, Millis},
};

/// Cluster time at the beginning.
pub const START: u64 = 1_735_689_600_000;
/// Entries for each 5 s of key time: what fills a bucket of keys.
const ENTRIES_A_BUCKET: u64 = 100;

/// How the draws of an entry are divided among keys.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Commands of an entry.
    pub keys: u64,
    /// Draws of each.
    pub draws: u16,
}

/// Single draws, as many clients send them.
pub const SINGLE: Shape = Shape { keys: 1_024, draws: 1 };
/// A hundred draws a key.
pub const HUNDREDS: Shape = Shape { keys: 40, draws: 100 };
/// As many as a command may ask for.
pub const THOUSANDS: Shape = Shape { keys: 4, draws: 1_000 };

/// A state machine whose pool `default` has that many items, with more stock than anybody draws.
pub fn stocked(items: u32) -> StateMachine {
    let limits = Limits { keys_bytes_max: 64 << 30, ..Limits::default() };
    let mut machine = StateMachine::founding(limits);
    let action = Action::ImportCatalog { items: catalog(items), draw_seq: Default::default() };
    let entry = batch(START, vec![command(key(u64::MAX, START), action)]).encode();
    assert!(machine.apply(machine.applied().next(), &entry)[0].result.is_ok());
    machine
}

/// So many items of small weights.
pub fn catalog(items: u32) -> Vec<CatalogItem> {
    let item = |number: u32| CatalogItem {
        item: format!("item-{number}").parse().expect("a legal name"),
        stock: Stock::Finite(1 << 50),
        weight: Weight(1 + number % 7),
    };
    (0..items).map(item).collect()
}

/// The entry of that number: its keys are new, and time moves on with it.
pub fn draws(shape: Shape, number: u64) -> Batch {
    let at = START + number * 5_000 / ENTRIES_A_BUCKET;
    let action = || Action::Draw { count: shape.draws };
    let commands = (0..shape.keys).map(|at_key| command(key(number << 12 | at_key, at), action()));
    batch(at, commands.collect())
}

/// A command to pool `default`.
pub fn command(key: RequestKey, action: Action) -> Command {
    Command { pool: PoolId::default_pool(), key, origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

/// A key with that number, which is spread over its random bits.
pub fn key(number: u64, at: u64) -> RequestKey {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&spread.to_be_bytes());
    unique[..2].copy_from_slice(&spread.to_le_bytes()[..2]);
    RequestKey::new(Millis(at), unique)
}

/// A batch of that time; its entropy follows from it.
pub fn batch(at: u64, commands: Vec<Command>) -> Batch {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&at.to_le_bytes());
    Batch { version: Batch::VERSION, time: Millis(at), entropy: Entropy(entropy), commands }
}

/// A frame of calls.
pub fn calls(shape: Shape) -> ClientFrame {
    let submit = |(id, command): (u64, Command)| ClientCall {
        id,
        timeout_ms: 2_000,
        call: Call::Submit { pool: command.pool, key: Some(command.key), action: command.action },
    };
    ClientFrame { calls: (0..).zip(draws(shape, 1).commands).map(submit).collect() }
}

/// A frame of what such calls are answered.
pub fn replies(shape: Shape) -> ServerFrame {
    let mut machine = stocked(6);
    // As many draws as an entry takes.
    let part = (10_000 / u64::from(shape.draws)).min(shape.keys);
    let mut replies = Vec::new();
    for number in 1..=shape.keys.div_ceil(part) {
        let batch = draws(Shape { keys: part, ..shape }, number);
        let outcomes = machine.apply(machine.applied().next(), &batch.encode());
        for (command, outcome) in batch.commands.iter().zip(outcomes) {
            let reply = Ok(Reply::Submitted(Answered { key: command.key, outcome }));
            replies.push(ClientReply { id: replies.len() as u64, now: machine.now(), reply });
        }
    }
    replies.truncate(usize::try_from(shape.keys).expect("a frame has few"));
    ServerFrame { replies }
}
