//! One connection to one endpoint: many calls at a time over one bidirectional stream.
//!
//! A [`Link`] exists at once; connecting is its task's first act, and calls wait meanwhile, in [`Calls`]. Whatever waits
//! when a frame can be written goes into it together, so that batches form by themselves. A link that fails is never
//! mended: the next call makes another.
//!
//! How a link ended is noted before anybody who waits is let go, so that each learns the reason, whenever its call came.
//! In TLS 1.3 a client takes the handshake for complete before the node has looked at its certificate: a call may have been
//! written by the time that the refusal arrives. The node has looked at nothing of it, so it was not applied. Once it has
//! replied to anything, a refusal proves nothing any more, and is a failure like others.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::task::JoinHandle;

use super::{
    Call, ClientReply, ServerFrame,
    calls::{Calls, End, NoReply},
    sockets::Sockets,
    wire::{CloseCode, FrameReader},
};
use crate::transport::quic::{RefusedBy, one_line, refused_by};

/// How long connecting may take, over all addresses of the endpoint's name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How much is read at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// How to connect.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// Over which sockets.
    pub(super) sockets: Sockets,
    /// Who we are, whom we trust, and QUIC's settings.
    pub(super) config: ClientConfig,
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
pub(super) struct Link(Arc<Hold>);

/// What all clones of a link hold; its task does not.
#[derive(Debug)]
struct Hold(Arc<Calls>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a link's task holds: however the task goes, by a panic or with its runtime, whoever waits is let go.
#[derive(Debug)]
struct Task(Arc<Calls>);

impl Drop for Task {
    fn drop(&mut self) {
        if !self.0.is_ended() {
            self.0.end(End::Failed("nobody serves the connection any more".to_owned()));
        }
    }
}

impl Link {
    /// A link to `address`, `host:port`, and its task, which ends after the link's last clone. Must be called within a
    /// tokio runtime.
    pub(super) fn start(address: String, dialer: Dialer) -> (Self, JoinHandle<()>) {
        let calls = Arc::<Calls>::default();
        (Self(Arc::new(Hold(calls.clone()))), tokio::spawn(run(address, dialer, Task(calls))))
    }

    /// Has it failed? Then another one is needed.
    pub(super) fn is_lost(&self) -> bool {
        self.0.0.is_ended()
    }

    /// Are they clones of one link?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Makes a call and waits for its reply until `deadline`; the node is given `node_timeout`.
    pub(super) async fn call(
        &self,
        call: &Call,
        node_timeout: Duration,
        deadline: Instant,
    ) -> Result<ClientReply, NoReply> {
        self.0.0.call(call, node_timeout, deadline).await
    }
}

/// A link's life: connect, exchange frames, fail, and tell whoever waits. Whose time is over meanwhile is let go.
async fn run(address: String, dialer: Dialer, task: Task) {
    let calls = &task.0;
    let (ended, connected) = tokio::select! {
        biased;
        ended = live(&address, &dialer, calls) => ended,
        () = calls.sweep() => unreachable!("there is always another sweep"),
    };
    tracing::debug!(address, ?ended, "link ended");
    calls.end(ended);
    if let Some((endpoint, connection)) = connected {
        connection.close(CloseCode::Done.number().into(), b"");
        // Without this the close frame may stay behind when the process ends.
        let _ = tokio::time::timeout(Duration::from_millis(50), endpoint.wait_idle()).await;
    }
}

/// Connects and exchanges frames; how that ended, and the connection, if there was one.
async fn live(address: &str, dialer: &Dialer, calls: &Calls) -> (End, Option<(Endpoint, Connection)>) {
    let (endpoint, connection) = match tokio::time::timeout(CONNECT_TIMEOUT, connect(address, dialer)).await {
        Err(_) => return (End::Failed("it does not answer".to_owned()), None),
        Ok(Err(ended)) => return (ended, None),
        Ok(Ok(connected)) => connected,
    };
    let mut heard = false;
    let why = exchange(&connection, calls, &mut heard).await;
    // What the connection says is nearer to the cause than what became of its streams.
    let ended = connection.close_reason().map_or(End::Failed(why), |error| End::of(&error));
    let ended = if heard { ended.after_replies() } else { ended };
    (ended, Some((endpoint, connection)))
}

/// Connects to the first of the name's addresses that answers, IPv4 first.
async fn connect(address: &str, dialer: &Dialer) -> Result<(Endpoint, Connection), End> {
    let found = tokio::net::lookup_host(address).await.map_err(|error| End::Failed(error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    // A tenth is kept back: who does not answer is to be noticed here.
    let share = CONNECT_TIMEOUT * 9 / 10 / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut end = End::Failed("the name has no address".to_owned());
    for remote in addresses {
        let (endpoint, connecting) = dialer.sockets.dial(dialer.config.clone(), remote).map_err(End::Failed)?;
        end = match tokio::time::timeout(share, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection)),
            Ok(Err(error)) => End::of(&error),
            Err(_) => {
                dialer.sockets.leave(&endpoint);
                End::Failed("it does not answer".to_owned())
            }
        };
        if let End::Refused(_) = end {
            break;
        }
    }
    Err(end)
}

/// Writes calls and reads replies until one of the two fails; says why, in words. `heard`: the node said something.
async fn exchange(connection: &Connection, calls: &Calls, heard: &mut bool) -> String {
    let (send, receive) = match connection.open_bi().await {
        Ok(streams) => streams,
        Err(error) => return error.to_string(),
    };
    tokio::select! {
        biased;
        why = read(receive, calls, heard) => why,
        why = write(send, calls) => why,
    }
}

async fn read(mut receive: RecvStream, calls: &Calls, heard: &mut bool) -> String {
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
                Ok(Some(frame)) => calls.deliver(frame.replies),
                Err(error) => return error.to_string(),
            }
        }
    }
}

async fn write(mut send: SendStream, calls: &Calls) -> String {
    while calls.wait().await {
        // Callers that were woken together get the chance to ride in one frame.
        tokio::task::yield_now().await;
        // One at a time: what waits behind a frame has not left.
        while let Some(frame) = calls.next_frame() {
            if let Err(error) = send.write_chunk(frame.into()).await {
                return error.to_string();
            }
        }
    }
    "nobody needs it any more".to_owned()
}
