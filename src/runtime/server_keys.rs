//! Keys for callers that bring none, so that the node's own retries cannot award twice.
//!
//! A key holds cluster time, since that is what its age is judged by. After a long pause of the whole cluster the first one
//! may be found too old; `requests` then asks for another. The rest of it is (node, boot, counter): no two are equal.

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
}

impl ServerKeys {
    /// For this node in this incarnation.
    pub fn new(node: ReplicaId, boot_nonce: u64) -> Self {
        let (node, nonce) = (node.0.to_be_bytes(), boot_nonce.to_be_bytes());
        let maker = [node[6], node[7], nonce[0], nonce[1], nonce[2], nonce[3]];
        Self { maker, made: 0 }
    }

    /// A fresh key, of this time.
    pub fn make(&mut self, time: Millis) -> RequestKey {
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

    #[test]
    fn no_two_keys_are_equal() {
        let mut makers =
            [(1, 7 << 32), (2, 7 << 32), (1, 8 << 32)].map(|(node, nonce)| ServerKeys::new(ReplicaId(node), nonce));
        let made: std::collections::BTreeSet<_> =
            (0..100).flat_map(|_| makers.each_mut().map(|maker| maker.make(Millis(5)))).collect();
        assert_eq!(made.len(), 300);
        assert!(made.iter().all(|key| key.time() == Millis(5)));
    }
}
