//! The UDP sockets of a process's clients.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quinn::{ClientConfig, ConnectError, Connecting, Endpoint};

use crate::transport::{identity::NODE_NAME, quic::client_endpoint};

/// UDP sockets, one an address family, bound when first needed. Clones are the same ones: clients that share them keep
/// connections of their own, and what many of them send at a time leaves in few system calls.
///
/// They belong to the tokio runtime in which they were first needed, and are bound anew in another when that one has ended;
/// while it stands still, they do.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Of IPv4 and IPv6.
    endpoints: Arc<Mutex<[Option<Endpoint>; 2]>>,
}

impl Sockets {
    /// Dials. The error says why that cannot even begin. Must be called within a tokio runtime.
    pub(super) fn dial(&self, config: ClientConfig, remote: SocketAddr) -> Result<(Endpoint, Connecting), String> {
        let mut endpoints = self.endpoints();
        let slot = &mut endpoints[usize::from(remote.is_ipv6())];
        if let Some(endpoint) = slot.clone() {
            match endpoint.connect_with(config.clone(), remote, NODE_NAME) {
                // Its runtime is gone.
                Err(ConnectError::EndpointStopping) => {}
                Err(error) => return Err(error.to_string()),
                Ok(connecting) => return Ok((endpoint, connecting)),
            }
        }
        let endpoint = bind(remote).map_err(|error| error.to_string())?;
        let connecting = endpoint.connect_with(config, remote, NODE_NAME).map_err(|error| error.to_string())?;
        *slot = Some(endpoint.clone());
        Ok((endpoint, connecting))
    }

    /// A dial over this one was not answered: the next goes over a fresh one, since what the network remembers of a port (an
    /// address translation, say) may be what keeps the answer away. Connections stay with theirs.
    pub(super) fn leave(&self, silent: &Endpoint) {
        let silent = silent.local_addr().ok();
        let is_silent = |endpoint: &mut Endpoint| endpoint.local_addr().ok() == silent;
        self.endpoints().iter_mut().for_each(|slot| _ = slot.take_if(is_silent));
    }

    fn endpoints(&self) -> MutexGuard<'_, [Option<Endpoint>; 2]> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(remote: SocketAddr) -> std::io::Result<Endpoint> {
    client_endpoint(if remote.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() })
}
