//! One connection to one peer, from greeting to loss.
//!
//! Six tasks carry frames, one a lane and direction, so that none waits for another: neither for bytes that are late, nor
//! for a checksum, nor for room. Between lanes that have something to send, quinn chooses by the priority of their streams.

use std::{convert::Infallible, future::pending, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    super::{
        Lane,
        frame::{Decoder, Frame, FrameError, encode},
        greeting::{GREETING_BYTES_MAX, Greeting, NoGreeting},
        identity::Refused,
    },
    inbox::{Inbox, NodeGone, Session},
    log::Log,
    lost::Lost,
    outbox::Outbox,
    settings::{HANDSHAKE_MAX, priority},
};

/// Bytes taken from a stream at a time.
const READ_BYTES_MAX: usize = 64 << 10;
/// A connection that has lasted so long was accepted: a refusal of what the node says of itself comes sooner.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// What a node and the connections to one peer share.
pub(super) struct Ends {
    pub(super) outbox: Arc<Outbox>,
    pub(super) inbox: Arc<Inbox>,
    /// What the node introduces itself with, once it is known.
    pub(super) hello: watch::Receiver<Option<Bytes>>,
}

impl Ends {
    /// Waits until the node has introduced itself.
    pub(super) async fn introduction(&self) -> Result<Bytes, NodeGone> {
        let mut hello = self.hello.clone();
        let known = hello.wait_for(Option::is_some).await.map_err(|_| NodeGone)?;
        known.clone().ok_or(NodeGone)
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

/// Speaks with the peer until the connection is lost, the node is gone or refuses it, or `interrupted` says so; then
/// closes it. Nothing is received any more when it returns.
pub(super) async fn run(
    connection: Connection,
    session: Session,
    ends: &Ends,
    log: &mut Log,
    interrupted: impl Future<Output = Lost>,
) -> Ended {
    let mut lanes = JoinSet::new();
    let mut since = None;
    let why = tokio::select! {
        biased;
        why = interrupted => why,
        NodeGone = ends.inbox.gone() => Lost::NodeGone,
        // First what came before the end: a refusal may come in the same turn as the greeting, and says little without it.
        why = speak(&connection, session, ends, log, &mut lanes, &mut since) => why,
        error = connection.closed() => error.into(),
    };
    connection.close(why.code().into(), why.reason().as_bytes());
    lanes.shutdown().await;
    ends.outbox.close();
    Ended { up: since.map(|since: Instant| since.elapsed()), why }
}

/// Greets, tells the node whom it has met, then carries frames both ways until one of the lanes fails.
async fn speak(
    connection: &Connection,
    session: Session,
    ends: &Ends,
    log: &mut Log,
    lanes: &mut JoinSet<Lost>,
    since: &mut Option<Instant>,
) -> Lost {
    let Greeted { hello, senders, readers } = match timeout(HANDSHAKE_MAX, greet(connection, ends)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(why)) => return why,
        Err(_) => return Lost::Silent,
    };
    ends.outbox.open();
    let vetoed = match ends.inbox.met(session, hello).await {
        Ok(vetoed) => vetoed,
        Err(NodeGone) => return Lost::NodeGone,
    };
    *since = Some(Instant::now());
    log.met(connection.remote_address());
    for (lane, sender) in senders {
        lanes.spawn(write(lane, sender, ends.outbox.clone()));
    }
    for (lane, reader) in readers {
        lanes.spawn(reader.read_all(lane, session, ends.inbox.clone()));
    }
    let mut vetoed = pin!(veto(vetoed));
    let mut settled = pin!(sleep(SETTLED_AFTER));
    loop {
        tokio::select! {
            biased;
            reason = &mut vetoed => return Refused::Introduction(reason).into(),
            Some(ended) = lanes.join_next() => return ended.unwrap_or(Lost::Stream),
            () = &mut settled, if log.is_in_doubt() => log.settled(connection.remote_address()),
        }
    }
}

/// Waits until the node refuses the session, for as long as it takes.
async fn veto(vetoed: oneshot::Receiver<String>) -> String {
    match vetoed.await {
        Ok(reason) => reason,
        Err(_) => pending().await,
    }
}

/// Both sides have greeted.
struct Greeted {
    /// What the peer introduces itself with.
    hello: Bytes,
    senders: Vec<(Lane, SendStream)>,
    readers: Vec<(Lane, Reader)>,
}

/// Opens the streams outward, and waits for the peer's.
async fn greet(connection: &Connection, ends: &Ends) -> Result<Greeted, Lost> {
    let ours = ends.introduction().await?;
    let (mut senders, mut readers, mut theirs) = (vec![], vec![], None);
    for lane in Lane::ALL {
        let mut sender = connection.open_uni().await?;
        sender.set_priority(priority(lane)).map_err(|_closed| Lost::Stream)?;
        sender.write_all_chunks(&mut encode([Frame::greeting(&Greeting::of(lane, &ours))])).await?;
        senders.push((lane, sender));
    }
    for _ in Lane::ALL {
        let mut reader = Reader { stream: connection.accept_uni().await?, decoder: Decoder::new(GREETING_BYTES_MAX) };
        let lane = match Greeting::decode(&reader.until(Decoder::next_payload).await?)? {
            Greeting::Urgent { hello } => {
                theirs = Some(hello);
                Lane::Urgent
            }
            Greeting::Log => Lane::Log,
            Greeting::Bulk => Lane::Bulk,
        };
        if readers.iter().any(|(greeted, _)| *greeted == lane) {
            return Err(Lost::GreetedTwice);
        }
        reader.decoder.allow(lane.frame_bytes_max());
        readers.push((lane, reader));
    }
    Ok(Greeted { hello: theirs.ok_or(NoGreeting)?, senders, readers })
}

/// Writes what is queued on a lane until the stream fails.
async fn write(lane: Lane, mut sender: SendStream, outbox: Arc<Outbox>) -> Lost {
    loop {
        let frames = outbox.take(lane).await;
        if let Err(error) = sender.write_all_chunks(&mut encode(frames)).await {
            return error.into();
        }
    }
}

/// Frames off a stream.
struct Reader {
    stream: RecvStream,
    decoder: Decoder,
}

impl Reader {
    /// Reads until the stream fails.
    async fn read_all(mut self, lane: Lane, session: Session, inbox: Arc<Inbox>) -> Lost {
        match self.read(lane, session, &inbox).await {
            Ok(never) => match never {},
            Err(why) => why,
        }
    }

    async fn read(&mut self, lane: Lane, session: Session, inbox: &Inbox) -> Result<Infallible, Lost> {
        loop {
            let payload_bytes = self.until(Decoder::payload_bytes).await?;
            let room = inbox.reserve(lane, payload_bytes).await;
            self.decoder.reserve();
            let payload = self.until(Decoder::next_payload).await?;
            inbox.frame(session, lane, payload, room).await?;
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
