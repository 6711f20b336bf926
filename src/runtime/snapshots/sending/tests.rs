use super::*;
use crate::{
    durable::CHUNK_BYTES,
    runtime::snapshots::{
        SNAPSHOT_BYTES_PER_S,
        tests::{IDLE_TICKS, REPEAT_TICKS, SHIPMENT, TIMES, announce, meta},
    },
};

const ME: ReplicaId = ReplicaId(1);
const PEER: ReplicaId = ReplicaId(2);
const FAILED: Report = Report { to: PEER, arrived: false };

/// A shipment of so many chunks, offered at tick 0.
fn offered(chunks: u64, bytes_per_s: u64) -> Sending {
    let mut sending = Sending::new(SHIPMENT.0, bytes_per_s, TIMES);
    sending.start(PEER, announce(ME, PEER, meta(chunks)), meta(chunks), Tick(0));
    let offer = BodyMessage::Offer { shipment: SHIPMENT, message: announce(ME, PEER, meta(chunks)) };
    assert_eq!(steps(&mut sending), [SendStep::Say { to: PEER, message: offer }]);
    sending
}

fn steps(sending: &mut Sending) -> Vec<SendStep> {
    std::iter::from_fn(|| sending.poll_step()).collect()
}

/// The chunks that are to be read.
fn reads(sending: &mut Sending) -> Vec<u32> {
    let read = |step| match step {
        SendStep::Read { shipment: SHIPMENT, snapshot: Index(90), number } => Some(number),
        _ => None,
    };
    steps(sending).into_iter().filter_map(read).collect()
}

fn reports(sending: &mut Sending) -> Vec<Report> {
    std::iter::from_fn(|| sending.poll_report()).collect()
}

fn want(sending: &mut Sending, chunks: &[u32], now: u64) {
    sending.handle_want(PEER, SHIPMENT, chunks, Tick(now));
}

#[test]
fn what_is_wanted_is_read_in_order_and_sent_with_its_checksum() {
    let mut sending = offered(5, SNAPSHOT_BYTES_PER_S);
    want(&mut sending, &[4, 1, 2], 1);
    assert_eq!(reads(&mut sending), [1, 2], "two at a time");
    sending.handle_read(SHIPMENT, 1, Some(Bytes::from_static(b"123456789")));
    let (number, crc, bytes) = (1, 0xcbf4_3926, Bytes::from_static(b"123456789"));
    let message = BodyMessage::Chunk { shipment: SHIPMENT, number, crc, bytes };
    let read = SendStep::Read { shipment: SHIPMENT, snapshot: Index(90), number: 4 };
    assert_eq!(steps(&mut sending), [SendStep::Say { to: PEER, message }, read]);
}

#[test]
fn what_is_wanted_twice_before_it_is_sent_is_sent_once() {
    let mut sending = offered(9, SNAPSHOT_BYTES_PER_S);
    (0..3).for_each(|_| want(&mut sending, &[0, 1, 2], 1));
    assert_eq!(reads(&mut sending), [0, 1]);
    for number in [0, 1, 2] {
        sending.handle_read(SHIPMENT, number, Some(Bytes::new()));
    }
    assert_eq!(reads(&mut sending), [2]);
}

#[test]
fn the_rate_is_kept_whatever_the_peer_wants() {
    let rate = 8 << 20;
    let mut sending = offered(1_000, rate);
    let mut sent = 0;
    for tick in 0..100 {
        sending.handle_tick(Tick(tick));
        want(&mut sending, &(sent..sent + WINDOW_CHUNKS as u32).collect::<Vec<_>>(), tick);
        loop {
            let reads = reads(&mut sending);
            if reads.is_empty() {
                break;
            }
            for number in reads {
                sent += 1;
                sending.handle_read(SHIPMENT, number, Some(Bytes::new()));
            }
        }
    }
    let (bytes, due) = (u64::from(sent) * CHUNK_BYTES as u64, 5 * rate);
    assert!((due * 9 / 10..due * 11 / 10).contains(&bytes), "{bytes} in five seconds");
}

#[test]
fn what_nobody_can_want_is_ignored() {
    let mut sending = offered(3, SNAPSHOT_BYTES_PER_S);
    want(&mut sending, &[3, 4, u32::MAX], 1);
    sending.handle_want(ReplicaId(3), SHIPMENT, &[0], Tick(1));
    sending.handle_want(PEER, ShipmentId(SHIPMENT.0 - 1), &[0], Tick(1));
    sending.handle_ended(PEER, ShipmentId(SHIPMENT.0 - 1), true);
    sending.handle_ended(ReplicaId(3), SHIPMENT, true);
    sending.handle_read(ShipmentId(1), 0, None);
    assert_eq!((reads(&mut sending), reports(&mut sending)), (vec![], vec![]));
    let all: Vec<u32> = (0..100_000).map(|number| number % 3).collect();
    want(&mut sending, &all, 1);
    assert!(sending.current.as_ref().is_some_and(|current| current.wanted.len() <= WINDOW_CHUNKS));
}

#[test]
fn line_42_raft_is_told_exactly_once() {
    for arrived in [true, false] {
        let mut sending = offered(3, SNAPSHOT_BYTES_PER_S);
        assert_eq!(reports(&mut sending), []);
        sending.handle_ended(PEER, SHIPMENT, arrived);
        sending.handle_ended(PEER, SHIPMENT, !arrived);
        sending.handle_tick(Tick(1_000_000));
        assert_eq!(reports(&mut sending), [Report { to: PEER, arrived }]);
    }
}

#[test]
fn line_42_a_side_that_is_lost_reports_by_being_dropped() {
    let mut sending = offered(3, SNAPSHOT_BYTES_PER_S);
    sending.current = None;
    assert_eq!(reports(&mut sending), [FAILED]);
}

#[test]
fn a_chunk_that_is_gone_ends_it() {
    let mut sending = offered(3, SNAPSHOT_BYTES_PER_S);
    want(&mut sending, &[0], 1);
    sending.handle_read(SHIPMENT, 0, None);
    assert_eq!(reports(&mut sending), [FAILED]);
}

#[test]
fn a_newer_one_ends_it_and_late_words_about_the_older_change_nothing() {
    let mut sending = offered(3, SNAPSHOT_BYTES_PER_S);
    let other = ReplicaId(3);
    sending.start(other, announce(ME, other, meta(4)), meta(4), Tick(5));
    assert_eq!(reports(&mut sending), [FAILED]);
    sending.handle_ended(PEER, SHIPMENT, true);
    sending.handle_read(SHIPMENT, 0, None);
    assert_eq!(reports(&mut sending), []);
    sending.handle_ended(other, ShipmentId(SHIPMENT.0 + 1), true);
    assert_eq!(reports(&mut sending), [Report { to: other, arrived: true }]);
}

#[test]
fn the_offer_is_said_again_while_the_peer_is_silent_and_then_no_more() {
    let mut sending = offered(3, SNAPSHOT_BYTES_PER_S);
    let mut offers = Vec::new();
    for tick in 1..=2 * IDLE_TICKS {
        if tick == REPEAT_TICKS + 5 {
            want(&mut sending, &[], tick);
        }
        sending.handle_tick(Tick(tick));
        offers.extend(steps(&mut sending).iter().map(|_| tick));
    }
    let repeat = |number| 2 * REPEAT_TICKS + 5 + number * REPEAT_TICKS;
    let expected: Vec<_> = [REPEAT_TICKS].into_iter().chain((0..9).map(repeat)).collect();
    assert_eq!(offers, expected, "it is given up {IDLE_TICKS} ticks after the last word");
    assert_eq!(reports(&mut sending), [FAILED]);
}

/// How long a body of 66 chunks may make no progress: a little more than 16 MiB at 4 MiB a second, and 30 seconds.
const STALL_TICKS: u64 = (4 + 30) * 20;

#[test]
fn line_42_a_peer_that_makes_no_progress_is_given_up_however_much_it_says() {
    for chunks in [vec![], vec![0, 1, 2]] {
        let mut sending = offered(66, SNAPSHOT_BYTES_PER_S);
        want(&mut sending, &chunks, 0);
        for tick in 1..=STALL_TICKS {
            assert_eq!(reports(&mut sending), []);
            want(&mut sending, &chunks, tick);
            sending.handle_tick(Tick(tick));
        }
        assert_eq!(reports(&mut sending), [FAILED]);
    }
}

#[test]
fn however_slow_a_peer_is_it_is_not_given_up_while_it_makes_progress() {
    let mut sending = offered(66, SNAPSHOT_BYTES_PER_S);
    let until = 66 * (STALL_TICKS - 1);
    for tick in 0..until {
        want(&mut sending, &[(tick / (STALL_TICKS - 1)) as u32], tick);
        sending.handle_tick(Tick(tick));
        assert_eq!(reports(&mut sending), [], "tick {tick} of {until}");
    }
}
