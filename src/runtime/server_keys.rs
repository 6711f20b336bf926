//! Keys for callers that bring none, so that the node's own retries cannot award twice.
//!
//! A key holds cluster time, since that is what its age is judged by: the newest this node has seen, aged by the node's own
//! clock, so that a cluster that was idle for long does not find the next key too old. The rest is (node, boot, counter):
//! no two are equal.

use std::time::Duration;

use crate::{
    pool::RequestKey,
    types::{Millis, ReplicaId},
};

/// Makes request keys of origin [`crate::pool::KeyOrigin::Server`].
#[derive(Debug)]
pub(super) struct ServerKeys {
    /// Names node (its low 12 bits) and incarnation (30 bits).
    maker: [u8; 6],
    /// Keys made so far.
    made: u32,
    /// The newest cluster time seen; 0 when there was none yet.
    seen: Millis,
    /// When, by the node's clock.
    seen_at: Duration,
}

impl ServerKeys {
    /// For this node in this incarnation.
    pub fn new(node: ReplicaId, boot_nonce: u64) -> Self {
        let (node, nonce) = (node.0.to_be_bytes(), boot_nonce.to_be_bytes());
        let maker = [node[6], node[7], nonce[0], nonce[1], nonce[2], nonce[3]];
        Self { maker, made: 0, seen: Millis(0), seen_at: Duration::ZERO }
    }

    /// Cluster time was `now` when the node's clock stood at `at`.
    pub fn observe(&mut self, now: Millis, at: Duration) {
        if now > self.seen {
            (self.seen, self.seen_at) = (now, at);
        }
    }

    /// A fresh key, when the node's clock stands at `at` and the wall clock at `wall`.
    pub fn make(&mut self, at: Duration, wall: Millis) -> RequestKey {
        let aged = at.saturating_sub(self.seen_at).as_millis() as u64;
        let time = if self.seen == Millis(0) { wall } else { Millis(self.seen.0.saturating_add(aged)) };
        self.made = self.made.wrapping_add(1);
        let mut unique = [0; 10];
        unique[..6].copy_from_slice(&self.maker);
        unique[6..].copy_from_slice(&self.made.to_be_bytes());
        RequestKey::new(time, unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_two_keys_are_equal() {
        let mut keys = [(1, 7 << 32), (2, 7 << 32), (1, 8 << 32)].map(|(node, nonce)| ServerKeys::new(ReplicaId(node), nonce));
        let made: std::collections::BTreeSet<_> =
            keys.iter_mut().flat_map(|keys| (0..100).map(|_| keys.make(SECOND, Millis(5))).collect::<Vec<_>>()).collect();
        assert_eq!(made.len(), 300);
    }

    #[test]
    fn keys_hold_cluster_time_aged_by_the_nodes_clock_and_the_wall_only_before_there_is_any() {
        let mut keys = ServerKeys::new(ReplicaId(1), 1);
        assert_eq!(keys.make(SECOND, Millis(77)).time(), Millis(77));
        keys.observe(Millis(1_000_000), SECOND);
        assert_eq!(keys.make(3 * SECOND, Millis(77)).time(), Millis(1_002_000));
        keys.observe(Millis(999_000), 3 * SECOND);
        assert_eq!(keys.make(3 * SECOND, Millis(77)).time(), Millis(1_002_000), "cluster time never goes back");
    }
}
