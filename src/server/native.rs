//! The native client protocol, served: frames of [`crate::client`] on QUIC streams.
//!
//! A stream is read by one loop and written by another. The reader turns every call into a task of its own, so that a slow
//! one holds up nobody; the writer puts all replies that are waiting into one frame, so that batches form by themselves
//! under load and an answer waits for nothing when there is none.
//!
//! **Bounds.** [`STREAMS_MAX`] streams and [`CALLS_IN_FLIGHT_MAX`] calls a connection: a call is in flight from the moment
//! it is read until its reply is written, and beyond the bound nothing more is read, so QUIC's flow control holds the client
//! back. Time: what the call allows, at most 10 s.
//!
//! **Bad bytes** close the connection with [`CloseCode::Malformed`] and the reason: after them no frame boundary is known.
//! Nothing of a malformed frame is executed; frames before it are. A reply that fits no frame is answered as a failure.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use super::{deadline, drain::Draining};
use crate::{
    api::{Consistency, Failure, NotApplied, Request},
    client::{
        Call, ClientCall, ClientFrame, ClientReply, Reply, ServerFrame,
        wire::{CloseCode, FrameError, FrameReader, encode_frame},
    },
    codec,
    pool::{Actor, Query},
    runtime::NodeHandle,
    types::Millis,
};

/// Streams served at once on a connection; more wait to be accepted.
pub const STREAMS_MAX: usize = 16;
/// Calls in flight on a connection.
pub const CALLS_IN_FLIGHT_MAX: usize = 8_192;
/// Replies put into one frame at most, and
const REPLIES_PER_FRAME_MAX: usize = 1_024;
/// how many bytes of them, one long reply aside.
const FRAME_BYTES_AIM: usize = 256 << 10;
/// Most bytes read from a stream at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// A reply, and the place in flight that is free again once it is written.
type Waiting = (ClientReply, OwnedSemaphorePermit);

/// What all calls of a connection share.
struct Session {
    actor: Actor,
    node: NodeHandle,
    /// The newest cluster time that an answer held: failures have none of their own.
    now: AtomicU64,
    in_flight: Arc<Semaphore>,
}

/// Serves one client until it leaves, breaks the protocol, or the server drains; then what it has in flight is
/// answered before the connection closes.
pub async fn serve_connection(connection: Connection, actor: Actor, node: NodeHandle, mut draining: Draining) {
    let in_flight = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
    let session = Arc::new(Session { actor, node, now: AtomicU64::new(0), in_flight });
    let mut streams: JoinSet<Result<(), FrameError>> = JoinSet::new();
    let code = loop {
        tokio::select! {
            biased;
            () = draining.begun() => break CloseCode::Draining,
            Some(ended) = streams.join_next() => if let Ok(Err(error)) = ended {
                return close(&connection, CloseCode::Malformed, &error.to_string());
            },
            accepted = connection.accept_bi(), if streams.len() < STREAMS_MAX => match accepted {
                Ok((send, receive)) => {
                    streams.spawn(serve_stream(session.clone(), send, receive, draining.clone()));
                }
                Err(_closed) => break CloseCode::Done,
            },
        }
    };
    while streams.join_next().await.is_some() {}
    close(&connection, code, "");
}

fn close(connection: &Connection, code: CloseCode, reason: &str) {
    connection.close(VarInt::from_u32(code.number()), reason.as_bytes());
}

/// Serves one stream; an error if the client broke the protocol.
async fn serve_stream(
    session: Arc<Session>,
    send: SendStream,
    receive: RecvStream,
    draining: Draining,
) -> Result<(), FrameError> {
    // As long as the bound on calls in flight, so that a call never waits to hand in its reply.
    let (replies, waiting) = mpsc::channel(CALLS_IN_FLIGHT_MAX);
    let reading = read_calls(session, receive, replies, draining);
    let (read, ()) = tokio::join!(reading, write_replies(send, waiting));
    read
}

/// Reads calls and starts them, until the client has no more, nobody takes the replies, or the node drains.
async fn read_calls(
    session: Arc<Session>,
    mut receive: RecvStream,
    replies: mpsc::Sender<Waiting>,
    mut draining: Draining,
) -> Result<(), FrameError> {
    let mut frames = FrameReader::<ClientFrame>::default();
    loop {
        let piece = tokio::select! {
            biased;
            () = replies.closed() => return Ok(()),
            () = draining.begun() => return Ok(()),
            piece = receive.read_chunk(PIECE_BYTES_MAX, true) => piece,
        };
        // A lost connection and a reset stream end it as its finish does: whoever cared is gone.
        let Ok(Some(piece)) = piece else { return Ok(()) };
        frames.push(&piece.bytes);
        while let Some(frame) = frames.next_frame()? {
            for call in frame.calls {
                let Ok(place) = session.in_flight.clone().acquire_owned().await else { return Ok(()) };
                tokio::spawn(answer(session.clone(), call, place, replies.clone()));
            }
        }
    }
}

/// Makes one call and hands in its reply.
async fn answer(session: Arc<Session>, call: ClientCall, place: OwnedSemaphorePermit, replies: mpsc::Sender<Waiting>) {
    let ClientCall { id, timeout_ms, call } = call;
    let reply = session.make(call, timeout_ms).await;
    let now = Millis(session.now.load(Ordering::Relaxed));
    // If nobody takes replies any more, the client is gone.
    let _ = replies.send((ClientReply { id, now, reply }, place)).await;
}

impl Session {
    async fn make(&self, call: Call, timeout_ms: u32) -> Result<Reply, Failure> {
        let timeout = deadline::of_call(timeout_ms);
        match call {
            Call::Submit { pool, key, action } => {
                let request = Request { pool, key, actor: self.actor.clone(), action };
                let answered = self.node.submit(request, timeout).await?;
                self.saw(answered.outcome.now);
                Ok(Reply::Submitted(answered))
            }
            Call::Read { query, consistency } => {
                let read = self.node.read(query, consistency, timeout).await?;
                self.saw(read.now);
                Ok(Reply::Read(read))
            }
            Call::Status => {
                let status = self.node.status().await?;
                // Clients ask for the status to learn the time.
                self.saw(self.node.read(Query::Pools, Consistency::Stale, timeout).await?.now);
                Ok(Reply::Status(status))
            }
            Call::HistoryAt(index) => Ok(Reply::HistoryAt(self.node.history_at(index).await?)),
            Call::Transfer(to) => self.node.transfer(to, timeout).await.map(|()| Reply::Transferred),
        }
    }

    /// Cluster time stood here. A replay tells an older one.
    fn saw(&self, now: Millis) {
        self.now.fetch_max(now.0, Ordering::Relaxed);
    }
}

/// Writes replies as they come, all that wait in one frame, until no call is left that could give one.
async fn write_replies(mut send: SendStream, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, REPLIES_PER_FRAME_MAX).await > 0 {
        let (replies, places): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        for frame in frames(replies) {
            if send.write_all(&frame).await.is_err() {
                return;
            }
        }
        drop(places);
    }
    // Closing the connection drops what is under way, so wait until it has arrived. Both fail only if nobody cares.
    let _ = send.finish();
    let _ = send.stopped().await;
}

/// The replies in as few frames as is reasonable, encoded.
fn frames(replies: Vec<ClientReply>) -> Vec<Vec<u8>> {
    let (mut frames, mut gathered, mut bytes) = (vec![], vec![], 0);
    for reply in replies {
        let more = codec::encoded_len(&reply);
        if bytes + more > FRAME_BYTES_AIM && !gathered.is_empty() {
            frames.push(frame(std::mem::take(&mut gathered)));
            bytes = 0;
        }
        bytes += more;
        gathered.push(reply);
    }
    if !gathered.is_empty() {
        frames.push(frame(gathered));
    }
    frames
}

/// One frame. What fits none is the one reply of a read, of more items than a legal pool has: outcomes are short.
fn frame(replies: Vec<ClientReply>) -> Vec<u8> {
    let frame = ServerFrame { replies };
    encode_frame(&frame).unwrap_or_else(|error| {
        let failure = |reply: ClientReply| {
            let failure = Failure::NotApplied(NotApplied::Malformed(format!("the answer cannot be sent: {error}")));
            ClientReply { reply: Err(failure), ..reply }
        };
        let replies = frame.replies.into_iter().map(failure).collect();
        encode_frame(&ServerFrame { replies }).expect("failures are short, and there are few of them")
    })
}
