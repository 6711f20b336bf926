//! Limits that a random world does not come near.

use tombola::{
    pool::{
        Action, Actor, Answer, Batch, CatalogItem, Command, ItemId, KeyOrigin, Limits, Policy, PoolId, Query, Refusal,
        RequestKey, Stock, Weight,
    },
    types::{Entropy, Millis},
};

use crate::Pair;

const START: Millis = Millis(1_735_689_600_000);

fn command(pool: &str, number: u64, action: Action) -> Command {
    command_at(START, pool, number, action)
}

fn command_at(at: Millis, pool: &str, number: u64, action: Action) -> Command {
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&number.to_be_bytes());
    let pool: PoolId = pool.parse().unwrap();
    let key = RequestKey::new(at, unique);
    Command { pool, key, origin: KeyOrigin::Caller, actor: Actor::default(), action }
}

fn batch(commands: Vec<Command>) -> Vec<u8> {
    batch_at(START, commands)
}

fn batch_at(time: Millis, commands: Vec<Command>) -> Vec<u8> {
    Batch { version: Batch::VERSION, time, entropy: Entropy([5; 32]), commands }.encode()
}

fn items(count: u64) -> Vec<CatalogItem> {
    let id = |number: u64| -> ItemId { number.to_string().parse().unwrap() };
    (0..count).map(|number| CatalogItem { item: id(number), stock: Stock::Finite(9), weight: Weight(1) }).collect()
}

fn create(items: Vec<CatalogItem>) -> Action {
    Action::CreatePool { policy: Policy::Renormalize, items, require_key: false }
}

/// The refusal at the end of a batch, if it is one.
fn last_refusal(pair: &mut Pair, commands: Vec<Command>) -> Option<Refusal> {
    let decisions = pair.apply(&batch(commands));
    decisions.last().expect("an outcome").outcome.result.clone().err()
}

#[test]
fn a_group_has_1_024_pools() {
    let mut pair = Pair::new(Limits::default());
    let commands = (0..1_023).map(|number| command(&format!("p{number}"), number, create(vec![])));
    assert_eq!(last_refusal(&mut pair, commands.collect()), None);
    assert_eq!(last_refusal(&mut pair, vec![command("more", 0, create(vec![]))]), Some(Refusal::PoolsFull));
    let import = Action::ImportCatalog { items: vec![], draw_seq: Default::default() };
    assert_eq!(last_refusal(&mut pair, vec![command("other", 0, import)]), Some(Refusal::PoolsFull));
    pair.compare_pools();
}

/// The longest catalog that a command may carry, and one item more.
#[test]
fn a_catalog_fits_into_an_entry() {
    let mut pair = Pair::new(Limits::default());
    let len = |count| tombola::codec::encoded_len(&command("big", 1, create(items(count))));
    let bytes_max = (1 << 20) - 1_024;
    // Every id between these has five digits, so every item has the same length.
    let most = 20_000 + ((bytes_max - len(20_000)) / (len(20_001) - len(20_000))) as u64;
    assert!(len(most) <= bytes_max && len(most + 1) > bytes_max);
    let more = command("big", 1, create(items(most + 1)));
    assert_eq!(last_refusal(&mut pair, vec![more]), Some(Refusal::OutOfRange));
    assert_eq!(last_refusal(&mut pair, vec![command("big", 2, create(items(most)))]), None);
    pair.restore();
    pair.compare_pools();
    let draw = Action::Draw { count: 300 };
    assert_eq!(last_refusal(&mut pair, vec![command("big", 3, draw)]), None);
    pair.compare_pools();
}

/// The most that one entry may ask for; a step more, and it is no batch.
#[test]
fn an_entry_has_16_384_draws_and_4_096_commands() {
    let mut pair = Pair::new(Limits::default());
    let import = Action::ImportCatalog { items: items(3), draw_seq: Default::default() };
    let mut commands = vec![command("default", 0, import)];
    commands.extend((1..17).map(|number| command("default", number, Action::Draw { count: 1_000 })));
    let rest = command("default", 17, Action::Draw { count: 384 });
    assert_eq!(pair.apply(&batch([commands.clone(), vec![rest]].concat())).len(), 18);
    let more = command("default", 18, Action::Draw { count: 385 });
    assert_eq!(pair.apply(&batch([commands, vec![more]].concat())).len(), 0);
    let pauses = |count| batch((0..count).map(|number| command("default", 99 + number, Action::PausePool)).collect());
    assert_eq!(pair.apply(&pauses(4_096)).len(), 4_096);
    assert_eq!(pair.apply(&pauses(4_097)).len(), 0);
    pair.compare_pools();
}

/// More buckets than one entry forgets, of two pools and of none: what is left after each entry is the same, and so is what
/// a replica forgets that was restored meanwhile.
#[test]
fn an_entry_forgets_4_096_buckets() {
    let mut pair = Pair::new(Limits::default());
    assert_eq!(last_refusal(&mut pair, vec![command("other", 0, create(items(1)))]), None);
    let pools = ["default", "nowhere", "other"];
    let draw = |number: u64| {
        let at = Millis(START.0 - 5_000 * (number / 3));
        command_at(at, pools[(number % 3) as usize], number, Action::Draw { count: 1 })
    };
    for from in [0, 3_000] {
        pair.apply(&batch((from..from + 3_000).map(draw).collect()));
    }
    let mut left = vec![];
    for entry in 0..4 {
        pair.apply(&batch_at(Millis(START.0 + 100_000_000), vec![]));
        pair.compare(&Query::Verify);
        let Answer::Verified(verified) = pair.model.answer_query(&Query::Verify) else { panic!("it is verified") };
        left.push(verified.keys);
        (0..6_000).step_by(7).map(draw).for_each(|command| pair.compare(&Query::Outcome(command.pool, command.key)));
        if entry == 0 {
            pair.restore();
        }
    }
    // One key a bucket; the pool's own creation is the one more.
    assert_eq!(left, [6_001 - 4_096, 0, 0, 0]);
}
