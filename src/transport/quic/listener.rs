//! Who comes in: handshakes, then identities, then peers to their places and clients to the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use quinn::{Connection, Endpoint, Incoming, VarInt, crypto::rustls::HandshakeData};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    super::{
        identity::Refused,
        seats::Seats,
        tls::{NodeTls, PEER_ALPN},
    },
    ClientConnection, certificates,
    log::Strangers,
    lost::Lost,
    settings::{Code, HANDSHAKE_MAX, HANDSHAKES_MAX, HANDSHAKES_UNVALIDATED_MAX, widen},
};
use crate::{
    client::{CLIENT_ALPN, wire::CloseCode},
    types::ReplicaId,
};

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
    pub(super) strangers: Strangers,
}

/// What became of a handshake with this address.
type Handshake = (SocketAddr, Result<Connection, Lost>);

impl Listener {
    pub(super) async fn run(mut self) {
        let mut handshakes: JoinSet<Handshake> = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(finished) = handshakes.join_next() => {
                    if let Ok((address, result)) = finished {
                        self.finish(address, result);
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
    fn finish(&mut self, address: SocketAddr, handshake: Result<Connection, Lost>) {
        let admitted = handshake.and_then(|connection| {
            self.place(connection.clone()).map_err(|refused| {
                connection.close(code(&connection, &refused), refused.to_string().as_bytes());
                Lost::Refused(refused)
            })
        });
        if let Err(why) = admitted {
            self.strangers.ended(address, &why);
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
                widen(&connection);
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
fn begin(incoming: Incoming, handshakes: &mut JoinSet<Handshake>) {
    if handshakes.len() >= HANDSHAKES_MAX {
        incoming.refuse();
    } else if handshakes.len() >= HANDSHAKES_UNVALIDATED_MAX && !incoming.remote_address_validated() {
        // Cannot fail: whoever is not validated may be asked to.
        let _ = incoming.retry();
    } else {
        handshakes.spawn(handshake(incoming));
    }
}

async fn handshake(incoming: Incoming) -> Handshake {
    let address = incoming.remote_address();
    let result = match timeout(HANDSHAKE_MAX, incoming.into_future()).await {
        Ok(result) => result.map_err(Lost::Connection),
        Err(_) => Err(Lost::Silent),
    };
    (address, result)
}

/// What the other side is told. A client has codes of its own; that there is no room proves nothing against it.
fn code(connection: &Connection, refused: &Refused) -> VarInt {
    match protocol(connection).as_deref() {
        Some(CLIENT_ALPN) if *refused != Refused::TooMany => CloseCode::Refused.number().into(),
        _ => Code::Refused.into(),
    }
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}
