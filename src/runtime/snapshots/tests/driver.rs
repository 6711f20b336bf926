//! The driver: one staging at a time, whoever wants it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::{
    durable::{Staging, WriteSet},
    pool::StateMachine,
    replica::{Input, TakeSnapshot},
    runtime::{
        Persist, PersistError,
        beside::{DONE_MAX, Done},
        clock::Tick,
        persist::{Started, Writer},
        snapshots::{BodyMessage, Own, SNAPSHOT_BYTES_PER_S, Snapshots, Step},
    },
};

const ME: ReplicaId = ReplicaId(1);
const LEADER: ReplicaId = ReplicaId(2);

/// A store that takes everything, once it is let.
struct Willing(Arc<Notify>);

impl Persist for Willing {
    async fn commit(&mut self, _writes: Vec<WriteSet>) -> Result<(), PersistError> {
        Ok(())
    }

    async fn begin(&mut self, _staging: Staging) -> Result<u32, PersistError> {
        Ok(0)
    }

    async fn stage(&mut self, _number: u32, _chunk: Bytes) -> Result<(), PersistError> {
        self.0.notified().await;
        Ok(())
    }

    async fn chunk(&mut self, _snapshot: Index, _number: u32) -> Result<Option<Bytes>, PersistError> {
        Ok(None)
    }

    async fn clean(&mut self) -> Result<bool, PersistError> {
        Ok(false)
    }
}

struct Node {
    snapshots: Snapshots,
    done: mpsc::Receiver<Done>,
    let_stage: Arc<Notify>,
    _writer: Started,
}

impl Node {
    fn new() -> Self {
        let let_stage = Arc::new(Notify::new());
        let writer = Writer::start(Willing(let_stage.clone()), Arc::default());
        let (tell, done) = mpsc::channel(DONE_MAX);
        let snapshots = Snapshots::new(writer.bodies.clone(), tell, SHIPMENT.0, SNAPSHOT_BYTES_PER_S, TIMES.tick);
        Self { snapshots, done, let_stage, _writer: writer }
    }

    /// The replica wants a snapshot taken.
    fn take(&mut self) {
        let handle = StateMachine::founding(Limits::default()).snapshot();
        let voters = [1, 2, 3].map(ReplicaId).into();
        self.snapshots.take(TakeSnapshot { handle, term: Term(5), voters, founders: founders() });
    }

    /// The leader offers one.
    fn offer(&mut self) {
        let founders = founders();
        let own = Own { me: ME, term: Term(5), leader: Some(LEADER), applied: Index(7), founders: &founders };
        let message = BodyMessage::Offer { shipment: ShipmentId(9), message: message(LEADER, ME) };
        self.snapshots.handle_message(LEADER, message, own, Tick(1));
    }

    /// Waits until something is done beside the loop, and handles it.
    async fn done(&mut self) {
        let Some(Done::Body(done)) = self.done.recv().await else { panic!("nothing else is done") };
        self.snapshots.handle_done(done, Tick(1)).unwrap();
    }

    /// What the loop is to do, in words.
    fn steps(&mut self) -> Vec<&'static str> {
        let word = |step| match step {
            Step::Tell(Input::SnapshotTaken { .. }) => "taken",
            Step::Tell(Input::SnapshotGivenUp) => "given up",
            Step::Tell(Input::SnapshotReport { arrived: false, .. }) => "not sent",
            Step::Say { message: BodyMessage::Want { .. }, .. } => "want",
            Step::Say { message: BodyMessage::Offer { .. }, .. } => "offer",
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| self.snapshots.poll_step()).map(word).collect()
    }
}

#[tokio::test]
async fn one_of_our_own_is_staged_and_told() {
    let mut node = Node::new();
    node.take();
    node.let_stage.notify_one();
    node.done().await;
    assert_eq!(node.steps(), ["taken"]);
}

#[tokio::test]
async fn one_that_is_received_goes_before_one_of_our_own() {
    let mut node = Node::new();
    node.take();
    node.offer();
    assert_eq!(node.steps(), ["given up"]);
    node.let_stage.notify_one();
    // The one given up may still come to an end, which is nobody's business.
    while node.steps() != ["want"] {
        node.done().await;
    }
    node.take();
    assert_eq!(node.steps(), ["given up"], "nor is one begun meanwhile");
}

#[tokio::test]
async fn what_the_replica_is_to_make_its_newest_stays_staged_until_it_has() {
    let mut node = Node::new();
    let peer = ReplicaId(3);
    node.snapshots.send(peer, announce(ME, peer, meta(3)), Tick(0));
    assert_eq!(node.steps(), ["offer"]);
    node.take();
    node.let_stage.notify_one();
    node.done().await;
    assert_eq!(node.steps(), ["taken"]);
    node.offer();
    assert_eq!(node.steps(), ["not sent"], "for that the replica waits: who is offered one has none to send");
    node.offer();
    assert_eq!(node.steps(), [""; 0]);
    node.snapshots.handle_flip();
    node.offer();
    node.done().await;
    assert_eq!(node.steps(), ["want"]);
}

#[tokio::test]
async fn what_is_no_snapshot_is_not_sent() {
    let mut node = Node::new();
    let message = RaftMessage { to: LEADER, from: ME, term: Term(5), body: RaftBody::TimeoutNow };
    node.snapshots.send(LEADER, message, Tick(0));
    assert_eq!(node.steps(), ["not sent"]);
}
