//! What one request asks for and what it gave, whichever way it goes; and its key.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    api::{Answered, Consistency, Failure},
    cli::session,
    client::{Client, ClientError},
    pool::{Action, Answer, Claim, Effect, ItemId, PoolId, Query, Refusal, RequestKey},
    server::proto::{rewardpool, v1},
    types::{Millis, Term},
};

/// What every request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// So many draws, under one key.
    Draw(u16),
    /// One unit of an item.
    Claim(ItemId),
    /// The pool with its items.
    Read(Consistency),
}

impl Ask {
    /// The action, if something is to change.
    pub(super) fn action(&self) -> Option<Action> {
        match self {
            Self::Draw(count) => Some(Action::Draw { count: *count }),
            Self::Claim(item) => Some(Action::Claim { item: item.clone(), quantity: 1 }),
            Self::Read(_) => None,
        }
    }
}

/// What a worker needs to make requests.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) pool: PoolId,
    pub(super) ask: Ask,
    pub(super) keys: Arc<Keys>,
}

/// Makes request keys without a lock: the cluster's time is asked for once, and carried on by our clock.
#[derive(Debug)]
pub(super) struct Keys {
    start: Instant,
    /// Cluster time at `start`, in milliseconds.
    base_ms: AtomicU64,
}

impl Keys {
    /// Keys of a cluster whose time is `now`.
    pub(super) fn new(now: Millis) -> Self {
        Self { start: Instant::now(), base_ms: AtomicU64::new(now.0) }
    }

    /// A key for a new request that begins `at`.
    pub(super) fn make(&self, at: Instant) -> RequestKey {
        let now = self.base_ms.load(Ordering::Relaxed) + self.elapsed_ms(at);
        RequestKey::new(Millis(now), rand::random())
    }

    /// A refusal told the time, as the cluster woke from a long sleep, say.
    fn correct(&self, now: Millis) {
        self.base_ms.store(now.0.saturating_sub(self.elapsed_ms(Instant::now())), Ordering::Relaxed);
    }

    fn elapsed_ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Who makes one request after another.
pub(super) trait Caller: Send + 'static {
    /// Makes a request, now that it is `begun`, and waits for its answer.
    fn call(&mut self, begun: Instant) -> impl Future<Output = Ended> + Send;
}

/// How a request ended.
pub(super) struct Ended {
    pub(super) retries: u32,
    /// A term that began while it waited.
    pub(super) new_term: Option<Term>,
    pub(super) result: Result<Given, Failed>,
}

/// What an answer gave.
pub(super) enum Given {
    /// Draws or a claim, natively.
    Effect(Effect),
    /// Draws, on a stream.
    Streamed(Vec<rewardpool::DrawResponse>),
    /// Draws, by one call.
    Called(Vec<v1::DrawResult>),
    /// A unit of the item claimed, or nothing.
    Claimed(Option<ItemId>),
    /// A read.
    Read,
}

/// A request without an answer, or refused.
pub(super) struct Failed {
    pub(super) why: String,
    pub(super) unknown: Option<Unknown>,
}

/// A request that may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Under this key: sent again, it can be settled.
    Key(RequestKey),
    /// Under a key that only the node knew.
    Keyless,
}

impl Failed {
    /// Surely nothing happened.
    pub(super) fn surely(why: impl ToString) -> Self {
        Self { why: why.to_string(), unknown: None }
    }
}

impl Ended {
    pub(super) fn at_once(result: Result<Given, Failed>) -> Self {
        Self { retries: 0, new_term: None, result }
    }
}

/// A worker of the native client.
pub(super) struct Native {
    pub(super) client: Client,
    pub(super) work: Workload,
}

impl Caller for Native {
    async fn call(&mut self, begun: Instant) -> Ended {
        match &self.work.ask {
            Ask::Read(consistency) => self.read(*consistency).await,
            ask => {
                let action = ask.action().expect("only a read changes nothing");
                self.change(self.work.keys.make(begun), action).await
            }
        }
    }
}

impl Native {
    /// Has a request decided under a key of before, or a new one.
    pub(super) async fn change(&self, key: RequestKey, action: Action) -> Ended {
        match self.client.submit(self.work.pool.clone(), key, action).await {
            Ok(called) => Ended {
                retries: called.retries,
                new_term: called.leader_change.map(|change| change.term),
                result: self.outcome(called.value),
            },
            Err(error) => {
                let is_unknown = matches!(error, ClientError::Failed(Failure::Unknown { .. }));
                let unknown = is_unknown.then_some(Unknown::Key(key));
                Ended::at_once(Err(Failed { why: error.to_string(), unknown }))
            }
        }
    }

    fn outcome(&self, answered: Answered) -> Result<Given, Failed> {
        match (answered.outcome.result, &self.work.ask) {
            (Ok(Effect::Claimed { result, .. }), Ask::Claim(item)) => {
                Ok(Given::Claimed(matches!(result, Claim::Awarded).then(|| item.clone())))
            }
            (Ok(effect), _) => Ok(Given::Effect(effect)),
            (Err(refusal), _) => {
                if let Some(now) = session::time_told(&refusal) {
                    self.work.keys.correct(now);
                }
                Err(refused(&refusal))
            }
        }
    }

    async fn read(&self, consistency: Consistency) -> Ended {
        match self.client.read(Query::Pool(self.work.pool.clone()), consistency).await {
            Ok(called) => {
                let result = match called.value.answer {
                    Answer::Refused(refusal) => Err(refused(&refusal)),
                    _ => Ok(Given::Read),
                };
                Ended { retries: called.retries, new_term: None, result }
            }
            Err(error) => Ended::at_once(Err(Failed::surely(error))),
        }
    }
}

fn refused(refusal: &Refusal) -> Failed {
    Failed::surely(format!("{}: {refusal}", refusal.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_the_clusters_time_and_differ() {
        let keys = Keys::new(Millis(1_000_000));
        let (one, other) = (keys.make(Instant::now()), keys.make(Instant::now()));
        assert_ne!(one, other);
        assert!((1_000_000..1_060_000).contains(&one.time().0), "{one}");
        keys.correct(Millis(9_000_000));
        assert!((9_000_000..9_060_000).contains(&keys.make(Instant::now()).time().0));
    }
}
