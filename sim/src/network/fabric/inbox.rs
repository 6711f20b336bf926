//! What has arrived and was not taken yet: of a node's life, and of a client.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tombola::{
    transport::{Event, Lane},
    types::ReplicaId,
};

use super::{Fabric, Wake};
use crate::network::kind::Party;

/// A node's life, until it is fenced.
pub(super) struct Life {
    /// Its number.
    pub(super) incarnation: u64,
    /// What it says of itself, once it does, for as long as it has a transport.
    pub(super) hello: Option<Bytes>,
    /// Events by lane, not taken yet.
    queues: [VecDeque<Delivery>; Lane::ALL.len()],
    /// The connections that the node knows of: those that it was told of, and not the end of, and has not refused.
    told: BTreeMap<ReplicaId, u64>,
    requests: VecDeque<Letter>,
    wake_link: Wake,
    wake_door: Wake,
}

/// An event for a node.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) peer: ReplicaId,
    /// Which connection it is of.
    pub(super) session: u64,
    pub(super) news: News,
}

/// What happened.
#[derive(Debug)]
pub(super) enum News {
    Met { hello: Bytes },
    Frame { payload: Bytes, room: Option<Room> },
    Refused { reason: String },
    Ended,
}

/// What a message takes up of a way's queue until it is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) session: u64,
    pub(super) lane: Lane,
    pub(super) bytes: usize,
}

/// A request or an answer.
#[derive(Debug)]
pub(super) struct Letter {
    /// The client, or the node, that it is from.
    pub(super) peer: u64,
    pub(super) bytes: Bytes,
    pub(super) room: Option<Room>,
}

/// What a client has not taken yet.
pub(super) struct Mailbox {
    answers: VecDeque<Letter>,
    wake: Wake,
}

/// What somebody who waits gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// This.
    Some(T),
    /// Nothing yet.
    Nothing,
    /// Nothing any more: this life is over.
    Over,
}

impl Life {
    pub(super) fn new(incarnation: u64, wake_link: Wake, wake_door: Wake) -> Self {
        let (queues, told, requests) = Default::default();
        Self { incarnation, hello: None, queues, told, requests, wake_link, wake_door }
    }

    pub(super) fn push(&mut self, lane: Lane, delivery: Delivery) {
        self.queues[lane as usize].push_back(delivery);
        (self.wake_link)();
    }

    pub(super) fn push_request(&mut self, request: Letter) {
        self.requests.push_back(request);
        (self.wake_door)();
    }

    /// It is over: nobody is to wait any more.
    pub(super) fn end(self) {
        (self.wake_door)();
    }

    /// Its transport is gone.
    pub(super) fn unlink(&mut self) {
        self.hello = None;
        (self.queues, self.told) = Default::default();
    }

    /// It refuses a peer: nothing more is told of the connection. Gives the connection, if it knew of one.
    pub(super) fn refuse(&mut self, peer: ReplicaId) -> Option<u64> {
        self.told.remove(&peer)
    }

    /// The next delivery, what is urgent first.
    fn next(&mut self) -> Option<Delivery> {
        self.queues.iter_mut().find_map(VecDeque::pop_front)
    }

    /// What the node is told, if anything: the end of a connection overtakes frames of its less urgent lanes, and a refusal
    /// by the node all that waits.
    fn event(&mut self, Delivery { peer, session, news }: Delivery) -> Option<Event> {
        let is_told = self.told.get(&peer) == Some(&session);
        match news {
            News::Met { hello } => {
                self.told.insert(peer, session);
                Some(Event::Met { peer, hello })
            }
            News::Frame { payload, .. } => is_told.then_some(Event::Frame { from: peer, frame: payload }),
            News::Refused { reason } => Some(Event::Refused { peer, reason }),
            News::Ended => is_told.then(|| {
                self.told.remove(&peer);
                Event::Unreachable { peer }
            }),
        }
    }
}

impl Mailbox {
    pub(super) fn push(&mut self, answer: Letter) {
        self.answers.push_back(answer);
        (self.wake)();
    }
}

impl Fabric {
    /// The life, if it is the present one.
    pub(super) fn life(&mut self, node: ReplicaId, incarnation: u64) -> Option<&mut Life> {
        self.lives.get_mut(&node).filter(|life| life.incarnation == incarnation)
    }

    /// Takes the next event of a node's life.
    pub fn take_event(&mut self, node: ReplicaId, incarnation: u64) -> Taken<Event> {
        loop {
            let Some(life) = self.life(node, incarnation) else { return Taken::Over };
            let Some(delivery) = life.next() else { return Taken::Nothing };
            let (peer, room) = match &delivery.news {
                News::Frame { room, .. } => (delivery.peer, *room),
                _ => (delivery.peer, None),
            };
            let event = life.event(delivery);
            self.release(Party::Node(peer), Party::Node(node), room);
            if let Some(event) = event {
                return Taken::Some(event);
            }
        }
    }

    /// Takes the next request at a node's door, and the client that it is from.
    pub fn take_request(&mut self, node: ReplicaId, incarnation: u64) -> Taken<(u64, Bytes)> {
        let Some(life) = self.life(node, incarnation) else { return Taken::Over };
        let Some(Letter { peer, bytes, room }) = life.requests.pop_front() else { return Taken::Nothing };
        self.release(Party::Client(peer), Party::Node(node), room);
        Taken::Some((peer, bytes))
    }

    /// A client is there.
    ///
    /// # Panics
    /// If it already is.
    pub fn join_client(&mut self, client: u64, wake: Wake) {
        let before = self.clients.insert(client, Mailbox { answers: VecDeque::new(), wake });
        assert!(before.is_none(), "client {client} is there twice");
    }

    /// It is not there any more.
    pub fn leave_client(&mut self, client: u64) {
        while self.take_answer(client).is_some() {}
        self.clients.remove(&client);
    }

    /// Takes the next answer to a client, and the node that it is from.
    pub fn take_answer(&mut self, client: u64) -> Option<(ReplicaId, Bytes)> {
        let Letter { peer, bytes, room } = self.clients.get_mut(&client)?.answers.pop_front()?;
        let node = ReplicaId(peer);
        self.release(Party::Node(node), Party::Client(client), room);
        Some((node, bytes))
    }
}
