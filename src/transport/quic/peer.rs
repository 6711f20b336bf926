//! One peer, for ever: dials it, or takes the connections it dials, and keeps at most one of them.
//!
//! Of two nodes the one with the greater id dials, so that no two connections meet half-way. The dialer returns after a
//! full-jitter back-off (after M. Brooker, "Exponential Backoff And Jitter", 2015): uniform between the shortest delay
//! and a ceiling that doubles with each failure. The listener takes a newer connection, once it is authenticated, for
//! the better one: the peer may have restarted without our noticing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{ClientConfig, Connection, Endpoint};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};

use super::{
    super::{
        identity::{Refused, peer_name},
        tls::NodeTls,
    },
    certificates,
    queue::{Inbox, Outbox},
    session::{self, Ended, Lost},
    settings::{ANSWER_MAX, Code, HANDSHAKE_MAX},
};
use crate::types::ReplicaId;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What a node and the connections to one peer share.
pub(super) struct Peer {
    pub(super) outbox: Arc<Outbox>,
    pub(super) inbox: Inbox,
}

impl Peer {
    /// Dials until the node is gone.
    pub(super) async fn keep_dialing(self, dialer: Dialer) {
        let mut log = Log::new(self.inbox.peer());
        let mut failures = 0;
        loop {
            let ended = match dialer.dial(failures).await {
                Ok(connection) => session::run(connection, &self.outbox, &self.inbox, std::future::pending()).await,
                Err(why) => Ended { up: None, why },
            };
            failures = if ended.up.is_some() { 0 } else { failures + 1 };
            log.ended(&ended);
            if let Ok(_gone) = timeout(backoff(failures), self.inbox.gone()).await {
                return;
            }
        }
    }

    /// Takes the newest of the connections that arrive, until none can arrive any more or the node is gone.
    pub(super) async fn keep_accepting(self, mut arrivals: mpsc::Receiver<Connection>) {
        let mut log = Log::new(self.inbox.peer());
        let mut newest = arrivals.recv().await;
        while let Some(connection) = newest {
            let mut newer = None;
            let replaced = async {
                newer = arrivals.recv().await;
                if newer.is_some() { Lost::Replaced } else { Lost::NodeGone }
            };
            let ended = session::run(connection, &self.outbox, &self.inbox, replaced).await;
            log.ended(&ended);
            newest = match ended.why {
                Lost::Replaced => newer,
                Lost::NodeGone => None,
                _ => arrivals.recv().await,
            };
        }
    }
}

/// The delay after this many failures in a row.
fn backoff(failures: u32) -> Duration {
    let ceiling = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(failures)).min(BACKOFF_MAX);
    rand::random_range(BACKOFF_MIN..=ceiling)
}

/// How one peer is dialed.
pub(super) struct Dialer {
    pub(super) endpoint: Endpoint,
    pub(super) config: ClientConfig,
    pub(super) tls: Arc<NodeTls>,
    pub(super) peer: ReplicaId,
    /// `host:port`, resolved at each dial.
    pub(super) address: String,
}

impl Dialer {
    /// One attempt, at one of the peer's addresses; which, depends on the number of the attempt.
    async fn dial(&self, attempt: u32) -> Result<Connection, Lost> {
        timeout(HANDSHAKE_MAX, self.connect(attempt)).await.unwrap_or_else(|_: Elapsed| Err(Lost::Silent))
    }

    async fn connect(&self, attempt: u32) -> Result<Connection, Lost> {
        let address = self.resolve(attempt).await?;
        let name = peer_name(self.peer, self.tls.cluster());
        let mut connecting = self.endpoint.connect_with(self.config.clone(), address, &name)?;
        timeout(ANSWER_MAX, connecting.handshake_data()).await.map_err(|_: Elapsed| Lost::Unanswered)??;
        let connection = connecting.await?;
        let found = certificates(&connection).and_then(|chain| self.tls.peer(&chain));
        match found {
            Ok(found) if found == self.peer => Ok(connection),
            Ok(found) => Err(refuse(&connection, Refused::OtherPeer { wanted: self.peer, found })),
            Err(refused) => Err(refuse(&connection, refused)),
        }
    }

    async fn resolve(&self, attempt: u32) -> Result<SocketAddr, Lost> {
        let unresolved = |source| Lost::Unresolved { address: self.address.clone(), source };
        let has_ipv6 = self.endpoint.local_addr().map_err(unresolved)?.is_ipv6();
        let found = tokio::net::lookup_host(&self.address).await.map_err(unresolved)?;
        let usable: Vec<SocketAddr> = found.filter(|address| has_ipv6 || address.is_ipv4()).collect();
        let turn = (attempt as usize).checked_rem(usable.len());
        turn.map(|turn| usable[turn]).ok_or_else(|| Lost::NoAddress { address: self.address.clone() })
    }
}

fn refuse(connection: &Connection, refused: Refused) -> Lost {
    connection.close(Code::Refused.into(), refused.to_string().as_bytes());
    Lost::Refused(refused)
}

/// Tells of what became of a peer's connections, and of a failure that repeats itself once only.
struct Log {
    peer: ReplicaId,
    last_failure: String,
}

impl Log {
    fn new(peer: ReplicaId) -> Self {
        Self { peer, last_failure: String::new() }
    }

    fn ended(&mut self, Ended { up, why }: &Ended) {
        let (peer, reason) = (self.peer, why.reason());
        if let Some(up) = up {
            self.last_failure.clear();
            tracing::info!(%peer, %reason, up_s = up.as_secs(), "peer disconnected");
        } else if reason == self.last_failure {
            tracing::debug!(%peer, %reason, "peer still not connected");
        } else {
            if why.is_refusal() {
                tracing::warn!(%peer, %reason, "peer not connected: an identity was refused");
            } else {
                tracing::info!(%peer, %reason, "peer not connected");
            }
            self.last_failure = reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_and_stays_within_its_bounds() {
        for failures in [0, 1, 2, 5, 31, u32::MAX] {
            let ceiling = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(failures)).min(BACKOFF_MAX);
            for _ in 0..1000 {
                assert!((BACKOFF_MIN..=ceiling).contains(&backoff(failures)));
            }
        }
        assert!((0..1000).any(|_| backoff(10) > Duration::from_secs(1)), "it does not grow");
    }
}
