//! Keys for callers that bring none, so that the node's own retries cannot award twice.
//!
//! A key holds cluster time, since that is what its age is judged by, and never the node's own. After a long pause of the
//! whole cluster the first one may be found too old; `requests` then asks for another. The rest of it is node, boot nonce and a counter that starts
//! anywhere: cluster time stands still while nobody asks for anything, so after a restart nothing but these keeps a new key
//! apart from one made before.

use crate::{
    pool::RequestKey,
    types::{Millis, ReplicaId},
};

/// Makes request keys of origin [`crate::pool::KeyOrigin::Server`].
#[derive(Debug)]
pub(super) struct ServerKeys {
    /// Names node (its low 8 bits) and incarnation (16 bits).
    maker: [u8; 3],
    /// Its low 24 bits tell the keys of one maker and millisecond apart.
    counter: u32,
}

impl ServerKeys {
    /// For this node in this incarnation.
    pub fn new(node: ReplicaId, boot_nonce: u64) -> Self {
        let (node, nonce) = (node.0.to_be_bytes(), boot_nonce.to_be_bytes());
        Self { maker: [node[7], nonce[0], nonce[1]], counter: boot_nonce as u32 }
    }

    /// A fresh key, of this time.
    pub fn make(&mut self, time: Millis) -> RequestKey {
        self.counter = self.counter.wrapping_add(1);
        let [node, nonce_high, nonce_low] = self.maker;
        let [_, high, middle, low] = self.counter.to_be_bytes();
        RequestKey::server_made(time, [node, nonce_high, nonce_low, high, middle, low])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_equal() {
        let mut makers =
            [(1, 7 << 48), (2, 7 << 48), (1, 8 << 48)].map(|(node, nonce)| ServerKeys::new(ReplicaId(node), nonce));
        let made: std::collections::BTreeSet<_> =
            (0..100).flat_map(|_| makers.each_mut().map(|maker| maker.make(Millis(5)))).collect();
        assert_eq!(made.len(), 300);
        assert!(made.iter().all(|key| key.time() == Millis(5) && key.is_server_made()));
    }
}
