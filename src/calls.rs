//! The calls of the native protocol, made on a node: what stands between a connection's frames and its [`NodeHandle`].
//!
//! [`crate::server`] gives it what comes over QUIC, the simulator what comes over its own network: so the
//! simulation answers by the code of production. Deliberately absent: frames, bounds on what is in flight, and the proof of who
//! is calling.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    api::{Answered, Consistency, Failure, Read, Request},
    client::{Call, ClientCall, ClientReply, Reply},
    pool::{Action, Actor, PoolId, Query, RequestKey},
    runtime::NodeHandle,
    types::Millis,
};

/// For calls that come without a deadline, of any protocol.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// The time a node may take over a call; 0 stands for no deadline. The node cuts it to [`crate::runtime::TIMEOUT_MAX`].
pub fn timeout_of(timeout_ms: u32) -> Duration {
    match timeout_ms {
        0 => TIMEOUT_DEFAULT,
        ms => Duration::from_millis(ms.into()),
    }
}

/// What all calls of a connection share.
#[derive(Debug)]
pub struct Calls {
    actor: Actor,
    node: NodeHandle,
    /// The newest cluster time that an answer held, in milliseconds: failures have none of their own.
    now: AtomicU64,
}

impl Calls {
    /// Of a caller who is proved to be `actor`, on `node`.
    pub fn new(actor: Actor, node: NodeHandle) -> Self {
        Self { actor, node, now: AtomicU64::new(0) }
    }

    /// Makes a call, and hands its reply to `then`, which must do no more than hand it on: see [`NodeHandle::submit_then`].
    /// The reply holds the newest cluster time that this connection has seen, or else what this node has.
    ///
    /// Mutations and reads need no task of their own, once the time is known.
    pub fn begin(self: &Arc<Self>, call: ClientCall, then: impl FnOnce(ClientReply) + Send + 'static) {
        let calls = self.clone();
        match call {
            ClientCall { id, timeout_ms, call: Call::Submit { pool, key, action } } if self.now() > Millis(0) => {
                self.node.submit_then(self.request(pool, key, action), timeout_of(timeout_ms), move |answer| {
                    then(calls.reply(id, calls.submitted(answer)));
                });
            }
            ClientCall { id, timeout_ms, call: Call::Read { query, consistency } } if self.now() > Millis(0) => {
                let timeout = timeout_of(timeout_ms);
                self.node.read_then(query, consistency, timeout, move |answer| {
                    then(calls.reply(id, calls.read(answer)));
                });
            }
            call => _ = tokio::spawn(async move { then(calls.answer(call).await) }),
        }
    }

    async fn answer(&self, ClientCall { id, timeout_ms, call }: ClientCall) -> ClientReply {
        let timeout = timeout_of(timeout_ms);
        let reply = self.make(call, timeout).await;
        if self.now() == Millis(0) {
            self.look(timeout).await;
        }
        self.reply(id, reply)
    }

    async fn make(&self, call: Call, timeout: Duration) -> Result<Reply, Failure> {
        match call {
            Call::Submit { pool, key, action } => {
                self.submitted(self.node.submit(self.request(pool, key, action), timeout).await)
            }
            Call::Read { query, consistency } => self.read(self.node.read(query, consistency, timeout).await),
            Call::Status => {
                // Clients ask for the status to learn the time.
                self.look(timeout).await;
                Ok(Reply::Status(Box::new(self.node.status().await?)))
            }
            Call::HistoryAt(index) => Ok(Reply::HistoryAt(self.node.history_at(index).await?)),
            Call::Transfer(to) => self.node.transfer(to, timeout).await.map(|()| Reply::Transferred),
        }
    }

    fn request(&self, pool: PoolId, key: Option<RequestKey>, action: Action) -> Request {
        Request { pool, key, actor: self.actor.clone(), action }
    }

    fn submitted(&self, answer: Result<Answered, Failure>) -> Result<Reply, Failure> {
        let answered = answer?;
        self.saw(answered.outcome.now);
        Ok(Reply::Submitted(answered))
    }

    fn read(&self, answer: Result<Read, Failure>) -> Result<Reply, Failure> {
        let read = answer?;
        self.saw(read.now);
        Ok(Reply::Read(read))
    }

    fn reply(&self, id: u64, reply: Result<Reply, Failure>) -> ClientReply {
        ClientReply { id, now: self.now(), reply }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_deadline_has_two_seconds() {
        assert_eq!(timeout_of(0), Duration::from_secs(2));
        assert_eq!(timeout_of(1), Duration::from_millis(1));
    }
}
