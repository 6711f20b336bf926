//! The client over QUIC: calls that are retried until they are answered or their time is over.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::task::JoinHandle;

use super::{
    Call, ClientReply, Reply,
    calls::{CALL_BYTES_MAX, NoReply},
    clock::ClusterClock,
    link::{Dialer, Link},
    retry::{Attempt, Decision, GaveUp, Retry, RetryBudget, RetryPolicy},
    sockets::Sockets,
};
use crate::{
    api::{Answered, Consistency, Failure, NodeStatus, NotApplied, Read},
    pool::{Action, PoolId, Query, Refusal, RequestKey},
    transport::tls::ClientTls,
    types::{HistoryDigest, Index, Millis, ReplicaId, Term},
};

/// Longest that a node may be given for one request.
const NODE_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// No attempt waits longer, whatever it was told: a year.
const ATTEMPT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// A mutation that took longer than this without a retry may have waited for an election.
const STALL: Duration = Duration::from_millis(500);

/// Where a cluster is and how patient to be.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Nodes to ask, `host:port` of their QUIC side; at least one. The first is asked first.
    pub endpoints: Vec<String>,
    /// PEM file of the certificate authority that the nodes must prove.
    pub ca: PathBuf,
    /// PEM file of our certificate.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// How long a call keeps trying.
    pub timeout: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
}

/// A call without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// What a node said, or what follows from silence after sending: surely not applied, or possibly applied.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// No node answered. A mutation is surely not applied.
    #[error("no node answered: {why}")]
    Unreachable {
        /// What was tried last, and how it failed.
        why: String,
    },
    /// Nodes and client do not accept each other: a certificate of another cluster, an expired one. A mutation is surely not
    /// applied.
    #[error("cluster and client do not accept each other: {why}")]
    Refused {
        /// Which node was tried last, and who does not accept whom.
        why: String,
    },
    /// The client cannot start: no endpoint, or certificates that cannot be used.
    #[error("{0}")]
    Config(String),
}

impl ClientError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.code(),
            Self::Unreachable { .. } => "UNREACHABLE",
            Self::Refused { .. } => "HANDSHAKE_REFUSED",
            Self::Config(_) => "CONFIG",
        }
    }
}

/// An answer, and what it took to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called<T> {
    /// The answer.
    pub value: T,
    /// Attempts beyond the first.
    pub retries: u32,
    /// From the call's start to its answer, pauses included.
    pub elapsed: Duration,
    /// The leader changed meanwhile.
    pub leader_change: Option<LeaderChange>,
}

/// Another leader, or the same one elected anew, took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// Who led before.
    pub from: ReplicaId,
    /// Who leads now.
    pub to: ReplicaId,
    /// Since which term.
    pub term: Term,
}

/// A client of a cluster. Cheap to clone; clones share connections, one to an endpoint, made when first needed.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Dialer,
    policy: RetryPolicy,
    endpoints: Vec<Slot>,
    known: Mutex<Known>,
    start: Instant,
}

struct Slot {
    address: String,
    link: Mutex<Option<(Link, JoinHandle<()>)>>,
}

/// What was learnt from replies.
#[derive(Default)]
struct Known {
    clock: ClusterClock,
    /// The newest leader heard of.
    leader: Option<(Term, ReplicaId)>,
    /// Which replica answers at each endpoint.
    replicas: Vec<Option<ReplicaId>>,
    /// The endpoint that the next call asks first.
    preferred: usize,
    budget: RetryBudget,
}

/// How a call is made.
struct Plan {
    call: Call,
    /// A mutation's key.
    key: Option<RequestKey>,
    /// One endpoint and no other.
    only: Option<usize>,
    policy: RetryPolicy,
}

impl Client {
    /// A client with sockets of its own; connects when first used. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub fn connect(config: &ClientConfig) -> Result<Self, ClientError> {
        Self::connect_over(&Sockets::default(), config)
    }

    /// [`Self::connect`] over sockets that clients share: of a process with many of them, each costs less.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub fn connect_over(sockets: &Sockets, config: &ClientConfig) -> Result<Self, ClientError> {
        if config.endpoints.is_empty() {
            return Err(ClientError::Config("there is no endpoint to ask".to_owned()));
        }
        let quic = ClientTls::load(&config.ca, &config.cert, &config.key)
            .map_err(|error| ClientError::Config(error.to_string()))?;
        let dialer = Dialer { sockets: sockets.clone(), config: quic };
        let slot = |address: &String| Slot { address: address.clone(), link: Mutex::default() };
        let policy =
            RetryPolicy { timeout: config.timeout, attempt_timeout: config.attempt_timeout, ..RetryPolicy::default() };
        let known = Known { replicas: vec![None; config.endpoints.len()], ..Known::default() };
        let shared = Shared {
            dialer,
            policy,
            endpoints: config.endpoints.iter().map(slot).collect(),
            known: Mutex::new(known),
            start: Instant::now(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How many endpoints there are; they are numbered from 0.
    pub fn endpoints(&self) -> usize {
        self.shared.endpoints.len()
    }

    /// The address of an endpoint, as it was given.
    pub fn address(&self, endpoint: usize) -> &str {
        &self.shared.endpoints[endpoint].address
    }

    /// A key for a new request, stamped with the cluster's time, which is asked for once; or with our own, of a cluster
    /// that has decided nothing yet and so has no time.
    pub async fn new_key(&self) -> Result<RequestKey, ClientError> {
        self.greet().await?;
        let now = self.known().clock.read(Instant::now()).unwrap_or_else(wall);
        Ok(RequestKey::new(now, rand::random()))
    }

    /// Has a mutation decided, and sends it again under the same key until it is answered.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if it was possibly applied; surely not applied otherwise.
    pub async fn submit(&self, pool: PoolId, key: RequestKey, action: Action) -> Result<Called<Answered>, ClientError> {
        let mut plan = self.plan(Call::Submit { pool, key: Some(key), action }, Some(key));
        let mut before = self.known().met();
        if before.is_none() {
            let start = Instant::now();
            // What is rare is boxed, here and below: the future of a call is kept small, as there may be thousands.
            Box::pin(self.greet()).await?;
            plan.policy.timeout = plan.policy.timeout.saturating_sub(start.elapsed());
            before = Some(self.known().leader);
        }
        let mut called = self
            .call(&plan, |reply| match reply {
                Reply::Submitted(answered) => Some(answered),
                _ => None,
            })
            .await?;
        if let Err(Refusal::KeyExpired { now, .. } | Refusal::KeyFromFuture { now, .. }) = called.value.outcome.result {
            self.known().clock.correct(now, Instant::now());
        }
        if called.retries > 0 || called.elapsed > STALL {
            called.leader_change = Box::pin(self.leader_change_since(before.flatten())).await;
        }
        Ok(called)
    }

    /// Reads, from whichever node answers.
    pub async fn read(&self, query: Query, consistency: Consistency) -> Result<Called<Read>, ClientError> {
        self.call(&self.plan(Call::Read { query, consistency }, None), picked_read).await
    }

    /// Reads from one node. Takes as long as a read of the whole state may.
    pub async fn read_at(
        &self,
        endpoint: usize,
        query: Query,
        consistency: Consistency,
    ) -> Result<Called<Read>, ClientError> {
        let timeout = self.shared.policy.timeout;
        let policy = RetryPolicy { attempt_timeout: timeout, ..self.shared.policy };
        let call = Call::Read { query, consistency };
        self.call(&Plan { call, key: None, only: Some(endpoint), policy }, picked_read).await
    }

    /// The status of whichever node answers.
    pub async fn status(&self) -> Result<Called<NodeStatus>, ClientError> {
        self.call(&self.plan(Call::Status, None), picked_status).await
    }

    /// The status of one node. A node that is down is given up after one attempt's time.
    pub async fn status_of(&self, endpoint: usize) -> Result<Called<NodeStatus>, ClientError> {
        self.call(&self.brief(Call::Status, endpoint), picked_status).await
    }

    /// The history digest at an index, as one node has it; `None` if it is not applied there yet, or too long ago.
    pub async fn history_at(
        &self,
        endpoint: usize,
        index: Index,
    ) -> Result<Called<Option<HistoryDigest>>, ClientError> {
        self.call(&self.brief(Call::HistoryAt(index), endpoint), |reply| match reply {
            Reply::HistoryAt(digest) => Some(digest),
            _ => None,
        })
        .await
    }

    /// Hands leadership to `to`. Repeated until a node says that `to` leads, or time is over; then it may yet happen.
    pub async fn transfer(&self, to: ReplicaId) -> Result<Called<()>, ClientError> {
        self.call(&self.plan(Call::Transfer(to), None), |reply| matches!(reply, Reply::Transferred).then_some(())).await
    }

    /// Asks every node who leads, so that the next calls go to the leader at once rather than through another node.
    pub async fn find_leader(&self) {
        let asked: Vec<_> = (0..self.endpoints())
            .map(|endpoint| {
                let client = self.clone();
                tokio::spawn(async move { client.status_of(endpoint).await })
            })
            .collect();
        for status in asked {
            // A node that does not answer is not preferred; that is all.
            let _ = status.await;
        }
        self.known().prefer_leader();
    }

    /// Closes the connections, so that the nodes need not find out. Calls under way fail. Takes up to 100 ms, and at least 50
    /// while others use the same sockets.
    pub async fn close(&self) {
        let take = |slot: &Slot| slot.link.lock().expect("nothing panics under this lock").take();
        // All of them first: each waits a little for the last of those that share its socket.
        let tasks: Vec<_> = self.shared.endpoints.iter().filter_map(take).map(|(_link, task)| task).collect();
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(100), all).await;
    }

    fn plan(&self, call: Call, key: Option<RequestKey>) -> Plan {
        Plan { call, key, only: None, policy: self.shared.policy }
    }

    fn brief(&self, call: Call, endpoint: usize) -> Plan {
        let timeout = self.shared.policy.attempt_timeout.min(self.shared.policy.timeout);
        Plan { call, key: None, only: Some(endpoint), policy: RetryPolicy { timeout, ..self.shared.policy } }
    }

    /// Asks for a status before anything else is asked: cluster time and leader are known from then on.
    async fn greet(&self) -> Result<(), ClientError> {
        if !self.known().clock.is_set() {
            self.status().await?;
        }
        Ok(())
    }

    async fn leader_change_since(&self, before: Option<(Term, ReplicaId)>) -> Option<LeaderChange> {
        let endpoint = self.known().preferred;
        // Only to tell the caller more: a failure here is none of the call's.
        let _ = self.status_of(endpoint).await;
        let ((term_before, from), (term, to)) = (before?, self.known().leader?);
        (term > term_before).then_some(LeaderChange { from, to, term })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().expect("nothing panics under this lock")
    }

    fn link(&self, endpoint: usize) -> Link {
        let slot = &self.shared.endpoints[endpoint];
        let mut link = slot.link.lock().expect("nothing panics under this lock");
        match &*link {
            Some((link, _)) if !link.is_lost() => link.clone(),
            _ => {
                let (fresh, task) = Link::start(slot.address.clone(), self.shared.dialer.clone());
                *link = Some((fresh.clone(), task));
                fresh
            }
        }
    }

    fn forget(&self, endpoint: usize, silent: &Link) {
        let mut link = self.shared.endpoints[endpoint].link.lock().expect("nothing panics under this lock");
        link.take_if(|(link, _)| link.is_same(silent));
    }

    /// Attempts until [`Retry`] says stop. `pick` takes the kind of reply that the call must have.
    async fn call<T>(&self, plan: &Plan, pick: impl Fn(Reply) -> Option<T>) -> Result<Called<T>, ClientError> {
        let start = self.shared.start.elapsed();
        let (endpoints, first) = {
            let mut known = self.known();
            known.budget.deposit();
            plan.only.map_or((self.endpoints(), known.preferred), |_| (1, 0))
        };
        let mut retry = Retry::new(plan.policy, plan.key, endpoints, first, start);
        let (mut now, mut last_words) = (start, String::new());
        loop {
            let endpoint = plan.only.unwrap_or(retry.endpoint());
            let reply = self.attempt(endpoint, &plan.call, now, retry.timeout(now)).await;
            let at = Instant::now();
            now = at.saturating_duration_since(self.shared.start);
            let (decision, answer) = {
                let mut known = self.known();
                let (attempt, answer) = match reply {
                    Ok(reply) => {
                        known.learn(endpoint, &reply, at);
                        judged(reply.reply, &pick)
                    }
                    Err(no_reply) => (failed(no_reply, &mut last_words, self.address(endpoint)), None),
                };
                let decision = retry.handle_attempt(now, attempt, rand::random(), &mut known.budget);
                if plan.only.is_none() {
                    known.prefer(&decision, endpoint);
                }
                (decision, answer)
            };
            match decision {
                Decision::Answer => {
                    let value = answer.expect("only an answered attempt is an answer");
                    return Ok(Called { value, retries: retry.retries(), elapsed: now - start, leader_change: None });
                }
                Decision::Again { endpoint, pause } => {
                    tracing::debug!(endpoint, ?pause, "trying again");
                    Box::pin(tokio::time::sleep(pause)).await;
                    now = self.shared.start.elapsed();
                }
                Decision::GiveUp(how) => return Err(gave_up(how, last_words)),
            }
        }
    }

    /// One attempt at one endpoint, from `now` on, since the client's start, for `timeout`.
    async fn attempt(
        &self,
        endpoint: usize,
        call: &Call,
        now: Duration,
        timeout: Duration,
    ) -> Result<ClientReply, NoReply> {
        // The node gets a little less: its own word on what happened is worth more than our silence.
        let node_timeout = (timeout - timeout / 8).min(NODE_TIMEOUT_MAX);
        let link = self.link(endpoint);
        let deadline = self.shared.start + now + timeout.min(ATTEMPT_MAX);
        let reply = link.call(call, node_timeout, deadline).await;
        if reply == Err(NoReply::TimedOut) {
            // QUIC takes many seconds to find out that a node was killed. Whoever asks there next connects anew, and
            // then knows at once whether anybody is there.
            self.forget(endpoint, &link);
        }
        reply
    }
}

impl Known {
    /// The newest leader, if any node was heard yet.
    fn met(&self) -> Option<Option<(Term, ReplicaId)>> {
        self.clock.is_set().then_some(self.leader)
    }

    /// A reply tells the time; and a status, who answers and who leads.
    fn learn(&mut self, endpoint: usize, reply: &ClientReply, at: Instant) {
        self.clock.learn(reply.now, at);
        let Ok(Reply::Status(status)) = &reply.reply else { return };
        self.replicas[endpoint] = Some(status.replica.replica);
        if let Some(leader) = status.replica.leader {
            let heard = (status.replica.term, leader);
            self.leader = Some(self.leader.map_or(heard, |known| known.max(heard)));
        }
    }

    /// Whom the next call asks first, after an attempt at `endpoint`.
    fn prefer(&mut self, decision: &Decision, endpoint: usize) {
        match decision {
            Decision::Answer => self.preferred = endpoint,
            Decision::Again { endpoint, .. } => self.preferred = *endpoint,
            Decision::GiveUp(_) => {}
        }
    }

    fn prefer_leader(&mut self) {
        let endpoint =
            self.leader.and_then(|(_, leader)| self.replicas.iter().position(|&replica| replica == Some(leader)));
        self.preferred = endpoint.unwrap_or(self.preferred);
    }
}

fn picked_read(reply: Reply) -> Option<Read> {
    match reply {
        Reply::Read(read) => Some(read),
        _ => None,
    }
}

fn picked_status(reply: Reply) -> Option<NodeStatus> {
    match reply {
        Reply::Status(status) => Some(*status),
        _ => None,
    }
}

/// What a reply amounts to, and the answer in it, if it is one to what was asked.
fn judged<T>(reply: Result<Reply, Failure>, pick: impl Fn(Reply) -> Option<T>) -> (Attempt, Option<T>) {
    match (Attempt::replied(&reply), reply.ok().map(pick)) {
        // Not an answer to what was asked: whatever that node did, it is not to be trusted further.
        (_, Some(None)) => (Attempt::Lost, None),
        (attempt, picked) => (attempt, picked.flatten()),
    }
}

/// What an attempt without a reply amounts to; keeps what can be told about it.
fn failed(no_reply: NoReply, last_words: &mut String, address: &str) -> Attempt {
    let (attempt, words) = match no_reply {
        NoReply::TooLong(bytes) => {
            let why = format!("the request is {bytes} bytes long; at most {CALL_BYTES_MAX} are accepted");
            return Attempt::Failed(NotApplied::Malformed(why).into());
        }
        NoReply::NotSent(why) => (Attempt::NotSent, why),
        NoReply::Refused(why) => return Attempt::Refused(format!("{address}: {why}")),
        NoReply::Lost => (Attempt::Lost, "the connection was lost".to_owned()),
        NoReply::TimedOut => (Attempt::TimedOut, "no answer in time".to_owned()),
    };
    *last_words = format!("{address}: {words}");
    attempt
}

fn gave_up(how: GaveUp, last_words: String) -> ClientError {
    match how {
        GaveUp::NotApplied(why) => Failure::NotApplied(why).into(),
        GaveUp::Unknown { key } => Failure::Unknown { key }.into(),
        GaveUp::Unreachable => ClientError::Unreachable { why: last_words },
        GaveUp::Refused(why) => ClientError::Refused { why },
    }
}

/// The machine's clock.
fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
