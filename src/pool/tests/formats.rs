//! Golden bytes of everything that is written down: a log, a stored outcome or a snapshot of today must be readable by
//! every later build. If one of these changes, it is a new format, and needs a number of its own.

use std::fmt::{Debug, Write as _};

use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::{
    codec,
    pool::verdict::{Pick, Verdict, write_drawn, write_plain},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line a value: its variant's name and its bytes, which are read back, whole and in no other length.
fn lines<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T]) -> String {
    let mut lines = String::new();
    for value in values {
        let bytes = codec::encode(value);
        assert_eq!(codec::decode::<T>(&bytes, bytes.len()).unwrap(), *value);
        assert!((0..bytes.len()).all(|len| codec::decode::<T>(&bytes[..len], bytes.len()).is_err()));
        let _ = writeln!(lines, "{value:?}\n    {}", hex(&bytes));
    }
    lines
}

fn actions() -> Vec<Action> {
    let (gold, mud) = (|| id("gold"), || id("mud"));
    let items = || catalog(&[("gold", Stock::Finite(7), 3), ("mud", Stock::Unlimited, 1)]);
    vec![
        Action::Draw { count: 1_000 },
        Action::Claim { item: gold(), quantity: 3 },
        Action::SetItem { item: gold(), weight: Weight(5), stock: Stock::Finite(6), etag: None },
        Action::SetItem { item: gold(), weight: Weight(5), stock: Stock::Unlimited, etag: Some(Version(2)) },
        Action::AdjustStock { item: gold(), delta: -4 },
        Action::UpdateItem { item: gold(), stock: Stock::Unlimited, weight: Weight(9), create: true },
        Action::RemoveItem { item: gold(), etag: Some(Version(1)) },
        Action::CreatePool { policy: Policy::Renormalize, items: Vec::new(), require_key: false },
        Action::CreatePool { policy: Policy::Fallback(mud()), items: items(), require_key: true },
        Action::CreatePool { policy: Policy::Miss, items: Vec::new(), require_key: false },
        Action::PausePool,
        Action::ResumePool,
        Action::ImportCatalog { items: items(), draw_seq: DrawSeq(41) },
        Action::UpdatePool { policy: Some(Policy::Fallback(mud())), require_key: None, etag: Version(3) },
        Action::UpdatePool { policy: None, require_key: Some(true), etag: Version(3) },
    ]
}

fn effects() -> Vec<Effect> {
    let version = Version(2);
    let gold = ItemState {
        id: id("gold"),
        weight: Weight(3),
        stock: Stock::Finite(4),
        reserved: 5,
        awarded: 6,
        returned: 1,
        added: 14,
        rev: version,
    };
    let steps = vec![Step::Awarded(id("gold")), Step::Fallback(id("mud")), Step::Miss, Step::PoolEmpty];
    vec![
        Effect::Drawn { first_seq: DrawSeq(9), version, steps: steps.into_iter().collect() },
        Effect::Claimed { seq: DrawSeq(9), result: Claim::Awarded },
        Effect::Claimed { seq: DrawSeq(9), result: Claim::OutOfStock { remaining: 3 } },
        Effect::ItemSet(gold),
        Effect::Adjusted { remaining: 8 },
        Effect::ItemRemoved { version },
        Effect::PoolSet { version },
        Effect::Imported { version, items: 2 },
    ]
}

fn refusals() -> Vec<Refusal> {
    let (floor, now) = (Millis(1), Millis(2));
    vec![
        Refusal::PoolNotFound,
        Refusal::ItemNotFound,
        Refusal::PoolExists,
        Refusal::ItemExists,
        Refusal::EtagMismatch { current: Version(3) },
        Refusal::PoolPaused,
        Refusal::InsufficientStock { remaining: 4 },
        Refusal::ItemUnlimited,
        Refusal::IsFallback,
        Refusal::PoolNotEmpty,
        Refusal::PoolsFull,
        Refusal::ItemsFull,
        Refusal::KeyRequired,
        Refusal::StockOverflow,
        Refusal::OutOfRange,
        Refusal::KeyReused,
        Refusal::KeyExpired { floor, now },
        Refusal::KeyFromFuture { floor, now },
        Refusal::KeyTableFull,
        Refusal::FallbackFinite,
        Refusal::TooLong,
    ]
}

fn outcome(result: Result<Effect, Refusal>) -> Outcome {
    Outcome { index: Index(5), now: Millis(6), replayed: false, result }
}

#[test]
fn commands() {
    insta::assert_snapshot!(lines(&actions()));
}

#[test]
fn batches() {
    let key = key(START, 1);
    let mut commands = vec![command("default", key, Action::Draw { count: 2 })];
    commands.push(Command { origin: KeyOrigin::Server, actor: "ann".parse().unwrap(), ..commands[0].clone() });
    let batch = Batch { version: Batch::VERSION, time: START, entropy: entropy(7), commands };
    assert_eq!(batch.encode(), codec::encode(&batch));
    assert_eq!(Batch::decode(&batch.encode()).unwrap(), batch);
    insta::assert_snapshot!(lines(&[batch]));
}

#[test]
fn outcomes() {
    let results = effects().into_iter().map(Ok).chain(refusals().into_iter().map(Err));
    let mut outcomes: Vec<Outcome> = results.map(outcome).collect();
    outcomes[0].replayed = true;
    insta::assert_snapshot!(lines(&outcomes));
}

/// The compact form, as the key tables, the snapshot and the history digest have it.
#[test]
fn verdicts() {
    let mut drawn = Vec::new();
    write_drawn(DrawSeq(9), Version(2), 4, &mut drawn);
    for pick in [Pick::Awarded(1), Pick::Fallback(65_535), Pick::Miss, Pick::PoolEmpty] {
        pick.write(&mut drawn);
    }
    let results = effects().into_iter().skip(1).map(Ok).chain(refusals().into_iter().map(Err));
    let plain = results.map(|result| {
        let mut bytes = Vec::new();
        write_plain(&result, &mut bytes);
        assert_eq!(Verdict::decode(&bytes), Some(Verdict::Plain(result)));
        bytes
    });
    let mut lines = String::new();
    for mut bytes in [drawn].into_iter().chain(plain) {
        let verdict = Verdict::decode(&bytes).expect("it was just written");
        let _ = writeln!(lines, "{verdict:?}\n    {}", hex(&bytes));
        bytes.push(0);
        assert_eq!(Verdict::decode(&bytes), None, "a byte too many");
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn what_is_no_verdict() {
    assert_eq!(Verdict::decode(&[]), None);
    let mut drawn = Vec::new();
    write_drawn(DrawSeq(1), Version(1), DRAWS_PER_COMMAND_MAX, &mut drawn);
    (0..DRAWS_PER_COMMAND_MAX).for_each(|_| Pick::Miss.write(&mut drawn));
    assert!(Verdict::decode(&drawn).is_some());
    Pick::Miss.write(&mut drawn);
    assert_eq!(Verdict::decode(&drawn), None, "more steps than a command draws");
    assert_eq!(Verdict::decode(&[2]), None, "no such kind");
    assert_eq!(Verdict::decode(&[0; 16]), None, "cut short");
    let is_verdict = |step: [u8; 5]| Verdict::decode(&[[0; 17].as_slice(), &step].concat()).is_some();
    assert!(is_verdict([0, 9, 0, 0, 0]));
    assert!(!is_verdict([2, 9, 0, 0, 0]), "a miss has no item");
    assert!(!is_verdict([4, 0, 0, 0, 0]), "no such code");
    let drawn = Ok::<_, Refusal>(effects().remove(0));
    assert_eq!(Verdict::decode(&[&[1], codec::encode(&drawn).as_slice()].concat()), None, "a draw in the long form");
}

#[test]
fn queries_and_answers() {
    let mut bench = bench_with_everything();
    let pool = PoolId::default_pool();
    let seen = key(START, 2);
    let queries = vec![
        Query::Pool(pool.clone()),
        Query::Pools { after: Some(pool.clone()), limit: 1 },
        Query::Outcome(pool.clone(), seen),
        Query::Verify,
        Query::Items { pool: pool.clone(), after: Some(id("gold")), limit: 2 },
    ];
    let mut answers: Vec<Answer> = queries.iter().map(|query| bench.machine.query(query)).collect();
    let key = bench.key();
    answers.push(bench.machine.query(&Query::Outcome(pool, key)));
    answers.push(Answer::Outcome(Remembered::Expired { floor: Millis(1) }));
    answers.push(Answer::Refused(Refusal::PoolNotFound));
    insta::assert_snapshot!(lines(&queries) + &lines(&answers));
}

/// A state with something of every kind in it.
fn bench_with_everything() -> Bench {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(2), 3), ("mud", Stock::Unlimited, 1)])).unwrap();
    bench.act(Action::Draw { count: 4 }).unwrap();
    bench.act(Action::RemoveItem { item: id("gold"), etag: None }).unwrap();
    let key = RequestKey::server_made(START, [1; 6]);
    let policy = Policy::Fallback(id("mud"));
    let items = catalog(&[("mud", Stock::Unlimited, 1)]);
    bench.send(command("kiosk", key, Action::CreatePool { policy, items, require_key: true }));
    let key = bench.key();
    bench.send(command("nowhere", key, Action::PausePool)).result.unwrap_err();
    bench.now.0 += 60_000;
    bench.act(Action::PausePool).unwrap();
    bench
}

/// The bytes of a snapshot and both digests: they hold every format together with what commands do.
#[test]
fn a_snapshot() {
    let bench = bench_with_everything();
    let Digests { index, history, state } = bench.machine.digests();
    let body = bench.machine.snapshot().encode();
    let restored = StateMachine::restore(&body).unwrap();
    assert_eq!(restored.digests(), bench.machine.digests());
    insta::assert_snapshot!(format!("index {index}\nhistory {history}\nstate {state}\n{}", hex(&body)));
}

#[test]
fn the_founding_state() {
    let founding = StateMachine::founding(Limits::default());
    let Digests { index, history, state } = founding.digests();
    let body = hex(&founding.snapshot().encode());
    insta::assert_snapshot!(format!("index {index}\nhistory {history}\nstate {state}\n{body}"));
}

#[test]
fn fingerprints() {
    let key = key(START, 1);
    let prints = actions().into_iter().map(|action| hex(&command("default", key, action).fingerprint().0));
    insta::assert_snapshot!(prints.collect::<Vec<_>>().join("\n"));
    let draw = command("default", key, Action::Draw { count: 1 });
    let resent =
        Command { key: self::key(START, 2), origin: KeyOrigin::Server, actor: "ann".parse().unwrap(), ..draw.clone() };
    assert_eq!(draw.fingerprint(), resent.fingerprint());
    assert_ne!(draw.fingerprint(), command("other", key, Action::Draw { count: 1 }).fingerprint());
}
