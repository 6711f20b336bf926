//! `tombola.v1.Cluster`: the nodes.

use tonic::{Request, Response, Status};

use crate::{
    api::NodeStatus,
    replica,
    runtime::NodeHandle,
    server::{
        deadline,
        proto::v1::{
            GetStatusRequest, GetStatusResponse, Matched, Role, TransferLeadershipRequest, TransferLeadershipResponse,
            cluster_server,
        },
        status,
    },
    types::ReplicaId,
};

/// `tombola.v1.Cluster`.
pub struct Cluster {
    node: NodeHandle,
}

impl Cluster {
    /// The service on a node.
    pub fn new(node: NodeHandle) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn get_status(&self, _request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let node = self.node.status().await.map_err(|failure| status::of_failure(&failure, None))?;
        Ok(Response::new(told(node)))
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let timeout = deadline::of_metadata(request.metadata());
        let to = ReplicaId(request.into_inner().node_id);
        self.node.transfer(to, timeout).await.map_err(|failure| status::of_failure(&failure, None))?;
        Ok(Response::new(TransferLeadershipResponse {}))
    }
}

fn told(node: NodeStatus) -> GetStatusResponse {
    let NodeStatus { cluster, replica, voters, version } = node;
    let role = match replica.role {
        replica::Role::Follower => Role::Follower,
        replica::Role::PreCandidate => Role::PreCandidate,
        replica::Role::Candidate => Role::Candidate,
        replica::Role::Leader => Role::Leader,
    };
    let matched = |&(ReplicaId(node_id), index): &(ReplicaId, crate::types::Index)| Matched { node_id, index: index.0 };
    GetStatusResponse {
        cluster_id: cluster.to_string(),
        node_id: replica.replica.0,
        role: role.into(),
        term: replica.term.0,
        leader: replica.leader.map_or(0, |leader| leader.0),
        commit_index: replica.commit.0,
        applied_index: replica.digests.index.0,
        last_index: replica.last_index.0,
        history_digest: replica.digests.history.to_string(),
        state_digest: replica.digests.state.to_string(),
        voters: voters.into_iter().map(|voter| voter.0).collect(),
        matched: replica.matched.iter().map(matched).collect(),
        transferring: replica.transferring,
        version,
    }
}
