//! The load: workers that make one request after another, in a closed loop or on a schedule.
//!
//! A worker is one task with one request in flight. All workers share one tally, behind a lock that is held for the time
//! of some additions: they run on one thread, and histograms of their own would not fit in any cache.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    tally::{Tally, Window},
    workload::Caller,
};

/// The schedule looks no more often than this what is due: a thread that wakes costs some microseconds each time.
const PACE_MIN: Duration = Duration::from_micros(100);
/// Waits of requests that never began are told one by one up to so many.
const WAITS_TOLD_MAX: u64 = 1_000_000;

/// The tally that the workers share.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub(super) fn new(window: Window) -> Self {
        Self(Arc::new(Mutex::new(Tally::new(window))))
    }

    /// Calls and draws answered so far, the warm-up's too.
    pub(super) fn answered(&self) -> (u64, u64) {
        let tally = self.tally();
        (tally.calls + tally.warmup_calls, tally.draws + tally.warmup_draws)
    }

    /// What was counted; it is empty afterwards.
    pub(super) fn take(&self, window: Window) -> Tally {
        std::mem::replace(&mut self.tally(), Tally::new(window))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

/// Requests that are due at a fixed rate. The pacer gives out a permit for each when its time has come; a worker that is
/// free takes it. If none is, the permit waits, and with it the latency of its request has begun.
#[derive(Debug)]
pub(super) struct Schedule {
    window: Window,
    per_s: u32,
    due: Semaphore,
    /// Requests begun.
    begun: AtomicU64,
}

/// What became of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    /// Requests a second.
    pub(super) per_s: u32,
    /// Requests that were due in the time that counts.
    pub(super) due: u64,
    /// Those of them that no worker was free for before the time was over.
    pub(super) not_started: u64,
}

impl Schedule {
    pub(super) fn new(window: Window, per_s: u32) -> Self {
        Self { window, per_s, due: Semaphore::new(0), begun: AtomicU64::new(0) }
    }

    /// When request `number`, from 0 on, is due.
    fn due_at(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_s);
        self.window.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many requests are due before `at`: the numbers below it.
    fn due_before(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.window.start).as_nanos();
        // The first number that is not due before `at`.
        u64::try_from((nanos * u128::from(self.per_s)).div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }

    /// Gives out permits until the time is over. Blocks: an async timer is too coarse.
    fn pace(&self) {
        let mut given = 0;
        loop {
            let now = Instant::now();
            let due = self.due_before(now.min(self.window.until));
            self.due.add_permits(usize::try_from(due - given).expect("a machine of 64 bits"));
            given = due;
            if now >= self.window.until {
                return self.due.close();
            }
            let next = self.due_at(given).max(now + PACE_MIN).min(self.window.until);
            std::thread::sleep(next - now);
        }
    }

    /// Waits for the next request that is due; when that was. `None` if the time is over.
    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        Some(self.due_at(self.begun.fetch_add(1, Ordering::Relaxed)))
    }

    fn offered(&self) -> Offered {
        let (all, begun) = (self.due_before(self.window.until), self.begun.load(Ordering::Relaxed));
        let due = all - self.due_before(self.window.from);
        Offered { per_s: self.per_s, due, not_started: (all - begun).min(due) }
    }

    /// How long those that never began had waited when the time was over, the longest first, and how many waited so long;
    /// neighbours together if they are very many.
    fn waited(&self) -> impl Iterator<Item = (Duration, u64)> {
        let (all, not_started) = (self.due_before(self.window.until), self.offered().not_started);
        let step = not_started.div_ceil(WAITS_TOLD_MAX).max(1);
        (all - not_started..all)
            .step_by(usize::try_from(step).expect("a machine of 64 bits"))
            .map(move |number| (self.window.until - self.due_at(number), step.min(all - number)))
    }
}

/// When a worker begins its next request.
#[derive(Clone)]
enum Pace {
    /// When the last is answered.
    Closed(Window),
    Open(Arc<Schedule>),
}

impl Pace {
    /// When the next request is due and, if that is another moment, begins.
    async fn next(&self) -> Option<(Instant, Instant)> {
        match self {
            Self::Closed(window) => {
                let now = Instant::now();
                (now < window.until).then_some((now, now))
            }
            Self::Open(schedule) => {
                let due = schedule.next().await?;
                Some((due, Instant::now()))
            }
        }
    }
}

/// Lets all callers work to the end of the window, and waits for their last answers. What was due and never began counts
/// in the latency for as long as it had waited: without it an overload would look the better, the worse it is.
pub(super) async fn run<C: Caller>(
    callers: Vec<C>,
    window: Window,
    per_s: Option<u32>,
    shared: &Shared,
) -> Option<Offered> {
    let schedule = per_s.map(|per_s| Arc::new(Schedule::new(window, per_s)));
    let pace = schedule.clone().map_or(Pace::Closed(window), Pace::Open);
    let mut workers = JoinSet::new();
    for caller in callers {
        workers.spawn(work(caller, pace.clone(), shared.clone()));
    }
    let pacer = schedule.clone().map(|schedule| tokio::task::spawn_blocking(move || schedule.pace()));
    while let Some(ended) = workers.join_next().await {
        if let Err(panicked) = ended {
            shared.tally().error(panicked.to_string());
        }
    }
    if let Some(pacer) = pacer {
        pacer.await.expect("the pacer does not panic");
    }
    let schedule = schedule?;
    let mut tally = shared.tally();
    schedule.waited().for_each(|(wait, requests)| tally.waited(wait, requests));
    drop(tally);
    Some(schedule.offered())
}

async fn work<C: Caller>(mut caller: C, pace: Pace, shared: Shared) {
    while let Some((due, begun)) = pace.next().await {
        let ended = caller.call(begun).await;
        let now = Instant::now();
        shared.tally().record(due, begun, now, ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::workload::{Ended, Given};

    fn schedule(per_s: u32, warmup_ms: u64, duration_ms: u64) -> Schedule {
        let window = Window::now(Duration::from_millis(warmup_ms), Duration::from_millis(duration_ms));
        Schedule::new(window, per_s)
    }

    #[test]
    fn requests_are_due_evenly_from_the_start() {
        let schedule = schedule(3, 0, 2_000);
        let start = schedule.window.start;
        let due: Vec<_> = (0..4).map(|number| (schedule.due_at(number) - start).as_nanos()).collect();
        assert_eq!(due, [0, 333_333_333, 666_666_666, 1_000_000_000]);
        for number in 0..10_000 {
            let at = schedule.due_at(number);
            assert!(schedule.due_before(at) <= number, "{number} is not due before it is due");
            assert_eq!(schedule.due_before(at + Duration::from_nanos(1)), number + 1, "{number}");
        }
        assert_eq!(schedule.due_before(schedule.window.until), 6);
    }

    #[test]
    fn what_was_due_and_never_begun_is_counted() {
        let schedule = schedule(1_000, 100, 1_000);
        assert_eq!(schedule.offered(), Offered { per_s: 1_000, due: 1_000, not_started: 1_000 });
        schedule.begun.store(900, Ordering::Relaxed);
        assert_eq!(schedule.offered().not_started, 200);
        let waited: Vec<_> = schedule.waited().collect();
        assert_eq!((waited.len(), waited[0]), (200, (Duration::from_millis(200), 1)));
        schedule.begun.store(1_100, Ordering::Relaxed);
        assert_eq!(schedule.offered().not_started, 0);
    }

    #[test]
    fn very_many_waits_are_told_together_and_none_is_left_out() {
        let schedule = schedule(10_000_000, 0, 1_001);
        let waited: Vec<_> = schedule.waited().collect();
        assert!(waited.len() as u64 <= WAITS_TOLD_MAX);
        assert_eq!(waited.iter().map(|(_, requests)| requests).sum::<u64>(), schedule.offered().not_started);
    }

    /// A server that stands still once, as long as it is told.
    struct Stalls(Duration);

    impl Caller for Stalls {
        async fn call(&mut self, _: Instant) -> Ended {
            let stall = std::mem::take(&mut self.0);
            if !stall.is_zero() {
                tokio::time::sleep(stall).await;
            }
            Ended::at_once(Ok(Given::Read))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stall_shows_in_every_request_that_was_due_meanwhile() {
        let window = Window::now(Duration::ZERO, Duration::from_millis(600));
        let shared = Shared::new(window);
        let stall = Duration::from_millis(400);
        let offered = run(vec![Stalls(stall)], window, Some(1_000), &shared).await.unwrap();
        let tally = shared.take(window);
        assert_eq!(offered.due, 600);
        assert_eq!(tally.calls + offered.not_started, offered.due, "every request that was due is accounted for");
        // Those due in the first 200 ms waited 200 ms and more: a closed loop would tell of one slow call.
        let slow = tally.latency_us.count_between(200_000, u64::MAX);
        assert!(slow >= 150, "{slow}");
        assert_eq!(tally.latency_us.len(), offered.due);

        let window = Window::now(Duration::ZERO, Duration::from_millis(600));
        let shared = Shared::new(window);
        assert_eq!(run(vec![Stalls(stall)], window, None, &shared).await, None);
        assert_eq!(shared.take(window).latency_us.count_between(200_000, u64::MAX), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_no_worker_was_free_for_is_counted() {
        let window = Window::now(Duration::ZERO, Duration::from_millis(100));
        let shared = Shared::new(window);
        let stalls = Duration::from_secs(1);
        let offered = run(vec![Stalls(stalls), Stalls(stalls)], window, Some(1_000), &shared).await.unwrap();
        assert_eq!(offered, Offered { per_s: 1_000, due: 100, not_started: 98 });
        let tally = shared.take(window);
        assert_eq!((tally.calls, tally.latency_us.len()), (2, 100));
        let median = tally.latency_us.value_at_quantile(0.5);
        assert!(median.abs_diff(49_000) <= 2_000, "they waited since they were due: {median}");
    }
}
