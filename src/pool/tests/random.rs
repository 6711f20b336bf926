//! Random sequences of commands, and random bytes, against what must hold whatever comes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;
use crate::pool::verdict::{Verdict, write_drawn, write_plain};

/// A command in a small world, where names and keys meet often.
fn any_command() -> impl Strategy<Value = Command> {
    let pool = prop_oneof![3 => Just("default"), 1 => Just("a"), 1 => Just("b")];
    let made = (0u64..5, 0u64..20, any::<bool>()).prop_map(|(number, ago_s, by_server)| {
        let at = Millis(START.0 + ago_s * 2_500);
        match by_server {
            true => RequestKey::server_made(at, [number as u8; 6]),
            false => key(at, number),
        }
    });
    (pool, made, any_action(), any::<bool>()).prop_map(|(pool, key, action, server)| {
        let origin = if server { KeyOrigin::Server } else { KeyOrigin::Caller };
        Command { origin, ..command(pool, key, action) }
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    let item = || prop_oneof![Just("x"), Just("y"), Just("z")].prop_map(id);
    let stock = || prop_oneof![4 => (0u64..9).prop_map(Stock::Finite), 1 => Just(Stock::Unlimited)];
    let weight = || (0u32..9).prop_map(Weight);
    let etag = || prop::option::of((0u64..6).prop_map(Version));
    let entry = (item(), stock(), weight()).prop_map(|(item, stock, weight)| CatalogItem { item, stock, weight });
    let items = || prop::collection::vec(entry.clone(), 0..3);
    let policy = || prop_oneof![Just(Policy::Renormalize), Just(Policy::Miss), item().prop_map(Policy::Fallback)];
    prop_oneof![
        6 => (0u16..30).prop_map(|count| Action::Draw { count }),
        3 => (item(), 0u32..6).prop_map(|(item, quantity)| Action::Claim { item, quantity }),
        3 => (item(), weight(), stock(), etag())
            .prop_map(|(item, weight, stock, etag)| Action::SetItem { item, weight, stock, etag }),
        2 => (item(), -5i64..9).prop_map(|(item, delta)| Action::AdjustStock { item, delta }),
        2 => (item(), stock(), weight(), any::<bool>())
            .prop_map(|(item, stock, weight, create)| Action::UpdateItem { item, stock, weight, create }),
        1 => (item(), etag()).prop_map(|(item, etag)| Action::RemoveItem { item, etag }),
        2 => (policy(), items(), any::<bool>())
            .prop_map(|(policy, items, require_key)| Action::CreatePool { policy, items, require_key }),
        1 => (prop::option::of(policy()), prop::option::of(any::<bool>()), 0u64..9)
            .prop_map(|(policy, require_key, etag)| Action::UpdatePool { policy, require_key, etag: Version(etag) }),
        1 => Just(Action::PausePool),
        2 => Just(Action::ResumePool),
        1 => (items(), 0u64..99).prop_map(|(items, seq)| Action::ImportCatalog { items, draw_seq: DrawSeq(seq) }),
    ]
}

/// Batches, each so many milliseconds after the one before.
fn any_history() -> impl Strategy<Value = Vec<(u64, Vec<Command>)>> {
    let wait_ms = prop_oneof![3 => Just(0), 2 => 0u64..3_000, 1 => 0u64..60_000];
    prop::collection::vec((wait_ms, prop::collection::vec(any_command(), 0..8)), 1..40)
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let bytes = prop_oneof![Just(1_000u64), Just(4_000), Just(1 << 20)];
    let age = prop_oneof![Just(20_000u64), Just(86_400_000)];
    (bytes, age).prop_map(|(keys_bytes_max, keys_age_ms_max)| Limits { keys_bytes_max, keys_age_ms_max })
}

fn is_stored(result: &Result<Effect, Refusal>) -> bool {
    !matches!(
        result,
        Err(Refusal::KeyReused | Refusal::KeyExpired { .. } | Refusal::KeyFromFuture { .. } | Refusal::KeyTableFull)
    )
}

/// The same outcome as a key's first, or none yet: exactly once.
fn check_once(first: &mut BTreeMap<(PoolId, RequestKey), Outcome>, command: &Command, outcome: &Outcome) {
    if !is_stored(&outcome.result) {
        return;
    }
    let earlier = first.entry((command.pool.clone(), command.key));
    match earlier {
        std::collections::btree_map::Entry::Vacant(vacant) => {
            assert!(!outcome.replayed, "nothing was told before");
            vacant.insert(outcome.clone());
        }
        std::collections::btree_map::Entry::Occupied(told) => {
            assert_eq!(*outcome, Outcome { replayed: true, ..told.get().clone() });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_the_promises_hold(limits in any_limits(), history in any_history(), cut in 0usize..40) {
        let mut bench = Bench::new(limits);
        let mut twin: Option<StateMachine> = None;
        let mut shared = None;
        let mut first = BTreeMap::new();
        for (position, (wait_ms, commands)) in history.into_iter().enumerate() {
            bench.now.0 += wait_ms;
            let outcomes = bench.apply(commands.clone());
            prop_assert_eq!(outcomes.len(), commands.len());
            for (command, outcome) in commands.iter().zip(&outcomes) {
                check_once(&mut first, command, outcome);
            }
            if let Some(twin) = &mut twin {
                let entry = bench.entries.last().unwrap();
                prop_assert_eq!(&twin.apply(bench.machine.applied(), entry), &outcomes);
                prop_assert_eq!(twin.digests(), bench.machine.digests());
            }
            if position == cut {
                let body = bench.machine.snapshot().encode();
                twin = Some(StateMachine::restore(&body).unwrap());
                // Held, while the state moves on; encoded only at the end.
                shared = Some((bench.machine.snapshot(), body));
            }
        }
        bench.verify();
        if let (Some(twin), Some((handle, body))) = (twin, shared) {
            prop_assert_eq!(twin.snapshot().encode(), bench.machine.snapshot().encode());
            prop_assert_eq!(handle.encode(), body);
        }
        // Nobody waits for outcomes here: all that is remembered is the same.
        let mut unheard = StateMachine::founding(limits);
        for entry in &bench.entries {
            unheard.apply_unheard(unheard.applied().next(), entry);
        }
        prop_assert_eq!(unheard.digests(), bench.machine.digests());
        prop_assert_eq!(unheard.snapshot().encode(), bench.machine.snapshot().encode());
    }
}

pub(super) fn random_bytes(rng: &mut ChaCha8Rng, len_max: u64) -> Vec<u8> {
    let mut bytes = vec![0; (rng.next_u64() % len_max) as usize];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// One byte other, a stretch cut out, or a stretch doubled.
pub(super) fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let at = (rng.next_u64() % bytes.len() as u64) as usize;
    let len = (rng.next_u64() % 9) as usize;
    let stretch = at..bytes.len().min(at + len);
    match rng.next_u64() % 3 {
        0 => bytes[at] ^= 1 << (rng.next_u64() % 8),
        1 => drop(bytes.drain(stretch)),
        _ => {
            let doubled = bytes[stretch].to_vec();
            bytes.splice(at..at, doubled);
        }
    }
}

#[test]
fn random_entries_change_nothing_and_never_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut bench = Bench::new(Limits::default());
    let state = bench.machine.digests().state;
    for _ in 0..20_000 {
        assert!(bench.apply_bytes(random_bytes(&mut rng, 300)).is_empty());
    }
    assert_eq!(bench.machine.digests().state, state);
}

/// A mutated batch may well be another batch; it is one on every replica.
#[test]
fn mutated_entries_are_applied_alike_or_not_at_all() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(500), 1), ("mud", Stock::Unlimited, 3)])).unwrap();
    let mut twin = StateMachine::founding(Limits::default());
    twin.apply(Index(2), &bench.entries[0]);
    for _ in 0..5_000 {
        let commands = vec![bench.command(Action::Draw { count: 3 }), bench.command(Action::PausePool)];
        let batch = Batch { version: Batch::VERSION, time: bench.now, entropy: entropy(rng.next_u64()), commands };
        let mut entry = batch.encode();
        mutate(&mut rng, &mut entry);
        let outcomes = bench.apply_bytes(entry.clone());
        assert_eq!(twin.apply(bench.machine.applied(), &entry), outcomes);
    }
    assert_eq!(twin.digests(), bench.machine.digests());
    bench.verify();
}

#[test]
fn random_verdicts_and_names_never_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..50_000 {
        let bytes = random_bytes(&mut rng, 120);
        if let Some(verdict) = Verdict::decode(&bytes) {
            let mut again = Vec::new();
            match verdict {
                Verdict::Drawn { first_seq, version, picks } => {
                    write_drawn(first_seq, version, 0, &mut again);
                    picks.iter().for_each(|pick| pick.write(&mut again));
                }
                Verdict::Plain(result) => write_plain(&result, &mut again),
            }
            assert_eq!(again, bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = (text.parse::<PoolId>(), text.parse::<ItemId>(), text.parse::<Actor>(), text.parse::<RequestKey>());
        let _ = crate::codec::decode::<Outcome>(&bytes, 120);
        let _ = crate::codec::decode::<Query>(&bytes, 120);
        let _ = crate::codec::decode::<Answer>(&bytes, 120);
    }
}
