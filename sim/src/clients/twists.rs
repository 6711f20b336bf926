//! What a client does with a planned call: when it begins, and what it does beyond trying.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, sleep_until},
};
use tombola::{
    api::Consistency,
    client::{Call, Reply},
    pool::{Action, Command, KeyOrigin, PoolId, Query, RequestKey},
};

use super::{
    actor,
    asking::{Asked, another, neighbour},
    caller::{Caller, Ending, Errand, under_key},
};
use crate::{
    chance::number,
    check::{Ask, Keyless, live::Probe},
    plan::{PlannedCall, Start, Twist},
};

/// Pause between two attempts to learn the time from a cluster that has none yet.
const TIMELESS_PAUSE: Duration = Duration::from_millis(100);
/// Number of the call that is a probe's.
const PROBE: usize = 1_000_000;

impl Caller {
    /// Plays these calls, each on a task of its own.
    pub(super) fn play(self, calls: &[PlannedCall]) -> Vec<JoinHandle<()>> {
        let mut before: Option<oneshot::Receiver<()>> = None;
        let play = |(number, planned): (usize, &PlannedCall)| {
            let (caller, planned) = (self.clone(), planned.clone());
            let (ended, after) = oneshot::channel();
            let before = before.replace(after);
            tokio::spawn(async move {
                caller.wait(planned.start, before).await;
                if caller.elapsed() < caller.until {
                    caller.play_call(number, &planned, ended).await;
                }
            })
        };
        (1..).zip(calls).map(play).collect()
    }

    async fn wait(&self, start: Start, before: Option<oneshot::Receiver<()>>) {
        match start {
            Start::At(ms) => sleep_until(self.at(Duration::from_millis(ms))).await,
            Start::After(ms) => {
                if let Some(before) = before {
                    // It is dropped by a call that came too late to begin, and so does this one then.
                    let _ = before.await;
                }
                sleep(Duration::from_millis(ms)).await;
            }
        }
    }

    /// Plays a call; `ended` hears of its end, which is before what only comes long after.
    async fn play_call(&self, number: usize, planned: &PlannedCall, ended: oneshot::Sender<()>) {
        let asked = Asked::of(&planned.what, &self.catalog);
        let errand = |call, ask| Errand {
            call,
            ask,
            first: self.endpoints.iter().position(|node| *node == planned.node).unwrap_or(0),
            timeout: Duration::from_millis(planned.timeout_ms.into()),
            is_hasty: planned.twist == Twist::Hasty,
            name: [number as u64, 0],
        };
        let read = |query: Query, consistency| {
            let ask = match consistency {
                Consistency::Linearizable => Ask::Read(query.clone()),
                Consistency::Stale => Ask::StaleRead(query.clone()),
            };
            errand(Call::Read { query, consistency }, Some(ask))
        };
        match asked {
            Asked::Read(query, consistency) => _ = self.run(&read(query, consistency)).await,
            Asked::Outcome(back) => {
                let known =
                    self.known().keys.range(..=number.saturating_sub(back)).next_back().map(|(_, key)| key.clone());
                let query = match known {
                    Some((pool, key)) => Query::Outcome(pool, key),
                    None => Query::Pool(PoolId::default_pool()),
                };
                _ = self.run(&read(query, Consistency::Linearizable)).await;
            }
            Asked::Other(call) => _ = self.run(&errand(call, None)).await,
            Asked::Mutation(pool, action) if planned.twist == Twist::Keyless => {
                let ask =
                    Ask::Keyless(Keyless { pool: pool.clone(), actor: actor(self.client), action: action.clone() });
                let call = Call::Submit { pool: pool.clone(), key: None, action: action.clone() };
                self.mutate_keyless(number, (pool, action), errand(call, Some(ask))).await;
            }
            Asked::Mutation(pool, action) => {
                let greeting = errand(Call::Status, None);
                let Some(key) = self.new_key(number, &greeting).await else { return };
                let errand = |pool, action| {
                    let (call, ask) = under_key(self.client, self.command(pool, key, action));
                    errand(call, ask)
                };
                self.known().keys.insert(number, (pool.clone(), key));
                // Another request under its key; or the same one to another pool, where that key is a new one.
                let other = match number % 2 {
                    0 => errand(neighbour(&pool), action.clone()),
                    _ => errand(pool.clone(), another(&action)),
                };
                return self.mutate(planned.twist, [errand(pool, action), other], ended).await;
            }
        }
        drop(ended);
    }

    /// Has a mutation decided, and does what else is to be done about it; `other` is another request under its key.
    async fn mutate(&self, twist: Twist, [errand, other]: [Errand; 2], ended: oneshot::Sender<()>) {
        let [number, _] = errand.name;
        let elsewhere = (errand.first + 1) % self.endpoints.len();
        match twist {
            Twist::Twice => {
                let second = Errand { first: elsewhere, name: [number, 1], ..errand.clone() };
                tokio::join!(biased; self.run(&errand), self.run(&second));
            }
            Twist::Reuse => {
                self.run(&errand).await;
                self.run(&Errand { name: [number, 2], ..other }).await;
            }
            Twist::Again { after_ms } => {
                self.run(&errand).await;
                drop(ended);
                sleep(Duration::from_millis(after_ms)).await;
                if self.elapsed() < self.until {
                    self.run(&Errand { first: elsewhere, name: [number, 3], ..errand }).await;
                }
            }
            Twist::None | Twist::Keyless | Twist::Hasty => _ = self.run(&errand).await,
        }
    }

    /// Sends a mutation once, without a key. If its node says under which key it may have been applied, that is asked for
    /// under that key, as the node says it may be.
    async fn mutate_keyless(&self, number: usize, (pool, action): (PoolId, Action), errand: Errand) {
        let key = match self.run_once(&errand).await {
            Ending::Answer(Reply::Submitted(answered)) => answered.key,
            Ending::Unknown(Some(key)) => {
                let (call, ask) = under_key(self.client, self.command(pool.clone(), key, action));
                self.run(&Errand { call, ask, name: [number as u64, 4], ..errand }).await;
                key
            }
            Ending::Answer(_) | Ending::Unknown(None) | Ending::NotApplied => return,
        };
        self.known().keys.insert(number, (pool, key));
    }

    /// A key for a new request, by cluster time: asked for, if it is not known. `None` if nobody tells it in time.
    pub(super) async fn new_key(&self, call: usize, greeting: &Errand) -> Option<RequestKey> {
        let until = self.elapsed() + greeting.timeout;
        let now = loop {
            if let Some(now) = self.known().clock.read(self.elapsed()) {
                break now;
            }
            let left = until.saturating_sub(self.elapsed());
            if left.is_zero() {
                return None;
            }
            let [call, _] = greeting.name;
            self.run(&Errand { timeout: left, name: [call, 5], ..greeting.clone() }).await;
            if self.known().clock.read(self.elapsed()).is_none() {
                sleep(TIMELESS_PAUSE).await;
            }
        };
        let mut unique = [0; 10];
        for (part, bytes) in unique.chunks_mut(8).enumerate() {
            let random = number(self.seed, "key", &[self.client, call as u64, part as u64]);
            bytes.copy_from_slice(&random.to_le_bytes()[..bytes.len()]);
        }
        Some(RequestKey::new(now, unique))
    }

    fn command(&self, pool: PoolId, key: RequestKey, action: Action) -> Command {
        Command { pool, key, origin: KeyOrigin::Caller, actor: actor(self.client), action }
    }

    /// A fresh write, and a read. What operators do has room in the table of keys when draws have none; and a key that grew
    /// too old on its way, which leaves a write's fate open, is followed by a next one.
    pub(super) async fn probe(&self, within: Duration) -> Probe {
        let begun = self.elapsed();
        let left = || within.saturating_sub(self.elapsed() - begun);
        let pool = PoolId::default_pool();
        let errand = |call, ask, timeout, nth| Errand {
            call,
            ask,
            first: 0,
            timeout,
            is_hasty: false,
            name: [PROBE as u64, nth],
        };
        let mut wrote = false;
        for nth in 0.. {
            if wrote || left().is_zero() {
                break;
            }
            let status = errand(Call::Status, None, left(), nth);
            let Some(key) = self.new_key(PROBE + nth as usize, &status).await else { return Probe::default() };
            let (call, ask) = under_key(self.client, self.command(pool.clone(), key, Action::ResumePool));
            wrote = matches!(self.run(&errand(call, ask, left(), nth)).await, Ending::Answer(_));
            sleep(TIMELESS_PAUSE).await;
        }
        let query = Query::Pool(pool);
        let call = Call::Read { query: query.clone(), consistency: Consistency::Linearizable };
        let read =
            wrote && matches!(self.run(&errand(call, Some(Ask::Read(query)), left(), 0)).await, Ending::Answer(_));
        Probe { wrote, read }
    }
}
