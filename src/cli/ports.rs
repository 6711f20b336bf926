//! The ports of a node, and whether they are free.
//!
//! A port that looks free may be taken a moment later: this is for good messages beforehand, and whoever binds must still
//! be ready for a refusal.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    ops::RangeInclusive,
};

use super::{CliError, Exit};
use crate::types::ReplicaId;

/// Port of node 1's gRPC side, from which all others are counted.
pub const GRPC_PORT_BASE: u16 = 50_051;
/// From the ports of one node to those of the next.
const STRIDE: u16 = 10;
/// How many bases are tried before none is suggested.
const BASES_TRIED_MAX: u16 = 200;

/// A node's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// TCP.
    pub grpc: u16,
    /// UDP.
    pub quic: u16,
    /// TCP.
    pub admin: u16,
}

impl Ports {
    /// The usual ports of `node`, counted from node 1's gRPC port: the nodes 10 apart, the three of a node side by side.
    /// `None` if they do not exist.
    pub fn of(node: ReplicaId, base: u16) -> Option<Self> {
        let before = u16::try_from(node.0.checked_sub(1)?).ok()?.checked_mul(STRIDE)?;
        let grpc = base.checked_add(before)?;
        Some(Self { grpc, quic: grpc.checked_add(1)?, admin: grpc.checked_add(2)? })
    }
}

/// Which of the two kinds of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC and admin.
    Tcp,
    /// QUIC.
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    fn is_free(self, ip: IpAddr, port: u16) -> bool {
        match self {
            Self::Tcp => TcpListener::bind((ip, port)).is_ok(),
            Self::Udp => UdpSocket::bind((ip, port)).is_ok(),
        }
    }
}

/// Checks that nodes `1..=nodes` can have their usual ports on loopback, counted from `base`.
///
/// # Errors
/// One is in use, or does not exist: the error names it, the flag, and the next base that is free.
pub fn check_free(nodes: u64, base: u16, flag: &str) -> Result<(), CliError> {
    let (port, protocol) = match first_taken(nodes, base) {
        Ok(None) => return Ok(()),
        Ok(Some(taken)) => taken,
        Err(NoSuchPort) => {
            return Err(CliError::usage(format!(
                "with {flag} {base}, the ports of {nodes} nodes would go beyond 65535"
            )));
        }
    };
    let is_next_free = |candidate: &u16| matches!(first_taken(nodes, *candidate), Ok(None));
    Err(in_use(port, protocol, flag, bases_after(base).find(is_next_free)))
}

/// The error for a port of `ip` that a process was to listen on, and that is taken.
pub fn in_use_at(ip: IpAddr, port: u16, protocol: Protocol, flag: &str) -> CliError {
    let next = bases_after(port).find(|&candidate| protocol.is_free(ip, candidate));
    let mut error = in_use(port, protocol, flag, None);
    if let Some(next) = next {
        error.hint = Some(format!("{flag} changes it: {} is free", std::net::SocketAddr::new(ip, next)));
    }
    error
}

fn in_use(port: u16, protocol: Protocol, flag: &str, next: Option<u16>) -> CliError {
    let error = CliError::new(Exit::Other, "PORT_IN_USE", format!("{} port {port} is in use", protocol.name()));
    match next {
        Some(next) => error.hint(format!("{flag} changes it: the next free base is {flag} {next}")),
        None => error.hint(format!("{flag} changes it")),
    }
}

struct NoSuchPort;

fn first_taken(nodes: u64, base: u16) -> Result<Option<(u16, Protocol)>, NoSuchPort> {
    for node in 1..=nodes {
        let Ports { grpc, quic, admin } = Ports::of(ReplicaId(node), base).ok_or(NoSuchPort)?;
        for (port, protocol) in [(grpc, Protocol::Tcp), (quic, Protocol::Udp), (admin, Protocol::Tcp)] {
            if !protocol.is_free(Ipv4Addr::LOCALHOST.into(), port) {
                return Ok(Some((port, protocol)));
            }
        }
    }
    Ok(None)
}

fn bases_after(port: u16) -> impl Iterator<Item = u16> {
    let tries: RangeInclusive<u16> = 1..=BASES_TRIED_MAX;
    tries.filter_map(move |try_| port.checked_add(try_ * STRIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_counted_from_the_first() {
        let ports = |node, base| Ports::of(ReplicaId(node), base);
        assert_eq!(ports(1, GRPC_PORT_BASE), Some(Ports { grpc: 50_051, quic: 50_052, admin: 50_053 }));
        assert_eq!(ports(3, 7_000), Some(Ports { grpc: 7_020, quic: 7_021, admin: 7_022 }));
        assert_eq!(ports(0, 7_000), None);
        assert_eq!(ports(2, 65_525), None);
        assert_eq!(ports(u64::MAX, 1), None);
    }

    #[test]
    fn a_port_in_use_is_named_with_the_flag_and_a_base_that_is_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_free(3, port, "--grpc-port").unwrap_err();
        assert_eq!((error.exit, error.message), (Exit::Other, format!("TCP port {port} is in use")));
        let hint = error.hint.unwrap();
        if let Some(next) = hint.strip_prefix("--grpc-port changes it: the next free base is --grpc-port ") {
            assert!(check_free(3, next.parse().unwrap(), "--grpc-port").is_ok());
        } else {
            assert!(port > 65_000, "{hint}");
        }
        let error = in_use_at(Ipv4Addr::LOCALHOST.into(), port, Protocol::Tcp, "--grpc-listen");
        assert!(error.hint.unwrap().starts_with("--grpc-listen changes it"));
    }

    #[test]
    fn ports_that_do_not_exist_are_wrong_usage() {
        assert_eq!(check_free(3, 65_530, "--grpc-port").unwrap_err().exit, Exit::Usage);
    }
}
