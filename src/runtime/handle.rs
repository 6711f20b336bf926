//! The node as its callers see it: an async API, cheap to clone.
//!
//! A handle checks what needs no state (form and fixed limits), finds its place among those who wait, and puts what is
//! asked into the loop's queue for its kind; it never waits for room there. The answer is handed on when it is known. A caller
//! that stops listening does not stop what it asked for.

use std::{convert::Infallible, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    admission::{Admission, Permit, RETRIES_MAX, overloaded},
    answer::AnswerTo,
    batch::Measured,
    metrics::Metrics,
};
use crate::{
    api::{Answered, Consistency, Failure, NodeStatus, NotApplied, Read, Request, Vitals},
    pool::{Action, Actor, Command, ItemId, KeyOrigin, PoolId, Query, RequestKey, Stock, Weight},
    types::{HistoryDigest, Index, Millis, ReplicaId},
};

/// Longest that a node works on what it was asked; a longer timeout is cut to this.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Reads that may wait for a turn of the loop.
const READS_ASKED_MAX: usize = 16_384;
/// Asks of operators that may.
const OTHERS_ASKED_MAX: usize = 4_096;

/// What a handle asks of the loop.
#[derive(Debug)]
pub(super) enum Ask {
    /// A mutation.
    Submit {
        /// The command. Of origin server: under no key yet.
        command: Measured,
        deadline: Instant,
        permit: Permit,
        reply: AnswerTo<Answered>,
    },
    /// A read.
    Read { query: Query, consistency: Consistency, deadline: Instant, reply: AnswerTo<Read> },
    /// The node's status.
    Status { reply: oneshot::Sender<NodeStatus> },
    /// How the node does.
    Vitals { reply: oneshot::Sender<Vitals> },
    /// A history digest.
    HistoryAt { index: Index, reply: oneshot::Sender<Option<HistoryDigest>> },
    /// A hand-over of leadership.
    Transfer { to: ReplicaId, deadline: Instant, reply: oneshot::Sender<Result<(), Failure>> },
}

/// A pair of channel ends for each kind of ask, so that none waits behind, or for room among, another kind.
#[derive(Clone, Debug)]
struct Lanes {
    commands: mpsc::Sender<Ask>,
    reads: mpsc::Sender<Ask>,
    others: mpsc::Sender<Ask>,
}

/// The node's ends of them.
#[derive(Debug)]
pub(super) struct Asks {
    commands: mpsc::Receiver<Ask>,
    reads: mpsc::Receiver<Ask>,
    others: mpsc::Receiver<Ask>,
}

impl Lanes {
    fn new(pending_commands_max: usize) -> (Self, Asks) {
        // A command that was let in finds room.
        let (commands, commands_asked) = mpsc::channel(pending_commands_max + RETRIES_MAX);
        let (reads, reads_asked) = mpsc::channel(READS_ASKED_MAX);
        let (others, others_asked) = mpsc::channel(OTHERS_ASKED_MAX);
        let asks = Asks { commands: commands_asked, reads: reads_asked, others: others_asked };
        (Self { commands, reads, others }, asks)
    }

    fn of(&self, ask: &Ask) -> &mpsc::Sender<Ask> {
        match ask {
            Ask::Submit { .. } => &self.commands,
            Ask::Read { .. } => &self.reads,
            Ask::Status { .. } | Ask::Vitals { .. } | Ask::HistoryAt { .. } | Ask::Transfer { .. } => &self.others,
        }
    }
}

impl Asks {
    /// Waits until there is something, and takes at most `max`: operators' first, commands last. `false` when nobody is
    /// left to ask. May be cancelled.
    pub async fn take(&mut self, asked: &mut Vec<Ask>, max: usize) -> bool {
        poll_fn(|context| {
            let mut is_over = true;
            for lane in [&mut self.others, &mut self.reads, &mut self.commands] {
                match lane.poll_recv_many(context, asked, max) {
                    Poll::Ready(0) => {}
                    Poll::Ready(_) => return Poll::Ready(true),
                    Poll::Pending => is_over = false,
                }
            }
            if is_over { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }

    /// Takes at most `max` of what is there.
    pub fn take_now(&mut self, asked: &mut Vec<Ask>, max: usize) {
        let end = asked.len() + max;
        for lane in [&mut self.others, &mut self.reads, &mut self.commands] {
            while asked.len() < end
                && let Ok(ask) = lane.try_recv()
            {
                asked.push(ask);
            }
        }
    }
}

/// The async API of a running node.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    asks: Lanes,
    /// Closed when the node has ended.
    alive: mpsc::Sender<Infallible>,
}

/// The node's end of its handles.
pub(super) struct Desk {
    /// Shared with the handles.
    pub admission: Arc<Admission>,
    /// Shared with the handles.
    pub metrics: Arc<Metrics>,
    /// What they ask.
    pub asks: Asks,
    /// To be dropped when the node has ended.
    pub alive: mpsc::Receiver<Infallible>,
}

impl NodeHandle {
    /// A handle of a node in which so many commands may wait, and the node's end of it.
    pub(super) fn new(pending_commands_max: usize) -> (Self, Desk) {
        let (admission, metrics) = (Arc::new(Admission::new(pending_commands_max)), Arc::new(Metrics::default()));
        let (asks, asked) = Lanes::new(pending_commands_max);
        let (alive, ended) = mpsc::channel(1);
        let handle = Self { admission: admission.clone(), metrics: metrics.clone(), asks, alive };
        (handle, Desk { admission, metrics, asks: asked, alive: ended })
    }

    /// Has a mutation decided; answers within `timeout`, at most [`TIMEOUT_MAX`].
    ///
    /// # Errors
    /// [`Failure::NotApplied`] if it surely has no effect; [`Failure::Unknown`] if it may have: only the same request
    /// under the same key is then safe to send again. A refusal is neither: it is an outcome.
    pub async fn submit(&self, request: Request, timeout: Duration) -> Result<Answered, Failure> {
        let (reply, answer) = oneshot::channel();
        self.submit_then(request, timeout, move |answer| _ = reply.send(answer));
        answer.await.unwrap_or(Err(NotApplied::Draining.into()))
    }

    /// As [`Self::submit`], without waiting: `then` is given the answer, within a turn of the node's loop, so it must do no
    /// more than hand it on. That is how one task serves many calls.
    pub fn submit_then(
        &self,
        request: Request,
        timeout: Duration,
        then: impl FnOnce(Result<Answered, Failure>) + Send + 'static,
    ) {
        let Request { pool, key, actor, action } = request;
        let draws = if let Action::Draw { count } = action { count.into() } else { 0 };
        let origin = if key.is_some() { KeyOrigin::Caller } else { KeyOrigin::Server };
        let key = key.unwrap_or(RequestKey::new(Millis(0), [0; 10]));
        let metrics = self.metrics.clone();
        let reply = AnswerTo::new(move |answer| {
            metrics.handle_answer(draws, &answer);
            then(answer);
        });
        match self.enter(Command { pool, key, origin, actor, action }) {
            Ok((command, permit)) => self.put(Ask::Submit { command, deadline: deadline(timeout), permit, reply }),
            Err(why) => reply.answer(Err(why.into())),
        }
    }

    fn enter(&self, command: Command) -> Result<(Measured, Permit), NotApplied> {
        let command = Measured::new(command).map_err(NotApplied::Malformed)?;
        let permit = self.admission.enter(&command)?;
        Ok((command, permit))
    }

    /// Draws `count` times from a pool. Errors: as [`Self::submit`].
    pub async fn draw(
        &self,
        pool: PoolId,
        key: Option<RequestKey>,
        count: u16,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        self.submit(Request { pool, key, actor: Actor::default(), action: Action::Draw { count } }, timeout).await
    }

    /// Takes `quantity` units of a named item. Errors: as [`Self::submit`].
    pub async fn claim(
        &self,
        pool: PoolId,
        key: Option<RequestKey>,
        item: ItemId,
        quantity: u32,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        let action = Action::Claim { item, quantity };
        self.submit(Request { pool, key, actor: Actor::default(), action }, timeout).await
    }

    /// Sets an existing item's stock and weight. Errors: as [`Self::submit`].
    pub async fn update(
        &self,
        pool: PoolId,
        key: Option<RequestKey>,
        item: ItemId,
        stock: Stock,
        weight: Weight,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        let action = Action::UpdateItem { item, stock, weight, create: false };
        self.submit(Request { pool, key, actor: Actor::default(), action }, timeout).await
    }

    /// Reads; answers within `timeout`, at most [`TIMEOUT_MAX`], and a stale read at once.
    ///
    /// # Errors
    /// [`NotApplied::NoQuorum`] if no quorum confirmed in time that this node's state is the newest.
    pub async fn read(&self, query: Query, consistency: Consistency, timeout: Duration) -> Result<Read, Failure> {
        let (reply, answer) = oneshot::channel();
        self.read_then(query, consistency, timeout, move |answer| _ = reply.send(answer));
        answer.await.unwrap_or(Err(NotApplied::Draining.into()))
    }

    /// To [`Self::read`] what [`Self::submit_then`] is to [`Self::submit`].
    pub fn read_then(
        &self,
        query: Query,
        consistency: Consistency,
        timeout: Duration,
        then: impl FnOnce(Result<Read, Failure>) + Send + 'static,
    ) {
        let (metrics, asked, is_check) = (self.metrics.clone(), Instant::now(), query == Query::Verify);
        let reply = AnswerTo::new(move |answer| {
            if consistency == Consistency::Linearizable {
                metrics.handle_read(asked.elapsed(), &answer);
            }
            if is_check {
                metrics.handle_verification(&answer);
            }
            then(answer);
        });
        self.put(Ask::Read { query, consistency, deadline: deadline(timeout), reply });
    }

    /// What the node counts and measures. Neither the loop nor the store is asked.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The node as it is, at once. Before the cluster is founded its term and indexes are 0.
    pub async fn status(&self) -> Result<NodeStatus, Failure> {
        self.ask(|reply| Ask::Status { reply }).await
    }

    /// How the node does, at once.
    pub async fn vitals(&self) -> Result<Vitals, Failure> {
        self.ask(|reply| Ask::Vitals { reply }).await
    }

    /// The history digest at a recent index that this node has applied.
    pub async fn history_at(&self, index: Index) -> Result<Option<HistoryDigest>, Failure> {
        self.ask(|reply| Ask::HistoryAt { index, reply }).await
    }

    /// Hands leadership to another voter, and waits until it leads; asks the leader to if this node is not it.
    ///
    /// # Errors
    /// [`NotApplied::TransferRefused`] with the leader's reason, or if `to` did not lead in time;
    /// [`NotApplied::NoLeader`] if nobody led at that time.
    pub async fn transfer(&self, to: ReplicaId, timeout: Duration) -> Result<(), Failure> {
        let deadline = deadline(timeout);
        self.ask(|reply| Ask::Transfer { to, deadline, reply }).await?
    }

    /// Stops accepting, answers what was accepted, hands leadership over, and waits until the node has ended: some seconds
    /// at most, if its store answers. [`super::Node::task`] says how it ended.
    pub async fn stop(&self) {
        self.admission.close();
        self.alive.closed().await;
    }

    /// Puts an ask that answers by itself, whatever becomes of it.
    fn put(&self, ask: Ask) {
        if let Err(mpsc::error::TrySendError::Full(ask)) = self.asks.of(&ask).try_send(ask) {
            let why = Failure::from(overloaded(self.admission.retry_after_ms()));
            match ask {
                Ask::Submit { reply, .. } => reply.answer(Err(why)),
                Ask::Read { reply, .. } => reply.answer(Err(why)),
                Ask::Status { .. } | Ask::Vitals { .. } | Ask::HistoryAt { .. } | Ask::Transfer { .. } => {}
            }
        }
    }

    /// Every ask that the loop took is answered, however the node ends; so one that is not answered was not taken.
    async fn ask<A>(&self, ask: impl FnOnce(oneshot::Sender<A>) -> Ask) -> Result<A, Failure> {
        let (reply, answer) = oneshot::channel();
        let ask = ask(reply);
        self.asks.of(&ask).try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => overloaded(self.admission.retry_after_ms()),
            mpsc::error::TrySendError::Closed(_) => NotApplied::Draining,
        })?;
        answer.await.map_err(|_| NotApplied::Draining.into())
    }
}

fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(TIMEOUT_MAX)
}
