//! The network's ends in a simulation: a transport and a door for each life of a node, a mailbox for each client, and the
//! dispatcher. Each is a handle on the one [`Fabric`]; what waits is woken by it.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use madsim::time::TimeHandle;
use tokio::sync::Notify;
use tombola::{
    codec,
    runtime::PeerFrame,
    transport::{Dropped, Event, Lane, PEER_FRAME_BYTES_MAX, Transport},
    types::ReplicaId,
};

use super::{
    fabric::{Fabric, Taken, Wake},
    kind::Kind,
};
use crate::{plan::NetworkOptions, trace::Trace};

/// Sees each frame that leaves a node: from whom, to whom, and the frame.
pub type Watch = Box<dyn Fn(ReplicaId, ReplicaId, &PeerFrame) + Send>;

/// The network. Clones share it.
#[derive(Clone)]
pub struct Network {
    fabric: Arc<Mutex<Fabric>>,
    watch: Arc<Mutex<Option<Watch>>>,
    /// Wakes the dispatcher.
    hurry: Arc<Notify>,
}

impl Network {
    /// A network that nobody has joined. Somebody must run its [dispatcher](Self::dispatch).
    pub fn new(seed: u64, options: NetworkOptions, trace: Trace) -> Self {
        let hurry = Arc::new(Notify::new());
        let fabric = Fabric::new(seed, options, trace, wake(&hurry));
        Self { fabric: Arc::new(Mutex::new(fabric)), watch: Arc::default(), hurry }
    }

    /// Brings everything when it is due, for ever. To be run by the supervisor, which is never killed.
    pub async fn dispatch(self) {
        loop {
            let next_at = {
                let mut fabric = self.now();
                fabric.advance();
                fabric.next_at()
            };
            let hurry = self.hurry.notified();
            match next_at {
                None => hurry.await,
                Some(at) => tokio::select! {
                    biased;
                    () = hurry => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// A node's next life: its transport, and where its clients come in.
    pub fn join(&self, node: ReplicaId, incarnation: u64) -> (Link, Door) {
        let (events, requests) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        self.now().join(node, incarnation, wake(&events), wake(&requests));
        let life = Life { node, incarnation, network: self.clone() };
        (Link { life: life.clone(), events }, Door { life, requests })
    }

    /// A node's present life is over: its [`Link`], [`Door`] and [`Replier`]s change nothing any more.
    pub fn fence(&self, node: ReplicaId) {
        self.now().fence(node);
    }

    /// A client's end.
    pub fn client(&self, client: u64) -> ClientEnd {
        let answers = Arc::new(Notify::new());
        self.now().join_client(client, wake(&answers));
        ClientEnd { client, network: self.clone(), answers }
    }

    /// Nothing comes from one node to the other; cuts are counted.
    pub fn cut(&self, from: ReplicaId, to: ReplicaId) {
        self.now().cut(from, to);
    }

    /// Takes back one cut.
    pub fn mend(&self, from: ReplicaId, to: ReplicaId) {
        self.now().mend(from, to);
    }

    /// Takes back all cuts.
    pub fn mend_all(&self) {
        self.now().mend_all();
    }

    /// The connection between two nodes breaks.
    pub fn reset(&self, one: ReplicaId, other: ReplicaId) {
        self.now().reset(one, other);
    }

    /// A directed link takes frames and delivers none, until it is over; counted.
    pub fn clog(&self, from: ReplicaId, to: ReplicaId, is_clogged: bool) {
        self.now().clog(from, to, is_clogged);
    }

    /// Nothing goes wrong any more within the core, and between it and clients; without a core, anywhere.
    pub fn heal(&self, core: Option<&BTreeSet<ReplicaId>>) {
        self.now().heal(core);
    }

    /// From now on, sees each frame that leaves a node, on the node's task. Must not call the network.
    pub fn watch(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    /// Faults that took effect, by kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, Fabric> {
        // Whoever panicked with it has ended the run; destructors still come here.
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fabric, which knows what time it is.
    fn now(&self) -> MutexGuard<'_, Fabric> {
        let mut fabric = self.lock();
        fabric.at(TimeHandle::current().elapsed());
        fabric
    }
}

/// The right to speak for one life of a node.
#[derive(Clone)]
struct Life {
    node: ReplicaId,
    incarnation: u64,
    network: Network,
}

/// One life's transport. Dropping it ends its connections.
pub struct Link {
    life: Life,
    events: Arc<Notify>,
}

impl Transport for Link {
    fn introduce(&mut self, hello: Bytes) {
        let Life { node, incarnation, network } = &self.life;
        network.now().introduce(*node, *incarnation, hello);
    }

    fn refuse(&mut self, peer: ReplicaId, reason: &str) {
        let Life { node, incarnation, network } = &self.life;
        network.now().refuse(*node, *incarnation, peer, reason);
    }

    fn send(&mut self, to: ReplicaId, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        let Life { node, incarnation, network } = &self.life;
        let said = codec::decode::<PeerFrame>(&frame, PEER_FRAME_BYTES_MAX).ok();
        let kind = said.as_ref().map_or(Kind::Unreadable, |said| Kind::of(&said.message));
        network.now().send(*node, *incarnation, to, lane, kind, frame)?;
        let watch = network.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(watch), Some(said)) = (&*watch, &said) {
            watch(*node, to, said);
        }
        Ok(())
    }

    /// Of a life that is over, nothing comes any more.
    async fn receive(&mut self) -> Option<Event> {
        let Life { node, incarnation, network } = &self.life;
        loop {
            let taken = network.now().take_event(*node, *incarnation);
            match taken {
                Taken::Some(event) => return Some(event),
                Taken::Nothing | Taken::Over => self.events.notified().await,
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Life { node, incarnation, network } = &self.life;
        // After the end of the simulation there is no time any more.
        if let Some(time) = TimeHandle::try_current() {
            network.lock().at(time.elapsed()).leave(*node, *incarnation);
        }
    }
}

/// Where one life's clients come in.
pub struct Door {
    life: Life,
    requests: Arc<Notify>,
}

impl Door {
    /// Waits for the next request, and the client that it is from; may be cancelled. `None` when the life is over.
    pub async fn receive(&mut self) -> Option<(u64, Bytes)> {
        let Life { node, incarnation, network } = &self.life;
        loop {
            let taken = network.now().take_request(*node, *incarnation);
            match taken {
                Taken::Some(request) => return Some(request),
                Taken::Nothing => self.requests.notified().await,
                Taken::Over => return None,
            }
        }
    }

    /// What answers.
    pub fn replier(&self) -> Replier {
        Replier { life: self.life.clone() }
    }
}

/// Answers the clients of one life.
#[derive(Clone)]
pub struct Replier {
    life: Life,
}

impl Replier {
    /// Answers a client; may be lost.
    pub fn send(&self, client: u64, answer: Bytes) {
        let Life { node, incarnation, network } = &self.life;
        network.now().answer(*node, *incarnation, client, answer);
    }
}

/// A client's end.
pub struct ClientEnd {
    client: u64,
    network: Network,
    answers: Arc<Notify>,
}

impl ClientEnd {
    /// Sends a request to a node. It may be lost, come twice, or late; nobody says so.
    pub fn send(&self, to: ReplicaId, request: Bytes) {
        self.network.now().request(self.client, to, request);
    }

    /// Waits for the next answer, and the node that it is from; may be cancelled.
    pub async fn receive(&mut self) -> (ReplicaId, Bytes) {
        loop {
            let taken = self.network.now().take_answer(self.client);
            match taken {
                Some(answer) => return answer,
                None => self.answers.notified().await,
            }
        }
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.network.lock().leave_client(self.client);
    }
}

fn wake(notify: &Arc<Notify>) -> Wake {
    let notify = notify.clone();
    Box::new(move || notify.notify_one())
}

/// Sleeps until that simulated time exactly: by itself, madsim would not sleep for less than a millisecond.
async fn sleep_until(at: Duration) {
    let time = TimeHandle::current();
    let deadline = time.now_instant() + at.saturating_sub(time.elapsed());
    let mut sleep = pin!(time.sleep_until(deadline));
    sleep.as_mut().reset(deadline);
    sleep.await;
}
