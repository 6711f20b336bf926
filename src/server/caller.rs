//! Who sent a gRPC request.

use tonic::Request;

use crate::{pool::Actor, transport::identity};

/// The name in the certificate that the caller showed, which TLS has verified; nobody's if there is none, or if it is a
/// certificate of somebody else's making that carries no name of ours.
pub fn actor_of<T>(request: &Request<T>) -> Actor {
    let chain = request.peer_certs();
    let first = chain.as_deref().and_then(|chain| chain.first());
    first.and_then(|certificate| identity::client_of(certificate).ok()).unwrap_or_default()
}
