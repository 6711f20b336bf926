//! Durations, sizes and addresses as people write them: `150ms`, `64MiB`, `127.0.0.1:50051`.
//!
//! A number without a unit is refused: `50` of what? So is a decimal unit such as `MB`, which half of the readers take
//! for a binary one. Whatever is printed can be read back.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1_000), ("h", 60 * 60 * 1_000), ("m", 60 * 1_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Splits `64MiB` into 64 and the value of `MiB`, and multiplies.
fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let &(_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes `value` in the greatest unit that divides it.
fn write_with_unit(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, factor) = units.iter().find(|(_, factor)| value.is_multiple_of(*factor)).expect("the last unit is 1");
    write!(f, "{}{name}", value / factor)
}

/// A length of time in whole milliseconds, written `150ms`, `2s`, `5m`, `24h`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(
    /// Milliseconds.
    pub u64,
);

impl Span {
    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_with_unit(text, &DURATION_UNITS).map(Self).ok_or_else(|| {
            format!("`{text}` is not a duration: a whole number and one of ms, s, m, h, d, as in `150ms`")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_unit(self.0, &DURATION_UNITS, f)
    }
}

/// A number of bytes, written `512B`, `64KiB`, `256MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(
    /// Bytes.
    pub u64,
);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_with_unit(text, &SIZE_UNITS).map(Self).ok_or_else(|| {
            format!("`{text}` is not a size: a whole number and one of B, KiB, MiB, GiB, TiB, as in `64MiB`")
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_unit(self.0, &SIZE_UNITS, f)
    }
}

/// Where others reach a node: a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

impl Address {
    /// The address that a process listens on if others reach it here: itself if it is an IP address, else every address
    /// of this machine, as a name may stand for any of them.
    pub fn to_listen(&self) -> Listen {
        let ip = match self.host.as_str() {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
        };
        Listen(SocketAddr::new(ip, self.port))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_host_port(text)?;
        if host.is_empty() {
            return Err(format!(
                "`{text}` names no host: others must know where to reach the node, as in `10.0.0.1:{port}`"
            ));
        }
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(format!("`{host}` is an address to listen on, not one where others reach the node"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where a process listens: an IP address and a port. `:50051` is that port on every address of the machine, as the
/// predecessor wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(
    /// The socket's address; an unspecified IPv6 one takes IPv4 connections as well.
    pub SocketAddr,
);

impl Listen {
    /// Would one socket be in the way of the other, over the same protocol?
    pub fn collides(&self, other: &Self) -> bool {
        let takes =
            |one: IpAddr, other: IpAddr| one == other || one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
        let (one, other) = (self.0, other.0);
        one.port() == other.port() && (takes(one.ip(), other.ip()) || takes(other.ip(), one.ip()))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_host_port(text)?;
        let ip = match host {
            "" => Ipv6Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host
                .parse()
                .map_err(|_| format!("`{host}` is not an IP address; a process listens on one of its machine's"))?,
        };
        Ok(Self(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Splits at the last colon; an IPv6 address stands in brackets.
fn split_host_port(text: &str) -> Result<(&str, u16), String> {
    let wrong =
        || format!("`{text}` is not an address: HOST:PORT, as in `127.0.0.1:50051`, with a port from 1 to 65535");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|&port: &u16| port != 0).ok_or_else(wrong)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).ok_or_else(wrong)?,
        None if host.contains([':', '/', ' ', '[', ']']) => return Err(wrong()),
        None => host,
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_back_as_printed() {
        for text in ["1ms", "150ms", "2s", "5m", "24h".replace("24h", "1d").as_str(), "90m"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["1B", "1000B", "64KiB", "256MiB", "3GiB", "2TiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("24 h".parse::<Span>(), Ok(Span(86_400_000)));
    }

    #[test]
    fn what_has_no_unit_or_no_number_or_overflows_is_refused() {
        for text in ["", "50", "ms", "-1s", "1.5s", "5 parsecs", "99999999999999999999ms", "999999999999999999d", "1S"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["64", "64MB", "64M", "MiB", "18446744073709551615TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(":50051".parse::<Listen>().unwrap().to_string(), "[::]:50051");
        assert_eq!("localhost:1".parse::<Listen>().unwrap().to_string(), "127.0.0.1:1");
        assert_eq!("[::1]:7".parse::<Address>().unwrap().to_string(), "[::1]:7");
        assert_eq!("node-1.example:7".parse::<Address>().unwrap().to_listen().to_string(), "[::]:7");
        assert_eq!("10.0.0.1:7".parse::<Address>().unwrap().to_listen().to_string(), "10.0.0.1:7");
        for text in
            ["", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "::1:5", "[::1", "http://x:1", ":5", "0.0.0.0:5"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!("example.org:5".parse::<Listen>().is_err());
    }
}
