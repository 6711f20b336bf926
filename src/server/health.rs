//! Is this node alive, and is it of use? One place that says so: grpc.health.v1 and the admin port tell the same.
//!
//! *Alive* is the loop: it ran lately. *Ready* is the sum of a list of checks, of which the last is what a client cares
//! about: a linearizable read succeeds here, now. That one alone implies a leader, a quorum and having caught up; the
//! others say which of them is missing. Every check has a bound in time of its own, kept here and not by the loop that is
//! looked at; none asks one particular peer.

use std::{fmt, time::Duration};

use tokio::time::timeout;

use super::drain::Draining;
use crate::{
    api::{Consistency, NodeStatus},
    pool::{PoolId, Query, RequestKey},
    runtime::NodeHandle,
    types::{Index, Millis},
};

/// A loop that has not run for this long is not alive.
const BEAT_MAX: Duration = Duration::from_secs(2);
/// How long a check may take.
pub const CHECK_MAX: Duration = Duration::from_secs(1);

/// What was looked at, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Stable, lower case.
    pub name: &'static str,
    /// What was seen; an error if it is not as it should be.
    pub seen: Result<String, String>,
}

/// The checks of one look, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health(pub Vec<Check>);

impl Health {
    /// Is all as it should be?
    pub fn is_well(&self) -> bool {
        self.0.iter().all(|check| check.seen.is_ok())
    }
}

impl fmt::Display for Health {
    /// A line each check, as Kubernetes and etcd write them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Check { name, seen }| match seen {
            Ok(seen) => writeln!(f, "[+] {name}: ok, {seen}"),
            Err(seen) => writeln!(f, "[-] {name}: failed, {seen}"),
        })
    }
}

/// Is the node alive?
pub fn live(node: &NodeHandle) -> Health {
    Health(vec![look_at_loop(node)])
}

/// Is the node ready?
pub async fn ready(node: &NodeHandle, draining: &Draining) -> Health {
    let (status, read) = tokio::join!(timeout(CHECK_MAX, node.status()), can_read(node));
    let status = match &status {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("the node does not say within {} s", CHECK_MAX.as_secs())),
    };
    let of_status = |check: fn(&NodeStatus) -> Result<String, String>| status.clone().and_then(check);
    let accepting = if draining.has_begun() { Err("the node is stopping") } else { Ok("requests are taken") };
    Health(vec![
        look_at_loop(node),
        Check { name: "accepting", seen: accepting.map(str::to_owned).map_err(str::to_owned) },
        Check { name: "founded", seen: of_status(founded) },
        Check { name: "leader", seen: of_status(leader) },
        Check { name: "read", seen: read.map(|index| format!("linearizable at index {index}")) },
    ])
}

/// Tries whether a linearizable read succeeds: a lookup of a single key, whatever the size of the state. Gives the index
/// it was made at.
pub async fn can_read(node: &NodeHandle) -> Result<Index, String> {
    let query = Query::Outcome(PoolId::default_pool(), RequestKey::new(Millis(0), [0; 10]));
    // A little less for the node, so that its own words are heard if it has any.
    let within = CHECK_MAX - CHECK_MAX / 10;
    match timeout(CHECK_MAX, node.read(query, Consistency::Linearizable, within)).await {
        Ok(Ok(read)) => Ok(read.index),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("no answer within {} s", CHECK_MAX.as_secs())),
    }
}

fn look_at_loop(node: &NodeHandle) -> Check {
    let seen = match node.metrics().since_beat() {
        None => Ok("its log is being read back".to_owned()),
        Some(since) if since <= BEAT_MAX => Ok(format!("it ran {} ms ago", since.as_millis())),
        Some(since) => Err(format!("it has not run for {:.1} s", since.as_secs_f64())),
    };
    Check { name: "loop", seen }
}

fn founded(status: &NodeStatus) -> Result<String, String> {
    match status.replica.digests.index {
        Index(0) => Err("the founders have not met yet".to_owned()),
        _ => Ok(format!("cluster {}", status.cluster)),
    }
}

fn leader(status: &NodeStatus) -> Result<String, String> {
    match status.replica.leader {
        Some(leader) => Ok(format!("replica {leader} leads in term {}", status.replica.term)),
        None => Err("nobody is known to lead".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checks_must_be_well_and_each_is_a_line() {
        let check =
            |name, seen: Result<&str, &str>| Check { name, seen: seen.map(str::to_owned).map_err(str::to_owned) };
        let well = Health(vec![check("loop", Ok("it ran")), check("read", Ok("at 3"))]);
        let ill = Health(vec![check("loop", Ok("it ran")), check("read", Err("no quorum"))]);
        assert!(well.is_well() && !ill.is_well());
        assert_eq!(ill.to_string(), "[+] loop: ok, it ran\n[-] read: failed, no quorum\n");
    }
}
