//! Both sides of a shipment against each other, over a network that loses, doubles, delays and spoils, with either side
//! losing its memory at any time. Whatever happens, once it is quiet the body arrives, whole, and raft was told once.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::{
    pool::StateMachine,
    runtime::{
        clock::Tick,
        persist::{Ticket, Tickets},
        snapshots::{
            Own, WINDOW_CHUNKS, chunk_bytes,
            message::BodyMessage,
            receiving::{ReceiveStep, Receiving},
            sending::{SendStep, Sending},
        },
    },
};

const SENDER: ReplicaId = ReplicaId(2);
const RECEIVER: ReplicaId = ReplicaId(1);
const CHUNKS: u64 = 40;
/// So slow that a shipment takes some ten seconds.
const BYTES_PER_S: u64 = 1 << 20;
/// Nothing goes wrong after this tick,
const QUIET: u64 = 1_200;
/// and everything is done by this one.
const END: u64 = QUIET + 600;

/// Something that happens at a tick to come.
enum Event {
    ToSender(BodyMessage),
    ToReceiver(BodyMessage),
    Read(ShipmentId, u32),
    Begin(u64, Ticket),
    Stage(u64, Ticket, u32, Bytes),
    Check(u64, Ticket),
}

struct World {
    random: u64,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    queued: u64,
    sending: Sending,
    receiving: Receiving,
    tickets: Tickets,
    /// What is staged at the receiver, durable.
    staged: Vec<Bytes>,
    /// The receiver's incarnation: what an earlier one had under way comes to nothing.
    incarnation: u64,
    /// Shipments begun, and reports made, since the sender started last.
    started: usize,
    reported: usize,
    installed: bool,
    crashes: usize,
}

/// The chunk of this number.
fn chunk(number: u32) -> Bytes {
    vec![number as u8; chunk_bytes(&meta(CHUNKS), number)].into()
}

impl World {
    fn new(seed: u64) -> Self {
        let tickets = Tickets::default();
        Self {
            random: seed,
            now: 0,
            events: BTreeMap::new(),
            queued: 0,
            sending: Sending::new(seed, BYTES_PER_S, TIMES),
            receiving: Receiving::new(tickets.clone(), TIMES),
            tickets,
            staged: Vec::new(),
            incarnation: 0,
            started: 0,
            reported: 0,
            installed: false,
            crashes: 0,
        }
    }

    /// A number below `below`: SplitMix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    /// Does it happen, that happens so many times in a hundred while it is not quiet?
    fn goes_wrong(&mut self, in_a_hundred: u64) -> bool {
        self.now < QUIET && self.draw(100) < in_a_hundred
    }

    fn later(&mut self, event: Event) {
        let at = self.now + self.draw(4);
        self.queued += 1;
        self.events.insert((at, self.queued), event);
    }

    fn send(&mut self, message: BodyMessage, event: fn(BodyMessage) -> Event) {
        let copies = if self.goes_wrong(15) { 0 } else { 1 + usize::from(self.goes_wrong(10)) };
        for _ in 0..copies {
            let mut message = message.clone();
            if let BodyMessage::Chunk { crc, .. } = &mut message
                && self.goes_wrong(5)
            {
                *crc ^= 1;
            }
            self.later(event(message));
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        if self.goes_wrong(1) && self.draw(4) == 0 {
            self.crash();
        }
        if self.started == self.reported && !self.installed {
            let message = announce(SENDER, RECEIVER, meta(CHUNKS));
            self.sending.start(RECEIVER, message, meta(CHUNKS), Tick(self.now));
            self.started += 1;
        }
        self.sending.handle_tick(Tick(self.now));
        self.receiving.handle_tick(Tick(self.now));
        self.go_on();
        while let Some(event) = self.events.first_entry().filter(|event| event.key().0 <= self.now) {
            let event = event.remove();
            self.happen(event);
            self.go_on();
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        if self.draw(2) == 0 {
            self.sending = Sending::new(self.draw(u64::MAX), BYTES_PER_S, TIMES);
            (self.started, self.reported) = (0, 0);
        } else {
            self.tickets = Tickets::default();
            self.receiving = Receiving::new(self.tickets.clone(), TIMES);
            self.incarnation += 1;
        }
    }

    fn happen(&mut self, event: Event) {
        let (now, current) = (Tick(self.now), self.incarnation);
        match event {
            Event::ToSender(BodyMessage::Want { shipment, chunks }) => {
                assert!(chunks.len() <= WINDOW_CHUNKS);
                self.sending.handle_want(RECEIVER, shipment, &chunks, now);
            }
            Event::ToSender(BodyMessage::Ended { shipment, arrived }) => {
                self.sending.handle_ended(RECEIVER, shipment, arrived);
            }
            Event::ToReceiver(BodyMessage::Offer { shipment, message }) => {
                let (founders, applied) = (founders(), Index(if self.installed { 90 } else { 7 }));
                let own = Own { me: RECEIVER, term: Term(5), leader: Some(SENDER), applied, founders: &founders };
                self.receiving.handle_offer(SENDER, shipment, message, own, now);
            }
            Event::ToReceiver(BodyMessage::Chunk { shipment, number, crc, bytes }) => {
                self.receiving.handle_chunk(SENDER, shipment, number, crc, bytes, now);
            }
            Event::ToSender(other) | Event::ToReceiver(other) => panic!("{other:?} goes the other way"),
            Event::Read(shipment, number) => self.sending.handle_read(shipment, number, Some(chunk(number))),
            Event::Begin(incarnation, ticket) if incarnation == current => {
                self.receiving.handle_begun(ticket, self.staged.len() as u32, now);
            }
            Event::Stage(incarnation, ticket, number, bytes) if incarnation == current => {
                assert_eq!(number as usize, self.staged.len(), "in order, each once");
                assert_eq!(bytes, chunk(number));
                self.staged.push(bytes);
                self.receiving.handle_staged(ticket, now);
            }
            Event::Check(incarnation, ticket) if incarnation == current => {
                assert_eq!(self.staged.len() as u64, CHUNKS, "it is whole");
                let machine = StateMachine::founding(Limits::default());
                self.receiving.handle_checked(ticket, Ok(Box::new(machine)), now);
            }
            Event::Begin(..) | Event::Stage(..) | Event::Check(..) => {}
        }
    }

    fn go_on(&mut self) {
        while let Some(step) = self.sending.poll_step() {
            match step {
                SendStep::Say { message, .. } => self.send(message, Event::ToReceiver),
                SendStep::Read { shipment, number, .. } => self.later(Event::Read(shipment, number)),
            }
        }
        while let Some(report) = self.sending.poll_report() {
            assert!(!report.arrived || self.installed, "what arrived is installed");
            self.reported += 1;
        }
        while let Some(step) = self.receiving.poll_step() {
            match step {
                ReceiveStep::Say { message, .. } => self.send(message, Event::ToSender),
                ReceiveStep::Begin { ticket, .. } => self.later(Event::Begin(self.incarnation, ticket)),
                ReceiveStep::Stage { ticket, number, bytes } => {
                    self.later(Event::Stage(self.incarnation, ticket, number, bytes));
                }
                ReceiveStep::Check { ticket, .. } => self.later(Event::Check(self.incarnation, ticket)),
                ReceiveStep::Install { .. } => {
                    self.installed = true;
                    self.receiving.handle_settled(Index(90), true, Index(90));
                }
                ReceiveStep::Forget { .. } => panic!("nothing is spoiled"),
            }
        }
    }
}

#[test]
fn a_body_arrives_whatever_goes_wrong_and_raft_is_told_once() {
    let (mut crashes, mut late) = (0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed);
        while world.now < END {
            world.tick();
            assert!(world.started - world.reported <= 1, "seed {seed}: one report for each");
        }
        assert!(world.installed, "seed {seed}: it never arrived");
        assert_eq!(world.started, world.reported, "seed {seed}: raft was not told");
        assert!(world.receiving.is_idle(), "seed {seed}");
        crashes += world.crashes;
        late += usize::from(world.crashes > 0);
    }
    assert!(crashes > 90 && late > 40, "{crashes} crashes in {late} worlds: the test does not disturb enough");
}
