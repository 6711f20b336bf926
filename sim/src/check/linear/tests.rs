//! Histories that are linearizable, histories that are not, and a search through every order as a check of the sweep.

use tombola::pool::Refusal;

use super::*;
use crate::check::made_up::{again, decision, draw, drawn, outcome, refused};

fn rank(index: u64, is_read: bool) -> Rank {
    Rank { index: Index(index), is_read }
}

fn write(invoked: u64, returned: u64, index: u64) -> Operation {
    Operation { invoked: Moment(invoked), returned: Moment(returned), rank: rank(index, false) }
}

fn read(invoked: u64, returned: u64, index: u64) -> Operation {
    Operation { invoked: Moment(invoked), returned: Moment(returned), rank: rank(index, true) }
}

#[test]
fn one_after_the_other_is_well() {
    sweep(&[write(1, 2, 2), read(3, 4, 2), write(5, 6, 3), read(7, 8, 5)]).unwrap();
}

#[test]
fn what_overlaps_may_stand_in_any_order() {
    sweep(&[write(1, 9, 3), write(2, 8, 2), read(3, 7, 1), read(4, 6, 4)]).unwrap();
    // Writes of one batch stand together.
    sweep(&[write(1, 3, 2), write(2, 4, 2), read(5, 6, 2), read(7, 8, 2)]).unwrap();
}

#[test]
fn a_read_that_misses_what_had_returned_is_refused() {
    refused(sweep(&[write(1, 2, 5), read(3, 4, 4)]), "linear", "a read served at 4");
}

#[test]
fn reads_do_not_go_back_in_time() {
    refused(sweep(&[read(1, 2, 5), read(3, 4, 4)]), "linear", "a read served at 4");
}

#[test]
fn a_write_stands_after_what_had_returned() {
    refused(sweep(&[write(1, 2, 5), write(3, 4, 4)]), "linear", "a request decided at 4");
    refused(sweep(&[write(1, 2, 5), write(3, 4, 5)]), "linear", "a request decided at 5");
    refused(sweep(&[read(1, 2, 5), write(3, 4, 5)]), "linear", "a request decided at 5");
}

#[test]
fn the_one_that_returned_first_may_not_have_been_asked_first() {
    let long = write(1, 20, 9);
    refused(sweep(&[long.clone(), write(2, 3, 7), read(4, 5, 6)]), "linear", "a read served at 6");
    sweep(&[long, write(2, 3, 7), read(4, 5, 8)]).unwrap();
}

/// A late copy of a forwarded request, behind something that made room.
#[test]
fn a_copy_that_found_no_room_and_one_that_did_may_share_an_entry() {
    let full = Outcome { result: Err(Refusal::KeyTableFull), ..drawn(5, 1, "gold") };
    let mut check = LinearCheck::default();
    check.decide(&decision(&draw(1), &full));
    check.decide(&decision(&draw(1), &drawn(5, 1, "gold")));
    check.sent(&draw(1), Moment(1), Some((Moment(2), drawn(5, 1, "gold"))));
    check.sent(&draw(1), Moment(1), Some((Moment(3), full)));
    check.finish().unwrap();
}

fn check() -> LinearCheck {
    let mut check = LinearCheck::default();
    check.decide(&decision(&draw(1), &drawn(5, 1, "gold")));
    check
}

fn at(moment: u64, outcome: Outcome) -> Option<(Moment, Outcome)> {
    Some((Moment(moment), outcome))
}

#[test]
fn answers_of_the_model_are_well() {
    let mut check = check();
    check.sent(&draw(1), Moment(1), None);
    check.sent(&draw(1), Moment(2), at(4, again(&drawn(5, 1, "gold"))));
    check.finish().unwrap();
}

#[test]
fn an_answer_that_is_not_the_model_s_is_refused() {
    for wrong in [drawn(5, 1, "silver"), drawn(4, 1, "gold"), outcome(5, Err(Refusal::PoolPaused))] {
        let mut check = check();
        check.sent(&draw(1), Moment(1), at(2, wrong));
        refused(check.finish(), "linear", "the model says");
    }
    let mut other = check();
    other.sent(&draw(2), Moment(1), at(2, drawn(5, 1, "gold")));
    refused(other.finish(), "linear", "the model says None");
}

/// The request is decided once: a retry that comes late makes it no later.
#[test]
fn a_retry_belongs_to_the_request_that_it_repeats() {
    let mut check = check();
    check.decide(&decision(&draw(2), &drawn(9, 2, "gold")));
    check.sent(&draw(1), Moment(1), at(2, drawn(5, 1, "gold")));
    check.sent(&draw(2), Moment(3), at(4, drawn(9, 2, "gold")));
    check.sent(&draw(1), Moment(5), at(6, again(&drawn(5, 1, "gold"))));
    check.finish().unwrap();
    let mut early = self::check();
    early.decide(&decision(&draw(2), &drawn(4, 2, "gold")));
    early.sent(&draw(1), Moment(1), at(2, drawn(5, 1, "gold")));
    early.sent(&draw(1), Moment(5), at(6, again(&drawn(5, 1, "gold"))));
    early.sent(&draw(2), Moment(3), at(4, drawn(4, 2, "gold")));
    refused(early.finish(), "linear", "a request decided at 4");
}

/// Refusals that are not kept stand where they were decided.
#[test]
fn a_refusal_for_its_key_alone_is_of_its_own_time() {
    let refusal = |index| outcome(index, Err(Refusal::KeyTableFull));
    let decided = |first: u64| {
        let mut check = check();
        check.decide(&decision(&draw(2), &refusal(first)));
        check.decide(&decision(&draw(2), &refusal(7)));
        check.sent(&draw(1), Moment(1), at(2, drawn(5, 1, "gold")));
        check.sent(&draw(2), Moment(3), at(4, refusal(first)));
        check.sent(&draw(2), Moment(5), at(6, refusal(7)));
        check.finish()
    };
    decided(6).unwrap();
    refused(decided(4), "linear", "a request decided at 4");
}

#[test]
fn a_read_shows_what_the_model_shows() {
    let (shown, now) = (Answer::Pools { pools: Vec::new(), more: false }, Millis(7));
    let read = |answer: &Answer, now| Read { index: Index(5), now, answer: answer.clone() };
    let span = Some((Moment(1), Moment(2)));
    check().read(CallId(1), &read(&shown, now), (&shown, now), span).unwrap();
    let refusal = Answer::Refused(Refusal::PoolNotFound);
    let other = check().read(CallId(1), &read(&refusal, now), (&shown, now), span);
    refused(other, "linear", "read 1 shows");
    let other_time = check().read(CallId(1), &read(&shown, Millis(8)), (&shown, now), None);
    refused(other_time, "linear", "read 1 shows");
}

#[test]
fn a_stale_read_has_no_place_in_time() {
    let shown = Answer::Pools { pools: Vec::new(), more: false };
    let read = Read { index: Index(1), now: Millis(0), answer: shown.clone() };
    for (span, is_well) in [(None, true), (Some((Moment(3), Moment(4))), false)] {
        let mut check = check();
        check.sent(&draw(1), Moment(1), at(2, drawn(5, 1, "gold")));
        check.read(CallId(1), &read, (&shown, Millis(0)), span).unwrap();
        assert_eq!(check.finish().is_ok(), is_well);
    }
}

/// Is there an order in which each write is the next of its index, each read shows all writes before it and no other, and
/// none stands before one that had returned before it was asked? Tries them all.
fn search(operations: &[Operation], left: &mut Vec<usize>, written: u64) -> bool {
    if left.is_empty() {
        return true;
    }
    for at in 0..left.len() {
        let next = left[at];
        let Operation { invoked, rank, .. } = operations[next];
        let is_free = left.iter().all(|&other| operations[other].returned >= invoked);
        let fits = if rank.is_read { rank.index.0 == written } else { rank.index.0 == written + 1 };
        if is_free && fits {
            left.remove(at);
            let found = search(operations, left, written + u64::from(!rank.is_read));
            left.insert(at, next);
            if found {
                return true;
            }
        }
    }
    false
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % below
}

/// Up to six operations; the writes have the indexes 1 to their number, in any order.
fn any_history(state: &mut u64) -> Vec<Operation> {
    let (writes, reads) = (random(state, 4), random(state, 4));
    let span = 3 + random(state, 12);
    let mut indexes: Vec<u64> = (1..=writes).collect();
    for at in (1..indexes.len()).rev() {
        indexes.swap(at, random(state, at as u64 + 1) as usize);
    }
    let spans = |state: &mut u64| {
        let invoked = random(state, span);
        (invoked, invoked + 1 + random(state, span))
    };
    let mut operations = Vec::new();
    for index in indexes {
        let (invoked, returned) = spans(state);
        operations.push(write(invoked, returned, index));
    }
    for _ in 0..reads {
        let (invoked, returned) = spans(state);
        operations.push(read(invoked, returned, random(state, writes + 1)));
    }
    operations
}

#[test]
fn the_sweep_says_what_a_search_through_every_order_says() {
    let mut state = 1;
    let (mut well, mut ill) = (0, 0);
    for _ in 0..30_000 {
        let operations = any_history(&mut state);
        let found = search(&operations, &mut (0..operations.len()).collect(), 0);
        assert_eq!(sweep(&operations).is_ok(), found, "{operations:?}");
        *(if found { &mut well } else { &mut ill }) += 1;
    }
    assert!(well > 5_000 && ill > 5_000, "{well} linearizable, {ill} not");
}
