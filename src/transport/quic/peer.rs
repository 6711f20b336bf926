//! One peer, for ever: dials it, or takes the connections it dials, and keeps at most one of them.
//!
//! Of two nodes the one with the greater id dials, so that no two connections meet half-way. The dialer returns after a
//! full-jitter back-off (after M. Brooker, "Exponential Backoff And Jitter", 2015): uniform between the shortest delay
//! and a ceiling that doubles with each failure, up to 2 s, or to 30 s if somebody was refused. The listener takes a newer connection, once it is authenticated, for
//! the better one: the peer may have restarted without our noticing.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

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
    inbox::Session,
    log::Log,
    lost::{Lost, RefusedBy},
    session::{self, Ended, Ends},
    settings::{ANSWER_MAX, Code, HANDSHAKE_MAX},
};
use crate::types::ReplicaId;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest delay before a peer that cannot be reached is dialed again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Longest delay after a refusal: somebody has to mend something first.
const REFUSED_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// One peer.
pub(super) struct Peer {
    ends: Ends,
    log: Log,
    sessions: u64,
}

impl Peer {
    pub(super) fn new(ends: Ends) -> Self {
        let log = Log::new(ends.inbox.peer());
        Self { ends, log, sessions: 0 }
    }

    /// Dials until the node is gone; not before it has introduced itself.
    pub(super) async fn keep_dialing(mut self, dialer: Dialer) {
        if self.ends.introduction().await.is_err() {
            return;
        }
        let mut failures = 0;
        loop {
            let ended = match dialer.dial(failures).await {
                Ok(connection) => self.speak(connection, pending()).await,
                Err(why) => Ended { up: None, why },
            };
            let delay_max = match ended.why.refused_by() {
                Some(_) => REFUSED_BACKOFF_MAX,
                None => BACKOFF_MAX,
            };
            let was_accepted = ended.up.is_some() && ended.why.refused_by().is_none();
            failures = if was_accepted { 0 } else { failures + 1 };
            self.tell(&ended).await;
            if let Ok(_gone) = timeout(backoff(failures, delay_max), self.ends.inbox.gone()).await {
                return;
            }
        }
    }

    /// Takes the newest of the connections that arrive, until none can arrive any more or the node is gone.
    pub(super) async fn keep_accepting(mut self, mut arrivals: mpsc::Receiver<Connection>) {
        let mut newest = arrivals.recv().await;
        while let Some(connection) = newest {
            let mut newer = None;
            let replaced = async {
                newer = arrivals.recv().await;
                if newer.is_some() { Lost::Replaced } else { Lost::NodeGone }
            };
            let ended = self.speak(connection, replaced).await;
            self.tell(&ended).await;
            newest = match ended.why {
                Lost::Replaced => newer,
                Lost::NodeGone => None,
                _ => arrivals.recv().await,
            };
        }
    }

    async fn speak(&mut self, connection: Connection, interrupted: impl Future<Output = Lost>) -> Ended {
        self.sessions += 1;
        session::run(connection, Session(self.sessions), &self.ends, &mut self.log, interrupted).await
    }

    /// Tells log and node of the end of the last session, or why there was none.
    async fn tell(&mut self, ended: &Ended) {
        self.log.ended(ended);
        let (inbox, session) = (&self.ends.inbox, Session(self.sessions));
        // If the node is gone, nobody wants to know.
        if let Some(RefusedBy::Them(reason)) = ended.why.refused_by() {
            let _ = inbox.refused(session, reason).await;
        }
        if ended.up.is_some() {
            let _ = inbox.ended(session).await;
        }
    }
}

/// The delay after this many failures in a row.
fn backoff(failures: u32, delay_max: Duration) -> Duration {
    let ceiling = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(failures)).min(delay_max);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_and_stays_within_its_bounds() {
        for (failures, delay_max) in
            [0, 1, 2, 5, 31, u32::MAX].into_iter().flat_map(|n| [(n, BACKOFF_MAX), (n, REFUSED_BACKOFF_MAX)])
        {
            let ceiling = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(failures)).min(delay_max);
            for _ in 0..1000 {
                assert!((BACKOFF_MIN..=ceiling).contains(&backoff(failures, delay_max)));
            }
        }
        assert!((0..1000).any(|_| backoff(10, BACKOFF_MAX) > BACKOFF_MAX / 2), "it does not grow");
        assert!((0..1000).any(|_| backoff(10, REFUSED_BACKOFF_MAX) > BACKOFF_MAX), "a refusal is no slower");
    }
}
