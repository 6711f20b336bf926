//! A node's door: what `tombola::server` does for the native protocol, without QUIC.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tombola::{
    api::{Consistency, Failure, Request},
    client::{
        Call, ClientCall, ClientFrame, ClientReply, Reply, ServerFrame,
        wire::{FrameReader, encode_frame},
    },
    pool::{PoolId, Query, RequestKey},
    runtime::NodeHandle,
    types::Millis,
};

use super::{
    actor,
    seal::{open, seal},
};
use crate::network::{Door, Replier};

/// For calls that come without a deadline.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Serves whoever comes to a node's door, for as long as it is open. To be run on the node's own tasks, once in its life.
pub async fn serve(mut door: Door, handle: NodeHandle) {
    // Later lives begin later, and by at least a millisecond.
    let life = u64::try_from(madsim::time::TimeHandle::current().elapsed().as_micros()).expect("it is short") + 1;
    let replier = door.replier();
    let mut sessions = BTreeMap::<u64, Arc<Session>>::new();
    let mut seen = BTreeSet::new();
    while let Some((client, packet)) = door.receive().await {
        let Some((of, frame)) = open(&packet) else { continue };
        if of != life {
            replier.send(client, seal(life, &[]).into());
            continue;
        }
        let mut reader = FrameReader::<ClientFrame>::default();
        reader.push(frame);
        let Ok(Some(frame)) = reader.next_frame() else { continue };
        let session = sessions.entry(client).or_insert_with(|| {
            Arc::new(Session { client, life, node: handle.clone(), replier: replier.clone(), now: AtomicU64::new(0) })
        });
        for call in frame.calls {
            // A stream brings each call once.
            if seen.insert((client, call.id)) {
                tokio::spawn(answer(session.clone(), call));
            }
        }
    }
}

/// What all calls of a client share.
struct Session {
    client: u64,
    life: u64,
    node: NodeHandle,
    replier: Replier,
    /// The newest cluster time that an answer held: failures have none of their own.
    now: AtomicU64,
}

/// Makes one call and sends its reply.
async fn answer(session: Arc<Session>, ClientCall { id, timeout_ms, call }: ClientCall) {
    let timeout = match timeout_ms {
        0 => TIMEOUT_DEFAULT,
        ms => Duration::from_millis(ms.into()),
    };
    let reply = session.make(call, timeout).await;
    if session.now().0 == 0 {
        session.look(timeout).await;
    }
    let frame = ServerFrame { replies: vec![ClientReply { id, now: session.now(), reply }] };
    let bytes = encode_frame(&frame).expect("what a plan can ask for has a short answer");
    session.replier.send(session.client, seal(session.life, &bytes).into());
}

impl Session {
    async fn make(&self, call: Call, timeout: Duration) -> Result<Reply, Failure> {
        match call {
            Call::Submit { pool, key, action } => {
                let request = Request { pool, key, actor: actor(self.client), action };
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
                self.look(timeout).await;
                Ok(Reply::Status(self.node.status().await?))
            }
            Call::HistoryAt(index) => Ok(Reply::HistoryAt(self.node.history_at(index).await?)),
            Call::Transfer(to) => self.node.transfer(to, timeout).await.map(|()| Reply::Transferred),
        }
    }

    /// The newest cluster time that was seen; 0 before the first.
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::Relaxed))
    }

    /// Looks what time this node has, if it answers.
    async fn look(&self, timeout: Duration) {
        let any = Query::Outcome(PoolId::default_pool(), RequestKey::new(Millis(0), [0; 10]));
        if let Ok(read) = self.node.read(any, Consistency::Stale, timeout).await {
            self.saw(read.now);
        }
    }

    /// Cluster time stood here. A replay tells an older one.
    fn saw(&self, now: Millis) {
        self.now.fetch_max(now.0, Ordering::Relaxed);
    }
}
