//! One connection to one peer, from greeting to loss.

use std::{convert::Infallible, io, time::Duration};

use quinn::{ConnectError, Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use tokio::time::{Instant, timeout};

use super::{
    super::{
        frame::{Decoder, Frame, FrameError, encode},
        identity::Refused,
    },
    queue::{Inbox, NodeGone, Outbox},
    settings::{Code, HANDSHAKE_MAX},
};

/// Bytes taken from a stream at a time.
const READ_BYTES_MAX: usize = 64 << 10;

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{address} cannot be resolved: {source}")]
    Unresolved { address: String, source: io::Error },
    #[error("{address} resolves to no address that can be reached from here")]
    NoAddress { address: String },
    #[error(transparent)]
    Undialable(#[from] ConnectError),
    #[error("nobody answers")]
    Unanswered,
    #[error("it was not admitted within {} s", HANDSHAKE_MAX.as_secs())]
    Silent,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its stream ended")]
    Stream,
    #[error("it spoke without a greeting")]
    NoGreeting,
    #[error("a newer connection took its place")]
    Replaced,
    #[error("the node is gone")]
    NodeGone,
}

impl Lost {
    /// For the log, on one line: what the other side says of its reasons is not trusted.
    pub(super) fn reason(&self) -> String {
        self.to_string().replace(char::is_control, " ")
    }

    /// Somebody, here or there, did not accept the other's identity: an operator must look at it.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Connection(error) => is_tls_refusal(error),
            _ => false,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Refused(_) => Code::Refused,
            Self::Replaced => Code::Replaced,
            Self::Frame(_) | Self::NoGreeting => Code::Protocol,
            _ => Code::Stopping,
        }
    }
}

/// Did the handshake fail over a certificate, a name or a protocol?
fn is_tls_refusal(error: &ConnectionError) -> bool {
    // RFC 9001, section 4.8: 0x0100 to 0x01ff carry TLS alerts.
    let is_alert = |code| (0x100..0x200).contains(&u64::from(code));
    match error {
        ConnectionError::TransportError(error) => is_alert(error.code),
        ConnectionError::ConnectionClosed(close) => is_alert(close.error_code),
        ConnectionError::ApplicationClosed(close) => close.error_code == Code::Refused.into(),
        _ => false,
    }
}

impl From<NodeGone> for Lost {
    fn from(NodeGone: NodeGone) -> Self {
        Self::NodeGone
    }
}

impl From<WriteError> for Lost {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Stream,
        }
    }
}

impl From<ReadError> for Lost {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Stream,
        }
    }
}

/// A session is over.
#[derive(Debug)]
pub(super) struct Ended {
    /// How long the peer was connected; `None` if it never got to the greeting.
    pub(super) up: Option<Duration>,
    /// Why it is not any more.
    pub(super) why: Lost,
}

/// Speaks with the peer until the connection is lost, the node is gone or `interrupted` says so; then closes it. The
/// node is told of the loss exactly once, if the peer was ever connected.
pub(super) async fn run(
    connection: Connection,
    outbox: &Outbox,
    inbox: &Inbox,
    interrupted: impl Future<Output = Lost>,
) -> Ended {
    let mut since = None;
    let why = tokio::select! {
        biased;
        why = interrupted => why,
        NodeGone = inbox.gone() => Lost::NodeGone,
        error = connection.closed() => error.into(),
        why = speak(&connection, outbox, inbox, &mut since) => why,
    };
    outbox.close();
    connection.close(why.code().into(), why.to_string().as_bytes());
    let up = since.map(|since: Instant| since.elapsed());
    if up.is_some() {
        // If the node is gone, nobody wants to know.
        let _ = inbox.unreachable().await;
    }
    Ended { up, why }
}

/// Greets, then carries frames both ways until one of them fails.
async fn speak(connection: &Connection, outbox: &Outbox, inbox: &Inbox, since: &mut Option<Instant>) -> Lost {
    let (sender, reader) = match timeout(HANDSHAKE_MAX, greet(connection)).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(why)) => return why,
        Err(_) => return Lost::Silent,
    };
    *since = Some(Instant::now());
    outbox.open();
    tracing::info!(peer = %inbox.peer(), address = %connection.remote_address(), "peer connected");
    let result = tokio::select! {
        biased;
        result = write(sender, outbox) => result,
        result = reader.read(inbox) => result,
    };
    match result {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

/// Opens the stream outward, and waits for the peer's.
async fn greet(connection: &Connection) -> Result<(SendStream, Reader), Lost> {
    let mut sender = connection.open_uni().await?;
    sender.write_all_chunks(&mut encode([Frame::greeting()])).await?;
    let mut reader = Reader { stream: connection.accept_uni().await?, decoder: Decoder::default() };
    // Were there a payload, it would not be waited for: nothing is received before room is made for it.
    if reader.until(Decoder::payload_bytes).await? != 0 {
        return Err(Lost::NoGreeting);
    }
    reader.until(Decoder::next_payload).await?;
    Ok((sender, reader))
}

async fn write(mut sender: SendStream, outbox: &Outbox) -> Result<Infallible, Lost> {
    loop {
        let frames = outbox.take().await;
        sender.write_all_chunks(&mut encode(frames)).await?;
    }
}

/// Frames off a stream.
struct Reader {
    stream: RecvStream,
    decoder: Decoder,
}

impl Reader {
    async fn read(mut self, inbox: &Inbox) -> Result<Infallible, Lost> {
        loop {
            let payload_bytes = self.until(Decoder::payload_bytes).await?;
            let room = inbox.reserve(payload_bytes).await;
            self.decoder.reserve();
            let payload = self.until(Decoder::next_payload).await?;
            inbox.frame(payload, room).await?;
        }
    }

    /// Pushes bytes into the decoder until it gives something.
    async fn until<T>(
        &mut self,
        mut take: impl FnMut(&mut Decoder) -> Result<Option<T>, FrameError>,
    ) -> Result<T, Lost> {
        loop {
            if let Some(taken) = take(&mut self.decoder)? {
                return Ok(taken);
            }
            let chunk = self.stream.read_chunk(READ_BYTES_MAX, true).await?.ok_or(Lost::Stream)?;
            self.decoder.push(&chunk.bytes);
        }
    }
}
