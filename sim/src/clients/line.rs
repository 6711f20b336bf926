//! A client's connections: many calls at a time to each node, one a frame, or those of a millisecond together. See `seal`
//! for what goes over the network.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tombola::{
    client::{
        Call, ClientCall, ClientFrame, ClientReply, ServerFrame,
        wire::{FrameReader, encode_frame},
    },
    types::ReplicaId,
};

use super::seal::{open, seal};
use crate::network::ClientEnd;

/// How long connecting may take, as with the native client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is tried meanwhile.
const HELLO_EVERY: Duration = Duration::from_millis(200);
/// Most calls of a frame. About as many wait to be sent together.
pub const FRAME_CALLS_MAX: usize = 500;
/// Where frames are shared, a call is sent at once, but for those that come so soon after: they go together.
const TOGETHER: Duration = Duration::from_millis(1);

/// Why a call that was sent has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReply {
    /// The connection was lost.
    Lost,
    /// Time ran out.
    TimedOut,
}

/// A client's end of its connections. Clones share them.
#[derive(Clone)]
pub struct Line {
    calls: Arc<Mutex<Calls>>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    is_crowd: bool,
}

/// What is to be sent to a life of a node; to any, if that is 0.
struct Outgoing {
    to: (ReplicaId, u64),
    /// Only a greeting has none.
    call: Option<ClientCall>,
}

/// Calls under way, and to whom.
#[derive(Default)]
struct Calls {
    /// Calls made so far.
    made: u64,
    nodes: BTreeMap<ReplicaId, Connection>,
    waiting: BTreeMap<u64, Waiting>,
}

/// What is known of a node.
#[derive(Default)]
struct Connection {
    /// The life that we are connected to.
    life: Option<u64>,
    /// The newest that was ever heard of.
    newest: u64,
    /// Who waits to be connected.
    opening: Vec<oneshot::Sender<u64>>,
    /// When it was greeted last.
    greeted: Option<Instant>,
}

struct Waiting {
    node: ReplicaId,
    life: u64,
    reply: oneshot::Sender<ClientReply>,
}

impl Line {
    /// A line, and its task, which ends with the line's last clone. A crowd's calls share frames, and greetings.
    pub fn start(end: ClientEnd, is_crowd: bool) -> Self {
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let calls = Arc::<Mutex<Calls>>::default();
        tokio::spawn(run(end, calls.clone(), to_send, is_crowd));
        Self { calls, outgoing, is_crowd }
    }

    /// The life of the node that we are connected to now; `None` if it does not answer in time.
    pub async fn connect(&self, node: ReplicaId, within: Duration) -> Option<u64> {
        let (opened, mut opening) = oneshot::channel();
        {
            let connection = &mut *self.calls();
            let connection = connection.nodes.entry(node).or_default();
            if let Some(life) = connection.life {
                return Some(life);
            }
            connection.opening.retain(|waiting| !waiting.is_closed());
            connection.opening.push(opened);
        }
        let until = Instant::now() + within.min(CONNECT_TIMEOUT);
        while Instant::now() < until {
            self.greet(node);
            let pause = HELLO_EVERY.min(until.saturating_duration_since(Instant::now()));
            if let Ok(life) = timeout(pause, &mut opening).await {
                return life.ok();
            }
        }
        None
    }

    /// Sends a call to that life of a node, and waits for the reply; the node is given a little less time, since its own
    /// word on what happened is worth more than our silence.
    pub async fn call(
        &self,
        (node, life): (ReplicaId, u64),
        call: Call,
        within: Duration,
    ) -> Result<ClientReply, NoReply> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let calls = &mut *self.calls();
            calls.made += 1;
            calls.waiting.insert(calls.made, Waiting { node, life, reply });
            calls.made
        };
        let timeout_ms = u32::try_from((within - within / 8).as_millis()).unwrap_or(u32::MAX);
        self.send(Outgoing { to: (node, life), call: Some(ClientCall { id, timeout_ms, call }) });
        match timeout(within, answer).await {
            Ok(reply) => reply.map_err(|_| NoReply::Lost),
            Err(_) => {
                let calls = &mut *self.calls();
                calls.waiting.remove(&id);
                // Whoever asks there next connects anew.
                let connection = calls.nodes.entry(node).or_default();
                connection.life = connection.life.filter(|&connected| connected != life);
                Err(NoReply::TimedOut)
            }
        }
    }

    fn greet(&self, node: ReplicaId) {
        let calls = &mut *self.calls();
        let greeted = &mut calls.nodes.entry(node).or_default().greeted;
        // A crowd's greetings, one for each who waits, would leave no room for anything else.
        if !self.is_crowd || greeted.is_none_or(|at| at.elapsed() >= HELLO_EVERY) {
            *greeted = Some(Instant::now());
            self.send(Outgoing { to: (node, 0), call: None });
        }
    }

    fn send(&self, outgoing: Outgoing) {
        // Its task lives as long as this line.
        let _ = self.outgoing.send(outgoing);
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().expect("nothing panics under this lock")
    }
}

async fn run(
    mut end: ClientEnd,
    calls: Arc<Mutex<Calls>>,
    mut to_send: mpsc::UnboundedReceiver<Outgoing>,
    is_crowd: bool,
) {
    let (mut together, mut next) = (Vec::new(), Instant::now());
    let (frame_calls_max, pause) = if is_crowd { (FRAME_CALLS_MAX, TOGETHER) } else { (1, Duration::ZERO) };
    loop {
        tokio::select! {
            biased;
            (from, packet) = end.receive() => {
                calls.lock().expect("nothing panics under this lock").handle_packet(from, &packet);
            }
            () = sleep_until(next), if !together.is_empty() => {
                packets(together.drain(..), frame_calls_max).into_iter().for_each(|(to, packet)| end.send(to, packet));
                next = Instant::now() + pause;
            }
            count = to_send.recv_many(&mut together, FRAME_CALLS_MAX), if together.len() < FRAME_CALLS_MAX => {
                if count == 0 {
                    return;
                }
            }
        }
    }
}

/// Neighbours for the same life share a frame.
fn packets(outgoing: impl Iterator<Item = Outgoing>, frame_calls_max: usize) -> Vec<(ReplicaId, Bytes)> {
    let mut frames: Vec<((ReplicaId, u64), Vec<ClientCall>)> = Vec::new();
    for Outgoing { to, call } in outgoing {
        match (frames.last_mut(), call) {
            (Some((last, calls)), Some(call)) if *last == to && calls.len() < frame_calls_max => calls.push(call),
            (_, call) => frames.push((to, call.into_iter().collect())),
        }
    }
    let packet = |((node, life), calls): ((ReplicaId, u64), Vec<ClientCall>)| {
        let bytes = if calls.is_empty() {
            Vec::new()
        } else {
            encode_frame(&ClientFrame { calls }).expect("planned calls are short")
        };
        (node, seal(life, &bytes).into())
    };
    frames.into_iter().map(packet).collect()
}

impl Calls {
    fn handle_packet(&mut self, from: ReplicaId, packet: &[u8]) {
        let Some((life, frame)) = open(packet) else { return };
        let connection = self.nodes.entry(from).or_default();
        // What comes late from an earlier life is of a connection that is gone.
        if life < connection.newest {
            return;
        }
        (connection.newest, connection.life) = (life, Some(life));
        for opening in connection.opening.drain(..) {
            // Who waited may have given up.
            let _ = opening.send(life);
        }
        self.waiting.retain(|_, waiting| waiting.node != from || waiting.life == life);
        let mut reader = FrameReader::<ServerFrame>::default();
        reader.push(frame);
        let Ok(Some(ServerFrame { replies })) = reader.next_frame() else { return };
        for reply in replies {
            // One that nobody waits for any more is dropped.
            if let Some(waiting) = self.waiting.remove(&reply.id) {
                let _ = waiting.reply.send(reply);
            }
        }
    }
}
