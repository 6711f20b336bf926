//! One connection to one endpoint: many calls at a time over one bidirectional stream.
//!
//! A [`Link`] exists at once; connecting is its task's first act, and calls queue meanwhile. Whatever is queued when a
//! frame can be written goes into it together, so that batches form by themselves. Replies find their callers by number.
//! A link that fails is never mended: the next call makes another.
//!
//! How a link ended is noted before anybody who waits is let go, so that each learns the reason, whenever its call came.
//! In TLS 1.3 a client takes the handshake for complete before the node has looked at its certificate: a call may have been
//! written by the time that the refusal arrives. The node has looked at nothing of it, so it was not applied. Once it has
//! replied to anything, a refusal proves nothing any more, and is a failure like others.
//!
//! Whether a call *left* is known exactly. Caller and writer race for the call's `taken` flag: if the caller gives up
//! first, the writer drops the call; if the writer takes it first, giving up means "possibly applied".

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustc_hash::FxHashMap;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Call, ClientCall, ClientFrame, ClientReply, ServerFrame,
    wire::{CloseCode, Frame, FrameBuilder, FrameReader},
};
use crate::transport::{
    identity::NODE_NAME,
    quic::{RefusedBy, one_line, refused_by},
};

/// How long connecting may take, over all addresses of the endpoint's name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Calls waiting for the writer; beyond them callers wait.
const QUEUE_CALLS_MAX: usize = 4_096;
/// Room in a frame for what is not a call.
const FRAME_OVERHEAD_BYTES: usize = 64;
/// The longest call in bytes that a node would accept.
pub(super) const CALL_BYTES_MAX: usize = ClientFrame::BYTES_MAX - FRAME_OVERHEAD_BYTES;
/// How much is read at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// Why a call on a link has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// It never left; the reason in words.
    NotSent(String),
    /// One side does not accept the other's certificate, or its protocol: whatever left was not looked at. Why, in words.
    Refused(String),
    /// It left, and the link was lost.
    Lost,
    /// It left, and time ran out.
    TimedOut,
}

/// A call on its way to the writer.
struct Queued {
    call: Call,
    /// What the node is given, in milliseconds.
    timeout_ms: u32,
    /// Set by whoever comes first: the writer, who then sends the call, or the caller, who then leaves.
    taken: Arc<AtomicBool>,
    reply: oneshot::Sender<ClientReply>,
}

/// How a link ended, in words.
#[derive(Clone, Debug)]
enum End {
    /// One side does not accept the other. Nothing that was sent was looked at.
    Refused(String),
    /// Otherwise.
    Failed(String),
}

impl End {
    /// What it means that a connection ended so.
    fn of(error: &ConnectionError) -> Self {
        match (refused_by(error), error) {
            (Some(RefusedBy::Us), ConnectionError::TransportError(error)) => {
                Self::Refused(format!("its certificate is not accepted: {}", one_line(&error.reason)))
            }
            (Some(RefusedBy::Them(why)), _) => Self::Refused(format!("it does not accept this client: {why}")),
            (_, ConnectionError::ApplicationClosed(close))
                if close.error_code == CloseCode::Refused.number().into() =>
            {
                let why = one_line(&String::from_utf8_lossy(&close.reason));
                Self::Refused(format!("it does not accept this client: {why}"))
            }
            _ => Self::Failed(one_line(&error.to_string())),
        }
    }

    /// The same of a connection on which the node has replied: it accepted the other side then, and looked at what was
    /// sent. Whatever it says now, calls under way may have been applied.
    fn after_replies(self) -> Self {
        match self {
            Self::Refused(why) | Self::Failed(why) => Self::Failed(why),
        }
    }
}

/// A connection, or the attempt to make one. Cheap to clone; the last clone's end closes it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    queue: mpsc::Sender<Queued>,
    /// Set before any call is let go without a reply.
    end: Arc<OnceLock<End>>,
}

impl Link {
    /// A link to `address`, `host:port`, and its task, which ends after the link's last clone. Must be called within a
    /// tokio runtime.
    pub(super) fn start(address: String, config: ClientConfig) -> (Self, JoinHandle<()>) {
        let (queue, calls) = mpsc::channel(QUEUE_CALLS_MAX);
        let end = Arc::<OnceLock<End>>::default();
        (Self { queue, end: end.clone() }, tokio::spawn(run(address, config, calls, end)))
    }

    /// Has it failed? Then another one is needed.
    pub(super) fn is_lost(&self) -> bool {
        self.queue.is_closed()
    }

    /// Are they clones of one link?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.queue.same_channel(&other.queue)
    }

    /// Makes a call and waits for its reply, `timeout` in all; the node is given `node_timeout`. The call must not be
    /// longer than [`CALL_BYTES_MAX`].
    pub(super) async fn call(
        &self,
        call: Call,
        node_timeout: Duration,
        timeout: Duration,
    ) -> Result<ClientReply, NoReply> {
        let taken = Arc::new(AtomicBool::new(false));
        let (reply, answer) = oneshot::channel();
        let timeout_ms = u32::try_from(node_timeout.as_millis()).unwrap_or(u32::MAX);
        let queued = Queued { call, timeout_ms, taken: taken.clone(), reply };
        let exchange = async {
            self.queue.send(queued).await.ok()?;
            answer.await.ok()
        };
        let no_reply = match tokio::time::timeout(timeout, exchange).await {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => NoReply::Lost,
            Err(_) => NoReply::TimedOut,
        };
        // Whatever happened to a call that the writer never took, and now never will, it did not leave.
        let never_left = !taken.swap(true, Ordering::AcqRel);
        Err(match self.end.get() {
            Some(End::Refused(why)) => NoReply::Refused(why.clone()),
            Some(End::Failed(why)) if never_left => NoReply::NotSent(why.clone()),
            None if never_left => NoReply::NotSent("no connection in time".to_owned()),
            _ => no_reply,
        })
    }
}

/// A link's life: connect, exchange frames, fail, and tell whoever waits.
async fn run(address: String, config: ClientConfig, mut calls: mpsc::Receiver<Queued>, end: Arc<OnceLock<End>>) {
    let callers = Callers::default();
    let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connect(&address, config)).await {
        Err(_) => Err(End::Failed("it does not answer".to_owned())),
        Ok(connected) => connected,
    };
    let (ended, connected) = match connected {
        Err(ended) => (ended, None),
        Ok((endpoint, connection)) => {
            let mut heard = false;
            let why = exchange(&connection, &mut calls, &callers, &mut heard).await;
            // What the connection says is nearer to the cause than what became of its streams.
            let ended = connection.close_reason().map_or(End::Failed(why), |error| End::of(&error));
            let ended = if heard { ended.after_replies() } else { ended };
            (ended, Some((endpoint, connection)))
        }
    };
    tracing::debug!(address, ?ended, "link ended");
    end.set(ended).expect("a link ends once");
    // Whoever waits has lost its sender now, and looks how the link ended.
    drop((calls, callers));
    if let Some((endpoint, connection)) = connected {
        connection.close(CloseCode::Done.number().into(), b"");
        // Without this the close frame may stay behind when the process ends.
        let _ = tokio::time::timeout(Duration::from_millis(50), endpoint.wait_idle()).await;
    }
}

/// Connects to the first of the name's addresses that answers, IPv4 first.
async fn connect(address: &str, config: ClientConfig) -> Result<(Endpoint, Connection), End> {
    let failed = |error: &dyn std::fmt::Display| End::Failed(error.to_string());
    let mut addresses: Vec<SocketAddr> =
        tokio::net::lookup_host(address).await.map_err(|error| failed(&error))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let share = CONNECT_TIMEOUT / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut end = End::Failed("the name has no address".to_owned());
    for remote in addresses {
        let local: SocketAddr = if remote.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let endpoint = Endpoint::client(local).map_err(|error| failed(&error))?;
        let connecting = endpoint.connect_with(config.clone(), remote, NODE_NAME).map_err(|error| failed(&error))?;
        end = match tokio::time::timeout(share, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection)),
            Ok(Err(error)) => End::of(&error),
            Err(_) => End::Failed("it does not answer".to_owned()),
        };
        if let End::Refused(_) = end {
            break;
        }
    }
    Err(end)
}

/// Callers by the number of their call. When the link fails their senders are dropped, which tells them so.
type Callers = Mutex<FxHashMap<u64, oneshot::Sender<ClientReply>>>;

/// Writes calls and reads replies until one of the two fails; says why, in words. `heard`: the node said something.
async fn exchange(
    connection: &Connection,
    calls: &mut mpsc::Receiver<Queued>,
    callers: &Callers,
    heard: &mut bool,
) -> String {
    let (send, receive) = match connection.open_bi().await {
        Ok(streams) => streams,
        Err(error) => return error.to_string(),
    };
    tokio::select! {
        biased;
        why = read(receive, callers, heard) => why,
        why = write(send, calls, callers) => why,
    }
}

async fn read(mut receive: RecvStream, callers: &Callers, heard: &mut bool) -> String {
    let mut reader = FrameReader::<ServerFrame>::default();
    loop {
        match receive.read_chunk(READ_BYTES_MAX, true).await {
            Ok(Some(chunk)) => {
                *heard = true;
                reader.push(&chunk.bytes);
            }
            Ok(None) => return "the node closed the stream".to_owned(),
            Err(error) => return error.to_string(),
        }
        loop {
            match reader.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => frame.replies.into_iter().for_each(|reply| deliver(reply, callers)),
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Gives a reply to its caller. One that nobody waits for, or of a number never given out, is dropped.
fn deliver(reply: ClientReply, callers: &Callers) {
    let caller = callers.lock().expect("no caller panics under this lock").remove(&reply.id);
    if let Some(caller) = caller {
        let _ = caller.send(reply);
    }
}

async fn write(mut send: SendStream, calls: &mut mpsc::Receiver<Queued>, callers: &Callers) -> String {
    let mut next_id = 0;
    let mut queued = Vec::new();
    loop {
        if calls.recv_many(&mut queued, QUEUE_CALLS_MAX).await == 0 {
            return "nobody needs it any more".to_owned();
        }
        // Callers that were woken together get the chance to ride in one frame.
        tokio::task::yield_now().await;
        while queued.len() < QUEUE_CALLS_MAX
            && let Ok(more) = calls.try_recv()
        {
            queued.push(more);
        }
        for frame in frames(queued.drain(..), &mut next_id, callers) {
            if let Err(error) = send.write_all(&frame).await {
                return error.to_string();
            }
        }
    }
}

/// The waiting calls in as few frames as possible, each taken from its caller, who is kept in `callers`.
fn frames(waiting: impl Iterator<Item = Queued>, next_id: &mut u64, callers: &Callers) -> Vec<Vec<u8>> {
    let (mut frames, mut frame) = (vec![], FrameBuilder::<ClientFrame>::default());
    let mut callers = callers.lock().expect("no caller panics under this lock");
    for Queued { call, timeout_ms, taken, reply } in waiting {
        if taken.swap(true, Ordering::AcqRel) {
            continue;
        }
        let id = *next_id;
        *next_id += 1;
        frame.push(&ClientCall { id, timeout_ms, call }).expect("a call fits into a frame: see CALL_BYTES_MAX");
        callers.insert(id, reply);
        if frame.is_longer(ClientFrame::BYTES_MAX) {
            let next = frame.split_last();
            frames.extend(std::mem::replace(&mut frame, next).finish());
        }
    }
    frames.extend(frame.finish());
    frames
}
