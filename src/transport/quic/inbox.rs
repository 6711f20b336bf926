//! Events on their way to the node: a queue a lane for all peers together, with room for so many bytes of each peer.
//!
//! Where there is no room, the reader waits; then the stream's flow-control window fills, and with it the *sender's*
//! outbox, which drops. So a slow node costs its peers a bounded amount of memory, and itself a bounded amount as well;
//! and as each lane has room of its own, one that is clogged holds up no other.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::super::{Event, Lane};
use crate::types::ReplicaId;

/// Events that wait for the node on one lane, from all peers together.
pub const EVENTS_MAX: usize = 1024;

/// Bytes received from one peer on one lane that wait for the node, at most; no less than the lane's longest frame.
pub const fn inbox_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Urgent => 256 << 10,
        Lane::Log => 4 << 20,
        Lane::Bulk => 1 << 20,
    }
}

/// Something to be told to the node, and the room that it takes up until the node has it.
#[derive(Debug)]
pub(super) struct Delivery {
    peer: ReplicaId,
    /// Which of the peer's sessions it is of.
    session: Session,
    news: News,
    _room: Option<Room>,
}

/// The number of one of a peer's sessions: a connection that it was met on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session(pub(super) u64);

#[derive(Debug)]
enum News {
    Met { hello: Bytes, veto: oneshot::Sender<String> },
    Frame(Bytes),
    Refused { reason: String },
    Ended,
}

/// Room for one frame in an [`Inbox`].
pub(super) type Room = OwnedSemaphorePermit;

/// The node is not there any more: its transport was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeGone;

/// One peer's way to the node.
#[derive(Debug)]
pub(super) struct Inbox {
    peer: ReplicaId,
    senders: Senders,
    room: [Arc<Semaphore>; Lane::ALL.len()],
}

/// The beginnings of the node's queues, by lane.
pub(super) type Senders = [mpsc::Sender<Delivery>; Lane::ALL.len()];

impl Inbox {
    pub(super) fn new(peer: ReplicaId, senders: Senders) -> Self {
        Self { peer, senders, room: Lane::ALL.map(|lane| Arc::new(Semaphore::new(inbox_bytes_max(lane)))) }
    }

    /// The peer.
    pub(super) fn peer(&self) -> ReplicaId {
        self.peer
    }

    /// Waits for room for a payload; asked for before memory is.
    pub(super) async fn reserve(&self, lane: Lane, payload_bytes: usize) -> Room {
        let permits = u32::try_from(payload_bytes).expect("a frame's length is capped far below 4 GiB");
        self.room[lane as usize].clone().acquire_many_owned(permits).await.expect("the semaphore is never closed")
    }

    /// Waits until the node's queue takes the frame.
    pub(super) async fn frame(&self, session: Session, lane: Lane, frame: Bytes, room: Room) -> Result<(), NodeGone> {
        self.deliver(session, lane, News::Frame(frame), Some(room)).await
    }

    /// Waits until the node's queue takes the news that a session begins. The node may refuse it: then its reason comes.
    pub(super) async fn met(&self, session: Session, hello: Bytes) -> Result<oneshot::Receiver<String>, NodeGone> {
        let (veto, vetoed) = oneshot::channel();
        self.deliver(session, Lane::Urgent, News::Met { hello, veto }, None).await.map(|()| vetoed)
    }

    /// Waits until the node's queue takes the news that the peer does not accept this node.
    pub(super) async fn refused(&self, session: Session, reason: String) -> Result<(), NodeGone> {
        self.deliver(session, Lane::Urgent, News::Refused { reason }, None).await
    }

    /// Waits until the node's queue takes the news that a session is over.
    pub(super) async fn ended(&self, session: Session) -> Result<(), NodeGone> {
        self.deliver(session, Lane::Urgent, News::Ended, None).await
    }

    /// Waits until the node is gone.
    pub(super) async fn gone(&self) -> NodeGone {
        self.senders[0].closed().await;
        NodeGone
    }

    async fn deliver(&self, session: Session, lane: Lane, news: News, room: Option<Room>) -> Result<(), NodeGone> {
        let delivery = Delivery { peer: self.peer, session, news, _room: room };
        self.senders[lane as usize].send(delivery).await.map_err(|_| NodeGone)
    }
}

/// The node's end of the queues: what is urgent first, and of each session only what its place is in the order of events.
#[derive(Debug)]
pub(super) struct Events {
    queues: [mpsc::Receiver<Delivery>; Lane::ALL.len()],
    /// The sessions that the node knows of and that are not over, with the way to refuse them.
    met: BTreeMap<ReplicaId, (Session, oneshot::Sender<String>)>,
}

impl Events {
    pub(super) fn new() -> (Senders, Self) {
        let channels = Lane::ALL.map(|_| mpsc::channel(EVENTS_MAX));
        let senders = channels.each_ref().map(|(sender, _)| sender.clone());
        (senders, Self { queues: channels.map(|(_, queue)| queue), met: BTreeMap::new() })
    }

    /// Waits for the next event; may be cancelled. `None` when nobody can send any more.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let [urgent, log, bulk] = &mut self.queues;
        loop {
            let delivery = tokio::select! {
                biased;
                Some(delivery) = urgent.recv() => delivery,
                Some(delivery) = log.recv() => delivery,
                Some(delivery) = bulk.recv() => delivery,
                else => return None,
            };
            if let Some(event) = event(&mut self.met, delivery) {
                return Some(event);
            }
        }
    }

    /// Ends the peer's session with this reason; nothing more is told of it.
    pub(super) fn refuse(&mut self, peer: ReplicaId, reason: String) {
        if let Some((_, veto)) = self.met.remove(&peer) {
            // It may have ended by itself.
            let _ = veto.send(reason);
        }
    }
}

/// What the node is told, if anything: the end of a session overtakes frames of its less urgent lanes, and a refusal by the
/// node all that waits.
fn event(met: &mut BTreeMap<ReplicaId, (Session, oneshot::Sender<String>)>, delivery: Delivery) -> Option<Event> {
    let Delivery { peer, session, news, .. } = delivery;
    let is_met = met.get(&peer).is_some_and(|(current, _)| *current == session);
    match news {
        News::Met { hello, veto } => {
            met.insert(peer, (session, veto));
            Some(Event::Met { peer, hello })
        }
        News::Frame(frame) => is_met.then_some(Event::Frame { from: peer, frame }),
        News::Refused { reason } => Some(Event::Refused { peer, reason }),
        News::Ended => is_met.then(|| {
            met.remove(&peer);
            Event::Unreachable { peer }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ReplicaId = ReplicaId(2);

    async fn push(inbox: &Inbox, session: u64, lane: Lane, frame: &'static [u8]) {
        let room = inbox.reserve(lane, frame.len()).await;
        inbox.frame(Session(session), lane, Bytes::from_static(frame), room).await.unwrap();
    }

    fn frame(frame: &'static [u8]) -> Event {
        Event::Frame { from: PEER, frame: Bytes::from_static(frame) }
    }

    fn met(hello: &'static [u8]) -> Event {
        Event::Met { peer: PEER, hello: Bytes::from_static(hello) }
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn what_the_node_has_not_taken_bounds_what_is_received_on_each_lane_apart() {
        let (senders, mut events) = Events::new();
        let inbox = Inbox::new(PEER, senders);
        let _veto = inbox.met(Session(1), Bytes::new()).await.unwrap();
        for lane in Lane::ALL {
            let room = inbox.reserve(lane, inbox_bytes_max(lane)).await;
            inbox.frame(Session(1), lane, Bytes::from_static(b"x"), room).await.unwrap();
        }
        assert_eq!(events.next().await, Some(met(b"")));
        for lane in Lane::ALL {
            let mut more = std::pin::pin!(inbox.reserve(lane, 1));
            assert!(poll(more.as_mut()).is_pending());
            assert_eq!(events.next().await, Some(frame(b"x")));
            assert_eq!(more.await.num_permits(), 1);
        }
    }

    #[tokio::test]
    async fn what_is_urgent_comes_first() {
        let (senders, mut events) = Events::new();
        let inbox = Inbox::new(PEER, senders);
        let _veto = inbox.met(Session(1), Bytes::from_static(b"hi")).await.unwrap();
        for (lane, word) in [(Lane::Bulk, b"b"), (Lane::Log, b"l"), (Lane::Urgent, b"u")] {
            push(&inbox, 1, lane, word).await;
        }
        for event in [met(b"hi"), frame(b"u"), frame(b"l"), frame(b"b")] {
            assert_eq!(events.next().await, Some(event));
        }
    }

    #[tokio::test]
    async fn nothing_is_told_of_a_session_after_its_end() {
        let (senders, mut events) = Events::new();
        let inbox = Inbox::new(PEER, senders);
        let _veto = inbox.met(Session(1), Bytes::from_static(b"one")).await.unwrap();
        push(&inbox, 1, Lane::Log, b"old").await;
        inbox.refused(Session(1), "no".to_owned()).await.unwrap();
        inbox.ended(Session(1)).await.unwrap();
        let _veto = inbox.met(Session(2), Bytes::from_static(b"two")).await.unwrap();
        push(&inbox, 2, Lane::Log, b"new").await;
        let refused = Event::Refused { peer: PEER, reason: "no".to_owned() };
        for event in [met(b"one"), refused, Event::Unreachable { peer: PEER }, met(b"two"), frame(b"new")] {
            assert_eq!(events.next().await, Some(event));
        }
        drop(inbox);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn nothing_is_told_of_a_session_that_the_node_refused() {
        let (senders, mut events) = Events::new();
        let inbox = Inbox::new(PEER, senders);
        events.refuse(PEER, "nobody to refuse".to_owned());
        let vetoed = inbox.met(Session(1), Bytes::new()).await.unwrap();
        push(&inbox, 1, Lane::Urgent, b"first").await;
        push(&inbox, 1, Lane::Urgent, b"second").await;
        assert_eq!(events.next().await, Some(met(b"")));
        assert_eq!(events.next().await, Some(frame(b"first")));
        events.refuse(PEER, "another disk".to_owned());
        assert_eq!(vetoed.await, Ok("another disk".to_owned()));
        inbox.ended(Session(1)).await.unwrap();
        drop(inbox);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn a_node_that_drops_its_transport_is_gone() {
        let (senders, events) = Events::new();
        let inbox = Inbox::new(PEER, senders);
        drop(events);
        assert_eq!(inbox.gone().await, NodeGone);
        assert_eq!(inbox.ended(Session(1)).await, Err(NodeGone));
    }
}
