//! QUIC, by quinn.
