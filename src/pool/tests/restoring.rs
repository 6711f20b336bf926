//! Snapshots on their way out and back, in pieces, whole and damaged.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    super::snapshot::FORMAT,
    random::{mutate, random_bytes},
    *,
};

/// Three pools; items and a bucket of keys that take several sections; keys of every ring, and orphans.
fn rich() -> Bench {
    let mut bench = Bench::new(Limits::default());
    let names: Vec<String> = (0..1_300).map(|number| format!("item number {number}")).collect();
    let items: Vec<_> = names.iter().map(|name| (name.as_str(), Stock::Finite(50), 3)).collect();
    bench.act(import(&items)).unwrap();
    for pool in ["b", "a"] {
        let items = catalog(&[("mud", Stock::Unlimited, 1)]);
        let key = bench.key();
        let create = Action::CreatePool { policy: Policy::Fallback(id("mud")), items, require_key: false };
        bench.send(command(pool, key, create)).result.unwrap();
    }
    for number in 0..40 {
        bench.now.0 += if number < 20 { 0 } else { 3_000 };
        let made = RequestKey::server_made(bench.now, [number; 6]);
        let mut commands: Vec<_> = (0..60).map(|_| bench.command(Action::Draw { count: 2 })).collect();
        commands.push(command("a", made, Action::Draw { count: 300 }));
        commands.push(command("nowhere", bench.key(), Action::PausePool));
        commands.push(command("b", bench.key(), Action::AdjustStock { item: id("mud"), delta: 1 }));
        bench.apply(commands);
    }
    bench.act(Action::RemoveItem { item: id("item number 7"), etag: None }).unwrap();
    bench
}

/// Feeds a body in pieces of the lengths that `next` says.
fn feed(body: &[u8], mut next: impl FnMut() -> usize) -> Result<StateMachine, BadSnapshot> {
    let mut restorer = Restorer::default();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(next().min(rest.len()));
        restorer.push(piece)?;
        rest = after;
    }
    restorer.finish()
}

/// The lengths of a body's sections.
fn sections(body: &[u8]) -> Vec<usize> {
    let mut rest = &body[2..];
    std::iter::from_fn(|| {
        let (len, after) = rest.split_first_chunk()?;
        let len = u32::from_le_bytes(*len) as usize;
        rest = &after[len..];
        Some(len)
    })
    .collect()
}

#[test]
fn however_a_body_is_cut_it_is_the_same() {
    let bench = rich();
    let handle = bench.machine.snapshot();
    let body = handle.encode();
    for bytes in [1, 7, 1_000, 65_536, body.len() - 1, body.len(), body.len() + 1] {
        let chunks: Vec<_> = handle.chunks(bytes).collect();
        assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == bytes));
        assert!(chunks.last().is_some_and(|last| (1..=bytes).contains(&last.len())));
        assert_eq!(chunks.concat(), body, "in chunks of {bytes}");
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut pieces = || (rng.next_u64() % 5_000) as usize;
    for restored in [feed(&body, || 1), feed(&body, || usize::MAX), feed(&body, || 999), feed(&body, &mut pieces)] {
        let restored = restored.unwrap();
        assert_eq!(restored.digests(), bench.machine.digests());
        assert_eq!(restored.snapshot().encode(), body);
    }
}

/// What a node and a transfer rely on to hold only a section beside what they have.
#[test]
fn sections_are_short_however_much_there_is_of_one_kind() {
    let lens = sections(&rich().machine.snapshot().encode());
    assert!(lens.iter().all(|&len| len <= 66 << 10), "{lens:?}");
    assert!(lens.iter().filter(|&&len| len > 20 << 10).count() >= 4, "items and a bucket are cut: {lens:?}");
}

#[test]
fn a_view_stays_what_it_was() {
    let mut bench = rich();
    let handle = bench.machine.snapshot();
    let (body, verification) = (handle.encode(), handle.verify());
    assert_eq!(verification.violations, Vec::<String>::new());
    for _ in 0..50 {
        bench.now.0 += 3_000_000;
        bench.act(Action::Draw { count: 20 }).unwrap();
    }
    assert!(bench.machine.key_stats().keys < verification.keys, "time has taken keys away");
    assert_eq!((handle.encode(), handle.verify()), (body, verification));
    bench.verify();
}

#[test]
#[should_panic(expected = "invariant one history is broken")]
fn a_state_that_is_not_what_its_digest_says_is_not_given_away() {
    let mut bench = rich();
    bench.machine.state = crate::types::StateDigest(1);
    let handle = bench.machine.snapshot();
    let len: usize = handle.chunks(10_000).map(|chunk| chunk.len()).sum();
    panic!("{len} bytes were given away");
}

#[test]
fn a_length_that_lies_is_refused_at_once() {
    for len in [0, (128 << 10) + 1, u32::MAX] {
        let mut restorer = Restorer::default();
        restorer.push(&FORMAT.to_le_bytes()).unwrap();
        let refused = restorer.push(&u32::to_le_bytes(len)).unwrap_err();
        assert!(refused.to_string().contains("a section has 1 to"), "{refused}");
        assert_eq!(restorer.push(&[0]), Err(refused.clone()), "an error is final");
        assert_eq!(restorer.finish().unwrap_err(), refused);
    }
}

#[test]
fn what_is_not_whole_or_goes_on_is_refused() {
    let body = StateMachine::founding(Limits::default()).snapshot().encode();
    assert!(StateMachine::restore(&body).is_ok());
    let why = |body: &[u8]| StateMachine::restore(body).unwrap_err().0;
    assert_eq!(why(&[]), "it is cut short");
    assert_eq!(why(&body[..body.len() - 1]), "it is cut short");
    assert_eq!(why(&[body.as_slice(), &[0]].concat()), "bytes follow its end");
    assert_eq!(why(&[9, 0]), "snapshot format 9 is not known to this build");
    let header = 6 + sections(&body)[0];
    let twice = [&body[..header], &body[2..]].concat();
    assert_eq!(why(&twice), "it has a second header");
    assert_eq!(why(&[&body[..2], &body[header..]].concat()), "it does not begin with a header");
}

#[test]
fn damaged_snapshots_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(500), 1), ("mud", Stock::Unlimited, 3)])).unwrap();
    for _ in 0..20 {
        bench.now.0 += 1_000;
        bench.act(Action::Draw { count: 3 }).unwrap();
    }
    let body = bench.machine.snapshot().encode();
    for len in 0..body.len() {
        assert!(StateMachine::restore(&body[..len]).is_err(), "cut to {len}");
    }
    for position in 0..body.len() {
        let mut damaged = body.clone();
        damaged[position] ^= 1 << (rng.next_u64() % 8);
        // The history and the index are no part of the state: their digest is in the manifest.
        if let Ok(restored) = StateMachine::restore(&damaged) {
            assert_eq!(restored.digests().state, bench.machine.digests().state, "byte {position}");
        }
    }
}

/// Whatever comes, in whatever pieces: an error or a state, soon, and no panic.
#[test]
fn garbage_in_pieces_is_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let bodies = [rich().machine.snapshot().encode(), StateMachine::founding(Limits::default()).snapshot().encode()];
    let mut refused = 0;
    for round in 0..3_000 {
        // The long one is worth fewer rounds.
        let mut body = bodies[usize::from(round % 20 > 0)].clone();
        match round % 3 {
            0 => (0..1 + rng.next_u64() % 3).for_each(|_| mutate(&mut rng, &mut body)),
            1 => body.truncate((rng.next_u64() % body.len() as u64) as usize),
            _ => {
                let at = (rng.next_u64() % body.len() as u64) as usize;
                body.truncate(at);
                body.extend(random_bytes(&mut rng, 500));
            }
        }
        let piece_max = 1 + rng.next_u64() % 4_000;
        let restored = feed(&body, || 1 + (rng.next_u64() % piece_max) as usize);
        refused += usize::from(restored.is_err());
        assert!(feed(&random_bytes(&mut rng, 400), || 64).is_err());
    }
    assert!(refused > 2_900, "{refused} of 3 000");
}

#[test]
fn a_snapshot_carries_its_cluster_s_limits() {
    let limits = Limits { keys_bytes_max: 1 << 20, ..Limits::default() };
    let machine = StateMachine::founding(limits);
    let restored = StateMachine::restore(&machine.snapshot().encode()).unwrap();
    assert_eq!(restored.digests(), machine.digests());
    assert_ne!(restored.digests(), StateMachine::founding(Limits::default()).digests());
}
