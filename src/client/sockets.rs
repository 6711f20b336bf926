//! The UDP sockets of a process's clients.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use quinn::{ClientConfig, ConnectError, Connecting, Endpoint};

use crate::transport::{identity::NODE_NAME, quic::client_endpoint};

/// UDP sockets, one an address family, bound when first needed. Clones are the same ones: clients that share them keep
/// connections of their own, and what many of them send at a time leaves in few system calls.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Of IPv4 and IPv6.
    endpoints: Arc<Mutex<[Option<Endpoint>; 2]>>,
}

impl Sockets {
    /// Dials. The error says why that cannot even begin. Must be called within a tokio runtime.
    pub(super) fn dial(&self, config: ClientConfig, remote: SocketAddr) -> Result<(Endpoint, Connecting), String> {
        let mut endpoints = self.endpoints.lock().expect("nothing panics under this lock");
        let slot = &mut endpoints[usize::from(remote.is_ipv6())];
        loop {
            let (endpoint, is_fresh) = match slot.clone() {
                Some(endpoint) => (endpoint, false),
                None => (bind(remote).map_err(|error| error.to_string())?, true),
            };
            match endpoint.connect_with(config.clone(), remote, NODE_NAME) {
                // Its socket failed, or its runtime is gone.
                Err(ConnectError::EndpointStopping) if !is_fresh => *slot = None,
                Err(error) => return Err(error.to_string()),
                Ok(connecting) => {
                    *slot = Some(endpoint.clone());
                    return Ok((endpoint, connecting));
                }
            }
        }
    }
}

fn bind(remote: SocketAddr) -> std::io::Result<Endpoint> {
    client_endpoint(if remote.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() })
}
