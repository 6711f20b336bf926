//! Frames as they cross: production's own codec, header and checksum included, so that what a flipped bit does is what it
//! does there.

use bytes::Bytes;
use tombola::transport::{
    Lane,
    frame::{Decoder, Frame, FrameError, encode},
};

/// The bytes of one frame, in as many pieces as the codec makes of it.
#[derive(Clone, Debug)]
pub struct Wire(Vec<Bytes>);

impl Wire {
    /// The frame with this payload, if the lane takes it.
    pub fn seal(lane: Lane, payload: Bytes) -> Result<Self, FrameError> {
        Ok(Self(encode([Frame::new(lane, payload)?])))
    }

    /// Bytes that no codec of ours has touched: a client's.
    pub fn plain(payload: Bytes) -> Self {
        Self(vec![payload])
    }

    /// What was [`Self::plain`].
    pub fn into_plain(self) -> Bytes {
        self.0.into_iter().next().unwrap_or_default()
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Flips the bit that `chosen` chooses, wherever in the frame it is.
    pub fn flip(&mut self, chosen: u64) {
        let mut at = (chosen / 8) as usize % self.bytes().max(1);
        for piece in &mut self.0 {
            if at < piece.len() {
                let mut bytes = piece.to_vec();
                bytes[at] ^= 1 << (chosen % 8);
                *piece = bytes.into();
                return;
            }
            at -= piece.len();
        }
    }

    /// The payload, unless the codec rejects the frame.
    pub fn open(&self, lane: Lane) -> Option<Bytes> {
        let mut decoder = Decoder::new(lane.frame_bytes_max());
        self.0.iter().for_each(|piece| decoder.push(piece));
        // A length that claims more than there is would swallow what follows, and fail then.
        decoder.next_payload().ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_any_flipped_bit_is_rejected() {
        for bytes in [0, 5, 20_000] {
            let payload = Bytes::from(vec![7; bytes]);
            let wire = Wire::seal(Lane::Log, payload.clone()).expect("it fits");
            assert_eq!(wire.open(Lane::Log), Some(payload));
            for chosen in (0..8 * wire.bytes() as u64).step_by(1 + bytes / 50) {
                let mut flipped = wire.clone();
                flipped.flip(chosen);
                assert_eq!(flipped.open(Lane::Log), None, "bit {chosen} of {bytes} bytes");
            }
        }
    }

    #[test]
    fn a_lane_takes_what_it_takes_and_no_more() {
        for lane in Lane::ALL {
            assert!(Wire::seal(lane, vec![0; lane.frame_bytes_max()].into()).is_ok());
            assert!(Wire::seal(lane, vec![0; lane.frame_bytes_max() + 1].into()).is_err());
        }
    }
}
