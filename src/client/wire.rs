//! Frames as bytes: what both ends of the client protocol share below [`ClientFrame`] and [`ServerFrame`].
//!
//! A frame is a little-endian `u32` length and that many bytes of one value, encoded by [`crate::codec`]. The length is
//! checked against the type's own bound as soon as its four bytes are there: nothing is kept, let alone allocated, for
//! a frame that will not be accepted. No I/O here: bytes go in by [`FrameReader::push`] in whatever pieces they arrive,
//! and frames come out. After an error the stream has no known frame boundary any more, so the connection is to be
//! closed, with one of the codes of [`CloseCode`].

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::protocol::{CLIENT_FRAME_BYTES_MAX, ClientCall, ClientFrame, ClientReply, ServerFrame};
use crate::codec::{self, DecodeError};

/// Longest [`ServerFrame`] in bytes: the state of the largest legal pool (65 536 items with ids of 64 bytes) fits.
pub const SERVER_FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes of the length in front of every frame.
const LENGTH_BYTES: usize = 4;

/// A value that travels as one frame, and how long it may be.
pub trait Frame: Serialize + DeserializeOwned {
    /// Longest encoding in bytes, the length in front of it aside.
    const BYTES_MAX: usize;
    /// What it is a list of.
    type Part: Serialize;
}

impl Frame for ClientFrame {
    const BYTES_MAX: usize = CLIENT_FRAME_BYTES_MAX;
    type Part = ClientCall;
}

impl Frame for ServerFrame {
    const BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX;
    type Part = ClientReply;
}

/// Why a connection of this protocol was closed: the code of the QUIC application close. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// Nothing is wrong; the closing side is done.
    Done,
    /// The other side sent bytes that are no frame; the reason says what was wrong with them.
    Malformed,
    /// The node is stopping: ask another one.
    Draining,
    /// The client's certificate proves nobody who may speak here; nothing was read. The reason says what is wrong.
    Refused,
}

impl CloseCode {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Malformed => 1,
            Self::Draining => 2,
            Self::Refused => 3,
        }
    }
}

/// Bytes that are no frame, or a value that does not fit in one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than this kind of frame may be.
    #[error("a frame of {bytes} bytes is longer than the {bytes_max} allowed")]
    TooLong {
        /// The length announced or needed.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Not the encoding of the value expected.
    #[error("malformed frame: {0}")]
    Malformed(#[from] DecodeError),
}

/// The frame's bytes, length included.
///
/// # Errors
/// [`FrameError::TooLong`] if the other side would refuse it.
pub fn encode_frame<F: Frame>(frame: &F) -> Result<Vec<u8>, FrameError> {
    let body = codec::encode(frame);
    let length = checked_length::<F>(body.len())?;
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn checked_length<F: Frame>(bytes: usize) -> Result<u32, FrameError> {
    match u32::try_from(bytes) {
        Ok(length) if bytes <= F::BYTES_MAX => Ok(length),
        _ => Err(FrameError::TooLong { bytes, bytes_max: F::BYTES_MAX }),
    }
}

/// Bytes in front of a frame's parts: its length, and how many parts there are.
const HEAD_BYTES: usize = LENGTH_BYTES + size_of::<u64>();

/// A frame that is made part by part, each encoded once, in its place.
#[derive(Debug)]
pub struct FrameBuilder<F> {
    bytes: Vec<u8>,
    parts: u64,
    /// Where the last one begins.
    last: usize,
    frame: PhantomData<fn() -> F>,
}

impl<F: Frame> Default for FrameBuilder<F> {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl<F: Frame> FrameBuilder<F> {
    /// An empty frame, with room for parts of so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        let mut head = Vec::with_capacity(HEAD_BYTES + bytes.min(F::BYTES_MAX));
        head.resize(HEAD_BYTES, 0);
        Self { bytes: head, parts: 0, last: HEAD_BYTES, frame: PhantomData }
    }

    /// Adds a part.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if no frame can hold it; then nothing was added.
    pub fn push(&mut self, part: &F::Part) -> Result<(), FrameError> {
        let before = self.bytes.len();
        codec::encode_into(part, &mut self.bytes);
        let fits = checked_length::<F>(HEAD_BYTES - LENGTH_BYTES + self.bytes.len() - before);
        match fits {
            Ok(_) => (self.parts, self.last) = (self.parts + 1, before),
            Err(_) => self.bytes.truncate(before),
        }
        fits.map(|_| ())
    }

    /// Adds a part that is encoded already, unless the frame would be too long with it; false then.
    pub fn push_encoded(&mut self, part: &[u8]) -> bool {
        let fits = self.bytes.len() - LENGTH_BYTES + part.len() <= F::BYTES_MAX;
        if fits {
            (self.parts, self.last) = (self.parts + 1, self.bytes.len());
            self.bytes.extend_from_slice(part);
        }
        fits
    }

    /// Is it longer than so many bytes, though it could be shorter? Then [`Self::split_last`].
    pub fn is_longer(&self, bytes: usize) -> bool {
        self.parts > 1 && self.bytes.len() > bytes
    }

    /// Takes the last part out, to begin the next frame with.
    ///
    /// # Panics
    /// If there is none.
    pub fn split_last(&mut self) -> Self {
        assert!(self.parts > 0, "there is a last part");
        let mut next = Self::default();
        next.bytes.extend_from_slice(&self.bytes[self.last..]);
        next.parts = 1;
        self.bytes.truncate(self.last);
        self.parts -= 1;
        next
    }

    /// The frame's bytes; `None` if it has no parts.
    ///
    /// # Panics
    /// If it was not split when [`Self::is_longer`] than a frame may be.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        let length = checked_length::<F>(self.bytes.len() - LENGTH_BYTES).expect("it was split in time");
        self.bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        self.bytes[LENGTH_BYTES..HEAD_BYTES].copy_from_slice(&self.parts.to_le_bytes());
        (self.parts > 0).then_some(self.bytes)
    }
}

/// Turns a stream of bytes into frames. Take every frame out before pushing more, and it never holds more than one
/// frame's bound and one piece.
#[derive(Debug)]
pub struct FrameReader<F> {
    /// Received and not yet decoded.
    buffer: BytesMut,
    frames: PhantomData<fn() -> F>,
}

impl<F> Default for FrameReader<F> {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), frames: PhantomData }
    }
}

impl<F: Frame> FrameReader<F> {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next frame, or `None` until more bytes are there.
    ///
    /// # Errors
    /// The bytes are no frame. The reader stands where it stood: it gives the same error again.
    pub fn next_frame(&mut self) -> Result<Option<F>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        checked_length::<F>(length)?;
        let Some(body) = self.buffer[LENGTH_BYTES..].get(..length) else { return Ok(None) };
        let frame = codec::decode(body, F::BYTES_MAX)?;
        self.buffer.advance(LENGTH_BYTES + length);
        Ok(Some(frame))
    }

    /// Length in bytes of the frame under way, once it is known: as the other side claims it, so look for an error first.
    pub fn frame_bytes(&self) -> Option<u32> {
        self.buffer.first_chunk().map(|length| u32::from_le_bytes(*length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::TestCaseError};

    use super::*;
    use crate::{
        api::{Consistency, Failure, NotApplied, Read},
        client::{Call, ClientCall, ClientReply, Reply},
        pool::{Action, Answer, CatalogItem, ItemId, Policy, PoolId, Query, RequestKey, Stock, Verification, Weight},
        types::{Index, Millis, ReplicaId},
    };

    fn draw_five() -> ClientFrame {
        let key = RequestKey::new(Millis(0x0102_0304_0506), [0x11; 10]);
        let call = Call::Submit { pool: PoolId::default_pool(), key: Some(key), action: Action::Draw { count: 5 } };
        ClientFrame { calls: vec![ClientCall { id: 7, timeout_ms: 2_000, call }] }
    }

    #[test]
    fn a_client_frame_has_golden_bytes() {
        let golden = [
            [62, 0, 0, 0].as_slice(),                       // length
            &[1, 0, 0, 0, 0, 0, 0, 0],                      // one call
            &[7, 0, 0, 0, 0, 0, 0, 0],                      // its id
            &[0xd0, 7, 0, 0],                               // 2 000 ms
            &[0, 0, 0, 0],                                  // Submit
            &[7, 0, 0, 0, 0, 0, 0, 0],                      // length of the pool's id
            b"default",                                     //
            &[1, 1, 2, 3, 4, 5, 6, 0x71, 0x11, 0x91, 0x11], // Some(key): time, version, variant
            &[0x11; 6],                                     //
            &[0, 0, 0, 0],                                  // by weight: Draw
            &[5, 0],                                        // five
        ]
        .concat();
        assert_eq!(encode_frame(&draw_five()).unwrap(), golden);
    }

    #[test]
    fn a_server_frame_has_golden_bytes() {
        let reply = Err(Failure::NotApplied(NotApplied::Overloaded { retry_after_ms: 20 }));
        let frame = ServerFrame { replies: vec![ClientReply { id: 7, now: Millis(9), reply }] };
        let golden = [
            [40, 0, 0, 0].as_slice(),   // length
            &[1, 0, 0, 0, 0, 0, 0, 0],  // one reply
            &[7, 0, 0, 0, 0, 0, 0, 0],  // its id
            &[9, 0, 0, 0, 0, 0, 0, 0],  // now
            &[1, 0, 0, 0, 0, 0, 0, 0],  // Err(NotApplied(..))
            &[1, 0, 0, 0, 20, 0, 0, 0], // Overloaded, 20 ms
        ]
        .concat();
        assert_eq!(encode_frame(&frame).unwrap(), golden);
    }

    #[test]
    fn a_frame_made_part_by_part_is_the_same_frame() {
        let frame = every_call();
        let mut builder = FrameBuilder::<ClientFrame>::default();
        frame.calls.iter().for_each(|call| builder.push(call).unwrap());
        let next = builder.split_last();
        let [first, second] = [builder, next].map(|builder| builder.finish().unwrap());
        let (last, others) = frame.calls.split_last().unwrap();
        assert_eq!(first, encode_frame(&ClientFrame { calls: others.to_vec() }).unwrap());
        assert_eq!(second, encode_frame(&ClientFrame { calls: vec![last.clone()] }).unwrap());
        assert_eq!(FrameBuilder::<ClientFrame>::default().finish(), None);
    }

    #[test]
    fn a_part_that_no_frame_can_hold_is_not_added() {
        let violations = vec!["x".repeat(SERVER_FRAME_BYTES_MAX)];
        let answer = Answer::Verified(Verification { pools: 1, items: 2, keys: 3, violations });
        let read = Read { index: Index(1), now: Millis(1), answer };
        let mut builder = FrameBuilder::<ServerFrame>::default();
        let reply = |reply| ClientReply { id: 1, now: Millis(9), reply };
        builder.push(&reply(Ok(Reply::Transferred))).unwrap();
        assert!(matches!(builder.push(&reply(Ok(Reply::Read(read)))), Err(FrameError::TooLong { .. })));
        let bytes = builder.finish().unwrap();
        assert_eq!(bytes, encode_frame(&ServerFrame { replies: vec![reply(Ok(Reply::Transferred))] }).unwrap());
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let one = draw_five();
        let two = ClientFrame { calls: vec![] };
        let bytes = [encode_frame(&one).unwrap(), encode_frame(&two).unwrap()].concat();
        for piece in 1..bytes.len() {
            let mut reader = FrameReader::<ClientFrame>::default();
            let mut frames = vec![];
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [one.clone(), two.clone()]);
            assert!(reader.buffer.is_empty());
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_bytes_arrive() {
        let mut reader = FrameReader::<ClientFrame>::default();
        reader.push(&u32::try_from(CLIENT_FRAME_BYTES_MAX + 1).unwrap().to_le_bytes());
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLong { .. })));
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLong { .. })), "an error stays");
    }

    #[test]
    fn a_body_that_is_longer_than_its_value_is_malformed() {
        let mut bytes = encode_frame(&ClientFrame { calls: vec![] }).unwrap();
        bytes[0] += 1;
        bytes.push(0);
        let mut reader = FrameReader::<ClientFrame>::default();
        reader.push(&bytes);
        assert!(matches!(reader.next_frame(), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn a_value_too_long_for_a_frame_is_not_encoded() {
        let status = ClientCall { id: 0, timeout_ms: 0, call: Call::Status };
        let frame = ClientFrame { calls: vec![status; CLIENT_FRAME_BYTES_MAX / 16] };
        assert!(matches!(encode_frame(&frame), Err(FrameError::TooLong { .. })));
    }

    /// A call of each kind.
    fn every_call() -> ClientFrame {
        let pool = PoolId::default_pool();
        let item: ItemId = "gold".parse().unwrap();
        let (stock, weight) = (Stock::Finite(5), Weight(2));
        let claim = Action::Claim { item: item.clone(), quantity: 3 };
        let items = vec![CatalogItem { item, stock, weight }];
        let create = Action::CreatePool { policy: Policy::Renormalize, require_key: false, items };
        let submits = [Action::Draw { count: 5 }, claim, create].map(|action| Call::Submit {
            pool: pool.clone(),
            key: Some(RequestKey::new(Millis(1), [9; 10])),
            action,
        });
        let reads = [Query::Pool(pool.clone()), Query::Verify]
            .map(|query| Call::Read { query, consistency: Consistency::Linearizable });
        let others = [Call::Status, Call::HistoryAt(Index(7)), Call::Transfer(ReplicaId(2))];
        let calls = submits.into_iter().chain(reads).chain(others);
        let numbered = (1..).zip(calls).map(|(id, call)| ClientCall { id, timeout_ms: 2_000, call });
        ClientFrame { calls: numbered.collect() }
    }

    /// Replies of several kinds.
    fn many_replies() -> ServerFrame {
        let violations = vec!["one".to_owned(), "another".to_owned()];
        let answer = Answer::Verified(Verification { pools: 1, items: 2, keys: 3, violations });
        let replies = [
            Ok(Reply::Transferred),
            Ok(Reply::Read(Read { index: Index(1), now: Millis(1), answer })),
            Ok(Reply::HistoryAt(None)),
            Err(Failure::NotApplied(NotApplied::Malformed("why".to_owned()))),
            Err(Failure::Unknown { key: RequestKey::new(Millis(1), [9; 10]) }),
        ];
        let numbered = (1..).zip(replies).map(|(id, reply)| ClientReply { id, now: Millis(9), reply });
        ServerFrame { replies: numbered.collect() }
    }

    /// Reads a stream of these bytes in pieces until it ends or fails; gives the number of whole frames. Nothing is kept
    /// but what may still become a frame.
    fn harmless<F: Frame>(bytes: &[u8], piece: usize) -> Result<usize, TestCaseError> {
        let (mut reader, mut frames) = (FrameReader::<F>::default(), 0);
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            loop {
                match reader.next_frame() {
                    Ok(Some(_)) => frames += 1,
                    Ok(None) => break,
                    Err(_) => return Ok(frames),
                }
            }
            let kept_max = LENGTH_BYTES + reader.frame_bytes().unwrap_or(0) as usize;
            prop_assert!(reader.buffer.len() <= kept_max && reader.buffer.capacity() <= 2 * bytes.len() + 64);
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes: Vec<u8>, piece in 1..200usize) {
            harmless::<ClientFrame>(&bytes, piece)?;
            harmless::<ServerFrame>(&bytes, piece)?;
        }

        #[test]
        fn a_length_and_any_body_are_a_frame_or_an_error(body: Vec<u8>, piece in 1..200usize) {
            let length = u32::try_from(body.len()).unwrap().to_le_bytes();
            let bytes = [&length[..], &body].concat();
            harmless::<ClientFrame>(&bytes, piece)?;
            harmless::<ServerFrame>(&bytes, piece)?;
        }

        #[test]
        fn damaged_frames_do_no_harm(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(), is_cut: bool, piece in 1..200usize,
        ) {
            let calls = encode_frame(&every_call()).unwrap();
            let replies = encode_frame(&many_replies()).unwrap();
            for (bytes, is_calls) in [(calls, true), (replies, false)] {
                let mut damaged = bytes.clone();
                damage.iter().for_each(|(at, value)| damaged[at.index(bytes.len())] = *value);
                if is_cut {
                    damaged.truncate(cut.index(bytes.len()));
                }
                // What is not damaged comes out all the same.
                let stream = [bytes, damaged].concat();
                let whole = if is_calls {
                    harmless::<ClientFrame>(&stream, piece)?
                } else {
                    harmless::<ServerFrame>(&stream, piece)?
                };
                prop_assert!(whole >= 1);
            }
        }

        #[test]
        fn any_reply_of_a_node_round_trips(id: u64, now: u64) {
            let reply = ClientReply { id, now: Millis(now), reply: Ok(Reply::Transferred) };
            let frame = ServerFrame { replies: vec![reply] };
            let mut reader = FrameReader::<ServerFrame>::default();
            reader.push(&encode_frame(&frame).unwrap());
            prop_assert_eq!(reader.next_frame().unwrap(), Some(frame));
        }
    }
}
