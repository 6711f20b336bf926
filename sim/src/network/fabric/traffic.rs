//! A message from its sending to its arrival.

use bytes::Bytes;
use tombola::{
    transport::{Dropped, Lane},
    types::ReplicaId,
};

use super::{
    Due, Fabric, Message,
    connection::Pair,
    inbox::{Delivery, Letter, News, Room},
};
use crate::network::{
    fate::{Fate, Name},
    kind::{Kind, Party},
    wire::Wire,
};

/// Messages that a healed link holds, at least: as production's.
const HEALED_QUEUE_MAX: usize = 1024;

/// The lane of what clients say and hear.
const CLIENT_LANE: Lane = Lane::Log;

impl Fabric {
    /// A node's life sends a frame to a peer: production's [`tombola::transport::Transport::send`].
    pub fn send(
        &mut self,
        node: ReplicaId,
        incarnation: u64,
        to: ReplicaId,
        lane: Lane,
        kind: Kind,
        frame: Bytes,
    ) -> Result<(), Dropped> {
        self.life(node, incarnation).ok_or(Dropped)?;
        let connection = self.connections.get(&Pair::of(node, to)).ok_or(Dropped)?;
        let session = connection.session_of(node < to).ok_or(Dropped)?;
        let is_half_open = !connection.is_live();
        let wire = Wire::seal(lane, frame).map_err(|_too_long| Dropped)?;
        self.post(Party::Node(node), Party::Node(to), lane, kind, session, wire, is_half_open)
    }

    /// A client sends a request to a node. It hears of nothing but an answer.
    pub fn request(&mut self, client: u64, to: ReplicaId, request: Bytes) {
        let Some(life) = self.lives.get(&to) else { return };
        let (session, wire) = (life.incarnation, Wire::plain(request));
        self.way(Party::Client(client), Party::Node(to)).ensure(session);
        // Who hears nothing tries again.
        let _ = self.post(Party::Client(client), Party::Node(to), CLIENT_LANE, Kind::Request, session, wire, false);
    }

    /// A node's life answers a client.
    pub fn answer(&mut self, node: ReplicaId, incarnation: u64, client: u64, answer: Bytes) {
        if self.life(node, incarnation).is_none() {
            return;
        }
        let wire = Wire::plain(answer);
        self.way(Party::Node(node), Party::Client(client)).ensure(incarnation);
        let _ =
            self.post(Party::Node(node), Party::Client(client), CLIENT_LANE, Kind::Answer, incarnation, wire, false);
    }

    /// Puts a message on its way, or leaves it to its fate.
    #[expect(clippy::too_many_arguments, reason = "the parts of a message, and whether anybody listens")]
    fn post(
        &mut self,
        from: Party,
        to: Party,
        lane: Lane,
        kind: Kind,
        session: u64,
        wire: Wire,
        is_half_open: bool,
    ) -> Result<(), Dropped> {
        let is_healed = self.healed.covers(from, to);
        let queue_max = self.options.queue_max.max(if is_healed { HEALED_QUEUE_MAX } else { 1 });
        let way = self.way(from, to);
        let has_room = way.has_room(lane, wire.bytes(), queue_max);
        let name = Name { from, to, kind, number: way.next_number(kind) };
        let is_cut = way.is_cut();
        if !has_room {
            self.fault("dropped_full", name);
            return Err(Dropped);
        }
        if is_half_open {
            self.fault("half_open", name);
        } else if is_cut {
            self.fault("cut", name);
        } else {
            let fate = if is_healed { Fate::PROMPT } else { Fate::of(self.seed, &self.options, name) };
            self.depart(Message { name, lane, session, wire, sent: self.now, is_copy: false }, fate);
        }
        Ok(())
    }

    fn depart(&mut self, mut message: Message, fate: Fate) {
        let Message { name, lane, session, .. } = message;
        if let Some(after) = fate.copy {
            self.fault("duplicated", name);
            let copy = Message { name, lane, session, wire: message.wire.clone(), sent: self.now, is_copy: true };
            self.schedule(self.now + after, Due::Message(copy));
        }
        if fate.lost {
            return self.fault("lost", name);
        }
        if let Some(chosen) = fate.corrupt {
            self.fault("corrupted", name);
            if let (Party::Client(_), _) | (_, Party::Client(_)) = (name.from, name.to) {
                // Not our codec's to reject: TLS does.
                return;
            }
            message.wire.flip(chosen);
        }
        if fate.tail {
            self.fault("delayed", name);
        }
        let (bytes, at) = (message.wire.bytes(), self.now + fate.delay);
        let way = self.way(name.from, name.to);
        way.hold(lane, bytes);
        let (at, overtakes) = way.arrival(lane, at);
        if overtakes {
            self.count("reordered");
        }
        self.schedule(at, Due::Message(message));
    }

    /// A message comes to the end of its way.
    pub(super) fn arrive(&mut self, message: Message) {
        let name = message.name;
        let way = self.way(name.from, name.to);
        if way.is_clogged() {
            way.parked.push_back(message);
            return self.fault("clogged", name);
        }
        let is_cut = way.is_cut();
        if is_cut {
            self.fault("cut", name);
        }
        if is_cut || !self.hand_over(&message) {
            self.release(name.from, name.to, room_of(&message));
        }
    }

    /// `false` if nobody takes it.
    fn hand_over(&mut self, message: &Message) -> bool {
        match (message.name.from, message.name.to) {
            (Party::Node(from), Party::Node(to)) => self.hand_over_frame(from, to, message),
            (Party::Client(client), Party::Node(to)) => self.hand_over_request(client, to, message),
            (Party::Node(from), Party::Client(client)) => self.hand_over_answer(from, client, message),
            (Party::Client(_), Party::Client(_)) => false,
        }
    }

    fn hand_over_frame(&mut self, from: ReplicaId, to: ReplicaId, message: &Message) -> bool {
        let Message { name, lane, session, .. } = *message;
        let pair = Pair::of(from, to);
        let Some(connection) = self.connections.get(&pair) else { return false };
        let present = connection.session_of(to < from);
        let session = match message.is_copy {
            true => present,
            false => Some(session).filter(|session| present == Some(*session) && connection.carries(*session)),
        };
        let Some(session) = session else {
            self.tell(name.to, "void", name);
            return false;
        };
        let Some(payload) = message.wire.open(lane) else {
            self.fault("rejected", name);
            self.end(pair);
            return false;
        };
        self.tell_delivered(name.to, message);
        let Some(life) = self.lives.get_mut(&to) else { return false };
        life.push(lane, Delivery { peer: from, session, news: News::Frame { payload, room: room_of(message) } });
        true
    }

    fn hand_over_request(&mut self, client: u64, to: ReplicaId, message: &Message) -> bool {
        let is_for = |incarnation| message.is_copy || incarnation == message.session;
        if !self.lives.get(&to).is_some_and(|life| is_for(life.incarnation)) {
            self.tell(message.name.to, "void", message.name);
            return false;
        }
        self.tell_delivered(message.name.to, message);
        let Some(life) = self.lives.get_mut(&to) else { return false };
        life.push_request(Letter { peer: client, bytes: message.wire.clone().into_plain(), room: room_of(message) });
        true
    }

    fn hand_over_answer(&mut self, from: ReplicaId, client: u64, message: &Message) -> bool {
        self.tell_delivered(message.name.from, message);
        let Some(mailbox) = self.clients.get_mut(&client) else { return false };
        mailbox.push(Letter { peer: from.0, bytes: message.wire.clone().into_plain(), room: room_of(message) });
        true
    }

    /// Gives back the room that a message took up.
    pub(super) fn release(&mut self, from: Party, to: Party, room: Option<Room>) {
        if let Some(Room { session, lane, bytes }) = room {
            self.way(from, to).release(session, lane, bytes);
        }
    }
}

/// The room that a message takes up until it is taken; a copy takes up none.
fn room_of(message: &Message) -> Option<Room> {
    let Message { lane, session, .. } = *message;
    (!message.is_copy).then(|| Room { session, lane, bytes: message.wire.bytes() })
}
