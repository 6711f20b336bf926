//! What every request to the admin port passes before it is looked at, and what every answer carries.
//!
//! **DNS rebinding**: a page whose name was made to point at this machine may send requests here, and its browser takes
//! the answers for the page's own. It cannot choose the `Host` header: a name that is not this port's is refused. Both
//! places where HTTP/1.1 can name a host are looked at, and one that is named twice is refused.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::JSON_TYPE;

/// Longest body that a request may announce, in bytes. None is read.
const BODY_BYTES_MAX: u64 = 64 << 10;
/// What a browser may do with an answer: nothing but show it to whoever asked here.
const ANSWER_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The names that the port answers to. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<[String]>);

impl Guard {
    /// For a port that listens here.
    pub fn new(listen: SocketAddr) -> Self {
        let ip = match listen {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let names = std::iter::once(ip).chain(loopback.into_iter().filter(|_| listen.ip().is_loopback()));
        Self(names.collect())
    }

    fn knows(&self, authority: &Authority) -> bool {
        !authority.as_str().contains('@') && self.0.iter().any(|name| authority.host().eq_ignore_ascii_case(name))
    }

    /// Is the request for this port, and from nobody's page but its own?
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next().and_then(authority), hosts.next()) {
            (Some(host), None) if self.knows(&host) => host,
            _ => return Err(Refused::Host),
        };
        if uri.authority().is_some_and(|authority| !self.knows(authority)) {
            return Err(Refused::Host);
        }
        let ours = format!("http://{host}");
        let is_ours = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(ours.as_bytes());
        if !headers.get_all(header::ORIGIN).iter().all(is_ours) {
            return Err(Refused::Origin);
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_BYTES_MAX) { Err(Refused::Body) } else { Ok(()) }
    }
}

/// Why a request is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Host,
    Origin,
    Body,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Host => (
                StatusCode::FORBIDDEN,
                "HOST_NOT_ALLOWED",
                "the Host header names another host: this port answers to the address it listens on",
            ),
            Self::Origin => (StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED", "pages of another origin are not answered"),
            Self::Body => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "the body is longer than 64 KiB"),
        };
        refusal(status, code, message)
    }
}

fn authority(host: &HeaderValue) -> Option<Authority> {
    Authority::try_from(host.as_bytes()).ok()
}

/// Lets a request through, or refuses it; either way the answer says what a browser may do with it.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    for (name, value) in ANSWER_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An error as JSON: a stable code, and words of ours alone.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({"error": {"code": code, "message": message}});
    (status, [(header::CONTENT_TYPE, JSON_TYPE)], format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, uri: &str, headers: &[(HeaderName, &str)]) -> Result<(), Refused> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let guard = Guard::new(listen.parse().unwrap());
        guard.check(&uri.parse().unwrap(), &headers)
    }

    fn of_host(listen: &str, host: &str) -> Result<(), Refused> {
        check(listen, "/livez", &[(header::HOST, host)])
    }

    #[test]
    fn a_loopback_port_answers_to_the_names_of_loopback_on_any_port() {
        for host in ["127.0.0.1:50053", "127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:50053"] {
            assert_eq!(of_host("127.0.0.1:50053", host), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "evil.example:50053", "localhost.evil.example", "127.0.0.2", "x@localhost", "", "a b"]
        {
            assert_eq!(of_host("127.0.0.1:50053", host), Err(Refused::Host), "{host}");
        }
        assert_eq!(of_host("10.1.2.3:50053", "10.1.2.3:50053"), Ok(()));
        assert_eq!(of_host("10.1.2.3:50053", "localhost"), Err(Refused::Host));
    }

    #[test]
    fn a_host_is_named_once_and_everywhere_alike() {
        let check = |uri: &str, headers: &[_]| check("127.0.0.1:50053", uri, headers);
        assert_eq!(check("/livez", &[]), Err(Refused::Host));
        let (ours, foreign) = ((header::HOST, "localhost"), (header::HOST, "evil.example"));
        assert_eq!(check("http://evil.example/livez", &[ours]), Err(Refused::Host));
        assert_eq!(check("http://localhost/livez", &[foreign]), Err(Refused::Host));
        assert_eq!(check("http://localhost/livez", &[(header::HOST, "localhost")]), Ok(()));
        let mut twice = HeaderMap::new();
        twice.append(header::HOST, "localhost".parse().unwrap());
        twice.append(header::HOST, "evil.example".parse().unwrap());
        let guard = Guard::new("127.0.0.1:50053".parse().unwrap());
        assert!(guard.check(&"/livez".parse().unwrap(), &twice).is_err());
    }

    #[test]
    fn only_our_own_origin_is_answered() {
        let of_origin =
            |origin| check("127.0.0.1:1", "/status", &[(header::HOST, "localhost:1"), (header::ORIGIN, origin)]);
        assert_eq!(of_origin("http://localhost:1"), Ok(()));
        for origin in ["null", "http://evil.example", "https://localhost:1", "http://localhost:2", "http://127.0.0.1:1"]
        {
            assert_eq!(of_origin(origin), Err(Refused::Origin), "{origin}");
        }
    }

    #[test]
    fn a_long_body_is_refused_by_its_length() {
        let of_length =
            |length| check("127.0.0.1:1", "/status", &[(header::HOST, "localhost"), (header::CONTENT_LENGTH, length)]);
        assert_eq!(of_length("65536"), Ok(()));
        assert_eq!(of_length("65537"), Err(Refused::Body));
    }
}
