//! Where a store stands: as much of it in memory as the next change is checked against.

use super::{check::Tail, error::StoreError, schema::Newest, staging::Staged};
use crate::durable::Founders;

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

    /// So much of a body is staged now. Only a founded store has any.
    pub(super) fn set_staged(&mut self, staged: Staged) {
        if let Self::Founded(founded) = self {
            founded.staged = Some(staged);
        }
    }
}
