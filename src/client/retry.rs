//! When a client tries again, where, and what it may say when it gives up. Sans-I/O: the caller measures time, throws the
//! dice and does the talking; production's client and the simulator's are driven by this same machine.
//!
//! One [`Retry`] is one call. Start an attempt at [`Retry::endpoint`] with [`Retry::timeout`]; tell how it ended to
//! [`Retry::handle_attempt`]; do what the [`Decision`] says.
//!
//! **Three endings are kept apart.** An *answer* is an answer, refusals included. *Surely not applied* is said only if no
//! attempt can have had an effect: each was turned away by a node that says so, or never left. As soon as one attempt was
//! sent and its fate was not heard — the link was lost, the time ran out, the node itself does not know — the call is
//! *possibly applied*, and no later failure takes that back: a slow frame may still be on its way. Only an answer does,
//! since every attempt goes out under the same key. Three refusals leave no trace in the cluster and so do not settle
//! what became of an earlier attempt: see [`Attempt::Unrecorded`].
//!
//! **Refused by all.** Whom one node does not accept, another may: their certificates may be in the middle of a change. When
//! every endpoint in turn has refused, or was refused, waiting helps nobody, and the call ends at once.
//!
//! **Pauses** have full jitter: uniform between nothing and a ceiling that doubles with every retry (Marc Brooker,
//! "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that clients which failed together do not come back
//! together. Retries of *overloaded* requests are paid for out of a [`RetryBudget`], as they are what keeps an overload going.
//!
//! Deliberately absent: hedging (a second attempt while the first is under way), as the node that was asked retries on
//! its own and a client cannot know better.

use std::time::Duration;

use crate::{
    api::{Failure, NotApplied},
    client::Reply,
    pool::{Refusal, RequestKey},
};

/// How long, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The whole call, retries and pauses included.
    pub timeout: Duration,
    /// One attempt.
    pub attempt_timeout: Duration,
    /// Ceiling of the first pause.
    pub pause_first_max: Duration,
    /// Ceiling of every pause.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            attempt_timeout: Duration::from_secs(2),
            pause_first_max: Duration::from_millis(25),
            pause_max: Duration::from_secs(1),
        }
    }
}

/// An attempt with less time than this is not worth starting.
pub const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// With an answer that settles the call.
    Answered,
    /// With a refusal that is not stored: KEY_EXPIRED, KEY_FROM_FUTURE or KEY_TABLE_FULL. This attempt was surely not
    /// applied; of an earlier one under the same key it says nothing.
    Unrecorded,
    /// With a failure that the node told.
    Failed(Failure),
    /// It never left: no connection, or none in time.
    NotSent,
    /// Node and client do not accept each other, and nothing was looked at; why, in words.
    Refused(String),
    /// It was sent, and the connection was lost before an answer.
    Lost,
    /// It was sent, and its time ran out.
    TimedOut,
}

impl Attempt {
    /// What a node's reply amounts to.
    pub fn replied(reply: &Result<Reply, Failure>) -> Self {
        match reply {
            Err(failure) => Self::Failed(failure.clone()),
            Ok(Reply::Submitted(answered)) => match &answered.outcome.result {
                Err(Refusal::KeyExpired { .. } | Refusal::KeyFromFuture { .. } | Refusal::KeyTableFull) => {
                    Self::Unrecorded
                }
                _ => Self::Answered,
            },
            Ok(_) => Self::Answered,
        }
    }
}

/// What to do after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The attempt's answer is the call's.
    Answer,
    /// Wait, then start another attempt, under the same key.
    Again {
        /// Which endpoint to ask.
        endpoint: usize,
        /// How long to wait first.
        pause: Duration,
    },
    /// Stop.
    GiveUp(GaveUp),
}

/// How a call without an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// Surely not applied: the last thing that a node said.
    NotApplied(NotApplied),
    /// No node said anything. Surely not applied, if it was a mutation.
    Unreachable,
    /// The last node that was heard of does not accept this client, or this client does not accept it; why, in words.
    /// Surely not applied.
    Refused(String),
    /// Possibly applied: only the same request under the same key is safe to send again.
    Unknown {
        /// The key.
        key: RequestKey,
    },
}

/// One call and what became of its attempts so far. Times are measured from any one moment, monotonically.
#[derive(Clone, Debug)]
pub struct Retry {
    policy: RetryPolicy,
    /// When the call's time is over.
    deadline: Duration,
    /// The mutation's key. `None` for what may be repeated at will: reads, and handing leadership over.
    key: Option<RequestKey>,
    /// Endpoints are numbered from 0 to below this.
    endpoints: usize,
    /// The one to ask next.
    endpoint: usize,
    /// Attempts beyond the first.
    retries: u32,
    /// An attempt may have been applied.
    possibly_applied: bool,
    /// The last reason that a node gave.
    why: Option<NotApplied>,
    /// Why the last node did not accept the client, or was not accepted.
    refused: Option<String>,
    /// How many endpoints in a row ended so.
    refusals: usize,
}

impl Retry {
    /// A call that starts `now`, at endpoint `first` of `endpoints` (at least 1).
    pub fn new(policy: RetryPolicy, key: Option<RequestKey>, endpoints: usize, first: usize, now: Duration) -> Self {
        assert!(first < endpoints, "endpoint {first} is none of {endpoints}");
        Self {
            policy,
            deadline: now.saturating_add(policy.timeout),
            key,
            endpoints,
            endpoint: first,
            retries: 0,
            possibly_applied: false,
            why: None,
            refused: None,
            refusals: 0,
        }
    }

    /// Whom to ask.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// How long an attempt that starts `now` may take.
    pub fn timeout(&self, now: Duration) -> Duration {
        self.deadline.saturating_sub(now).min(self.policy.attempt_timeout)
    }

    /// Attempts beyond the first, so far.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// An attempt ended. `random` is uniform over all of `u64`.
    pub fn handle_attempt(
        &mut self,
        now: Duration,
        attempt: Attempt,
        random: u64,
        budget: &mut RetryBudget,
    ) -> Decision {
        let mut pause_min = Duration::ZERO;
        let refusals = std::mem::take(&mut self.refusals);
        match attempt {
            Attempt::Answered => return Decision::Answer,
            Attempt::Unrecorded if self.possibly_applied => return Decision::GiveUp(self.gave_up()),
            Attempt::Unrecorded => return Decision::Answer,
            Attempt::Failed(Failure::NotApplied(why)) => {
                let last = match &why {
                    NotApplied::Malformed(_) | NotApplied::TransferRefused(_) => true,
                    NotApplied::Overloaded { retry_after_ms } => {
                        pause_min = Duration::from_millis(u64::from(*retry_after_ms));
                        !budget.withdraw()
                    }
                    NotApplied::NoLeader | NotApplied::Draining | NotApplied::NoQuorum => false,
                };
                // Overload is the cluster's, not the node's: going elsewhere only costs a connection.
                let stay = matches!(why, NotApplied::Overloaded { .. });
                self.why = Some(why);
                if last {
                    return Decision::GiveUp(self.gave_up());
                }
                if !stay {
                    self.move_on();
                }
            }
            Attempt::NotSent => self.move_on(),
            Attempt::Refused(why) => {
                (self.refused, self.refusals) = (Some(why), refusals + 1);
                self.move_on();
                if self.refusals == self.endpoints {
                    return Decision::GiveUp(self.gave_up());
                }
            }
            Attempt::Failed(Failure::Unknown { .. }) | Attempt::Lost | Attempt::TimedOut => {
                self.possibly_applied |= self.key.is_some();
                self.move_on();
            }
        }
        self.again(now, pause_min, random)
    }

    fn again(&mut self, now: Duration, pause_min: Duration, random: u64) -> Decision {
        let left = self.deadline.saturating_sub(now);
        if left < 2 * ATTEMPT_TIMEOUT_MIN {
            return Decision::GiveUp(self.gave_up());
        }
        let ceiling = self.policy.pause_first_max.saturating_mul(1 << self.retries.min(20)).min(self.policy.pause_max);
        // Half of what is left belongs to the attempt: a long pause must not be how a call ends.
        let pause = pause_min.saturating_add(uniform(ceiling, random)).min(left / 2);
        self.retries += 1;
        Decision::Again { endpoint: self.endpoint, pause }
    }

    fn move_on(&mut self) {
        self.endpoint = (self.endpoint + 1) % self.endpoints;
    }

    fn gave_up(&self) -> GaveUp {
        match (self.key, &self.why, &self.refused) {
            (Some(key), ..) if self.possibly_applied => GaveUp::Unknown { key },
            (_, Some(why), _) => GaveUp::NotApplied(why.clone()),
            (_, None, Some(why)) => GaveUp::Refused(why.clone()),
            (_, None, None) => GaveUp::Unreachable,
        }
    }
}

/// Uniform over `[0, ceiling]` in microseconds; `random` is uniform over all of `u64`.
fn uniform(ceiling: Duration, random: u64) -> Duration {
    let choices = ceiling.as_micros() + 1;
    let micros = (choices * u128::from(random)) >> 64;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// How many retries of overloaded requests a client may still make: a tenth of the calls that it makes, with some in
/// reserve to begin with. When it is spent, overload is answered to the caller at once.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// Tenths of a retry.
    tenths: u32,
}

impl RetryBudget {
    const TENTHS_FIRST: u32 = 100;
    const TENTHS_MAX: u32 = 1_000;
    const TENTHS_PER_RETRY: u32 = 10;

    /// A call was started.
    pub fn deposit(&mut self) {
        self.tenths = (self.tenths + 1).min(Self::TENTHS_MAX);
    }

    /// May a retry be made? If so it is paid for.
    fn withdraw(&mut self) -> bool {
        let left = self.tenths.checked_sub(Self::TENTHS_PER_RETRY);
        self.tenths = left.unwrap_or(self.tenths);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: Self::TENTHS_FIRST }
    }
}

#[cfg(test)]
mod tests;
