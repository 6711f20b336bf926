//! The calls of one link: those that wait to be written, those that were, and who waits for their replies.
//!
//! A call is encoded when it is made, behind those that wait already. The writer takes as many as fit into one frame, and
//! the next ones when that frame is on its way: whether a call *left* is decided then, under the lock, and not before. Who
//! gave up earlier is passed over by the writer, so the call surely was not applied; later it may have been.
//!
//! **One timer for all.** The sweeper sleeps until the earliest deadline that it knows, then looks at every caller, lets go
//! whose time is over, and finds the earliest deadline among the others. As calls come with deadlines in about the order
//! in which they are made, that is one look in an attempt's time rather than a timer for every call; and an earlier
//! deadline wakes the sweeper, so that nobody waits longer than with a timer of its own.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep_until, timeout_at},
};

use super::{
    Call, ClientFrame, ClientReply,
    wire::{Frame, FrameBuilder},
};
use crate::codec;

/// Calls waiting for the writer; beyond them callers wait.
const QUEUE_CALLS_MAX: usize = 4_096;
/// Room in a frame for what is not a call.
const FRAME_OVERHEAD_BYTES: usize = 64;
/// The longest call in bytes that a node would accept.
pub(super) const CALL_BYTES_MAX: usize = ClientFrame::BYTES_MAX - FRAME_OVERHEAD_BYTES;
/// A call's number and timeout, in front of it.
const CALL_HEAD_BYTES: usize = size_of::<u64>() + size_of::<u32>();

/// Why a call on a link has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// It is so many bytes long, more than [`CALL_BYTES_MAX`].
    TooLong(usize),
    /// It never left; the reason in words.
    NotSent(String),
    /// One side does not accept the other's certificate, or its protocol: whatever left was not looked at. Why, in words.
    Refused(String),
    /// It left, and the link was lost.
    Lost,
    /// It left, and time ran out.
    TimedOut,
}

/// How a link ended, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// One side does not accept the other. Nothing that was sent was looked at.
    Refused(String),
    /// Otherwise.
    Failed(String),
}

/// What the callers of a link, its writer, its reader and its sweeper share.
#[derive(Debug)]
pub(super) struct Calls {
    table: Mutex<Table>,
    /// A permit for each call that may be added to those that wait. Closed when the link ends.
    room: Semaphore,
    /// Calls wait, where none did; or nobody will make one any more.
    work: Notify,
    /// There is a deadline before the sweeper's next look.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By the number of their call.
    callers: FxHashMap<u64, Caller>,
    /// Calls that wait, encoded, one behind the other,
    waiting: Vec<u8>,
    /// and the number and length in bytes of each.
    parts: VecDeque<(u64, usize)>,
    next_id: u64,
    /// When the sweeper looks next; `None` while nobody waits.
    look_at: Option<Instant>,
    /// Nobody will make a call any more.
    is_closed: bool,
    end: Option<End>,
}

/// Who waits for a reply.
#[derive(Debug)]
struct Caller {
    deadline: Instant,
    waker: Waker,
    /// The writer took the call.
    left: bool,
    /// Its time is over.
    is_late: bool,
    reply: Option<ClientReply>,
}

impl Default for Calls {
    fn default() -> Self {
        let (work, earlier) = Default::default();
        Self { table: Mutex::default(), room: Semaphore::new(QUEUE_CALLS_MAX), work, earlier }
    }
}

impl Calls {
    /// Makes a call and waits for its reply until `deadline`; the node is given `node_timeout`. Whoever drops the future
    /// gives up: a call that was not taken by the writer until then never leaves.
    pub(super) async fn call(
        &self,
        call: &Call,
        node_timeout: Duration,
        deadline: Instant,
    ) -> Result<ClientReply, NoReply> {
        let room = match self.room.try_acquire() {
            Ok(room) => Ok(room),
            // Boxed, as it is rare, and the future of a call is kept small.
            Err(_) => match Box::pin(timeout_at(deadline.into(), self.room.acquire())).await {
                Ok(Ok(room)) => Ok(room),
                // Closed, or too late.
                _ => Err(self.table().no_reply(false, true)),
            },
        };
        room?.forget();
        let timeout_ms = u32::try_from(node_timeout.as_millis()).unwrap_or(u32::MAX);
        Exchange { calls: self, call, timeout_ms, deadline, id: None }.await
    }

    /// Has the link ended? Then no call will be answered any more.
    pub(super) fn is_ended(&self) -> bool {
        self.room.is_closed()
    }

    /// Nobody will make a call any more.
    pub(super) fn close(&self) {
        self.table().is_closed = true;
        self.work.notify_one();
    }

    /// The link ended: whoever waits is told so.
    pub(super) fn end(&self, end: End) {
        let mut table = self.table();
        assert!(table.end.is_none(), "a link ends once");
        table.end = Some(end);
        let wakers: Vec<_> = table.callers.values().map(|caller| caller.waker.clone()).collect();
        drop(table);
        self.room.close();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for calls to write; false if there will be none any more.
    pub(super) async fn wait(&self) -> bool {
        loop {
            let (is_idle, is_closed) = {
                let table = self.table();
                (table.parts.is_empty(), table.is_closed)
            };
            if !is_idle || is_closed {
                return !is_idle;
            }
            self.work.notified().await;
        }
    }

    /// As many of the waiting calls as fit into one frame; `None` if none waits. They have left now.
    pub(super) fn next_frame(&self) -> Option<Vec<u8>> {
        let (mut done, mut taken) = (0, 0);
        let mut table = self.table();
        let mut frame = FrameBuilder::<ClientFrame>::with_room(table.waiting.len());
        let Table { callers, waiting, parts, .. } = &mut *table;
        while let Some(&(id, bytes)) = parts.front() {
            // Who gave up is not there any more, or about to go.
            if let Some(caller) = callers.get_mut(&id).filter(|caller| !caller.is_late) {
                if !frame.push_encoded(&waiting[taken..taken + bytes]) {
                    break;
                }
                caller.left = true;
            }
            (done, taken) = (done + 1, taken + bytes);
            parts.pop_front();
        }
        waiting.drain(..taken);
        if waiting.is_empty() && waiting.capacity() > ClientFrame::BYTES_MAX {
            *waiting = Vec::new();
        }
        drop(table);
        self.room.add_permits(done);
        frame.finish()
    }

    /// Gives replies to their callers. One that nobody waits for, or of a number never given out, is dropped.
    pub(super) fn deliver(&self, replies: Vec<ClientReply>) {
        let mut wakers = Vec::with_capacity(replies.len());
        let mut table = self.table();
        for reply in replies {
            if let Some(caller) = table.callers.get_mut(&reply.id) {
                wakers.push(std::mem::replace(&mut caller.waker, Waker::noop().clone()));
                caller.reply = Some(reply);
            }
        }
        drop(table);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets everybody go whose time is over. Never ends.
    pub(super) async fn sweep(&self) {
        loop {
            let look_at = self.table().look_at;
            let look = async {
                match look_at {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.earlier.notified() => {}
                () = look => self.let_go(tokio::time::Instant::now().into_std()),
            }
        }
    }

    /// Lets those go whose time is over `now`.
    fn let_go(&self, now: Instant) {
        let mut wakers = Vec::new();
        let mut table = self.table();
        let mut next: Option<Instant> = None;
        table.callers.values_mut().filter(|caller| !caller.is_late && caller.reply.is_none()).for_each(|caller| {
            caller.is_late = caller.deadline <= now;
            if caller.is_late {
                wakers.push(caller.waker.clone());
            } else {
                next = Some(next.map_or(caller.deadline, |next| next.min(caller.deadline)));
            }
        });
        table.look_at = next;
        drop(table);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }
}

impl Table {
    /// Why there is no reply to a call.
    fn no_reply(&self, left: bool, is_late: bool) -> NoReply {
        match &self.end {
            Some(End::Refused(why)) => NoReply::Refused(why.clone()),
            Some(End::Failed(why)) if !left => NoReply::NotSent(why.clone()),
            None if !left => NoReply::NotSent("it could not be sent in time".to_owned()),
            _ if is_late => NoReply::TimedOut,
            _ => NoReply::Lost,
        }
    }
}

/// A call and the wait for its reply: there is room for it. The first poll makes the call.
struct Exchange<'a> {
    calls: &'a Calls,
    call: &'a Call,
    /// What the node is given, in milliseconds.
    timeout_ms: u32,
    deadline: Instant,
    /// The call's number; `None` before it is made and after it has ended.
    id: Option<u64>,
}

impl Exchange<'_> {
    /// Puts the call behind those that wait.
    fn make(&mut self, waker: &Waker) -> Result<(), NoReply> {
        let mut table = self.calls.table();
        if table.end.is_some() {
            return Err(table.no_reply(false, false));
        }
        let (id, before) = (table.next_id, table.waiting.len());
        codec::encode_into(&(id, self.timeout_ms, self.call), &mut table.waiting);
        let bytes = table.waiting.len() - before;
        if bytes > CALL_HEAD_BYTES + CALL_BYTES_MAX {
            table.waiting.truncate(before);
            self.calls.room.add_permits(1);
            return Err(NoReply::TooLong(bytes - CALL_HEAD_BYTES));
        }
        table.next_id += 1;
        let is_first = table.parts.is_empty();
        table.parts.push_back((id, bytes));
        let deadline = self.deadline;
        let caller = Caller { deadline, waker: waker.clone(), left: false, is_late: false, reply: None };
        table.callers.insert(id, caller);
        let is_earlier = table.look_at.is_none_or(|at| deadline < at);
        if is_earlier {
            table.look_at = Some(deadline);
        }
        drop(table);
        self.id = Some(id);
        if is_first {
            self.calls.work.notify_one();
        }
        if is_earlier {
            self.calls.earlier.notify_one();
        }
        Ok(())
    }
}

impl Future for Exchange<'_> {
    type Output = Result<ClientReply, NoReply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(id) = self.id else {
            return match self.make(context.waker()) {
                Ok(()) => Poll::Pending,
                Err(why) => Poll::Ready(Err(why)),
            };
        };
        let mut table = self.calls.table();
        let has_ended = table.end.is_some();
        let caller = table.callers.get_mut(&id).expect("only its exchange takes a caller out");
        if caller.reply.is_none() && !caller.is_late && !has_ended {
            let same = caller.waker.will_wake(context.waker());
            let before = (!same).then(|| std::mem::replace(&mut caller.waker, context.waker().clone()));
            // What is dropped with a waker may want the lock.
            drop(table);
            drop(before);
            return Poll::Pending;
        }
        let caller = table.callers.remove(&id).expect("it was there");
        let reply = caller.reply.ok_or_else(|| table.no_reply(caller.left, caller.is_late));
        drop(table);
        self.id = None;
        Poll::Ready(reply)
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Dropped after the lock: what goes with its waker may want it.
            let _gone = self.calls.table().callers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
