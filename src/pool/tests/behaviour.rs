//! What the predecessor's users relied on, and what it got wrong.

use super::*;

#[test]
fn every_unit_is_awarded_once_and_then_the_pool_is_empty() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(1), 100), ("silver", Stock::Finite(100), 10)])).unwrap();
    let drawn = steps(bench.act(Action::Draw { count: 200 }));
    let awarded = |item: &str| drawn.iter().filter(|step| step.item() == Some(&id(item))).count();
    assert_eq!((awarded("gold"), awarded("silver")), (1, 100));
    assert!(drawn[101..].iter().all(|step| *step == Step::PoolEmpty));
    bench.verify();
}

#[test]
fn the_last_unit_of_a_thousand_commands_is_awarded_once() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(1), 1)])).unwrap();
    let commands: Vec<_> = (0..1_000).map(|_| bench.command(Action::Draw { count: 1 })).collect();
    let outcomes: Vec<_> = commands.chunks(100).flat_map(|chunk| bench.apply(chunk.to_vec())).collect();
    let won: Vec<_> =
        outcomes.into_iter().filter(|outcome| steps(outcome.result.clone())[0].item().is_some()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(bench.item("gold").awarded, 1);
}

#[test]
fn an_unlimited_item_stays_unlimited_and_a_finite_one_loses_what_was_drawn() {
    let mut bench = Bench::new(Limits::default());
    let stocked = import(&[
        ("gold", Stock::Finite(50_000), 10),
        ("silver", Stock::Finite(1_000_000), 20),
        ("mud", Stock::Unlimited, 70),
    ]);
    bench.act(stocked).unwrap();
    let drawn: Vec<Step> = (0..100).flat_map(|_| steps(bench.act(Action::Draw { count: 1_000 }))).collect();
    let gold = drawn.iter().filter(|step| step.item() == Some(&id("gold"))).count() as u64;
    assert_eq!(bench.item("gold").stock, Stock::Finite(50_000 - gold));
    assert_eq!(bench.item("mud").stock, Stock::Unlimited);
    assert_eq!(bench.item("mud").added, bench.item("mud").awarded);
    bench.verify();
}

/// Theirs lost an update between reading and setting; an adjustment cannot.
#[test]
fn adjustments_and_draws_commute() {
    let mut bench = Bench::new(Limits::default());
    bench.act(import(&[("gold", Stock::Finite(100), 1)])).unwrap();
    let gold = || id("gold");
    let mut commands = Vec::new();
    for _ in 0..50 {
        commands.push(bench.command(Action::Draw { count: 1 }));
        commands.push(bench.command(Action::AdjustStock { item: gold(), delta: 2 }));
        commands.push(bench.command(Action::AdjustStock { item: gold(), delta: -1 }));
    }
    bench.apply(commands);
    let item = bench.item("gold");
    assert_eq!((item.stock, item.awarded, item.added), (Stock::Finite(100), 50, 150));
}

#[test]
fn draw_numbers_rise_without_gaps_over_draws_and_claims() {
    let mut bench = Bench::new(Limits::default());
    bench
        .act(Action::ImportCatalog { items: catalog(&[("gold", Stock::Finite(5), 1)]), draw_seq: DrawSeq(99) })
        .unwrap();
    let mut expected = 100;
    for count in [3, 1, 7] {
        let Ok(Effect::Drawn { first_seq, steps, .. }) = bench.act(Action::Draw { count }) else { panic!() };
        assert_eq!((first_seq.0, steps.len()), (expected, usize::from(count)));
        expected += u64::from(count);
        let claimed = bench.act(Action::Claim { item: id("gold"), quantity: 1 });
        assert!(matches!(claimed, Ok(Effect::Claimed { seq, .. }) if seq.0 == expected));
        expected += 1;
    }
}

#[test]
fn a_group_holds_so_many_pools_and_items_and_no_more() {
    let mut bench = Bench::new(Limits::default());
    let create = |bench: &mut Bench, number: usize, items| {
        let key = bench.key();
        let action = Action::CreatePool { policy: Policy::Miss, items, require_key: false };
        bench.send(command(&format!("p{number}"), key, action)).result
    };
    for number in 1..POOLS_MAX {
        create(&mut bench, number, Vec::new()).unwrap();
    }
    assert_eq!(create(&mut bench, POOLS_MAX, Vec::new()), Err(Refusal::PoolsFull));
    assert_eq!(create(&mut bench, 1, Vec::new()), Err(Refusal::PoolExists));
    bench.verify();
}

#[test]
fn a_pool_holds_so_many_items_removed_ones_too() {
    let mut bench = Bench::new(Limits::default());
    // As many as a command's bytes allow at a time.
    let item =
        |number: usize| CatalogItem { item: id(&format!("{number:05}")), stock: Stock::Finite(1), weight: Weight(1) };
    bench.act(Action::ImportCatalog { items: (0..30_000).map(item).collect(), draw_seq: DrawSeq(0) }).unwrap();
    for start in (30_000..ITEMS_PER_POOL_MAX).step_by(4_000) {
        let numbers = start..ITEMS_PER_POOL_MAX.min(start + 4_000);
        let set = |number| Action::SetItem {
            item: item(number).item,
            weight: Weight(1),
            stock: Stock::Finite(1),
            etag: None,
        };
        let commands = numbers.map(|number| bench.command(set(number))).collect();
        assert!(bench.apply(commands).iter().all(|outcome| outcome.result.is_ok()));
    }
    let one_more = || Action::SetItem { item: id("one more"), weight: Weight(1), stock: Stock::Unlimited, etag: None };
    assert_eq!(bench.act(one_more()), Err(Refusal::ItemsFull));
    bench.act(Action::RemoveItem { item: id("00000"), etag: None }).unwrap();
    assert_eq!(bench.act(one_more()), Err(Refusal::ItemsFull));
    bench.act(Action::Draw { count: 1_000 }).unwrap();
    bench.verify();
}

#[test]
fn a_batch_over_a_limit_does_nothing_anywhere() {
    let mut bench = Bench::new(Limits::default());
    let before = bench.machine.digests().state;
    let key = bench.key();
    let pause = || command("default", key, Action::PausePool);
    assert!(bench.apply(vec![pause(); BATCH_COMMANDS_MAX + 1]).is_empty());
    let draw = command("default", key, Action::Draw { count: 1_000 });
    assert!(bench.apply(vec![draw; 17]).is_empty());
    assert_eq!(bench.machine.digests().state, before);
    assert_eq!(bench.machine.applied(), Index(3));
}

#[test]
fn a_command_that_is_too_long_is_refused_before_and_after_proposing() {
    let mut bench = Bench::new(Limits::default());
    let item = |number| CatalogItem { item: id(&format!("{number:064}")), stock: Stock::Finite(1), weight: Weight(1) };
    let long = bench.command(Action::ImportCatalog { items: (0..12_000).map(item).collect(), draw_seq: DrawSeq(0) });
    assert!(long.check().unwrap_err().contains("split it"));
    let draw = bench.command(Action::Draw { count: 1 });
    assert_eq!(draw.check(), Ok(()));
}

#[test]
#[should_panic(expected = "one after the other")]
fn a_gap_in_the_log_stops_the_node() {
    StateMachine::founding(Limits::default()).apply(Index(3), &[]);
}

/// A handle is encoded on another thread, and the state may be moved to one.
#[test]
fn state_and_handle_can_change_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let mut machine = is_send(StateMachine::founding(Limits::default()));
    let handle = is_send(machine.snapshot());
    machine.apply(Index(2), &[]);
    assert_eq!((handle.index(), machine.applied()), (Index(1), Index(2)));
}

#[test]
fn a_pool_is_read_whole_up_to_a_bound_and_page_by_page_beyond_it() {
    let mut bench = Bench::new(Limits::default());
    let add = |bench: &mut Bench, numbers: std::ops::Range<usize>| {
        let item = |n| Action::UpdateItem {
            item: id(&format!("{n}")),
            stock: Stock::Unlimited,
            weight: Weight(1),
            create: true,
        };
        let commands: Vec<_> = numbers.map(|n| bench.command(item(n))).collect();
        commands.chunks(BATCH_COMMANDS_MAX).for_each(|chunk| _ = bench.apply(chunk.to_vec()));
    };
    add(&mut bench, 0..WHOLE_POOL_ITEMS_MAX);
    let whole = Query::Pool(PoolId::default_pool());
    assert!(matches!(bench.machine.query(&whole), Answer::Pool(pool) if pool.items.len() == WHOLE_POOL_ITEMS_MAX));
    add(&mut bench, WHOLE_POOL_ITEMS_MAX..WHOLE_POOL_ITEMS_MAX + 1);
    assert_eq!(bench.machine.query(&whole), Answer::Refused(Refusal::TooLong));
    let after = Some(id(&format!("{}", WHOLE_POOL_ITEMS_MAX - 1)));
    let page = Query::Items { pool: PoolId::default_pool(), after, limit: PAGE_LEN_MAX };
    let Answer::Items { summary, items, more } = bench.machine.query(&page) else { panic!("a page") };
    assert_eq!((summary.items as usize, items.len(), more), (WHOLE_POOL_ITEMS_MAX + 1, 1, false));
}
