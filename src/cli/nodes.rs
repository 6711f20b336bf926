//! Every node's own word on how it is, and what follows from all of them together.

use std::collections::BTreeSet;

use super::{
    exit::{CliError, Exit},
    session,
};
use crate::{
    api::NodeStatus,
    client::{Client, ClientError},
    types::{ClusterId, ReplicaId},
};

/// A node that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its position among the client's endpoints.
    pub position: usize,
    /// Its address.
    pub endpoint: String,
    /// What it said, or why it said nothing.
    pub status: Result<NodeStatus, String>,
}

/// All nodes that were asked; at least one answered, and no replica stands there twice.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// Sorted by replica id; those that did not answer come last.
    pub asked: Vec<Asked>,
    /// The answer that is taken for what the cluster is: that of the greatest term.
    newest: NodeStatus,
}

/// Asks every endpoint at once.
///
/// # Errors
/// None answered, none and this client accept each other, or they belong to several clusters.
pub async fn ask(client: &Client) -> Result<Nodes, CliError> {
    let asking: Vec<_> = (0..client.endpoints())
        .map(|position| {
            let client = client.clone();
            tokio::spawn(async move { client.status_of(position).await })
        })
        .collect();
    let (mut asked, mut refusals) = (Vec::new(), Vec::new());
    for (position, asking) in asking.into_iter().enumerate() {
        let status = match asking.await {
            Ok(Ok(called)) => Ok(called.value),
            Ok(Err(ClientError::Unreachable { why })) => Err(why),
            Ok(Err(ClientError::Refused { why })) => {
                refusals.push(why.clone());
                Err(why)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        asked.push(Asked { position, endpoint: client.address(position).to_owned(), status });
    }
    if refusals.len() == asked.len() {
        return Err(session::failed(ClientError::Refused { why: refusals.join("; ") }, None));
    }
    Nodes::new(asked)
}

impl Nodes {
    /// Puts the answers together.
    pub fn new(mut asked: Vec<Asked>) -> Result<Self, CliError> {
        let mut seen = BTreeSet::new();
        // Two addresses of one node are one node.
        asked.retain(|asked| asked.status.as_ref().map_or(true, |status| seen.insert(status.replica.replica)));
        asked.sort_by_key(|asked| match &asked.status {
            Ok(status) => (0, status.replica.replica, asked.position),
            Err(_) => (1, ReplicaId(0), asked.position),
        });
        let newest =
            asked.iter().filter_map(|asked| asked.status.as_ref().ok()).max_by_key(|s| s.replica.term).cloned();
        let Some(newest) = newest else { return Err(nobody(&asked)) };
        let nodes = Self { asked, newest };
        if let Some((asked, status)) = nodes.answered().find(|(_, status)| status.cluster != nodes.cluster()) {
            return Err(CliError::new(
                Exit::Unhealthy,
                "SEVERAL_CLUSTERS",
                format!(
                    "the endpoints are of several clusters: {} is of {}, others of {}",
                    asked.endpoint,
                    status.cluster,
                    nodes.cluster()
                ),
            )
            .hint("check --endpoints"));
        }
        Ok(nodes)
    }

    /// The nodes that answered, with what they said.
    pub fn answered(&self) -> impl Iterator<Item = (&Asked, &NodeStatus)> {
        self.asked.iter().filter_map(|asked| Some((asked, asked.status.as_ref().ok()?)))
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.newest.cluster
    }

    /// Who leads, by the word of the node of the greatest term.
    pub fn leader(&self) -> Option<ReplicaId> {
        let term = self.newest.replica.term;
        self.answered().filter(|(_, status)| status.replica.term == term).find_map(|(_, status)| status.replica.leader)
    }

    /// How many voters there are.
    pub fn voters(&self) -> usize {
        self.newest.voters.len()
    }

    /// How many voters are a majority.
    pub fn majority(&self) -> usize {
        self.voters() / 2 + 1
    }

    /// Entries that are committed somewhere and not applied at this node.
    pub fn lag(&self, status: &NodeStatus) -> u64 {
        let commit = self.answered().map(|(_, status)| status.replica.commit).max().unwrap_or_default();
        commit.0.saturating_sub(status.replica.digests.index.0)
    }

    /// Is there a leader, and did a majority answer?
    pub fn is_healthy(&self) -> bool {
        let voters = self.answered().filter(|(_, status)| self.newest.voters.contains(&status.replica.replica)).count();
        voters >= self.majority() && self.leader().is_some()
    }

    /// What a person should know: nodes that did not answer, voters that were not asked.
    pub fn warnings(&self) -> Vec<String> {
        let silent = self.asked.iter().filter_map(|asked| {
            let why = asked.status.as_ref().err()?;
            Some(format!("a node does not answer: {why}"))
        });
        let mut warnings: Vec<_> = silent.collect();
        if warnings.is_empty() {
            let answered: BTreeSet<_> = self.answered().map(|(_, status)| status.replica.replica).collect();
            let missing = self.newest.voters.iter().filter(|voter| !answered.contains(voter));
            warnings.extend(missing.map(|voter| format!("replica {voter} is at none of the endpoints")));
        }
        if self.leader().is_none() {
            warnings.push("there is no leader".to_owned());
        }
        warnings
    }
}

/// The first digits of a digest, for a table.
pub fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn nobody(asked: &[Asked]) -> CliError {
    let whys: Vec<_> = asked.iter().filter_map(|asked| asked.status.as_ref().err().cloned()).collect();
    CliError::new(Exit::Unavailable, "UNREACHABLE", format!("no node answers: {}", whys.join("; ")))
        .hint("is the cluster running? check --endpoints, and that the certificates are of this cluster")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        pool::Digests,
        replica::{Role, Status},
        types::{HistoryDigest, Index, StateDigest, Term},
    };

    /// Replica `id` of three, in term 4, that has applied up to `applied` of 10 and takes `leader` for the leader.
    pub(in crate::cli) fn up(id: u64, leader: Option<u64>, applied: u64) -> Asked {
        let replica = Status {
            replica: ReplicaId(id),
            role: if leader == Some(id) { Role::Leader } else { Role::Follower },
            term: Term(4),
            leader: leader.map(ReplicaId),
            commit: Index(applied),
            digests: Digests { index: Index(applied), history: HistoryDigest([7; 32]), state: StateDigest(7) },
            snapshot_index: Index(1),
            first_index: Index(2),
            last_index: Index(10),
            matched: Vec::new(),
            transferring: false,
        };
        let voters = (1..=3).map(ReplicaId).collect();
        let status = NodeStatus { cluster: ClusterId([1; 16]), replica, voters, version: "0.1.0".to_owned() };
        Asked { position: id as usize - 1, endpoint: format!("127.0.0.1:{id}"), status: Ok(status) }
    }

    /// A node that does not answer.
    pub(in crate::cli) fn down(endpoint: &str) -> Asked {
        Asked { position: 9, endpoint: endpoint.to_owned(), status: Err(format!("{endpoint}: no answer")) }
    }

    #[test]
    fn one_node_down_of_three_is_healthy_with_a_warning() {
        let nodes = Nodes::new(vec![down("c:3"), up(2, Some(1), 8), up(1, Some(1), 10)]).unwrap();
        assert!(nodes.is_healthy());
        assert_eq!(nodes.leader(), Some(ReplicaId(1)));
        assert_eq!(nodes.warnings(), ["a node does not answer: c:3: no answer"]);
        assert_eq!(nodes.answered().map(|(_, status)| status.replica.replica.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(nodes.lag(nodes.asked[1].status.as_ref().unwrap()), 2);
    }

    #[test]
    fn without_a_majority_or_a_leader_the_cluster_is_unhealthy() {
        assert!(!Nodes::new(vec![up(1, Some(1), 10), down("b:2"), down("c:3")]).unwrap().is_healthy());
        let leaderless = Nodes::new(vec![up(1, None, 10), up(2, None, 10), up(3, None, 10)]).unwrap();
        assert!(!leaderless.is_healthy());
        assert_eq!(leaderless.warnings(), ["there is no leader"]);
    }

    #[test]
    fn the_greatest_term_says_who_leads() {
        let mut old = up(1, Some(1), 10);
        old.status.as_mut().unwrap().replica.term = Term(3);
        let nodes = Nodes::new(vec![old, up(2, Some(3), 10), up(3, Some(3), 10)]).unwrap();
        assert_eq!(nodes.leader(), Some(ReplicaId(3)));
    }

    #[test]
    fn two_addresses_of_a_node_are_one_node_and_a_voter_not_asked_is_named() {
        let nodes = Nodes::new(vec![up(1, Some(1), 10), up(1, Some(1), 10), up(2, Some(1), 10)]).unwrap();
        assert_eq!(nodes.asked.len(), 2);
        assert_eq!(nodes.warnings(), ["replica 3 is at none of the endpoints"]);
    }

    #[test]
    fn nobody_and_several_clusters_are_errors() {
        assert_eq!(Nodes::new(vec![down("a:1")]).unwrap_err().exit, Exit::Unavailable);
        let mut other = up(2, Some(1), 10);
        other.status.as_mut().unwrap().cluster = ClusterId([2; 16]);
        let error = Nodes::new(vec![up(1, Some(1), 10), other]).unwrap_err();
        assert_eq!((error.exit, error.code.as_ref()), (Exit::Unhealthy, "SEVERAL_CLUSTERS"));
    }
}
