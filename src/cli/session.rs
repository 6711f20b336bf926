//! From the global flags to a client, and from a client's errors to ours.

use std::path::PathBuf;

use super::{
    args::Globals,
    discovery::{self, Running},
    exit::{CliError, Exit},
    output,
};
use crate::{
    api::{Failure, NotApplied},
    client::{Called, Client, ClientConfig, ClientError},
    pool::{Refusal, RequestKey},
    types::Millis,
};

/// Where a node listens if nothing else is known.
const ENDPOINT_DEFAULT: &str = "127.0.0.1:50052";
/// One attempt's time.
const ATTEMPT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// A client of the cluster that the flags, the environment or the running development cluster name. Nothing is sent yet.
pub async fn open(globals: &Globals) -> Result<Client, CliError> {
    Client::connect(&client_config(globals).await?).map_err(|error| failed(error, None))
}

/// The configuration that [`open`] uses.
pub async fn client_config(globals: &Globals) -> Result<ClientConfig, CliError> {
    let tls = tls_given(globals)?;
    let given = endpoints_given(globals)?;
    let running = match (&tls, given.is_empty()) {
        (Some(_), false) => None,
        _ => discovery::find(&discovery::pointer_dirs()).await,
    };
    if let Some(running) = &running
        && !running.others.is_empty()
    {
        let others: Vec<_> = running.others.iter().map(|dir| dir.display().to_string()).collect();
        output::stderr(&format!(
            "several development clusters run; this is the newest, {} (the others: {})",
            running.dir.display(),
            others.join(", ")
        ));
    }
    let Some((ca, cert, key)) = tls.or_else(|| running.as_ref().map(tls_of)) else {
        return Err(if given.is_empty() { no_cluster() } else { no_certificate() });
    };
    let endpoints = match running {
        _ if !given.is_empty() => given,
        Some(running) => endpoints_of(&running),
        None => vec![ENDPOINT_DEFAULT.to_owned()],
    };
    Ok(ClientConfig { endpoints, ca, cert, key, timeout: globals.timeout, attempt_timeout: ATTEMPT_TIMEOUT })
}

/// The endpoints that were named; an empty variable names none.
fn endpoints_given(globals: &Globals) -> Result<Vec<String>, CliError> {
    let given: Vec<_> = globals.endpoints.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    let wrong = given.iter().find(|text| {
        text.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || !matches!(port.parse::<u16>(), Ok(1..)))
    });
    match wrong {
        Some(text) => Err(CliError::usage(format!("{text:?} is no endpoint: an endpoint is host:port"))
            .hint("as `--endpoints 127.0.0.1:50052,127.0.0.1:50062`")),
        None => Ok(given.into_iter().map(str::to_owned).collect()),
    }
}

fn tls_given(globals: &Globals) -> Result<Option<(PathBuf, PathBuf, PathBuf)>, CliError> {
    match (globals.tls_ca.clone(), globals.tls_cert.clone(), globals.tls_key.clone()) {
        (Some(ca), Some(cert), Some(key)) => Ok(Some((ca, cert, key))),
        (None, None, None) => Ok(None),
        _ => Err(CliError::usage("--tls-ca, --tls-cert and --tls-key go together: give all three, or none")),
    }
}

fn tls_of(running: &Running) -> (PathBuf, PathBuf, PathBuf) {
    (running.file.ca.clone(), running.file.cert.clone(), running.file.key.clone())
}

/// All nodes; those that answered come first, so that a dead one costs no time.
fn endpoints_of(running: &Running) -> Vec<String> {
    let nodes = &running.file.nodes;
    let silent = (0..nodes.len()).filter(|position| !running.answering.contains(position));
    running.answering.iter().copied().chain(silent).map(|position| nodes[position].quic.clone()).collect()
}

fn no_cluster() -> CliError {
    CliError::new(Exit::Unavailable, "NO_CLUSTER", "no development cluster runs, and no other cluster was named")
        .hint("start one with `tombola dev`; or name one with --endpoints, --tls-ca, --tls-cert and --tls-key")
}

fn no_certificate() -> CliError {
    CliError::usage("a client needs a certificate to talk to these endpoints")
        .hint("give --tls-ca, --tls-cert and --tls-key; `tombola certs init` makes the files")
}

/// What a client's error means on a terminal. `key` is that of the request, if it had one.
pub fn failed(error: ClientError, key: Option<RequestKey>) -> CliError {
    let hint = match &error {
        ClientError::Config(_) => Some("check --endpoints, --tls-ca, --tls-cert and --tls-key"),
        ClientError::Refused { .. } => Some(
            "nothing was applied; --tls-ca, --tls-cert and --tls-key must be of this cluster and valid now; the node's log has \
             its side",
        ),
        ClientError::Unreachable { .. } if key.is_some() => {
            Some("nothing was applied; is the cluster running? `tombola cluster status` asks every node")
        }
        ClientError::Unreachable { .. } => Some("is the cluster running? `tombola cluster status` asks every node"),
        ClientError::Failed(Failure::Unknown { .. }) => {
            Some("the same --key is safe to send again: whatever was decided is not decided twice")
        }
        ClientError::Failed(Failure::NotApplied(why)) => match why {
            NotApplied::NoLeader => Some("nothing was applied; `tombola cluster status` shows who is missing"),
            NotApplied::Overloaded { .. } | NotApplied::Draining => Some("nothing was applied; send it again later"),
            NotApplied::NoQuorum => {
                Some("`--stale` reads a node's own state; `tombola cluster status` shows who is missing")
            }
            NotApplied::Malformed(_) => None,
            NotApplied::TransferRefused(_) => Some("`tombola cluster status` shows how far every node is"),
        },
    };
    let exit = match &error {
        ClientError::Config(_) | ClientError::Refused { .. } => Exit::Usage,
        ClientError::Failed(Failure::NotApplied(NotApplied::Malformed(_) | NotApplied::TransferRefused(_))) => {
            Exit::Refused
        }
        _ => Exit::Unavailable,
    };
    let mut failed = CliError::new(exit, error.code(), error.to_string()).key(key);
    failed.hint = hint.map(str::to_owned);
    failed
}

/// What a refusal means on a terminal.
pub fn refused(refusal: &Refusal, key: Option<RequestKey>) -> CliError {
    let hint = match refusal {
        Refusal::PoolNotFound => Some("`tombola pool list` shows the pools there are"),
        Refusal::ItemNotFound => Some("`tombola state` shows the items there are"),
        Refusal::PoolPaused => Some("`tombola pool resume` ends the pause"),
        Refusal::InsufficientStock { .. } => Some("nothing was taken; `tombola state` shows what is left"),
        Refusal::ItemUnlimited => Some("`tombola item set` gives it a quantity"),
        Refusal::KeyReused => Some("a new request needs a new key: leave --key out, or make one with `tombola key`"),
        Refusal::KeyExpired { .. } => {
            Some("it was not executed now; whether it was long ago is no longer known. A new request needs a new key")
        }
        Refusal::KeyFromFuture { .. } => Some("check the time that the key was made from"),
        Refusal::KeyTableFull => Some("nothing was applied; the same key may be sent again later"),
        _ => None,
    };
    let mut error = CliError::new(Exit::Refused, refusal.code(), refusal.to_string()).key(key);
    error.hint = hint.map(str::to_owned);
    error
}

/// The time that an unstored refusal of a key told: with it a better key can be made.
pub fn time_told(refusal: &Refusal) -> Option<Millis> {
    match refusal {
        Refusal::KeyExpired { now, .. } | Refusal::KeyFromFuture { now, .. } => Some(*now),
        _ => None,
    }
}

/// What it took to get an answer, if it took more than usual: a line for a person.
pub fn trouble<T>(called: &Called<T>) -> Option<String> {
    let retries = match called.retries {
        1 => "1 retry".to_owned(),
        retries => format!("{retries} retries"),
    };
    let took = format!("answered after {:.1} s and {retries}", called.elapsed.as_secs_f64());
    match called.leader_change {
        Some(change) if change.from == change.to => {
            Some(format!("leader {} was elected anew (term {}); {took}", change.to, change.term))
        }
        Some(change) => {
            Some(format!("the leader changed from {} to {} (term {}); {took}", change.from, change.to, change.term))
        }
        None if called.retries > 0 => Some(took),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cli::{
            args::Format,
            discovery::{DevFile, DevNode},
        },
        client::LeaderChange,
        types::{ReplicaId, Term},
    };

    fn key() -> RequestKey {
        RequestKey::new(Millis(1_700_000_000_000), [7; 10])
    }

    fn globals() -> Globals {
        Globals {
            output: Format::Table,
            endpoints: Vec::new(),
            timeout: Duration::from_secs(15),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            log_level: None,
            log_format: None,
        }
    }

    #[test]
    fn every_failure_has_its_exit_code() {
        let not_applied = |why| ClientError::Failed(Failure::NotApplied(why));
        let expected = [
            (not_applied(NotApplied::NoLeader), Exit::Unavailable, "NO_LEADER"),
            (not_applied(NotApplied::NoQuorum), Exit::Unavailable, "NO_QUORUM"),
            (not_applied(NotApplied::Draining), Exit::Unavailable, "DRAINING"),
            (not_applied(NotApplied::Overloaded { retry_after_ms: 1 }), Exit::Unavailable, "OVERLOADED"),
            (not_applied(NotApplied::Malformed(String::new())), Exit::Refused, "MALFORMED"),
            (not_applied(NotApplied::TransferRefused(String::new())), Exit::Refused, "TRANSFER_REFUSED"),
            (ClientError::Failed(Failure::Unknown { key: key() }), Exit::Unavailable, "OUTCOME_UNKNOWN"),
            (ClientError::Unreachable { why: String::new() }, Exit::Unavailable, "UNREACHABLE"),
            (ClientError::Refused { why: String::new() }, Exit::Usage, "HANDSHAKE_REFUSED"),
            (ClientError::Config(String::new()), Exit::Usage, "CONFIG"),
        ];
        for (error, exit, code) in expected {
            let error = failed(error, Some(key()));
            assert_eq!((error.exit, error.code.as_ref(), error.key), (exit, code, Some(key())));
        }
    }

    #[test]
    fn an_unknown_outcome_repeats_the_key_and_says_that_it_is_safe() {
        let error = failed(ClientError::Failed(Failure::Unknown { key: key() }), Some(key()));
        assert!(error.message.contains(&format!("--key {}", key())), "{}", error.message);
        assert!(error.hint.unwrap().contains("safe to send again"));
    }

    #[test]
    fn a_refusal_exits_4_under_its_own_code() {
        let error = refused(&Refusal::PoolPaused, Some(key()));
        assert_eq!((error.exit, error.code.as_ref()), (Exit::Refused, "POOL_PAUSED"));
    }

    #[test]
    fn certificates_are_given_together_or_not_at_all() {
        let mut given = globals();
        assert_eq!(tls_given(&given), Ok(None));
        given.tls_ca = Some("ca".into());
        assert_eq!(tls_given(&given).unwrap_err().exit, Exit::Usage);
        given.tls_cert = Some("cert".into());
        given.tls_key = Some("key".into());
        assert_eq!(tls_given(&given), Ok(Some(("ca".into(), "cert".into(), "key".into()))));
    }

    #[test]
    fn endpoints_are_host_and_port_and_an_empty_variable_names_none() {
        let given = |endpoints: &[&str]| {
            let endpoints = endpoints.iter().map(|&text| text.to_owned()).collect();
            endpoints_given(&Globals { endpoints, ..globals() })
        };
        assert_eq!(given(&[""]), Ok(vec![]));
        assert_eq!(given(&["a:1", " [::1]:50052 "]), Ok(vec!["a:1".to_owned(), "[::1]:50052".to_owned()]));
        for wrong in ["a", "a:", ":1", "a:0", "a:65536", "a:b"] {
            assert_eq!(given(&[wrong]).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_was_given_is_used_as_it_is() {
        let mut given = globals();
        given.endpoints = vec!["a:1".to_owned(), "b:2".to_owned()];
        (given.tls_ca, given.tls_cert, given.tls_key) = (Some("ca".into()), Some("cert".into()), Some("key".into()));
        let config = client_config(&given).await.unwrap();
        assert_eq!((config.endpoints, config.ca), (given.endpoints, PathBuf::from("ca")));
    }

    #[test]
    fn nodes_that_answer_are_asked_first() {
        let node = |id: u64| DevNode {
            id,
            pid: 1,
            grpc: String::new(),
            quic: format!("127.0.0.1:{id}"),
            admin: String::new(),
        };
        let file = DevFile { nodes: (1..=3).map(node).collect(), ca: "a".into(), cert: "b".into(), key: "c".into() };
        let running = Running { dir: "d".into(), file, answering: vec![1, 2], others: Vec::new() };
        assert_eq!(endpoints_of(&running), ["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1"]);
    }

    #[test]
    fn trouble_is_told_only_if_there_was_any() {
        let mut called = Called { value: (), retries: 0, elapsed: Duration::from_millis(2_340), leader_change: None };
        assert_eq!(trouble(&called), None);
        called.retries = 1;
        assert_eq!(trouble(&called).unwrap(), "answered after 2.3 s and 1 retry");
        called.retries = 2;
        called.leader_change = Some(LeaderChange { from: ReplicaId(1), to: ReplicaId(3), term: Term(4) });
        assert_eq!(
            trouble(&called).unwrap(),
            "the leader changed from 1 to 3 (term 4); answered after 2.3 s and 2 retries"
        );
    }
}
