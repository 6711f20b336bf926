//! Requests over gRPC: the predecessor's streams, and calls of `tombola.v1`. Plaintext.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use super::workload::{Ask, Caller, Ended, Failed, Given, Unknown, Workload};
use crate::{
    api::Consistency,
    cli::{CliError, Exit, Globals, discovery},
    server::proto::{
        rewardpool::{self, reward_pool_service_client::RewardPoolServiceClient},
        v1::{self, ClaimCode, cluster_client::ClusterClient, reward_pool_client::RewardPoolClient},
    },
};

/// A caller whose request failed waits so long: what fails at once would keep a processor busy with failing.
const PAUSE: Duration = Duration::from_millis(20);

/// The nodes' gRPC sides: those given, or the running development cluster's.
pub(super) async fn endpoints(given: &[String], globals: &Globals) -> Result<Vec<String>, CliError> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let running = match globals.endpoints.iter().all(|text| text.trim().is_empty()) {
        true => discovery::find(&discovery::pointer_dirs()).await,
        false => None,
    };
    let Some(running) = running else {
        return Err(CliError::usage("where the nodes' gRPC sides are is not known")
            .hint("give --grpc-endpoints, as 127.0.0.1:50051,127.0.0.1:50061"));
    };
    Ok(running.file.nodes.into_iter().map(|node| node.grpc).collect())
}

/// `count` connections: to the leader, or to all nodes in turn.
pub(super) async fn connect(endpoints: &[String], count: u32, spread: bool) -> Result<Vec<Channel>, CliError> {
    let leader = if spread { 0 } else { leader(endpoints).await? };
    let mut channels = Vec::new();
    for number in 0..count as usize {
        let endpoint = if spread { number % endpoints.len() } else { leader };
        channels.push(channel(&endpoints[endpoint]).await?);
    }
    Ok(channels)
}

async fn channel(endpoint: &str) -> Result<Channel, CliError> {
    let unreachable = |error: tonic::transport::Error| {
        CliError::new(Exit::Unavailable, "UNREACHABLE", format!("{endpoint} does not answer over gRPC: {error}"))
    };
    Channel::from_shared(format!("http://{endpoint}"))
        .map_err(|_| CliError::usage(format!("{endpoint:?} is no endpoint: an endpoint is host:port")))?
        .connect()
        .await
        .map_err(unreachable)
}

/// The position of the node that leads; the first one, if nobody says.
async fn leader(endpoints: &[String]) -> Result<usize, CliError> {
    let mut ids = Vec::new();
    let mut leader = None;
    for endpoint in endpoints {
        let answer = match channel(endpoint).await {
            Ok(channel) => ClusterClient::new(channel).get_status(v1::GetStatusRequest {}).await.ok(),
            Err(error) if error.exit == Exit::Usage => return Err(error),
            Err(_) => None,
        };
        let status = answer.map(tonic::Response::into_inner);
        leader = leader.max(status.as_ref().map(|status| (status.term, status.leader)));
        ids.push(status.map(|status| status.node_id));
    }
    let position = leader.and_then(|(_, leader)| ids.iter().position(|&id| id == Some(leader)));
    Ok(position.unwrap_or(0))
}

/// Did the node say that nothing was applied? Only its own word counts: a bare status comes from the transport.
fn surely_not_applied(status: &Status) -> bool {
    status.get_error_details().error_info().is_some_and(|info| info.reason != "OUTCOME_UNKNOWN")
}

fn failed(status: &Status, unknown: Unknown) -> Failed {
    let unknown = (!surely_not_applied(status)).then_some(unknown);
    Failed { why: format!("{:?}: {}", status.code(), status.message()), unknown }
}

/// A worker with a stream of the predecessor's service.
pub(super) struct Stream {
    client: RewardPoolServiceClient<Channel>,
    count: u16,
    open: Option<Conversation>,
}

type Conversation = (mpsc::Sender<rewardpool::DrawRequest>, Streaming<rewardpool::DrawResponse>);

impl Stream {
    /// Draws `count` times a request.
    pub(super) fn new(channel: Channel, count: u16) -> Self {
        Self { client: RewardPoolServiceClient::new(channel), count, open: None }
    }

    async fn open(&mut self) -> Result<Conversation, Status> {
        let (requests, stream) = mpsc::channel(1);
        let answers = self.client.draw(ReceiverStream::new(stream)).await?.into_inner();
        Ok((requests, answers))
    }

    async fn draw(&mut self) -> Result<Vec<rewardpool::DrawResponse>, Failed> {
        let (requests, mut answers) = match self.open.take() {
            Some(open) => open,
            None => self.open().await.map_err(Failed::surely)?,
        };
        let request = rewardpool::DrawRequest { count: self.count.into() };
        if requests.send(request).await.is_err() {
            return Err(Failed::surely("the stream was closed before the request"));
        }
        let mut drawn = Vec::with_capacity(self.count.into());
        while drawn.len() < usize::from(self.count) {
            match answers.message().await {
                Ok(Some(answer)) => drawn.push(answer),
                Ok(None) => {
                    let why = "the stream ended before the answer".to_owned();
                    return Err(Failed { why, unknown: Some(Unknown::Keyless) });
                }
                Err(status) => return Err(failed(&status, Unknown::Keyless)),
            }
        }
        self.open = Some((requests, answers));
        Ok(drawn)
    }
}

impl Caller for Stream {
    async fn call(&mut self, _: Instant) -> Ended {
        let drawn = self.draw().await;
        if drawn.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        Ended::at_once(drawn.map(Given::Streamed))
    }
}

/// A worker that calls `tombola.v1`.
pub(super) struct Unary {
    pub(super) client: RewardPoolClient<Channel>,
    pub(super) work: Workload,
}

impl Caller for Unary {
    async fn call(&mut self, begun: Instant) -> Ended {
        let key = self.work.keys.make(begun);
        let result = self.request(key.to_string()).await;
        if result.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        Ended::at_once(result.map_err(|status| match self.work.ask {
            Ask::Read(_) => Failed::surely(status),
            _ => failed(&status, Unknown::Key(key)),
        }))
    }
}

impl Unary {
    async fn request(&mut self, key: String) -> Result<Given, Status> {
        let pool = self.work.pool.to_string();
        match &self.work.ask {
            Ask::Draw(count) => {
                let request = v1::DrawRequest { pool, key, count: (*count).into() };
                Ok(Given::Called(self.client.draw(request).await?.into_inner().results))
            }
            Ask::Claim(item) => {
                let request = v1::ClaimRequest { pool, key, item_id: item.to_string(), quantity: 1 };
                let claimed = self.client.claim(request).await?.into_inner();
                Ok(Given::Claimed((claimed.code() == ClaimCode::Awarded).then(|| item.clone())))
            }
            Ask::Read(consistency) => {
                let stale = *consistency == Consistency::Stale;
                let request = v1::GetPoolRequest { pool, stale, ..v1::GetPoolRequest::default() };
                self.client.get_pool(request).await?;
                Ok(Given::Read)
            }
        }
    }
}
