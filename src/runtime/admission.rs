//! Who may still come in: the bounds on what waits in a node, and its closing time.
//!
//! Handles count commands in before they reach the loop, so that a full node says so at once, without a turn of the loop;
//! a [`Permit`] counts its command out again when it is dropped, wherever that happens.
//!
//! | bound | | |
//! |---|---|---|
//! | commands that wait for their answer | [`PENDING_COMMANDS_MAX`] unless told otherwise, [`PENDING_BYTES_MAX`] | |
//! | of one client | [`PENDING_PER_CLIENT_MAX`] | told by its authenticated name; all who have none are one client |
//! | second sends of a request that is open | [`RETRIES_MAX`] | beside the others, so a full node still tells what became of the first |
//!
//! All but the last are halved while a voter that lives is far behind. Reads, status and peers have queues of their own, so
//! none of them waits for a place here.
//!
//! What is behind the door is bounded elsewhere: the log that is not committed by the replica (16 MiB, then nothing is
//! proposed, so it is felt here); and what is committed and not applied by nothing, as the replica applies whatever is
//! committed before it takes its next input.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::batch::Measured;
use crate::{
    api::{NotApplied, TurnedAway},
    pool::{Actor, KeyOrigin},
};

/// Most commands that wait in a node for their answer, unless it is told otherwise.
pub const PENDING_COMMANDS_MAX: usize = 65_536;
/// Most bytes that they may have, encoded.
pub const PENDING_BYTES_MAX: usize = 16 << 20;
/// Most commands of one client among them. Clients without a name count as one.
pub const PENDING_PER_CLIENT_MAX: usize = 8_192;
/// Most second sends of requests that are open, which wait beside the others.
pub const RETRIES_MAX: usize = 8_192;
/// The hint to whoever is turned away before anything was measured, in milliseconds.
const RETRY_AFTER_MS_FIRST: u32 = 10;

/// The answer to whoever finds a queue full, or comes too late.
pub(super) fn overloaded(retry_after_ms: u32) -> NotApplied {
    NotApplied::Overloaded { retry_after_ms }
}

/// What all handles of a node share with its loop.
#[derive(Debug)]
pub(super) struct Admission {
    counts: Mutex<Counts>,
    closed: AtomicBool,
    closing: Notify,
}

#[derive(Debug)]
struct Counts {
    commands: usize,
    commands_max: usize,
    bytes: usize,
    /// By client; none are 0.
    clients: FxHashMap<Actor, usize>,
    retries: usize,
    is_halved: bool,
    retry_after_ms: u32,
    turned_away: TurnedAway,
}

impl Admission {
    /// Nobody is in yet, and so many commands may come.
    pub fn new(commands_max: usize) -> Self {
        let counts = Counts {
            commands: 0,
            commands_max,
            bytes: 0,
            clients: FxHashMap::default(),
            retries: 0,
            is_halved: false,
            retry_after_ms: RETRY_AFTER_MS_FIRST,
            turned_away: TurnedAway::default(),
        };
        Self { counts: Mutex::new(counts), closed: AtomicBool::new(false), closing: Notify::new() }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(PENDING_COMMANDS_MAX)
    }
}

/// A command's place among those that wait; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Among the commands.
    Waiting { actor: Actor, bytes: usize },
    /// Beside them: for a second send alone.
    Beside,
}

impl Counts {
    /// Is there no place for it? Says whose bound it meets.
    fn is_full(&mut self, actor: &Actor, bytes: usize) -> Option<&mut u64> {
        let share = if self.is_halved { 2 } else { 1 };
        let commands_max = (self.commands_max / share).max(1);
        if self.commands >= commands_max || self.bytes.saturating_add(bytes) > PENDING_BYTES_MAX / share {
            return Some(&mut self.turned_away.full);
        }
        let own = self.clients.get(actor).copied().unwrap_or_default();
        (own >= PENDING_PER_CLIENT_MAX / share).then_some(&mut self.turned_away.client_full)
    }

    fn enter(&mut self, actor: &Actor, bytes: usize) {
        self.commands += 1;
        self.bytes += bytes;
        *self.clients.entry(actor.clone()).or_default() += 1;
    }

    fn leave(&mut self, place: &Place) {
        let Place::Waiting { actor, bytes } = place else {
            self.retries -= 1;
            return;
        };
        self.commands -= 1;
        self.bytes -= bytes;
        let own = self.clients.get_mut(actor).expect("whoever leaves has entered");
        *own -= 1;
        if *own == 0 {
            self.clients.remove(actor);
        }
    }
}

impl Admission {
    /// Lets a command in. When there is no place, one under a caller's key may still come as a second send.
    pub fn enter(self: &Arc<Self>, command: &Measured) -> Result<Permit, NotApplied> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(NotApplied::Draining);
        }
        let (actor, bytes) = (&command.command.actor, command.bytes);
        let mut counts = self.counts();
        let retry_after_ms = counts.retry_after_ms;
        let has_room_beside = command.command.origin == KeyOrigin::Caller && counts.retries < RETRIES_MAX;
        let place = match counts.is_full(actor, bytes) {
            None => {
                counts.enter(actor, bytes);
                Place::Waiting { actor: actor.clone(), bytes }
            }
            Some(_) if has_room_beside => {
                counts.retries += 1;
                Place::Beside
            }
            Some(met) => {
                *met += 1;
                return Err(overloaded(retry_after_ms));
            }
        };
        Ok(Permit { admission: self.clone(), place })
    }

    /// Whether half as much is let in, and what whoever is turned away is told, from now on.
    pub fn set(&self, is_halved: bool, retry_after_ms: u32) {
        let mut counts = self.counts();
        (counts.is_halved, counts.retry_after_ms) = (is_halved, retry_after_ms);
    }

    /// What whoever is turned away is told.
    pub fn retry_after_ms(&self) -> u32 {
        self.counts().retry_after_ms
    }

    /// The commands that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        let counts = self.counts();
        (counts.commands, counts.bytes)
    }

    /// How many were turned away at the door.
    pub fn turned_away(&self) -> TurnedAway {
        self.counts().turned_away
    }

    /// Lets nobody in any more, and tells the loop.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Waits for [`Self::close`]; tells of it once. May be cancelled and called again.
    pub async fn closing(&self) {
        self.closing.notified().await;
    }

    /// Every change under the lock is whole, so a panic elsewhere leaves nothing half done.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Was it let in as a second send alone?
    pub fn is_beside(&self) -> bool {
        matches!(self.place, Place::Beside)
    }

    /// It turned out to be a second send, which waits beside the others if there is room.
    pub fn step_aside(&mut self) {
        let mut counts = self.admission.counts();
        if !self.is_beside() && counts.retries < RETRIES_MAX {
            counts.retries += 1;
            counts.leave(&std::mem::replace(&mut self.place, Place::Beside));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.counts().leave(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{Action, Command, PoolId, RequestKey},
        types::Millis,
    };

    /// A command of so many bytes, for all that counts here.
    fn command(actor: &str, bytes: usize, origin: KeyOrigin) -> Measured {
        let (pool, key) = (PoolId::default_pool(), RequestKey::new(Millis(1), [1; 10]));
        let actor = actor.parse().unwrap();
        let command = Command { pool, key, origin, actor, action: Action::Draw { count: 1 } };
        Measured { bytes, ..Measured::new(command).unwrap() }
    }

    fn keyless(actor: &str, bytes: usize) -> Measured {
        command(actor, bytes, KeyOrigin::Server)
    }

    fn admission() -> Arc<Admission> {
        Arc::default()
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let admission = admission();
        let most = admission.enter(&keyless("", PENDING_BYTES_MAX)).unwrap();
        assert_eq!(admission.enter(&keyless("", 1)).unwrap_err(), overloaded(RETRY_AFTER_MS_FIRST));
        assert_eq!((admission.waiting(), admission.turned_away().full), ((1, PENDING_BYTES_MAX), 1));
        drop(most);
        admission.enter(&keyless("", PENDING_BYTES_MAX)).unwrap();
    }

    #[test]
    fn commands_are_bounded_in_all_and_for_each_client() {
        let admission = admission();
        let mut permits = Vec::new();
        for client in 0..PENDING_COMMANDS_MAX / PENDING_PER_CLIENT_MAX {
            let command = keyless(&client.to_string(), 1);
            permits.extend((0..PENDING_PER_CLIENT_MAX).map(|_| admission.enter(&command).unwrap()));
            if client == 0 {
                admission.enter(&command).unwrap_err();
                assert_eq!(admission.turned_away().client_full, 1, "others still come in");
            }
        }
        admission.enter(&keyless("another", 1)).unwrap_err();
        assert_eq!(admission.turned_away().full, 1);
        drop(permits);
        assert_eq!(admission.waiting(), (0, 0));
        assert!(admission.counts().clients.is_empty(), "names are not kept");
    }

    #[test]
    fn where_one_may_wait_one_comes_in_halved_or_not() {
        let admission = Arc::new(Admission::new(1));
        for is_halved in [false, true] {
            admission.set(is_halved, 10);
            let _one = admission.enter(&keyless("ada", 1)).unwrap();
            admission.enter(&keyless("another", 1)).unwrap_err();
        }
    }

    #[test]
    fn who_has_no_name_is_one_client() {
        let admission = admission();
        let _permits: Vec<_> = (0..PENDING_PER_CLIENT_MAX).map(|_| admission.enter(&keyless("", 1)).unwrap()).collect();
        admission.enter(&keyless("", 1)).unwrap_err();
        admission.enter(&keyless("ada", 1)).unwrap();
    }

    #[test]
    fn while_halved_half_as_many_come_in_and_nobody_is_thrown_out() {
        let admission = admission();
        let most = admission.enter(&keyless("", PENDING_BYTES_MAX)).unwrap();
        admission.set(true, 250);
        assert_eq!(admission.enter(&keyless("", 1)).unwrap_err(), overloaded(250));
        drop(most);
        let half = admission.enter(&keyless("", PENDING_BYTES_MAX / 2)).unwrap();
        admission.enter(&keyless("", 1)).unwrap_err();
        drop(half);
        let _half: Vec<_> =
            (0..PENDING_PER_CLIENT_MAX / 2).map(|_| admission.enter(&keyless("", 1)).unwrap()).collect();
        admission.enter(&keyless("", 1)).unwrap_err();
        admission.set(false, 10);
        admission.enter(&keyless("", 1)).unwrap();
    }

    #[test]
    fn a_second_send_waits_beside_the_others_and_is_bounded_too() {
        let admission = admission();
        let keyed = command("", 1, KeyOrigin::Caller);
        let mut first = admission.enter(&keyed).unwrap();
        first.step_aside();
        assert!(first.is_beside());
        assert_eq!(admission.waiting(), (0, 0), "its place is free");
        drop(first);
        let _full = admission.enter(&keyless("", PENDING_BYTES_MAX)).unwrap();
        let beside: Vec<_> = (0..RETRIES_MAX).map(|_| admission.enter(&keyed).unwrap()).collect();
        assert!(beside.iter().all(Permit::is_beside));
        admission.enter(&keyed).unwrap_err();
        admission.enter(&keyless("", 1)).unwrap_err();
        drop(beside);
        admission.enter(&keyed).unwrap();
    }

    #[test]
    fn nobody_enters_after_closing() {
        let admission = admission();
        admission.close();
        assert_eq!(admission.enter(&keyless("", 1)).unwrap_err(), NotApplied::Draining);
    }
}
