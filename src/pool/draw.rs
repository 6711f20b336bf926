//! Tickets: replicated randomness, the same on every replica for ever.
//!
//! The words are those of ChaCha20 (RFC 8439) keyed by the entry's entropy, as little-endian `u64`; word `k` of stream 0
//! belongs to the entry's step `k`, whether the step uses it or not, so that a ticket can be recomputed from the entry and
//! the step's number alone. A word is brought below the sum of weights by D. Lemire's multiplication with rejection ("Fast
//! random integer generation in an interval", 2019), which is exactly uniform; the rare rejected word is followed by those
//! of stream `1 + k`, so that no step moves another's.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::types::Entropy;

/// The version of all that is said above; it stands in every snapshot.
pub(super) const DRAW_ALGORITHM: u16 = 1;

/// The tickets of one entry.
pub(super) struct Tickets {
    entropy: Entropy,
    /// Stream 0.
    words: ChaCha20Rng,
    /// The step whose word comes next out of `words`.
    next_step: u64,
}

impl Tickets {
    pub(super) fn new(entropy: Entropy) -> Self {
        Self { entropy, words: ChaCha20Rng::from_seed(entropy.0), next_step: 0 }
    }

    /// The ticket of the entry's step `step`: uniform in `0..total`. Cheapest when steps come in order.
    pub(super) fn ticket(&mut self, step: u64, total: u64) -> u64 {
        if step != self.next_step {
            self.words.set_word_pos(u128::from(step) * 2);
        }
        self.next_step = step + 1;
        let mut more: Option<ChaCha20Rng> = None;
        let entropy = self.entropy;
        bounded(self.words.next_u64(), total, || {
            let more = more.get_or_insert_with(|| {
                let mut stream = ChaCha20Rng::from_seed(entropy.0);
                stream.set_stream(1 + step);
                stream
            });
            more.next_u64()
        })
    }
}

/// Lemire's bounded sampling: uniform in `0..bound` if `word`, and each of `more`, is uniform in all of `u64`.
fn bounded(word: u64, bound: u64, mut more: impl FnMut() -> u64) -> u64 {
    assert!(bound > 0, "nothing can be drawn from an empty range");
    let mut product = u128::from(word) * u128::from(bound);
    if (product as u64) < bound {
        // 2^64 mod bound: that many of the 2^64 words would make the first results likelier than the rest.
        let threshold = bound.wrapping_neg() % bound;
        while (product as u64) < threshold {
            product = u128::from(more()) * u128::from(bound);
        }
    }
    (product >> 64) as u64
}
