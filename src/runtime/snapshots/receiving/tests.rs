use super::*;
use crate::{
    durable::CHUNK_BYTES,
    pool::Limits,
    runtime::snapshots::tests::{IDLE_TICKS, REPEAT_TICKS, SHIPMENT, TIMES, announce, founders, meta},
    types::Term,
};

const ME: ReplicaId = ReplicaId(1);
const LEADER: ReplicaId = ReplicaId(2);

fn receiving() -> Receiving {
    Receiving::new(Tickets::default(), TIMES)
}

fn offer_of(receiving: &mut Receiving, shipment: ShipmentId, meta: SnapshotMeta, now: u64) {
    let founders = founders();
    let own = Own { me: ME, term: Term(5), leader: Some(LEADER), applied: Index(7), founders: &founders };
    receiving.handle_offer(LEADER, shipment, announce(LEADER, ME, meta), own, Tick(now));
}

/// What was asked of the driver and said to the peer, in words.
fn told(receiving: &mut Receiving) -> Vec<String> {
    let word = |step| match step {
        ReceiveStep::Say { to: LEADER, message: BodyMessage::Want { shipment, chunks } } => {
            assert!(chunks.len() <= WINDOW_CHUNKS);
            format!("{} want {chunks:?}", shipment.0)
        }
        ReceiveStep::Say { to: LEADER, message: BodyMessage::Ended { shipment, arrived } } => {
            format!("{} ended {arrived}", shipment.0)
        }
        ReceiveStep::Begin { meta, .. } => format!("begin {}", meta.chunks()),
        ReceiveStep::Stage { number, bytes, .. } => format!("stage {number} of {}", bytes.len()),
        ReceiveStep::Check { .. } => "check".into(),
        ReceiveStep::Forget { index, .. } => format!("forget {index}"),
        ReceiveStep::Install { machine, .. } => format!("install {}", machine.applied()),
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| receiving.poll_step()).map(word).collect()
}

fn ticket(receiving: &Receiving) -> Ticket {
    receiving.current.as_ref().expect("one is under way").ticket
}

/// A shipment of so many chunks, of which so many are staged.
fn begun(chunks: u64, staged: u32) -> Receiving {
    let mut receiving = receiving();
    offer_of(&mut receiving, SHIPMENT, meta(chunks), 0);
    assert_eq!(told(&mut receiving), [format!("begin {chunks}")]);
    let ticket = ticket(&receiving);
    receiving.handle_begun(ticket, staged, Tick(0));
    receiving
}

fn chunk(receiving: &mut Receiving, number: u32, now: u64) {
    let last = receiving.current.as_ref().is_some_and(|current| number + 1 == current.meta.chunks());
    let bytes = Bytes::from(vec![number as u8; if last { 10 } else { CHUNK_BYTES }]);
    receiving.handle_chunk(LEADER, SHIPMENT, number, crc32fast::hash(&bytes), bytes, Tick(now));
}

fn staged(receiving: &mut Receiving, now: u64) {
    let ticket = ticket(receiving);
    receiving.handle_staged(ticket, Tick(now));
}

/// All chunks of three are staged, and the body is being looked at.
fn whole() -> Receiving {
    let mut receiving = begun(3, 3);
    assert_eq!(told(&mut receiving), ["check"]);
    receiving
}

fn machine() -> Box<StateMachine> {
    Box::new(StateMachine::founding(Limits::default()))
}

#[test]
fn chunks_are_staged_in_order_then_checked_installed_and_reported() {
    let mut receiving = begun(3, 0);
    assert_eq!(told(&mut receiving), ["70 want [0, 1, 2]"]);
    chunk(&mut receiving, 2, 1);
    chunk(&mut receiving, 1, 1);
    assert_eq!(told(&mut receiving), [""; 0], "they wait for the first");
    chunk(&mut receiving, 0, 1);
    assert_eq!(told(&mut receiving), [format!("stage 0 of {CHUNK_BYTES}")], "one at a time");
    staged(&mut receiving, 1);
    assert_eq!(told(&mut receiving), [format!("stage 1 of {CHUNK_BYTES}")]);
    staged(&mut receiving, 1);
    assert_eq!(told(&mut receiving), ["stage 2 of 10"]);
    staged(&mut receiving, 1);
    assert_eq!(told(&mut receiving), ["check"]);
    let ticket = ticket(&receiving);
    receiving.handle_checked(ticket, Ok(machine()), Tick(1));
    assert_eq!(told(&mut receiving), ["install 1"]);
    receiving.handle_settled(Index(89), true, Index(89));
    assert!(!receiving.is_idle(), "that was another one");
    receiving.handle_settled(Index(90), true, Index(90));
    assert_eq!(told(&mut receiving), ["70 ended true"]);
    assert!(receiving.is_idle());
}

#[test]
fn no_more_is_asked_for_than_a_window_ahead_of_what_is_durable() {
    let mut receiving = begun(100, 0);
    let window = WINDOW_CHUNKS as u32;
    assert_eq!(told(&mut receiving), [format!("70 want {:?}", (0..window).collect::<Vec<_>>())]);
    (0..window).for_each(|number| chunk(&mut receiving, number, 1));
    assert_eq!(told(&mut receiving).len(), 1, "nothing is durable yet");
    chunk(&mut receiving, window, 1);
    staged(&mut receiving, 1);
    assert_eq!(told(&mut receiving), [format!("stage 1 of {CHUNK_BYTES}"), format!("70 want [{window}]")]);
    let Phase::Collecting(held) = &receiving.current.as_ref().unwrap().phase else { panic!("it goes on") };
    assert_eq!(held.waiting.len(), WINDOW_CHUNKS - 2, "what was not asked for was dropped");
}

#[test]
fn what_was_staged_before_is_not_asked_for_again() {
    let mut receiving = begun(5, 3);
    assert_eq!(told(&mut receiving), ["70 want [3, 4]"]);
}

#[test]
fn what_does_not_come_is_asked_for_again() {
    let mut receiving = begun(3, 0);
    told(&mut receiving);
    chunk(&mut receiving, 1, 5);
    for tick in 1..REPEAT_TICKS {
        receiving.handle_tick(Tick(tick));
    }
    assert_eq!(told(&mut receiving), [""; 0]);
    receiving.handle_tick(Tick(REPEAT_TICKS));
    assert_eq!(told(&mut receiving), ["70 want [0, 2]"]);
    receiving.handle_tick(Tick(REPEAT_TICKS + 1));
    assert_eq!(told(&mut receiving), [""; 0]);
}

#[test]
fn a_damaged_chunk_is_as_good_as_lost() {
    let mut receiving = begun(3, 0);
    told(&mut receiving);
    let good = Bytes::from(vec![0; CHUNK_BYTES]);
    let crc = crc32fast::hash(&good);
    let mut flipped = good.to_vec();
    flipped[1_000] ^= 1;
    let short = good.slice(1..);
    for (bytes, crc) in [(flipped.into(), crc), (short.clone(), crc32fast::hash(&short)), (good.clone(), crc ^ 1)] {
        receiving.handle_chunk(LEADER, SHIPMENT, 0, crc, bytes, Tick(1));
        assert_eq!(told(&mut receiving), [""; 0]);
    }
    receiving.handle_chunk(LEADER, SHIPMENT, 0, crc, good, Tick(1));
    assert_eq!(told(&mut receiving), [format!("stage 0 of {CHUNK_BYTES}")]);
}

#[test]
fn chunks_of_others_are_dropped() {
    let mut receiving = begun(3, 0);
    told(&mut receiving);
    let bytes = Bytes::from(vec![0; CHUNK_BYTES]);
    let crc = crc32fast::hash(&bytes);
    for (from, shipment, number) in [(ReplicaId(3), SHIPMENT, 0), (LEADER, ShipmentId(69), 0), (LEADER, SHIPMENT, 3)] {
        receiving.handle_chunk(from, shipment, number, crc, bytes.clone(), Tick(1));
    }
    assert_eq!(told(&mut receiving), [""; 0]);
}

#[test]
fn whatever_takes_long_here_the_sender_hears_every_second() {
    let mut receiving = whole();
    for tick in 1..=2 * IDLE_TICKS {
        receiving.handle_tick(Tick(tick));
    }
    let said = told(&mut receiving);
    assert_eq!(said, vec!["70 want []"; (2 * IDLE_TICKS / REPEAT_TICKS) as usize]);
}

#[test]
fn a_sender_that_sends_nothing_is_given_up_and_a_slow_disk_is_not() {
    let mut receiving = begun(3, 0);
    chunk(&mut receiving, 0, 7);
    for tick in 1..7 + IDLE_TICKS {
        receiving.handle_tick(Tick(tick));
        assert!(!receiving.is_idle());
    }
    receiving.handle_tick(Tick(7 + IDLE_TICKS));
    assert!(receiving.is_idle());
    assert_eq!(told(&mut receiving).last().unwrap(), "70 ended false");

    let mut receiving = begun(3, 0);
    (0..3).for_each(|number| chunk(&mut receiving, number, 0));
    (1..=9 * IDLE_TICKS).for_each(|tick| receiving.handle_tick(Tick(tick)));
    assert!(!receiving.is_idle());
}

#[test]
fn an_offer_said_again_is_answered_with_all_that_is_missing() {
    let mut receiving = begun(3, 0);
    chunk(&mut receiving, 1, 1);
    told(&mut receiving);
    offer_of(&mut receiving, SHIPMENT, meta(3), 2);
    assert_eq!(told(&mut receiving), ["70 want [0, 2]"]);
}

#[test]
fn another_shipment_of_the_same_snapshot_goes_on_where_it_was() {
    let mut receiving = begun(3, 0);
    chunk(&mut receiving, 0, 1);
    staged(&mut receiving, 1);
    told(&mut receiving);
    offer_of(&mut receiving, ShipmentId(90), meta(3), 2);
    assert_eq!(told(&mut receiving), ["90 want [1, 2]"]);
    chunk(&mut receiving, 1, 2);
    assert_eq!(told(&mut receiving), [""; 0], "the older shipment is over");
}

#[test]
fn a_newer_offer_takes_the_place_of_an_older_one_and_its_results_come_to_nothing() {
    let mut receiving = begun(3, 0);
    told(&mut receiving);
    let old = ticket(&receiving);
    offer_of(&mut receiving, ShipmentId(71), meta(4), 2);
    assert_eq!(told(&mut receiving), ["begin 4"]);
    assert!(ticket(&receiving) > old);
    receiving.handle_begun(old, 3, Tick(2));
    receiving.handle_staged(old, Tick(2));
    receiving.handle_checked(old, Ok(machine()), Tick(2));
    assert_eq!(told(&mut receiving), [""; 0]);
}

#[test]
fn a_late_offer_of_an_older_snapshot_takes_nobody_s_place_within_a_term() {
    let older = || SnapshotMeta { index: Index(89), ..meta(4) };
    let mut receiving = whole();
    let current = ticket(&receiving);
    offer_of(&mut receiving, ShipmentId(69), older(), 2);
    assert_eq!((told(&mut receiving), ticket(&receiving)), (vec![], current));
    let founders = founders();
    let own = Own { me: ME, term: Term(6), leader: None, applied: Index(7), founders: &founders };
    let later = RaftMessage { term: Term(6), ..announce(ReplicaId(3), ME, older()) };
    receiving.handle_offer(ReplicaId(3), ShipmentId(5), later, own, Tick(2));
    assert_eq!(told(&mut receiving), ["begin 4"], "a later leader has no newer one");
}

#[test]
fn an_offer_of_an_earlier_term_takes_nobody_s_place() {
    let mut receiving = receiving();
    let founders = founders();
    let own = Own { me: ME, term: Term(5), leader: None, applied: Index(7), founders: &founders };
    let later = RaftMessage { term: Term(6), ..announce(LEADER, ME, meta(3)) };
    receiving.handle_offer(LEADER, SHIPMENT, later, own, Tick(0));
    told(&mut receiving);
    let earlier = announce(ReplicaId(3), ME, meta(4));
    receiving.handle_offer(ReplicaId(3), SHIPMENT, earlier, own, Tick(0));
    assert_eq!(told(&mut receiving), [""; 0]);
}

#[test]
fn what_is_applied_already_needs_nothing() {
    let mut receiving = receiving();
    let founders = founders();
    let own = Own { me: ME, term: Term(5), leader: Some(LEADER), applied: Index(90), founders: &founders };
    receiving.handle_offer(LEADER, SHIPMENT, announce(LEADER, ME, meta(3)), own, Tick(0));
    assert_eq!(told(&mut receiving), ["70 ended true"]);
    assert!(receiving.is_idle());
}

#[test]
fn a_spoiled_body_is_refused_forgotten_and_not_asked_for_again_for_a_while() {
    let mut receiving = whole();
    let ticket = ticket(&receiving);
    receiving.handle_checked(ticket, Err(Spoiled("another hash".into())), Tick(1));
    assert_eq!(told(&mut receiving), ["forget 90", "70 ended false"]);
    let rest = TIMES.ticks(SPOILED_REST);
    offer_of(&mut receiving, ShipmentId(71), meta(3), rest);
    assert_eq!(told(&mut receiving), ["71 ended false"]);
    offer_of(&mut receiving, ShipmentId(72), meta(4), rest);
    assert_eq!(told(&mut receiving), ["begin 4"], "another is not its fault");
    offer_of(&mut receiving, ShipmentId(73), meta(3), rest + 1);
    assert_eq!(told(&mut receiving), ["begin 3"]);
}

#[test]
fn what_raft_has_no_use_for_is_kept_while_we_are_behind_it_and_forgotten_otherwise() {
    for (applied, said) in [(89, vec!["70 ended false"]), (90, vec!["forget 90", "70 ended false"])] {
        let mut receiving = whole();
        let ticket = ticket(&receiving);
        receiving.handle_checked(ticket, Ok(machine()), Tick(1));
        told(&mut receiving);
        offer_of(&mut receiving, ShipmentId(71), meta(4), 2);
        assert_eq!(told(&mut receiving), [""; 0], "raft needs what is staged");
        receiving.handle_settled(Index(90), false, Index(applied));
        assert_eq!(told(&mut receiving), said);
    }
}
