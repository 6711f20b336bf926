//! Tickets from nothing but the texts that define them: the block function of RFC 8439, section 2.3, and D. Lemire's
//! multiplication with rejection ("Fast random integer generation in an interval", 2019).

/// Words of one block.
const WORDS: usize = 16;

/// RFC 8439, section 2.3: the state is constants, key, counter and nonce, stirred for 20 rounds and added to itself.
fn block(key: &[u8; 32], counter: u32, nonce: &[u8; 12]) -> [u8; 64] {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
    let mut start = [0u32; WORDS];
    for (to, from) in start.iter_mut().zip(b"expand 32-byte k".chunks(4).chain(key.chunks(4))) {
        *to = word(from);
    }
    start[12] = counter;
    for (to, from) in start[13..].iter_mut().zip(nonce.chunks(4)) {
        *to = word(from);
    }
    let mut state = start;
    for _ in 0..10 {
        for column in 0..4 {
            quarter_round(&mut state, [column, 4 + column, 8 + column, 12 + column]);
        }
        for diagonal in 0..4 {
            let at = |row: usize| 4 * row + (diagonal + row) % 4;
            quarter_round(&mut state, [at(0), at(1), at(2), at(3)]);
        }
    }
    let mut out = [0; 64];
    for (to, (stirred, start)) in out.chunks_mut(4).zip(state.iter().zip(start)) {
        to.copy_from_slice(&stirred.wrapping_add(start).to_le_bytes());
    }
    out
}

/// RFC 8439, section 2.1.
fn quarter_round(state: &mut [u32; WORDS], [a, b, c, d]: [usize; 4]) {
    for (left, right) in [(16, 12), (8, 7)] {
        state[a] = state[a].wrapping_add(state[b]);
        state[d] = (state[d] ^ state[a]).rotate_left(left);
        state[c] = state[c].wrapping_add(state[d]);
        state[b] = (state[b] ^ state[c]).rotate_left(right);
    }
}

/// Word `number` of a stream, as a `u64`: the nonce is four zero bytes and the stream's number.
fn word(entropy: &[u8; 32], stream: u64, number: u64) -> u64 {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&stream.to_le_bytes());
    let counter = u32::try_from(number / 8).expect("an entry has 16 384 steps at most");
    let block = block(entropy, counter, &nonce);
    let at = (number % 8) as usize * 8;
    u64::from_le_bytes(block[at..at + 8].try_into().expect("8 bytes"))
}

/// The ticket of an entry's step `step`, in `0..total`: word `step` of stream 0; after a rejection, the words of stream
/// `1 + step`.
pub(super) fn ticket(entropy: &[u8; 32], step: u64, total: u64) -> u64 {
    assert!(total > 0, "nothing can be drawn from an empty range");
    // 2^64 mod total: so many products are too many for every ticket to have equally many.
    let too_many = ((1u128 << 64) % u128::from(total)) as u64;
    let words = (0..).map(|number| word(entropy, 1 + step, number));
    std::iter::once(word(entropy, 0, step))
        .chain(words)
        .map(|word| u128::from(word) * u128::from(total))
        .find(|product| *product as u64 >= too_many)
        .map(|product| (product >> 64) as u64)
        .expect("the words never end")
}

/// How tickets are made.
pub(super) type Ticket = fn(&[u8; 32], u64, u64) -> u64;

/// A ticket by the remainder of half a word: no ticket of ours, and not a fair one. What a planted bug makes of a step.
pub(super) fn unfair_ticket(entropy: &[u8; 32], step: u64, total: u64) -> u64 {
    u64::from(word(entropy, 0, step) as u32) % total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00 01 02 … 1f.
    fn counting() -> [u8; 32] {
        std::array::from_fn(|at| at as u8)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 8439, section 2.1.1.
    #[test]
    fn a_quarter_round_is_that_of_the_rfc() {
        let mut state = [0; WORDS];
        state[..4].copy_from_slice(&[0x1111_1111, 0x0102_0304, 0x9b8d_6f43, 0x0123_4567]);
        quarter_round(&mut state, [0, 1, 2, 3]);
        assert_eq!(state[..4], [0xea2a_92f4, 0xcb1c_f8ce, 0x4581_472e, 0x5881_c4bb]);
    }

    /// RFC 8439, section 2.3.2.
    #[test]
    fn a_block_is_that_of_the_rfc() {
        let nonce = [0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0];
        let expected = "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
                        d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e";
        assert_eq!(hex(&block(&counting(), 1, &nonce)), expected);
    }

    /// RFC 8439, appendix A.1, vectors 1, 2 and 5.
    #[test]
    fn blocks_of_a_zero_key_are_those_of_the_rfc() {
        let first = |key: [u8; 32], counter, nonce: [u8; 12]| hex(&block(&key, counter, &nonce)[..16]);
        assert_eq!(first([0; 32], 0, [0; 12]), "76b8e0ada0f13d90405d6ae55386bd28");
        assert_eq!(first([0; 32], 1, [0; 12]), "9f07e7be5551387a98ba977c732d080d");
        let mut nonce = [0; 12];
        nonce[11] = 2;
        assert_eq!(first([0; 32], 0, nonce), "c2c64d378cd536374ae204b9ef933fcd");
    }

    /// Half of all words are rejected for a sum of 2^63 + 1.
    #[test]
    fn a_rejected_word_is_followed_by_those_of_the_step_s_own_stream() {
        let total = (1 << 63) + 1;
        let threshold = (1 << 63) - 1;
        let accepted = |word: u64| (u128::from(word) * u128::from(total)) as u64 >= threshold;
        let (mut rejected, mut in_a_row) = (0, 0);
        for step in 0..100 {
            let first = word(&counting(), 0, step);
            let mut number = 0;
            let mut last = first;
            while !accepted(last) {
                last = word(&counting(), 1 + step, number);
                number += 1;
            }
            rejected += u64::from(number > 0);
            in_a_row = in_a_row.max(number);
            assert_eq!(ticket(&counting(), step, total), ((u128::from(last) * u128::from(total)) >> 64) as u64);
        }
        assert!((30..70).contains(&rejected) && in_a_row > 2, "{rejected} of 100, {in_a_row} in a row");
    }

    #[test]
    fn a_ticket_is_below_its_total() {
        for total in [1, 2, 3, 120, (1 << 53) - 1, u64::MAX] {
            assert!((0..200).all(|step| ticket(&counting(), step, total) < total));
        }
    }
}
