//! Request keys under load: whatever is forgotten to stay within the budget is refused afterwards, never executed again.

use super::*;

fn tiny(keys_bytes_max: u64) -> Limits {
    Limits { keys_bytes_max, ..Limits::default() }
}

fn floor(bench: &Bench) -> Millis {
    let Answer::Pool(pool) = bench.machine.query(&Query::Pool(PoolId::default_pool())) else { panic!("no pool") };
    pool.summary.key_floor
}

#[test]
fn under_load_the_horizon_shrinks_and_an_old_key_is_refused() {
    let mut bench = Bench::new(tiny(200_000));
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    let mut sent: Vec<(Command, Outcome)> = Vec::new();
    let mut floor_before = Millis(0);
    for _ in 0..200 {
        bench.now.0 += 1_000;
        let commands: Vec<_> = (0..50).map(|_| bench.command(Action::Draw { count: 1 })).collect();
        let outcomes = bench.apply(commands.clone());
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "30 s of keys fit into the budget");
        sent.extend(commands.into_iter().zip(outcomes));
        assert!(floor(&bench) >= floor_before, "the floor never goes down");
        floor_before = floor(&bench);
    }
    let horizon_ms = bench.now.0 - floor_before.0;
    assert!((30_000..50_000).contains(&horizon_ms), "{horizon_ms} ms of keys are remembered");

    let awarded = bench.item("gold").awarded;
    let (mut known, mut expired) = (0, 0);
    for (command, first) in sent {
        let again = bench.send(command.clone());
        match again.result {
            Err(Refusal::KeyExpired { floor, .. }) => {
                assert!(command.key.time() <= floor);
                expired += 1;
            }
            _ => {
                assert_eq!(again, Outcome { replayed: true, ..first });
                known += 1;
            }
        }
    }
    assert!(known > 1_000 && expired > 5_000, "{known} known, {expired} expired");
    assert_eq!(bench.item("gold").awarded, awarded, "nothing was drawn again");
    bench.verify();
}

#[test]
fn a_flood_of_one_pool_expires_nothing_of_another() {
    let mut bench = Bench::new(tiny(100_000));
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    let key = bench.key();
    let items = catalog(&[("gold", Stock::Unlimited, 1)]);
    bench.send(command("quiet", key, Action::CreatePool { policy: Policy::Miss, items, require_key: false }));
    let quiet = command("quiet", bench.key(), Action::Draw { count: 1 });
    let first = bench.send(quiet.clone());
    for _ in 0..100 {
        bench.now.0 += 1_000;
        let commands = (0..40).map(|_| bench.command(Action::Draw { count: 1 })).collect();
        bench.apply(commands);
    }
    assert!(floor(&bench) > START, "the loud pool has forgotten");
    assert_eq!(bench.send(quiet), Outcome { replayed: true, ..first });
    let late = command("quiet", key_of(Millis(START.0 - 3_600_000)), Action::Draw { count: 1 });
    assert!(bench.send(late).result.is_ok(), "a key an hour old is new to the quiet pool");
    bench.verify();
}

/// Two pools of equal keys in one old bucket each, and some way over the budget: whose are forgotten?
#[test]
fn among_equals_the_first_by_name_forgets() {
    let mut bench = Bench::new(tiny(30_000));
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    // In the other order, lest it be that of creation.
    for pool in ["bb", "aa"] {
        let items = catalog(&[("gold", Stock::Unlimited, 1)]);
        let create = Action::CreatePool { policy: Policy::Miss, items, require_key: false };
        let create = command(pool, bench.key(), create);
        bench.send(create).result.unwrap();
    }
    let draws = |bench: &mut Bench, pool: &str, count: u64| -> Vec<Command> {
        (0..count).map(|_| command(pool, bench.key(), Action::Draw { count: 1 })).collect()
    };
    for pool in ["bb", "aa"] {
        let commands = draws(&mut bench, pool, 140);
        bench.apply(commands);
    }
    bench.now.0 += 60_000;
    let stats = bench.machine.key_stats();
    assert!(stats.bytes_used < stats.bytes_max, "{stats:?}");
    let mut twin = StateMachine::restore(&bench.machine.snapshot().encode()).unwrap();
    let commands = draws(&mut bench, "default", 60);
    bench.apply(commands);
    twin.apply(bench.machine.applied(), bench.entries.last().unwrap());
    let floor = |pool: &str| {
        let Answer::Pool(pool) = bench.machine.query(&Query::Pool(pool.parse().unwrap())) else { panic!("no pool") };
        pool.summary.key_floor
    };
    assert!(floor("aa") > START && floor("bb") < START && floor("default") < START);
    assert_eq!(twin.digests(), bench.machine.digests(), "a restored state forgets the same");
    bench.verify();
}

#[test]
fn keys_younger_than_thirty_seconds_are_kept_and_new_ones_refused() {
    let mut bench = Bench::new(tiny(20_000));
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    let commands: Vec<_> = (0..300).map(|_| bench.command(Action::Draw { count: 1 })).collect();
    let outcomes = bench.apply(commands.clone());
    let full = outcomes.iter().position(|outcome| outcome.result == Err(Refusal::KeyTableFull)).expect("it is full");
    assert!(outcomes[full..].iter().all(|outcome| outcome.result == Err(Refusal::KeyTableFull)));
    // The bucket's last millisecond is START + 4 999; thirty seconds on it is still not older than that.
    bench.now = Millis(START.0 + 4_999 + 30_000);
    assert_eq!(bench.act(Action::Draw { count: 1 }), Err(Refusal::KeyTableFull));
    assert_eq!(bench.send(commands[0].clone()), Outcome { replayed: true, ..outcomes[0].clone() });
    bench.now.0 += 1;
    bench.act(Action::Draw { count: 1 }).unwrap();
    let Err(Refusal::KeyExpired { floor, now }) = bench.send(commands[0].clone()).result else { panic!("it is known") };
    assert_eq!((floor, now), (Millis(START.0 + 4_999), bench.now));
    // What was refused for want of room was never executed, and is refused for good now.
    assert!(matches!(bench.send(commands[full].clone()).result, Err(Refusal::KeyExpired { .. })));
    assert_eq!(bench.item("gold").awarded, full as u64 + 1);
    bench.verify();
}

/// 16 MiB for the keys of operators; neither side takes the other's room.
#[test]
fn administrative_keys_have_a_budget_of_their_own() {
    let mut bench = Bench::new(tiny(50_000));
    let long = "a name as long as names may be, so that its records are, too".repeat(2);
    let item = id(&long[..64]);
    bench.act(import(&[("gold", Stock::Unlimited, 1), (item.as_str(), Stock::Finite(9), 1)])).unwrap();
    let update =
        || Action::UpdateItem { item: item.clone(), stock: Stock::Finite(9), weight: Weight(1), create: false };
    let mut sent = 0;
    while sent < 200_000 {
        let commands: Vec<_> = (0..4_000).map(|_| bench.command(update())).collect();
        sent += commands.len();
        if bench.apply(commands).iter().any(|outcome| outcome.result == Err(Refusal::KeyTableFull)) {
            break;
        }
    }
    assert!((60_000..200_000).contains(&sent), "{sent} administrative commands fill 16 MiB");
    assert_eq!(bench.act(update()), Err(Refusal::KeyTableFull));
    bench.act(Action::Draw { count: 1 }).unwrap();
    assert!(bench.machine.key_stats().bytes_used < 5_000, "{:?}", bench.machine.key_stats());

    bench.now.0 += 40_000;
    bench.act(update()).unwrap();
    let commands = (0..600).map(|_| bench.command(Action::Draw { count: 1 })).collect();
    assert_eq!(bench.apply(commands).pop().unwrap().result, Err(Refusal::KeyTableFull), "draws have filled theirs");
    bench.act(update()).unwrap();
    bench.verify();
}

#[test]
fn what_is_forgotten_is_handed_out_to_be_freed() {
    let mut bench = Bench::new(tiny(20_000));
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    let commands = (0..400).map(|_| bench.command(Action::Draw { count: 1 })).collect();
    bench.apply(commands);
    assert!(bench.machine.take_garbage().is_none(), "nothing was forgotten");
    let before = bench.machine.key_stats();
    assert_eq!((before.bytes_max, before.horizon_ms), (20_000, Limits::default().keys_age_ms_max));
    bench.now.0 += 60_000;
    bench.act(Action::Draw { count: 1 }).unwrap();
    assert!(bench.machine.take_garbage().is_some() && bench.machine.take_garbage().is_none());
    let after = bench.machine.key_stats();
    assert_eq!(after.keys, 2, "the import and the draw, of {before:?}");
    assert!(after.bytes_used < 2_000, "{after:?}");
    assert_eq!(after.horizon_ms, 60_000 - 4_999);
}

/// Time leaps over more buckets than an entry forgets, beside a state that was restored in between.
#[test]
fn a_leap_in_time_is_worked_off_entry_by_entry() {
    let mut bench = Bench::new(Limits { keys_bytes_max: 1 << 30, ..Limits::default() });
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    for _ in 0..5_000 {
        bench.now.0 += 5_000;
        bench.act(Action::Draw { count: 1 }).unwrap();
    }
    bench.now.0 += 48 * 3_600_000;
    bench.apply(Vec::new());
    assert_eq!(bench.machine.key_stats().keys, 5_001 - 4_096);
    let floor_now = floor(&bench);
    assert_eq!(floor_now.0, bench.now.0 - Limits::default().keys_age_ms_max, "they are as good as forgotten");
    let mut twin = StateMachine::restore(&bench.machine.snapshot().encode()).unwrap();
    for left in [0, 0] {
        bench.apply(Vec::new());
        twin.apply(bench.machine.applied(), bench.entries.last().unwrap());
        assert_eq!((bench.machine.key_stats().keys, twin.key_stats().keys), (left, left));
        assert_eq!(twin.digests(), bench.machine.digests());
    }
    bench.verify();
}

fn key_of(at: Millis) -> RequestKey {
    key(at, 0xffff_ffff)
}

/// Draws that name no pool must not stand in the way of creating one, nor make it forget.
#[test]
fn a_flood_without_a_pool_does_not_keep_one_from_being_created() {
    let mut bench = Bench::new(tiny(20_000));
    for _ in 0..10 {
        let draw = |bench: &mut Bench| command("later", bench.key(), Action::Draw { count: 1 });
        let commands = (0..100).map(|_| draw(&mut bench)).collect();
        bench.apply(commands);
    }
    let full = command("later", bench.key(), Action::Draw { count: 1 });
    assert_eq!(bench.send(full).result, Err(Refusal::KeyTableFull));
    let items = catalog(&[("gold", Stock::Finite(1), 1)]);
    let create = Action::CreatePool { policy: Policy::Renormalize, items, require_key: false };
    let create = command("later", bench.key(), create);
    bench.send(create).result.unwrap();
    let draw = command("later", bench.key(), Action::Draw { count: 1 });
    assert!(bench.send(draw).result.is_ok());
    bench.verify();
}

/// The record of a refusal for want of the pool may be dropped only together with the right to execute its key.
#[test]
fn a_refusal_for_want_of_the_pool_is_final_even_when_it_is_forgotten() {
    let mut bench = Bench::new(tiny(20_000));
    let early = command("later", bench.key(), Action::Draw { count: 1 });
    assert_eq!(bench.send(early.clone()).result, Err(Refusal::PoolNotFound));
    let items = catalog(&[("gold", Stock::Finite(1), 1)]);
    let create = Action::CreatePool { policy: Policy::Renormalize, items, require_key: false };
    let create = command("later", bench.key(), create);
    bench.send(create).result.unwrap();
    bench.now.0 += 40_000;
    for _ in 0..3 {
        let lost = |bench: &mut Bench| command("nowhere", bench.key(), Action::Draw { count: 1 });
        let commands = (0..150).map(|_| lost(&mut bench)).collect();
        bench.apply(commands);
    }
    assert!(matches!(bench.send(early).result, Err(Refusal::KeyExpired { .. })));
    // Keys of well after the pool's birth cannot have been refused for want of it.
    bench.now.0 += 40_000;
    let fresh = command("later", bench.key(), Action::Draw { count: 1 });
    assert!(bench.send(fresh).result.is_ok());
    bench.verify();
}

/// A caller may send the key of an unknown outcome, made by a node, as its own, and long after.
#[test]
fn a_key_made_by_a_node_draws_once_whoever_sends_it() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    let made = RequestKey::server_made(bench.now, [7; 6]);
    assert!(made.is_server_made() && !bench.key().is_server_made());
    let by_caller = command("default", made, Action::Draw { count: 1 });
    let by_server = Command { origin: KeyOrigin::Server, ..by_caller.clone() };
    let first = bench.send(by_server.clone());
    for wait_ms in [0, 30_000, 29_000, 10_000, 3_600_000, 86_400_000] {
        bench.now.0 += wait_ms;
        for again in [&by_caller, &by_server] {
            let again = bench.send(again.clone());
            let expired = matches!(again.result, Err(Refusal::KeyExpired { .. }));
            assert!(expired || again == Outcome { replayed: true, ..first.clone() });
        }
    }
    assert_eq!(bench.item("gold").awarded, 1);
}

#[test]
fn every_kind_of_outcome_is_told_again_as_it_was() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(5), 1), ("mud", Stock::Unlimited, 1)])).unwrap();
    let actions = [
        Action::Draw { count: 20 },
        Action::Claim { item: id("mud"), quantity: 2 },
        Action::Claim { item: id("gold"), quantity: 1_000 },
        Action::SetItem { item: id("new"), weight: Weight(2), stock: Stock::Finite(9), etag: None },
        Action::SetItem { item: id("new"), weight: Weight(2), stock: Stock::Finite(9), etag: None },
        Action::AdjustStock { item: id("new"), delta: 3 },
        Action::AdjustStock { item: id("new"), delta: -100 },
        Action::UpdateItem { item: id("new"), stock: Stock::Unlimited, weight: Weight(1), create: false },
        Action::RemoveItem { item: id("new"), etag: Some(Version(1)) },
        Action::RemoveItem { item: id("new"), etag: None },
        Action::PausePool,
        Action::Draw { count: 1 },
        Action::ResumePool,
        import(&[]),
    ];
    let commands: Vec<_> = actions.into_iter().map(|action| bench.command(action)).collect();
    let first: Vec<Outcome> = commands.iter().map(|command| bench.send(command.clone())).collect();
    let body = bench.machine.snapshot().encode();
    bench.machine = StateMachine::restore(&body).unwrap();
    assert!(bench.machine.key_stats().keys > 10);
    for (command, first) in commands.into_iter().zip(first) {
        let asked = bench.machine.query(&Query::Outcome(command.pool.clone(), command.key));
        let expected = Outcome { replayed: true, ..first };
        assert_eq!(asked, Answer::Outcome(Remembered::Outcome(expected.clone())));
        assert_eq!(bench.send(command), expected);
    }
}

/// At most 100 bytes a key: what is counted, and about what is used.
#[test]
fn a_single_draw_s_key_counts_for_less_than_a_hundred_bytes() {
    let count = 1_000;
    let mut bench = Bench::new(tiny(1_024 + 100 * count));
    bench.act(import(&[("gold", Stock::Unlimited, 1)])).unwrap();
    let commands: Vec<_> = (0..count).map(|_| bench.command(Action::Draw { count: 1 })).collect();
    assert!(bench.apply(commands).iter().all(|outcome| outcome.result.is_ok()));
}
