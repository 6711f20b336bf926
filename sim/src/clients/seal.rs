//! What QUIC adds to the bytes of a frame, as far as clients can tell: they are whole, and of this connection.
//!
//! A packet is a checksum of what follows, the life of the node that it is of, and a frame; or no frame. Little-endian. A
//! client that does not know the node's life asks for it with a packet of life 0, and is answered by an empty one of the
//! right life; so is whoever takes the node for another life. Lives grow.

/// Bytes before the frame.
const HEADER_BYTES: usize = 16;

/// A packet of that life.
pub fn seal(life: u64, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(&life.to_le_bytes());
    bytes.extend_from_slice(frame);
    let sum = checksum(&bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// A packet's life and frame; `None` if these are not the bytes that were sealed.
pub fn open(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (header, frame) = bytes.split_at_checked(HEADER_BYTES)?;
    let [sum, life] = [0, 8].map(|at| u64::from_le_bytes(header[at..at + 8].try_into().expect("it is 8 bytes")));
    (sum == checksum(&bytes[8..])).then_some((life, frame))
}

/// FNV-1a: each step is a bijection of what was before, so that one changed byte always shows.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_comes_as_it_was_sealed_or_not_at_all() {
        for frame in [&b""[..], b"some frame"] {
            let packet = seal(7, frame);
            assert_eq!(open(&packet), Some((7, frame)));
            for at in 0..packet.len() {
                for bit in 0..8 {
                    let mut damaged = packet.clone();
                    damaged[at] ^= 1 << bit;
                    assert_eq!(open(&damaged), None, "byte {at}, bit {bit}");
                }
                assert_eq!(open(&packet[..at]), None, "cut at {at}");
            }
        }
    }
}
