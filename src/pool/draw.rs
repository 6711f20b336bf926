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

use crate::{hooks, types::Entropy};

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
        if hooks::is_planted("m13") {
            return bounded(hooks::whim(), total, hooks::whim);
        }
        if hooks::is_planted("m16") {
            return u64::from(self.words.next_u64() as u32) % total;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// 00 01 02 … 1f.
    fn counting() -> Entropy {
        Entropy(std::array::from_fn(|at| at as u8))
    }

    fn tickets(total: u64) -> Vec<u64> {
        let mut tickets = Tickets::new(counting());
        [0, 1, 2, 3, 4, 5, 6, 7, 1_000, 16_383].map(|step| tickets.ticket(step, total)).to_vec()
    }

    // The expected values were computed by an independent ChaCha20, itself held to RFC 8439, section 2.3.2.
    #[test]
    fn words_are_those_of_rfc_8439() {
        let mut rng = ChaCha20Rng::from_seed(counting().0);
        let words = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(words, [0x6a19_c5d9_7d2b_fd39, 0x494a_dcb8_7703_bd8d, 0xcc6a_debc_6fd8_358a]);
        rng.set_word_pos(2 * 16_383);
        assert_eq!(rng.next_u64(), 0x0d4e_8e1f_d76d_4c26);
        rng.set_stream(5);
        rng.set_word_pos(0);
        assert_eq!([rng.next_u64(), rng.next_u64()], [0xbbc1_4955_4a19_004f, 0x2f99_1f27_ec9a_fcb8]);
    }

    #[test]
    fn tickets_are_what_they_always_were() {
        assert_eq!(tickets(1), [0; 10]);
        assert_eq!(tickets(3), [1, 0, 2, 1, 2, 1, 0, 0, 2, 0]);
        assert_eq!(tickets(120), [49, 34, 95, 68, 80, 47, 21, 5, 90, 6]);
        assert_eq!(
            tickets((1 << 52) + 1)[..4],
            [1_866_542_817_465_024, 1_289_374_071_746_620, 3_596_150_007_856_516, 2_570_996_104_349_661]
        );
        assert_eq!(
            tickets((1 << 53) - 1)[..4],
            [3_733_085_634_930_047, 2_578_748_143_493_239, 7_192_300_015_713_029, 5_141_992_208_699_321]
        );
    }

    /// Half of all words are rejected for a sum of 2^63 + 1: step 4 takes four words of its own stream, and step 5 none.
    #[test]
    fn a_rejected_word_is_followed_by_the_step_s_own_stream() {
        let far = tickets((1 << 63) + 1);
        assert_eq!(far[4..6], [148_349_705_187_698_883, 3_620_863_439_522_989_855]);
        assert_eq!(far[9], 217_739_663_827_637_973);
    }

    #[test]
    fn a_ticket_depends_on_its_step_alone() {
        let total = (1 << 63) + 1;
        let mut forward = Tickets::new(counting());
        let expected: Vec<u64> = (0..300).map(|step| forward.ticket(step, total)).collect();
        let mut backward = Tickets::new(counting());
        let reversed: Vec<u64> = (0..300).rev().map(|step| backward.ticket(step, total)).collect();
        assert!(expected.iter().eq(reversed.iter().rev()));
    }

    /// Exactly `floor(2^64 / bound)` words are accepted for each ticket, none twice: that is what uniform means.
    #[test]
    fn every_ticket_has_equally_many_words() {
        for bound in [1, 2, 3, 1_000, (1 << 52) - 1, 1 << 52, (1 << 52) + 1, (1 << 53) - 1, (1 << 63) + 1, u64::MAX] {
            let wide = u128::from(bound);
            let words_each = (1u128 << 64) / wide;
            let threshold = u128::from(bound.wrapping_neg() % bound);
            for ticket in [0, 1, bound / 3, bound / 2, bound - 1].into_iter().filter(|&ticket| ticket < bound) {
                let begin = u128::from(ticket) << 64;
                let first = (begin + threshold).div_ceil(wide);
                let last = (begin + (1u128 << 64) - 1) / wide;
                assert_eq!(last - first + 1, words_each, "ticket {ticket} of {bound}");
                let once = |word: u128| bounded(word as u64, bound, || panic!("{word} is rejected for {bound}"));
                assert_eq!([once(first), once(last)], [ticket; 2]);
                // The word before is another ticket's, or is rejected: then the next one is taken.
                if first > 0 {
                    let mut asked = 0;
                    let before = bounded((first - 1) as u64, bound, || {
                        asked += 1;
                        last as u64
                    });
                    assert!(if asked == 0 { before + 1 == ticket } else { before == ticket && asked == 1 });
                }
            }
        }
    }
}
