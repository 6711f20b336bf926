//! What a half of the journal held, on its way to the tables, while commits go to the other half.
//!
//! It is the store's own work, and never left undone: before that half is written again, and before anything else goes to
//! the log's tables, the store does it, or waits for whoever does. But it takes many times as long as a commit, so the store
//! offers it to another thread, see [`Store::fold`](super::Store::fold).

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use redb::Database;

use super::{
    error::StoreError,
    journal::Journaled,
    schema::{Body, RecordNumber},
    transact,
    write::Writer,
};
use crate::durable::Identity;

/// A piece of a store's work that may be done on any thread, beside its commits. Clones are the same piece.
#[derive(Clone)]
pub struct Fold(Arc<Mutex<State>>);

enum State {
    Due(Box<Work>),
    Over(Result<(), StoreError>),
}

/// What is to be done.
pub(super) struct Work {
    pub(super) database: Arc<Database>,
    pub(super) identity: Identity,
    /// Where the log is.
    pub(super) log: Body,
    pub(super) journaled: Journaled,
    /// The other half begins with this record.
    pub(super) first: RecordNumber,
}

impl Fold {
    pub(super) fn new(work: Work) -> Self {
        Self(Arc::new(Mutex::new(State::Due(Box::new(work)))))
    }

    /// Does it, unless it is done already; waits if it is being done. What came of it, the store says. Nothing of the store is
    /// open in it afterwards.
    pub fn run(&self) {
        let mut state = self.state();
        if let State::Due(work) = &*state {
            *state = State::Over(work.run());
        }
    }

    /// Waits if it is being done; if it is not yet, it never will be, and nothing of the store is open in it.
    pub(super) fn cancel(&self) {
        *self.state() = State::Over(Ok(()));
    }

    /// Does it or waits for it, and says what came of it: an error once, so whoever is told must keep it.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        self.run();
        match &mut *self.state() {
            State::Over(result) => std::mem::replace(result, Ok(())),
            State::Due(_) => unreachable!("it was done"),
        }
    }

    /// Why it failed, if that is known by now. Never waits.
    pub(super) fn failure(&self) -> Option<String> {
        match self.0.try_lock() {
            Ok(state) => match &*state {
                State::Over(result) => result.as_ref().err().map(ToString::to_string),
                State::Due(_) => None,
            },
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(_)) => Some("taking the journal over panicked".to_owned()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("whoever panicked in it told of it")
    }
}

impl Work {
    /// In one phase: should redb return to the state before, without a word, then what both halves hold follows on it, until
    /// this half is written again; and then the records do not follow, which is noticed.
    fn run(&self) -> Result<(), StoreError> {
        transact(&self.database, false, |transaction| {
            let mut writer = Writer::new(transaction, &self.identity)?;
            writer.fold(self.log, &self.journaled)?;
            writer.begin_records(self.first)
        })
    }
}
