//! What is logged: what became of a peer's connections, who else was refused; and what repeats itself once only.

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::{
    lost::{Lost, RefusedBy},
    session::Ended,
};
use crate::types::ReplicaId;

/// Reasons remembered of one peer.
const PEER_REASONS_MAX: usize = 8;
/// Refusals of strangers remembered.
const STRANGERS_MAX: usize = 256;
/// A stranger that is refused for the same reason again after this is told of again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Tells of one peer's connections. A reason is told once between two connections that lasted.
pub(super) struct Log {
    peer: ReplicaId,
    told: Vec<String>,
    /// The last connection ended in a refusal: the next one may well do so, too.
    in_doubt: bool,
}

impl Log {
    pub(super) fn new(peer: ReplicaId) -> Self {
        Self { peer, told: vec![], in_doubt: false }
    }

    /// Did the last connection end in a refusal?
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The peer is connected, whether or not it is accepted.
    pub(super) fn met(&mut self, address: SocketAddr) {
        if !self.in_doubt {
            self.settled(address);
        }
    }

    /// The peer is connected, and either was not refused the last time or is accepted now.
    pub(super) fn settled(&mut self, address: SocketAddr) {
        self.in_doubt = false;
        self.told.clear();
        tracing::info!(peer = %self.peer, %address, "peer connected");
    }

    /// A connection is lost, or did not come about.
    pub(super) fn ended(&mut self, Ended { up, why }: &Ended) {
        let (peer, reason, refused_by) = (self.peer, why.reason(), why.refused_by());
        if let (Some(up), None) = (up, &refused_by) {
            self.told.clear();
            return tracing::info!(%peer, %reason, up_s = up.as_secs(), "peer disconnected");
        }
        self.in_doubt |= refused_by.is_some();
        let is_news = self.is_news(why);
        match refused_by {
            _ if !is_news => tracing::debug!(%peer, %reason, "peer still not connected"),
            Some(RefusedBy::Us) => tracing::warn!(%peer, %reason, "peer refused"),
            Some(RefusedBy::Them(_)) => tracing::warn!(%peer, %reason, "refused by peer"),
            None => tracing::info!(%peer, %reason, "peer not connected"),
        }
    }

    fn is_news(&mut self, why: &Lost) -> bool {
        let why = why.sameness();
        if self.told.contains(&why) {
            return false;
        }
        if self.told.len() == PEER_REASONS_MAX {
            self.told.remove(0);
        }
        self.told.push(why);
        true
    }
}

/// Tells of those who are refused before it is known who they are.
#[derive(Default)]
pub(super) struct Strangers {
    told: BTreeMap<(IpAddr, String), Instant>,
}

impl Strangers {
    /// Somebody did not get in.
    pub(super) fn ended(&mut self, address: SocketAddr, why: &Lost) {
        let (reason, refused_by) = (why.reason(), why.refused_by());
        let is_news = refused_by.is_some() && self.is_news(address.ip(), why);
        match refused_by {
            _ if !is_news => tracing::debug!(%address, %reason, "connection not accepted"),
            Some(RefusedBy::Them(_)) => tracing::warn!(%address, %reason, "refused by the other side"),
            _ => tracing::warn!(%address, %reason, "connection refused"),
        }
    }

    fn is_news(&mut self, address: IpAddr, why: &Lost) -> bool {
        self.told.retain(|_, told| told.elapsed() < TOLD_AGAIN_AFTER);
        let refusal = (address, why.sameness());
        // Beyond the bound nothing is news: a flood does not fill the log as well.
        if self.told.contains_key(&refusal) || self.told.len() >= STRANGERS_MAX {
            return false;
        }
        self.told.insert(refusal, Instant::now());
        true
    }
}
