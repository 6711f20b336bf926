//! Frames on a stream between peers.
//!
//! A frame is a header of 16 bytes and a payload, little-endian:
//!
//! | bytes | holds |
//! |---|---|
//! | 0..4 | magic, `TMBF` |
//! | 4..6 | version, 1 |
//! | 6..8 | zero |
//! | 8..12 | length of the payload, at most what its [lane](Lane) takes |
//! | 12..16 | CRC-32 (IEEE) of bytes 0..12 and the payload |
//!
//! The length is checked before a byte is reserved for it. TLS already guards the wire; the CRC is for memory and for
//! our own mistakes, and a stream that fails any of these checks is not resynchronised: its connection is given up.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Lane, greeting::Greeting};

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"TMBF";
const VERSION: u16 = 1;
/// Payloads up to this length are copied behind their headers, so that many small frames make one chunk; longer ones
/// are passed on as they are.
const COPY_BYTES_MAX: usize = 8 << 10;

/// The bytes are no frame of ours. Nothing after them on the same stream can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another protocol, or a stream out of step.
    #[error("a frame does not begin with its magic number")]
    Magic,
    /// Another format.
    #[error("a frame has version {0}, and this build knows version {VERSION} only")]
    Version(u16),
    /// Reserved bits are set.
    #[error("a frame has reserved bits set")]
    Reserved,
    /// Longer than a frame may be here.
    #[error("a frame has {bytes} bytes, and at most {bytes_max} are allowed")]
    TooLong {
        /// Its length, as it claims.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// Damaged.
    #[error("a frame does not match its checksum")]
    Checksum,
}

/// A payload that fits into a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// A frame with this payload, which must not be longer than the lane takes.
    pub fn new(lane: Lane, payload: Bytes) -> Result<Self, FrameError> {
        check_length(payload.len(), lane.frame_bytes_max())?;
        Ok(Self(payload))
    }

    /// The first frame of a stream.
    pub fn greeting(greeting: &Greeting) -> Self {
        Self(greeting.encode())
    }

    /// Length of the payload in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.0.len()
    }
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<(), FrameError> {
    if bytes <= bytes_max { Ok(()) } else { Err(FrameError::TooLong { bytes, bytes_max }) }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    payload_bytes: usize,
    crc: u32,
}

impl Header {
    fn of(frame: &Frame) -> Self {
        Self { payload_bytes: frame.payload_bytes(), crc: checksum(&frame.0) }
    }

    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..12].copy_from_slice(&unsummed(self.payload_bytes));
        bytes[12..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let mut bytes = &bytes[..];
        let magic = bytes.get_u32();
        let version = bytes.get_u16_le();
        let reserved = bytes.get_u16_le();
        let payload_bytes = bytes.get_u32_le() as usize;
        let crc = bytes.get_u32_le();
        if magic != u32::from_be_bytes(MAGIC) {
            Err(FrameError::Magic)
        } else if version != VERSION {
            Err(FrameError::Version(version))
        } else if reserved != 0 {
            Err(FrameError::Reserved)
        } else {
            Ok(Self { payload_bytes, crc })
        }
    }
}

/// The part of a header that the checksum covers.
fn unsummed(payload_bytes: usize) -> [u8; 12] {
    let payload_bytes = u32::try_from(payload_bytes).expect("a frame's length is capped far below 4 GiB");
    let mut bytes = [0; 12];
    let mut rest = &mut bytes[..];
    rest.put_slice(&MAGIC);
    rest.put_u16_le(VERSION);
    rest.put_u16_le(0);
    rest.put_u32_le(payload_bytes);
    bytes
}

fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&unsummed(payload.len()));
    hasher.update(payload);
    hasher.finalize()
}

/// Encodes frames into as few chunks as copying small payloads, and only those, allows.
pub fn encode(frames: impl IntoIterator<Item = Frame>) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut small = BytesMut::new();
    for frame in frames {
        small.put_slice(&Header::of(&frame).encode());
        if frame.payload_bytes() <= COPY_BYTES_MAX {
            small.put_slice(&frame.0);
        } else {
            chunks.push(small.split().freeze());
            chunks.push(frame.0);
        }
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

/// Cuts a stream of bytes into frames, without I/O: push bytes, take payloads. An error is final.
#[derive(Debug)]
pub struct Decoder {
    payload_bytes_max: usize,
    /// Bytes received and not yet taken; `header` is no longer among them.
    buffer: BytesMut,
    /// The header of the frame under way.
    header: Option<Header>,
}

impl Decoder {
    /// Of a stream whose payloads have at most this length.
    pub fn new(payload_bytes_max: usize) -> Self {
        Self { payload_bytes_max, buffer: BytesMut::new(), header: None }
    }

    /// From the next payload on, at most this length is allowed.
    pub fn allow(&mut self, payload_bytes_max: usize) {
        self.payload_bytes_max = payload_bytes_max;
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Length in bytes of the payload under way, once its header is here; at most what is allowed.
    pub fn payload_bytes(&mut self) -> Result<Option<usize>, FrameError> {
        if self.header.is_none()
            && let Some(bytes) = self.buffer.first_chunk()
        {
            let header = Header::decode(bytes)?;
            check_length(header.payload_bytes, self.payload_bytes_max)?;
            self.header = Some(header);
            self.buffer.advance(HEADER_BYTES);
        }
        Ok(self.header.map(|header| header.payload_bytes))
    }

    /// Makes room for the payload under way, so that it arrives without copying again. Only for callers who have room.
    pub fn reserve(&mut self) {
        if let Some(header) = self.header {
            self.buffer.reserve(header.payload_bytes.saturating_sub(self.buffer.len()));
        }
    }

    /// The next payload, once all of it is here.
    pub fn next_payload(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(payload_bytes) = self.payload_bytes()? else { return Ok(None) };
        if self.buffer.len() < payload_bytes {
            return Ok(None);
        }
        let header = self.header.take();
        let payload = self.buffer.split_to(payload_bytes).freeze();
        if header.is_some_and(|header| header.crc == checksum(&payload)) {
            Ok(Some(payload))
        } else {
            Err(FrameError::Checksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::PEER_FRAME_BYTES_MAX;

    fn wire(frames: &[&[u8]]) -> Vec<u8> {
        let frames = frames.iter().map(|payload| Frame::new(Lane::Log, Bytes::copy_from_slice(payload)).unwrap());
        encode(frames).concat()
    }

    /// Everything that a stream of these bytes, arriving in pieces, holds.
    fn read(bytes: &[u8], piece: usize) -> (Vec<Bytes>, Result<(), FrameError>) {
        let mut decoder = Decoder::new(PEER_FRAME_BYTES_MAX);
        let mut payloads = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.push(piece);
            loop {
                match decoder.next_payload() {
                    Ok(Some(payload)) => payloads.push(payload),
                    Ok(None) => break,
                    Err(error) => return (payloads, Err(error)),
                }
            }
            assert!(decoder.buffer.capacity() <= 2 * bytes.len() + 1024, "more was reserved than was sent");
        }
        (payloads, Ok(()))
    }

    fn too_long(bytes: usize) -> FrameError {
        FrameError::TooLong { bytes, bytes_max: PEER_FRAME_BYTES_MAX }
    }

    #[test]
    fn the_format_is_golden() {
        let expected = [
            0x54, 0x4d, 0x42, 0x46, 1, 0, 0, 0, 7, 0, 0, 0, 0xd9, 0x34, 0x27, 0xe1, // header
            0x74, 0x6f, 0x6d, 0x62, 0x6f, 0x6c, 0x61, // tombola
        ];
        assert_eq!(wire(&[b"tombola"]), expected);
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        let longest = Bytes::from(vec![7; PEER_FRAME_BYTES_MAX]);
        let bytes = encode([Frame::new(Lane::Log, longest.clone()).unwrap()]).concat();
        assert_eq!(read(&bytes, 1 << 16), (vec![longest], Ok(())));
        let longer = Bytes::from(vec![7; PEER_FRAME_BYTES_MAX + 1]);
        assert_eq!(Frame::new(Lane::Log, longer), Err(too_long(PEER_FRAME_BYTES_MAX + 1)));
    }

    #[test]
    fn a_claimed_length_is_refused_before_anything_is_reserved() {
        let mut bytes = wire(&[b""]);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&bytes, 16), (vec![], Err(too_long(u32::MAX as usize))));
    }

    #[test]
    fn each_check_of_the_header_can_fail() {
        let good = wire(&[b"payload"]);
        for (at, expected) in [
            (0, FrameError::Magic),
            (4, FrameError::Version(3)),
            (6, FrameError::Reserved),
            (12, FrameError::Checksum),
            (16, FrameError::Checksum),
        ] {
            let mut bytes = good.clone();
            bytes[at] ^= 2;
            assert_eq!(read(&bytes, 64), (vec![], Err(expected)));
        }
    }

    #[test]
    fn small_frames_share_a_chunk_and_long_ones_are_not_copied() {
        let long = Bytes::from(vec![1; COPY_BYTES_MAX + 1]);
        let chunks = encode([
            Frame::new(Lane::Log, Bytes::from_static(b"a")).unwrap(),
            Frame::new(Lane::Log, Bytes::from_static(b"b")).unwrap(),
            Frame::new(Lane::Log, long.clone()).unwrap(),
            Frame::new(Lane::Log, Bytes::new()).unwrap(),
        ]);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), long.as_ptr());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 0..8),
            piece in 1..3000usize,
        ) {
            let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let (read, result) = read(&wire(&slices), piece);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(read, payloads);
        }

        /// As a session reads, making room for what is claimed.
        #[test]
        fn damaged_streams_do_no_harm(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(), piece in 1..300usize, bytes_max in 0..2_000usize,
        ) {
            let mut bytes = wire(&[b"one", &[2; 1_000], b"", &[3; 300]]);
            damage.iter().for_each(|(at, value)| { let at = at.index(bytes.len()); bytes[at] = *value; });
            bytes.truncate(cut.index(bytes.len() + 1));
            let mut decoder = Decoder::new(bytes_max);
            'stream: for piece in bytes.chunks(piece) {
                decoder.push(piece);
                loop {
                    let Ok(known) = decoder.payload_bytes() else { break 'stream };
                    prop_assert!(known.unwrap_or(0) <= bytes_max);
                    decoder.reserve();
                    match decoder.next_payload() {
                        Ok(Some(payload)) => prop_assert!(payload.len() <= bytes_max),
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
                prop_assert!(decoder.buffer.capacity() <= 2 * (bytes.len() + bytes_max) + 1024);
            }
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..4096), piece in 1..64usize) {
            let _ = read(&bytes, piece);
        }

        #[test]
        fn a_changed_byte_is_never_taken_for_the_original(
            payload in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), flip in 1..=255u8,
        ) {
            let mut bytes = wire(&[&payload, b"the next one"]);
            let at = at.index(HEADER_BYTES + payload.len());
            bytes[at] ^= flip;
            prop_assert!(read(&bytes, 64).0.is_empty());
        }
    }
}
