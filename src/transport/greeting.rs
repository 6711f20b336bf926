//! The first frame of every stream between peers: which lane it is, and, on the most urgent one, who speaks.
//!
//! Each side opens a stream a lane and greets on it at once, because a QUIC stream is not visible to the other side
//! before it holds data, and because a dialer knows only from a greeting that the listener has admitted it: in TLS 1.3
//! the dialer's handshake is complete before the listener has looked at its certificate.
//!
//! A greeting is one byte for the lane (0 urgent, 1 log, 2 bulk), and behind it, on the urgent lane alone, what the node
//! introduces itself with: see [`super::Transport::introduce`].

use bytes::{BufMut, Bytes, BytesMut};

use super::{HELLO_BYTES_MAX, Lane};

/// Longest greeting in bytes.
pub const GREETING_BYTES_MAX: usize = 1 + HELLO_BYTES_MAX;

/// The first frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Of the urgent lane, and of the connection.
    Urgent {
        /// What the node introduces itself with.
        hello: Bytes,
    },
    /// Of the log's lane.
    Log,
    /// Of the bulk lane.
    Bulk,
}

/// The first frame of a stream is no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream does not begin with a greeting")]
pub struct NoGreeting;

impl Greeting {
    /// The greeting of a lane's stream, on a connection that is introduced with this.
    pub fn of(lane: Lane, hello: &Bytes) -> Self {
        match lane {
            Lane::Urgent => Self::Urgent { hello: hello.clone() },
            Lane::Log => Self::Log,
            Lane::Bulk => Self::Bulk,
        }
    }

    /// Its payload.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self {
            Self::Urgent { hello } => {
                bytes.put_u8(0);
                bytes.put_slice(hello);
            }
            Self::Log => bytes.put_u8(1),
            Self::Bulk => bytes.put_u8(2),
        }
        bytes.freeze()
    }

    /// The greeting of this payload.
    pub fn decode(payload: &Bytes) -> Result<Self, NoGreeting> {
        match payload[..] {
            [0, ..] if payload.len() <= GREETING_BYTES_MAX => Ok(Self::Urgent { hello: payload.slice(1..) }),
            [1] => Ok(Self::Log),
            [2] => Ok(Self::Bulk),
            _ => Err(NoGreeting),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn greetings_are_golden() {
        let hello = Bytes::from_static(b"hello");
        let encoded = Lane::ALL.map(|lane| Greeting::of(lane, &hello).encode());
        assert_eq!(encoded, [&b"\0hello"[..], b"\x01", b"\x02"]);
        assert_eq!(Greeting::decode(&encoded[0]), Ok(Greeting::Urgent { hello }));
    }

    #[test]
    fn a_hello_has_its_bound() {
        let longest = Greeting::Urgent { hello: vec![7; HELLO_BYTES_MAX].into() };
        assert_eq!(Greeting::decode(&longest.encode()), Ok(longest));
        let longer = Greeting::Urgent { hello: vec![7; HELLO_BYTES_MAX + 1].into() };
        assert_eq!(Greeting::decode(&longer.encode()), Err(NoGreeting));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_greeting_of_just_these_bytes_or_none(
            lane in 0..4u8, rest in prop::collection::vec(any::<u8>(), 0..2 * HELLO_BYTES_MAX), is_empty: bool,
        ) {
            let bytes = if is_empty { vec![] } else { [vec![lane], rest].concat() };
            let bytes = Bytes::from(bytes);
            if let Ok(greeting) = Greeting::decode(&bytes) {
                prop_assert!(bytes.len() <= GREETING_BYTES_MAX);
                prop_assert_eq!(greeting.encode(), bytes);
            }
        }
    }
}
