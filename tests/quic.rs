//! The transport over real sockets: frames between proven peers, and nobody else let in.

mod quic {
    pub mod caller;
    pub mod exchange;
    pub mod introduction;
    pub mod lanes;
    pub mod refusal;
    pub mod support;
}
