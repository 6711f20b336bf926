//! Where a store stands: as much of it in memory as the next change is checked against.

use super::{check::Tail, error::StoreError, is_promise, schema::Newest, staging::Staged};
use crate::{
    durable::{Founders, WriteSet},
    hooks,
};

/// How far a store has come.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Not founded; perhaps bound to certain founders.
    Unfounded(Option<Founders>),
    /// Founded.
    Founded(Box<Founded>),
}

/// Where a founded store stands.
#[derive(Clone, Debug)]
pub(super) struct Founded {
    /// The log's shape.
    pub(super) tail: Tail,
    /// The newest snapshot, as on the disk.
    pub(super) newest: Newest,
    /// The body that this process stages. What an earlier one had begun is known to the disk alone.
    pub(super) staged: Option<Staged>,
}

impl Standing {
    /// The store, founded; or a refusal.
    pub(super) fn founded(&self) -> Result<&Founded, StoreError> {
        match self {
            Self::Founded(founded) => Ok(founded),
            Self::Unfounded(_) => Err(StoreError::Refused("it is not founded yet".into())),
        }
    }

    /// The log's shape after these WriteSets, if they do nothing but lengthen it and move what is committed. `None` if they
    /// do more, or hold a promise.
    pub(super) fn lengthened(&self, sets: &[WriteSet]) -> Result<Option<Tail>, StoreError> {
        let Self::Founded(founded) = self else { return Ok(None) };
        let mut tail = founded.tail;
        for set in sets {
            let is_at_end = set.entries.first().is_none_or(|first| first.index == tail.last.0.next());
            if is_promise(set) || !is_at_end {
                return Ok(None);
            }
            set.entries.iter().try_for_each(|entry| tail.append(entry)).map_err(StoreError::Refused)?;
            set.hard_state.map_or(Ok(()), |new| tail.promise(new)).map_err(StoreError::Refused)?;
            if !hooks::is_planted("m20") {
                tail.check().map_err(StoreError::Refused)?;
            }
        }
        Ok(Some(tail))
    }

    /// The log has this shape now.
    pub(super) fn set_tail(&mut self, tail: Tail) {
        if let Self::Founded(founded) = self {
            founded.tail = tail;
        }
    }

    /// So much of a body is staged now. Only a founded store has any.
    pub(super) fn set_staged(&mut self, staged: Staged) {
        if let Self::Founded(founded) = self {
            founded.staged = Some(staged);
        }
    }
}
