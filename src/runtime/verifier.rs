//! Looking at the whole state ([`Query::Verify`](crate::pool::Query::Verify)) without holding the loop up.
//!
//! It is done on a view of the state, off the loop, one at a time. Whoever asks meanwhile waits for the next, and all who
//! wait share it: the view is taken when it begins, so it is at least as new as any of them may expect. At its deadline an
//! ask is refused all the same, and what is under way goes on for the others.

use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    admission::overloaded,
    beside::Done,
    clock::Tick,
    reads::{READS_MAX, ReadAsk},
};
use crate::{
    api::Read,
    pool::{Answer, StateMachine, Verification},
    types::{Index, Millis},
};

/// One under way.
#[derive(Debug)]
struct Running {
    /// The state that is looked at.
    index: Index,
    now: Millis,
    asks: Vec<ReadAsk>,
}

/// When somebody who was turned away may ask again, in milliseconds: a look at everything takes its time.
const RETRY_AFTER_MS: u32 = 1_000;

/// Looks at the whole state, off the loop.
#[derive(Debug)]
pub(super) struct Verifier {
    done: mpsc::Sender<Done>,
    running: Option<Running>,
    waiting: Vec<ReadAsk>,
}

impl Verifier {
    /// An idle one.
    pub fn new(done: mpsc::Sender<Done>) -> Self {
        Self { done, running: None, waiting: Vec::new() }
    }

    /// An ask that may be answered from the state as it is now, or later.
    pub fn add(&mut self, ask: ReadAsk, machine: &StateMachine) {
        let running = self.running.as_ref().map_or(0, |running| running.asks.len());
        if self.waiting.len() + running >= READS_MAX {
            return ask.refuse(overloaded(RETRY_AFTER_MS));
        }
        self.waiting.push(ask);
        self.begin(machine);
    }

    /// The one under way is done.
    pub fn handle_done(&mut self, verification: Verification, machine: &StateMachine) {
        if let Some(Running { index, now, asks }) = self.running.take() {
            for ask in asks {
                ask.tell(Read { index, now, answer: Answer::Verified(verification.clone()) });
            }
        }
        self.begin(machine);
    }

    /// Refuses those whose deadline has passed.
    pub fn handle_tick(&mut self, now: Tick) {
        let running =
            self.running.iter_mut().flat_map(|running| running.asks.extract_if(.., |ask| ask.deadline <= now));
        let waiting = self.waiting.extract_if(.., |ask| ask.deadline <= now);
        running.chain(waiting).for_each(|late| late.refuse(overloaded(RETRY_AFTER_MS)));
    }

    fn begin(&mut self, machine: &StateMachine) {
        if self.running.is_some() || self.waiting.is_empty() {
            return;
        }
        let (handle, done) = (machine.snapshot(), self.done.clone());
        let (index, now) = (machine.applied(), machine.now());
        self.running = Some(Running { index, now, asks: std::mem::take(&mut self.waiting) });
        tokio::spawn(async move {
            let verification = spawn_blocking(move || handle.verify()).await.unwrap_or_else(|panic| Verification {
                pools: 0,
                items: 0,
                keys: 0,
                violations: vec![panic.to_string()],
            });
            let _ = done.send(Done::Verified(verification)).await;
        });
    }
}
