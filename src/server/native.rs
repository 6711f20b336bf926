//! The native client protocol, served: frames of [`crate::client`] on QUIC streams.
//!
//! A stream is read by one loop and written by another. The reader hands calls on without waiting for any, so that a
//! slow one holds up nobody; the writer puts all replies that are waiting into one frame, so that batches form by
//! themselves under load and an answer waits for nothing when there is none: what a log entry decides leaves together.
//!
//! **Bounds.** [`CLIENT_STREAMS_MAX`] streams and [`CALLS_IN_FLIGHT_MAX`] calls a connection: a call is in flight from
//! the moment it is read until its reply is written, and beyond the bound nothing more is read, so QUIC's flow control
//! holds the client back. Long replies are bounded in bytes as well (`replies`), and a client that takes none for
//! `UNREAD_MAX` loses its stream. Of frames that are not whole yet a connection may have as many bytes as the longest one, short
//! ones aside. Time: what the call allows, at most 10 s.
//!
//! **Bad bytes** close the connection with [`CloseCode::Malformed`] and the reason: after them no frame boundary is
//! known. Nothing of a malformed frame is executed; frames before it are. A reply that fits no frame is answered as a
//! failure.

use std::{future::Future, sync::Arc, time::Duration};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    drain::{self, Draining},
    grpc::GRACE,
    replies::{ReplyPlace, ReplyRoom, is_of_whole_pool},
};
use crate::{
    api::NotApplied,
    calls::{Calls, timeout_of},
    client::{
        CLIENT_FRAME_BYTES_MAX, ClientCall, ClientFrame, ClientReply, ServerFrame,
        wire::{CloseCode, FrameBuilder, FrameError, FrameReader},
    },
    runtime::NodeHandle,
    transport::quic::{CLIENT_STREAMS_MAX, ClientConnection},
};

/// Calls in flight on a connection.
pub const CALLS_IN_FLIGHT_MAX: usize = 8_192;
/// Replies put into one frame at most, and
const REPLIES_PER_FRAME_MAX: usize = 1_024;
/// how many bytes of them, one long reply aside.
const FRAME_BYTES_AIM: usize = 256 << 10;
/// What is reserved for a reply: the length of a draw's, about.
const REPLY_BYTES: usize = 96;
/// Most bytes read from a stream at once; and a frame that is no longer needs no room of its own.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// How long a client may take over the next of its replies.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// A reply, and its places, which are free again once it is written.
type Waiting = (ClientReply, Place);

/// A call's place in flight, and its reply's, if that may be long.
struct Place {
    _in_flight: OwnedSemaphorePermit,
    reply: Option<ReplyPlace>,
}

/// What all calls of a connection share.
struct Session {
    calls: Arc<Calls>,
    in_flight: Arc<Semaphore>,
    replies: ReplyRoom,
    /// Room for long frames, in bytes.
    room: Arc<Semaphore>,
}

/// Serves clients as they come in, until `shutdown` is over; then what they have in flight is answered, for [`GRACE`]
/// at most, and their connections are closed with [`CloseCode::Draining`]. Stop the node only after that, or stop it
/// first: then what is in flight is answered by its refusals.
pub async fn serve(
    mut clients: mpsc::Receiver<ClientConnection>,
    node: NodeHandle,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (drain, draining) = drain::channel();
    let mut served = JoinSet::new();
    let replies = ReplyRoom::of_node();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_ended) = served.join_next() => {}
            client = clients.recv() => match client {
                Some(client) => {
                    let calls = Calls::new(client.actor.clone(), node.clone());
                    let session = Session::new(calls, replies.for_connection());
                    served.spawn(serve_client(client, session, draining.clone()));
                }
                None => break,
            },
        }
    }
    drain.begin();
    let all = async { while served.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        tracing::warn!("native clients still wait {} s after the stop: leaving them", GRACE.as_secs());
    }
}

/// Serves one client until it leaves, breaks the protocol, or the server drains.
async fn serve_client(client: ClientConnection, session: Session, mut draining: Draining) {
    let connection = &client.connection;
    let session = Arc::new(session);
    let mut streams: JoinSet<Result<(), FrameError>> = JoinSet::new();
    let code = loop {
        tokio::select! {
            biased;
            () = draining.begun() => break CloseCode::Draining,
            Some(ended) = streams.join_next() => if let Ok(Err(error)) = ended {
                tracing::info!(actor = %client.actor, %error, "a client breaks the protocol");
                return close(connection, CloseCode::Malformed, &error.to_string());
            },
            accepted = connection.accept_bi(), if streams.len() < CLIENT_STREAMS_MAX => match accepted {
                Ok((send, receive)) => {
                    streams.spawn(serve_stream(session.clone(), send, receive, draining.clone()));
                }
                Err(_closed) => break CloseCode::Done,
            },
        }
    };
    while streams.join_next().await.is_some() {}
    close(connection, code, "");
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
    // A task of its own, so that whatever wakes one half does not poll the other; it ends with this one.
    let mut reading = JoinSet::new();
    reading.spawn(read_calls(session, receive, replies, draining));
    write_replies(send, waiting).await;
    // If the reader panicked, the client did not break the protocol.
    reading.join_next().await.and_then(Result::ok).unwrap_or(Ok(()))
}

/// Reads calls and starts them, until the client has no more, nobody takes the replies, or the node drains.
async fn read_calls(
    session: Arc<Session>,
    mut receive: RecvStream,
    replies: mpsc::Sender<Waiting>,
    mut draining: Draining,
) -> Result<(), FrameError> {
    let mut frames = FrameReader::<ClientFrame>::default();
    let mut room = None;
    // One wait for all pieces: to begin it anew for each would cost more than to look at it.
    let unwanted = async {
        tokio::select! {
            biased;
            () = replies.closed() => {}
            () = draining.begun() => {}
        }
    };
    tokio::pin!(unwanted);
    loop {
        let piece = tokio::select! {
            biased;
            () = &mut unwanted => return Ok(()),
            piece = receive.read_chunk(PIECE_BYTES_MAX, true) => piece,
        };
        // A lost connection and a reset stream end it as its finish does: whoever cared is gone.
        let Ok(Some(piece)) = piece else { return Ok(()) };
        frames.push(&piece.bytes);
        while let Some(frame) = frames.next_frame()? {
            room = None;
            for call in frame.calls {
                let Ok(in_flight) = session.in_flight.clone().acquire_owned().await else { return Ok(()) };
                let place = Place { _in_flight: in_flight, reply: session.replies.take(&call.call).await };
                session.begin(call, place, replies.clone());
            }
        }
        if room.is_none()
            && let Some(bytes) = frames.frame_bytes()
            && bytes as usize > PIECE_BYTES_MAX
        {
            room = session.room.clone().acquire_many_owned(bytes).await.ok();
        }
    }
}

impl Session {
    fn new(calls: Calls, replies: ReplyRoom) -> Self {
        let [in_flight, room] = [CALLS_IN_FLIGHT_MAX, CLIENT_FRAME_BYTES_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { calls: Arc::new(calls), in_flight, replies, room }
    }

    /// Makes a call; once more, if it reads a whole pool that needs a longer place.
    fn begin(self: &Arc<Self>, call: ClientCall, place: Place, replies: mpsc::Sender<Waiting>) {
        if !is_of_whole_pool(&call.call) {
            return self.make(call, place, replies);
        }
        let (session, begun, again) = (self.clone(), Instant::now(), call.clone());
        self.calls.begin(call, move |reply| match (&reply.reply, &place.reply) {
            (Ok(told), Some(reserved)) if !session.replies.holds(reserved, told) => {
                drop(reply);
                tokio::spawn(session.make_longest(again, begun, place, replies));
            }
            _ => _ = replies.try_send((reply, place)),
        });
    }

    fn make(&self, call: ClientCall, place: Place, replies: mpsc::Sender<Waiting>) {
        // There is room; and if nobody takes replies any more, the client is gone.
        self.calls.begin(call, move |reply| _ = replies.try_send((reply, place)));
    }

    /// Makes a call in a place for the longest reply, within what is left of its time.
    async fn make_longest(
        self: Arc<Self>,
        call: ClientCall,
        begun: Instant,
        place: Place,
        replies: mpsc::Sender<Waiting>,
    ) {
        // The place that is too short first: waiting for more with it in hand, such calls could wait for each other.
        let Place { _in_flight, reply } = place;
        drop(reply);
        let reply = self.replies.take_longest(&call.call).await;
        let left = timeout_of(call.timeout_ms).saturating_sub(begun.elapsed());
        let call = ClientCall { timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1), ..call };
        self.make(call, Place { _in_flight, reply }, replies);
    }
}

/// Writes replies as they come, all that wait in one frame, until no call is left that could give one.
async fn write_replies(mut send: SendStream, mut waiting: mpsc::Receiver<Waiting>) {
    let (mut batch, mut places) = (Vec::new(), Vec::new());
    while waiting.recv_many(&mut batch, REPLIES_PER_FRAME_MAX).await > 0 {
        // Each is dropped once it is encoded: no more of them is held than was weighed.
        let replies = batch.drain(..).map(|(reply, place)| {
            places.push(place);
            reply
        });
        for frame in frames(replies) {
            match timeout(UNREAD_MAX, send.write_all(&frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_gone)) => return,
                Err(_) => {
                    tracing::info!(
                        "a client does not take its replies for {} s: its stream ends",
                        UNREAD_MAX.as_secs()
                    );
                    return;
                }
            }
        }
        places.clear();
    }
    // Closing the connection drops what is under way, so wait until it has arrived. Both fail only if nobody cares.
    let _ = send.finish();
    let _ = send.stopped().await;
}

/// The replies in as few frames as is reasonable, encoded.
fn frames(replies: impl ExactSizeIterator<Item = ClientReply>) -> Vec<Vec<u8>> {
    let (mut frames, mut frame) = (vec![], FrameBuilder::<ServerFrame>::with_room(REPLY_BYTES * replies.len()));
    for reply in replies {
        if let Err(error) = frame.push(&reply) {
            // That is the one reply of a read: outcomes are short.
            let failure = NotApplied::Malformed(format!("the answer cannot be sent: {error}"));
            let reply = ClientReply { reply: Err(failure.into()), ..reply };
            frame.push(&reply).expect("failures are short");
        }
        if frame.is_longer(FRAME_BYTES_AIM) {
            let next = frame.split_last();
            frames.extend(std::mem::replace(&mut frame, next).finish());
        }
    }
    frames.extend(frame.finish());
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Read,
        client::Reply,
        pool::{Answer, Verification},
        types::{Index, Millis},
    };

    /// A reply of about so many bytes.
    fn reply(id: u64, bytes: usize) -> ClientReply {
        let violations = vec!["x".repeat(bytes)];
        let answer = Answer::Verified(Verification { pools: 0, items: 0, keys: 0, violations });
        ClientReply { id, now: Millis(1), reply: Ok(Reply::Read(Read { index: Index(1), now: Millis(1), answer })) }
    }

    fn decode(bytes: &[u8]) -> Vec<ClientReply> {
        let mut reader = FrameReader::<ServerFrame>::default();
        reader.push(bytes);
        let frame = reader.next_frame().unwrap().expect("a whole frame");
        assert_eq!(reader.frame_bytes(), None);
        frame.replies
    }

    #[test]
    fn what_waits_goes_together_in_frames_of_reasonable_length() {
        let replies: Vec<_> = (0..100).map(|id| reply(id, 10_000)).collect();
        let frames = frames(replies.clone().into_iter());
        assert_eq!(frames.len(), 4, "a megabyte in quarters");
        assert!(frames.iter().all(|frame| frame.len() < FRAME_BYTES_AIM + 100));
        let decoded: Vec<_> = frames.iter().flat_map(|frame| decode(frame)).collect();
        assert_eq!(decoded, replies);
        assert!(super::frames([].into_iter()).is_empty());
    }

    #[test]
    fn a_long_reply_has_a_frame_of_its_own() {
        let replies = [reply(1, 10), reply(2, 1 << 20), reply(3, 10)];
        let ids: Vec<Vec<_>> = frames(replies.into_iter())
            .iter()
            .map(|frame| decode(frame).iter().map(|reply| reply.id).collect())
            .collect();
        assert_eq!(ids, [[1], [2], [3]]);
    }

    #[test]
    fn a_reply_that_fits_no_frame_is_told_as_a_failure() {
        let told: Vec<_> =
            frames([reply(1, 10), reply(2, 17 << 20)].into_iter()).iter().flat_map(|frame| decode(frame)).collect();
        assert!(told[0].reply.is_ok());
        let Err(failure) = &told[1].reply else { panic!("it does not fit") };
        assert_eq!((told[1].id, failure.code()), (2, "MALFORMED"));
    }
}
