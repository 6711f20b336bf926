//! Where a node listens: its sockets, bound before anything is promised, with errors that say what to do.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use tokio::{net::TcpListener, sync::mpsc::Receiver};

use crate::{
    cli::{
        CliError, Exit,
        config::{Listen, Settings},
        ports::{Protocol, in_use_at},
    },
    transport::{
        SetupError,
        quic::{ClientConnection, Quic, QuicConfig, QuicTransport},
        tls::NodeTls,
    },
};

/// Binds the gRPC side.
///
/// # Errors
/// The address cannot be had.
pub async fn bind_grpc(listen: Listen) -> Result<TcpListener, CliError> {
    let address = on_this_machine(listen);
    TcpListener::bind(address).await.map_err(|error| unusable(address, Protocol::Tcp, "--grpc-listen", &error))
}

/// Binds the admin side.
///
/// # Errors
/// The address cannot be had.
pub async fn bind_admin(Listen(address): Listen) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| unusable(address, Protocol::Tcp, "--admin-listen", &error))
}

/// Binds the native side, and begins to dial the peers.
///
/// # Errors
/// The address cannot be had.
pub fn bind_quic(
    settings: &Settings,
    tls: NodeTls,
) -> Result<(QuicTransport, Receiver<ClientConnection>, Quic), CliError> {
    let address = on_this_machine(settings.quic_listen);
    let peers = settings.members.iter().map(|member| (member.id, member.quic.to_string())).collect();
    Quic::bind(QuicConfig { listen: address, peers, tls }).map_err(|error| match &error {
        SetupError::Bind { listen, source } => unusable(*listen, Protocol::Udp, "--quic-listen", source),
        _ => error.into(),
    })
}

/// Every address of a machine without IPv6 is every IPv4 address.
fn on_this_machine(Listen(address): Listen) -> SocketAddr {
    let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    if address.ip() == any && UdpSocket::bind((any, 0)).is_err() {
        return SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    }
    address
}

fn unusable(address: SocketAddr, protocol: Protocol, flag: &str, error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::AddrInUse {
        return in_use_at(address.ip(), address.port(), protocol, flag);
    }
    CliError::new(Exit::Other, "ADDRESS_UNUSABLE", format!("cannot listen on {address}: {error}"))
        .hint(format!("{flag} changes it"))
}
