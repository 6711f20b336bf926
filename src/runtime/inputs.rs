//! The one place where a node waits.
//!
//! Inputs have an order: what ends the node, then what is durable or done, then peers, then time, then callers. Peers come before
//! time so that, after a stall, the heartbeats that wait are heard before the ticks that were missed. So that the order
//! starves nobody, peers have a budget; and so that the node starves nobody else, each stretch of inputs ends with a yield.

use std::sync::Arc;

use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval_at},
};

use super::{
    admission::Admission,
    beside::Done,
    clock::{Clock, Tick},
    handle::{Ask, Asks},
    persist::{Report, writer_ended},
};
use crate::transport::{self, Transport};

/// Frames that are taken before others get a turn.
const FRAMES_MAX: u32 = 64;
/// Inputs that are taken before the node yields.
const STRETCH_MAX: u32 = 256;
/// Asks that are taken at once.
const ASKS_MAX: usize = 1_024;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The node is asked to stop.
    Stop,
    /// Something is durable, or the store failed.
    Persisted(Report),
    /// Something was done beside the loop.
    Done(Done),
    /// The transport said something.
    Network(transport::Event),
    /// So many ticks passed.
    Ticks(u64),
    /// Callers want something: see [`Inputs::take_asks`].
    Asked,
}

/// All that a node waits for.
pub(super) struct Inputs<T> {
    /// Its peers.
    pub transport: T,
    /// Its time.
    pub clock: Clock,
    admission: Arc<Admission>,
    reports: mpsc::Receiver<Report>,
    done: mpsc::Receiver<Done>,
    asks: Asks,
    asked: Vec<Ask>,
    ticker: Interval,
    ticked: Tick,
    frames_left: u32,
    stretch_left: u32,
}

impl<T: Transport> Inputs<T> {
    /// Starts the node's clock.
    pub fn new(
        transport: T,
        clock: Clock,
        admission: Arc<Admission>,
        reports: mpsc::Receiver<Report>,
        done: mpsc::Receiver<Done>,
        asks: Asks,
    ) -> Self {
        let mut ticker = interval_at(clock.first(), clock.length());
        ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (ticked, asked) = (clock.now(), Vec::new());
        let (frames_left, stretch_left) = (FRAMES_MAX, STRETCH_MAX);
        Self { transport, clock, admission, reports, done, asks, asked, ticker, ticked, frames_left, stretch_left }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Event {
        if self.stretch_left == 0 {
            self.stretch_left = STRETCH_MAX;
            tokio::task::yield_now().await;
        }
        self.stretch_left -= 1;
        loop {
            let event = tokio::select! {
                biased;
                () = self.admission.closing() => Some(Event::Stop),
                report = self.reports.recv() => Some(Event::Persisted(report.unwrap_or_else(|| Err(writer_ended())))),
                Some(done) = self.done.recv() => Some(Event::Done(done)),
                Some(event) = self.transport.receive(), if self.frames_left > 0 => {
                    self.frames_left -= 1;
                    return Event::Network(event);
                }
                _ = self.ticker.tick() => Some(Event::Ticks(self.ticks_passed())),
                true = self.asks.take(&mut self.asked, ASKS_MAX) => Some(Event::Asked),
                () = std::future::ready(()), if self.frames_left == 0 => None,
            };
            // Others had their turn: now peers may again.
            self.frames_left = FRAMES_MAX;
            if let Some(Event::Asked) = event {
                self.take_more_asks().await;
            }
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Whoever was woken together with the first to ask gets the chance to ask too: a log entry, a question to the leader, and
    /// what is sent for them cost the same for one as for many. Nobody waits for that longer than others work.
    async fn take_more_asks(&mut self) {
        tokio::task::yield_now().await;
        let room = ASKS_MAX.saturating_sub(self.asked.len());
        self.asks.take_now(&mut self.asked, room);
    }

    /// Takes what callers asked for; emptied, it may be given back by [`Self::give_back`].
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asked)
    }

    /// The next will be gathered where the last were: room for a thousand is not found anew a thousand times a second. To be
    /// called before the next event is waited for.
    pub fn give_back(&mut self, emptied: Vec<Ask>) {
        debug_assert!(emptied.is_empty() && self.asked.is_empty(), "nothing was asked meanwhile");
        self.asked = emptied;
    }

    fn ticks_passed(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.ticked, self.clock.now());
        self.ticked.0 - before.0
    }
}
