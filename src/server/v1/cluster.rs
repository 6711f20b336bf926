//! `tombola.v1.Cluster`: the nodes.

use tonic::{Request, Response, Status};

use crate::{
    api::{Consistency, NodeStatus, Read},
    pool::{Answer, Query, Verification},
    replica,
    runtime::NodeHandle,
    server::{
        deadline,
        proto::v1::{
            GetDigestRequest, GetDigestResponse, GetStatusRequest, GetStatusResponse, Matched, Role,
            TransferLeadershipRequest, TransferLeadershipResponse, VerifyRequest, VerifyResponse, cluster_server,
        },
        status,
    },
    types::{Index, ReplicaId},
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

    async fn get_digest(&self, request: Request<GetDigestRequest>) -> Result<Response<GetDigestResponse>, Status> {
        let index = Index(request.into_inner().index);
        let digest = self.node.history_at(index).await.map_err(|failure| status::of_failure(&failure, None))?;
        let digest = digest.ok_or_else(|| status::index_out_of_range(index))?;
        Ok(Response::new(GetDigestResponse { history_digest: digest.to_string() }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let timeout = deadline::of_metadata(request.metadata());
        let read = self.node.read(Query::Verify, Consistency::Stale, timeout).await;
        let Read { index, now, answer } = read.map_err(|failure| status::of_failure(&failure, None))?;
        let Answer::Verified(Verification { pools, items, keys, violations }) = answer else {
            return Err(status::unexpected_answer());
        };
        Ok(Response::new(VerifyResponse { index: index.0, now_ms: now.0, pools, items, keys, violations }))
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
    let matched = |&(ReplicaId(node_id), index): &(ReplicaId, Index)| Matched { node_id, index: index.0 };
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
        first_index: replica.first_index.0,
        snapshot_index: replica.snapshot_index.0,
        version,
    }
}
