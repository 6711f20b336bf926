//! A client: one errand at a time through the retry machine, each send told to the history.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use tombola::{
    api::{Answered, Failure},
    client::{
        Call, Reply,
        retry::{Attempt, Decision, GaveUp, Retry, RetryBudget, RetryPolicy},
    },
    pool::{CatalogItem, Command, PoolId, Refusal, RequestKey},
    types::ReplicaId,
};

use super::{
    actor,
    clock::ClusterClock,
    line::{FRAME_CALLS_MAX, Line, NoReply},
};
use crate::{
    book::Book,
    chance::number,
    check::{Ask, CallId, Told, live::Probe},
    network::Network,
    plan::Plan,
};

/// Plays all clients of a plan; the start of the run is now. The task ends when all of them are done.
///
/// # Panics
/// That task, if a client does.
pub fn run_all(plan: &Plan, network: &Network, book: &Book) -> JoinHandle<()> {
    let plays: Vec<_> = (1..)
        .zip(&plan.clients)
        .flat_map(|(client, planned)| {
            let endpoints = (1..=plan.options.voters).map(ReplicaId).collect();
            Caller::new(plan, network, book, client, endpoints).play(&planned.calls)
        })
        .collect();
    tokio::spawn(async move {
        for play in plays {
            play.await.expect("a client does not panic");
        }
    })
}

/// Writes something new by way of these nodes and no others, then reads linearizably; each within that time. The client's
/// number must be nobody else's.
pub async fn probe(
    plan: &Plan,
    network: &Network,
    book: &Book,
    client: u64,
    nodes: &[ReplicaId],
    within: Duration,
) -> Probe {
    Caller::new(plan, network, book, client, nodes.to_vec()).probe(within).await
}

/// A client. Clones are the same one.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) client: u64,
    pub(super) seed: u64,
    /// Nodes to ask.
    pub(super) endpoints: Arc<[ReplicaId]>,
    pub(super) catalog: Arc<[CatalogItem]>,
    /// When it stops beginning anything, from its start.
    pub(super) until: Duration,
    start: Instant,
    line: Line,
    book: Book,
    known: Arc<Mutex<Known>>,
}

/// What a client remembers.
#[derive(Default)]
pub(super) struct Known {
    pub(super) clock: ClusterClock,
    /// The key of each of its mutations, by number of the call.
    pub(super) keys: BTreeMap<usize, (PoolId, RequestKey)>,
    budget: RetryBudget,
}

/// Something to be asked for until there is an answer.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) call: Call,
    /// What it is in the history, if it is.
    pub(super) ask: Option<Ask>,
    /// The endpoint asked first.
    pub(super) first: usize,
    pub(super) timeout: Duration,
    /// Give up after the first attempt.
    pub(super) is_hasty: bool,
    /// Names its chances: the call's number, and which of its errands.
    pub(super) name: [u64; 2],
}

/// What the application is told.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// An answer.
    Answer(Reply),
    /// Surely not applied, or not read.
    NotApplied,
    /// Possibly applied; perhaps the key is known.
    Unknown(Option<RequestKey>),
}

impl Caller {
    pub(super) fn new(plan: &Plan, network: &Network, book: &Book, client: u64, endpoints: Vec<ReplicaId>) -> Self {
        Self {
            client,
            seed: plan.seed,
            endpoints: endpoints.into(),
            catalog: plan.options.catalog.clone().into(),
            until: Duration::from_millis(plan.options.safety_ms),
            start: Instant::now(),
            line: Line::start(network.client(client), is_crowd(plan, client)),
            book: book.clone(),
            known: Arc::default(),
        }
    }

    /// So long after its start.
    pub(super) fn at(&self, since: Duration) -> Instant {
        self.start + since
    }

    /// Time since its start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics under this lock")
    }

    /// Goes on an errand until the retry machine says stop.
    pub(super) async fn run(&self, errand: &Errand) -> Ending {
        let policy = RetryPolicy { timeout: errand.timeout, ..RetryPolicy::default() };
        let mut retry = Retry::new(policy, errand.key(), self.endpoints.len(), errand.first, self.elapsed());
        self.known().budget.deposit();
        // Sends that were told nothing.
        let mut open = Vec::new();
        loop {
            let node = self.endpoints[retry.endpoint()];
            let (attempt, reply) = self.attempt(node, errand, retry.timeout(self.elapsed()), &mut open).await;
            let is_unrecorded = attempt == Attempt::Unrecorded;
            let [call, which] = errand.name;
            let random = number(self.seed, "pause", &[self.client, call, which, retry.retries().into()]);
            // To whom the first attempt is the last, time is over.
            let now = if errand.is_hasty { Duration::MAX } else { self.elapsed() };
            let decision = retry.handle_attempt(now, attempt, random, &mut self.known().budget);
            match decision {
                Decision::Answer => {
                    // Who is given a refusal that is not kept is told that nothing was done.
                    self.settle(if is_unrecorded { open } else { Vec::new() });
                    return Ending::Answer(reply.expect("only an answered attempt is an answer"));
                }
                Decision::Again { pause, .. } => tokio::time::sleep(pause).await,
                Decision::GiveUp(GaveUp::Unknown { key }) => return Ending::Unknown(Some(key)),
                Decision::GiveUp(GaveUp::NotApplied(_) | GaveUp::Unreachable | GaveUp::Refused(_)) => {
                    self.settle(open);
                    return Ending::NotApplied;
                }
            }
        }
    }

    /// One attempt, without the machine: for what must not be sent twice.
    pub(super) async fn run_once(&self, errand: &Errand) -> Ending {
        let timeout = errand.timeout.min(RetryPolicy::default().attempt_timeout);
        let (attempt, reply) = self.attempt(self.endpoints[errand.first], errand, timeout, &mut Vec::new()).await;
        match (attempt, reply) {
            (Attempt::Answered | Attempt::Unrecorded, Some(reply)) => Ending::Answer(reply),
            (Attempt::Failed(Failure::NotApplied(_)) | Attempt::NotSent, _) => Ending::NotApplied,
            (Attempt::Failed(Failure::Unknown { key }), _) => Ending::Unknown(Some(key)),
            _ => Ending::Unknown(None),
        }
    }

    /// Sends once. What was sent and told nothing is added to `open`.
    async fn attempt(
        &self,
        node: ReplicaId,
        errand: &Errand,
        timeout: Duration,
        open: &mut Vec<CallId>,
    ) -> (Attempt, Option<Reply>) {
        let begun = self.elapsed();
        let Some(life) = self.line.connect(node, timeout).await else { return (Attempt::NotSent, None) };
        let timeout = timeout.saturating_sub(self.elapsed() - begun);
        let id = errand.ask.clone().map(|ask| self.book.invoke(ask));
        let reply = self.line.call((node, life), errand.call.clone(), timeout).await;
        let attempt = match &reply {
            Ok(reply) => {
                self.learn(reply);
                match &reply.reply {
                    Ok(answer) if !errand.is_answered_by(answer) => Attempt::Lost,
                    reply => Attempt::replied(reply),
                }
            }
            Err(NoReply::Lost) => Attempt::Lost,
            Err(NoReply::TimedOut) => Attempt::TimedOut,
        };
        let reply = reply.map(|reply| reply.reply);
        if let Some(id) = id {
            match reply.as_ref().ok().and_then(|reply| errand.told(reply)) {
                Some(told) => self.book.tell(id, told),
                None => open.push(id),
            }
        }
        (attempt, reply.ok().and_then(Result::ok))
    }

    fn learn(&self, reply: &tombola::client::ClientReply) {
        let (now, known) = (self.elapsed(), &mut *self.known());
        known.clock.learn(reply.now, now);
        if let Ok(Reply::Submitted(answered)) = &reply.reply
            && let Err(Refusal::KeyExpired { now: told, .. } | Refusal::KeyFromFuture { now: told, .. }) =
                answered.outcome.result
        {
            known.clock.correct(told, now);
        }
    }

    /// The application is told that these sends are surely not applied.
    fn settle(&self, open: Vec<CallId>) {
        open.into_iter().for_each(|id| self.book.tell(id, Told::NotApplied));
    }
}

impl Errand {
    /// A mutation's key, if it has one.
    fn key(&self) -> Option<RequestKey> {
        match &self.call {
            Call::Submit { key, .. } => *key,
            _ => None,
        }
    }

    /// Is it the kind of answer that was asked for?
    fn is_answered_by(&self, reply: &Reply) -> bool {
        match &self.call {
            Call::Submit { .. } => matches!(reply, Reply::Submitted(_)),
            Call::Read { .. } => matches!(reply, Reply::Read(_)),
            Call::Status => matches!(reply, Reply::Status(_)),
            Call::HistoryAt(_) => matches!(reply, Reply::HistoryAt(_)),
            Call::Transfer(_) => matches!(reply, Reply::Transferred),
        }
    }

    /// What one send is told by this reply; nothing, if its outcome is unknown.
    fn told(&self, reply: &Result<Reply, Failure>) -> Option<Told> {
        let is_keyless = matches!(self.ask, Some(Ask::Keyless(_)));
        match reply {
            Ok(Reply::Submitted(Answered { key, outcome })) => {
                Some(Told::Answered(Answered { key: *key, outcome: outcome.clone() }))
            }
            Ok(Reply::Read(read)) => Some(Told::Read(read.clone())),
            Ok(_) => None,
            Err(Failure::NotApplied(_)) => Some(Told::NotApplied),
            Err(Failure::Unknown { key }) => is_keyless.then_some(Told::MaybeUnder(*key)),
        }
    }
}

/// Does it make so many calls that they have to share frames? Others send each by itself, so that each may be lost.
fn is_crowd(plan: &Plan, client: u64) -> bool {
    // Those of a plan are numbered from 1.
    (1..).zip(&plan.clients).any(|(number, planned)| number == client && planned.calls.len() > FRAME_CALLS_MAX)
}

/// A mutation under a key, as an errand's call and its place in the history.
pub(super) fn under_key(client: u64, command: Command) -> (Call, Option<Ask>) {
    debug_assert_eq!(command.actor, actor(client));
    let Command { pool, key, action, .. } = command.clone();
    (Call::Submit { pool, key: Some(key), action }, Some(Ask::Request(command)))
}
