//! Who comes in: handshakes, then identities, then peers to their places and clients to the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quinn::{Connection, Endpoint, Incoming, crypto::rustls::HandshakeData};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    super::{
        identity::Refused,
        tls::{NodeTls, PEER_ALPN},
    },
    ClientConnection, certificates,
    seats::Seats,
    session::Lost,
    settings::{Code, HANDSHAKE_MAX, HANDSHAKES_MAX, HANDSHAKES_UNVALIDATED_MAX},
};
use crate::{client::CLIENT_ALPN, types::ReplicaId};

/// Takes connections until the endpoint closes.
pub(super) struct Listener {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Arc<NodeTls>,
    /// Every configured peer.
    pub(super) peers: BTreeSet<ReplicaId>,
    /// Where connections from those peers go that dial this node.
    pub(super) arrivals: BTreeMap<ReplicaId, mpsc::Sender<Connection>>,
    /// Where clients go.
    pub(super) clients: mpsc::Sender<ClientConnection>,
    pub(super) seats: Seats,
}

impl Listener {
    pub(super) async fn run(self) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(finished) = handshakes.join_next() => {
                    if let Ok(Some(connection)) = finished {
                        self.admit(connection);
                    }
                }
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => begin(incoming, &mut handshakes),
                    None => return,
                },
            }
        }
    }

    /// Hands the connection to whom it is for, or closes it and says why.
    fn admit(&self, connection: Connection) {
        if let Err(refused) = self.place(connection.clone()) {
            tracing::warn!(address = %connection.remote_address(), reason = %refused, "connection refused");
            connection.close(Code::Refused.into(), refused.to_string().as_bytes());
        }
    }

    fn place(&self, connection: Connection) -> Result<(), Refused> {
        let chain = certificates(&connection)?;
        match protocol(&connection).as_deref() {
            Some(PEER_ALPN) => {
                let peer = self.tls.peer(&chain)?;
                if !self.peers.contains(&peer) {
                    return Err(Refused::UnknownPeer(peer));
                }
                let place = self.arrivals.get(&peer).ok_or(Refused::NotTheDialer(peer))?;
                // The place takes connections at once, whatever it is doing; it is full under a flood only.
                place.try_send(connection).map_err(|_| Refused::TooMany)
            }
            Some(CLIENT_ALPN) => {
                let actor = self.tls.client(&chain)?;
                let seat = self.seats.take(connection.remote_address().ip()).ok_or(Refused::TooMany)?;
                tracing::debug!(%actor, address = %connection.remote_address(), "client connected");
                let client = ClientConnection { actor, connection, _seat: seat };
                self.clients.try_send(client).map_err(|_| Refused::TooMany)
            }
            _ => Err(Refused::OtherProtocol),
        }
    }
}

/// Begins a handshake, asks for proof of the address first, or turns the caller away, as load has it.
fn begin(incoming: Incoming, handshakes: &mut JoinSet<Option<Connection>>) {
    if handshakes.len() >= HANDSHAKES_MAX {
        incoming.refuse();
    } else if handshakes.len() >= HANDSHAKES_UNVALIDATED_MAX && !incoming.remote_address_validated() {
        // Cannot fail: whoever is not validated may be asked to.
        let _ = incoming.retry();
    } else {
        handshakes.spawn(handshake(incoming));
    }
}

async fn handshake(incoming: Incoming) -> Option<Connection> {
    let address = incoming.remote_address();
    let why = match timeout(HANDSHAKE_MAX, incoming.into_future()).await {
        Ok(Ok(connection)) => return Some(connection),
        Ok(Err(error)) => Lost::Connection(error),
        Err(_) => Lost::Silent,
    };
    if why.is_refusal() {
        tracing::warn!(%address, reason = why.reason(), "connection refused");
    } else {
        tracing::debug!(%address, reason = why.reason(), "a handshake failed");
    }
    None
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}
