//! The transport over real sockets: frames between proven peers, and nobody else let in.

mod quic {
    pub mod exchange;
    pub mod refusal;
    pub mod support;
}
