//! Why there is no connection, or no longer; and who did not accept whom, if that is why.

use std::io;

use quinn::{ConnectError, ConnectionError, ReadError, TransportErrorCode, WriteError};

use super::{
    super::{REASON_BYTES_MAX, frame::FrameError, greeting::NoGreeting, identity::Refused},
    inbox::NodeGone,
    settings::{Code, HANDSHAKE_MAX},
};

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{address} cannot be resolved: {source}")]
    Unresolved { address: String, source: io::Error },
    #[error("{address} resolves to no address that can be reached from here")]
    NoAddress { address: String },
    #[error(transparent)]
    Undialable(#[from] ConnectError),
    #[error("nobody answers")]
    Unanswered,
    #[error("there was no greeting within {} s", HANDSHAKE_MAX.as_secs())]
    Silent,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its stream ended")]
    Stream,
    #[error(transparent)]
    NoGreeting(#[from] NoGreeting),
    #[error("it greets twice on one lane")]
    GreetedTwice,
    #[error("a newer connection took its place")]
    Replaced,
    #[error("the node is gone")]
    NodeGone,
}

/// Who did not accept the other. An operator must look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RefusedBy {
    /// This node.
    Us,
    /// The other side, for this reason.
    Them(String),
}

impl Lost {
    /// For the log, on one line: what the other side says of its reasons is not trusted.
    pub(super) fn reason(&self) -> String {
        match self.refused_by() {
            Some(RefusedBy::Them(reason)) => reason,
            _ => one_line(&self.to_string()),
        }
    }

    /// The same for the same reason: the library's words differ with the time, TLS's alerts do not.
    pub(super) fn sameness(&self) -> String {
        match self {
            Self::Connection(ConnectionError::TransportError(error)) if is_alert(error.code) => {
                format!("our {}", error.code)
            }
            Self::Connection(ConnectionError::ConnectionClosed(close)) if is_alert(close.error_code) => {
                format!("their {}", close.error_code)
            }
            _ => one_line(&self.to_string()),
        }
    }

    /// Who refused, if somebody did: over a certificate, a name, a protocol, or an introduction.
    pub(super) fn refused_by(&self) -> Option<RefusedBy> {
        match self {
            Self::Refused(_) => Some(RefusedBy::Us),
            Self::Connection(ConnectionError::ApplicationClosed(close)) if close.error_code == Code::Refused.into() => {
                Some(RefusedBy::them(&close.reason))
            }
            Self::Connection(error) => refused_by(error),
            _ => None,
        }
    }

    /// What the other side is told.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Refused(_) => Code::Refused,
            Self::Replaced => Code::Replaced,
            Self::Frame(_) | Self::NoGreeting(_) | Self::GreetedTwice => Code::Protocol,
            _ => Code::Stopping,
        }
    }
}

impl RefusedBy {
    fn them(reason: &[u8]) -> Self {
        Self::Them(one_line(&String::from_utf8_lossy(reason)))
    }
}

/// Who refused in the handshake, if somebody did: over a certificate or a protocol, before anything else was looked at.
pub(crate) fn refused_by(error: &ConnectionError) -> Option<RefusedBy> {
    match error {
        ConnectionError::TransportError(error) if is_alert(error.code) => Some(RefusedBy::Us),
        ConnectionError::ConnectionClosed(close) if is_alert(close.error_code) => Some(RefusedBy::them(&close.reason)),
        _ => None,
    }
}

/// Is it the code of a TLS alert? RFC 9001, section 4.8.
fn is_alert(code: TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// The text on one line, without control characters, and cut to its bound.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = text.replace(char::is_control, " ");
    line.truncate(line.floor_char_boundary(REASON_BYTES_MAX));
    line
}

impl From<NodeGone> for Lost {
    fn from(NodeGone: NodeGone) -> Self {
        Self::NodeGone
    }
}

impl From<WriteError> for Lost {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Stream,
        }
    }
}

impl From<ReadError> for Lost {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\nb\r\u{1b}[31mc\u{85}d"), "a b  [31mc d");
        assert_eq!(one_line(&"x".repeat(2 * REASON_BYTES_MAX)).len(), REASON_BYTES_MAX);
        let cut = one_line(&"ä".repeat(REASON_BYTES_MAX)[..]);
        assert_eq!(cut, "ä".repeat(REASON_BYTES_MAX / 2));
        assert_eq!(one_line(&format!("x{}", "ä".repeat(REASON_BYTES_MAX))).len(), REASON_BYTES_MAX - 1);
    }
}
