//! Why a store could not be opened or written: what happened, why, and what to do next.

use std::{io, path::PathBuf};

use super::schema::FORMAT;
use crate::types::{ClusterId, ReplicaId, ShardId};

/// The store, or its directory, refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error("{} is in use by {}: a replica runs once; stop that process, or name another data directory", directory.display(), holder(.process))]
    Locked {
        /// The replica's directory.
        directory: PathBuf,
        /// The process that holds it, if it left its number.
        process: Option<u32>,
    },
    /// Other users of the machine can get at the directory.
    #[error("{} can be read or written by other users (mode {mode:03o}): the store holds keys of draws; run `chmod -R go= {}` and start again", directory.display(), directory.display())]
    Exposed {
        /// The replica's directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The store belongs to another cluster.
    #[error(
        "the store belongs to cluster {found}, and the configuration says cluster {wanted}: correct the cluster id, or name the data directory of that cluster"
    )]
    OtherCluster {
        /// The store's.
        found: ClusterId,
        /// The configuration's.
        wanted: ClusterId,
    },
    /// The store holds another shard.
    #[error("the store holds shard {found}, and shard {wanted} was asked for: name the data directory of that shard")]
    OtherShard {
        /// The store's.
        found: ShardId,
        /// The one asked for.
        wanted: ShardId,
    },
    /// The store belongs to another replica.
    #[error(
        "the store belongs to replica {found}, and the configuration says replica {wanted}: a replica never takes over another one's store; correct the replica id, or name its own data directory"
    )]
    OtherReplica {
        /// The store's.
        found: ReplicaId,
        /// The configuration's.
        wanted: ReplicaId,
    },
    /// The store's format is none that this build reads.
    #[error(
        "the store has format {found}; tombola {} reads formats {FORMAT} to {FORMAT}: start the build that wrote it, or a newer one; nothing was changed",
        env!("CARGO_PKG_VERSION")
    )]
    Format {
        /// The store's format.
        found: String,
    },
    /// What the store holds cannot have been written so.
    #[error(
        "the store is damaged: {0}; a replica that may have lost a vote or an acknowledged entry must not go on: keep its directory for inspection and replace the replica under a new id"
    )]
    Damaged(String),
    /// The operating system refused.
    #[error("cannot {doing}: {source}; check the path, its owner and the free space, then start again")]
    Io {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// redb or its disk failed.
    #[error(
        "reading or writing the store failed: {0}; what was not acknowledged may be lost, what was is not: check the disk and its free space, then start the node again"
    )]
    Backend(redb::Error),
    /// A WriteSet, or a founding step, that no correct replica makes. Nothing of its transaction was written.
    #[error(
        "the store refused a write that would break it: {0}; this is a defect of tombola: keep the log and report it"
    )]
    Refused(String),
    /// A commit failed before: whether it is on the disk is unknown, so nothing may follow it.
    #[error("the store failed before ({0}): it takes nothing more until the node is started again")]
    Failed(String),
}

fn holder(process: &Option<u32>) -> String {
    process.map_or_else(|| "another process".into(), |process| format!("process {process}"))
}

impl StoreError {
    /// The stable code, as in `error[CODE]` on a terminal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "STORE_LOCKED",
            Self::Exposed { .. } => "STORE_EXPOSED",
            Self::OtherCluster { .. } => "STORE_OTHER_CLUSTER",
            Self::OtherShard { .. } => "STORE_OTHER_SHARD",
            Self::OtherReplica { .. } => "STORE_OTHER_REPLICA",
            Self::Format { .. } => "STORE_FORMAT",
            Self::Damaged(_) => "STORE_DAMAGED",
            Self::Io { .. } | Self::Backend(_) => "STORE_IO",
            Self::Refused(_) => "STORE_REFUSED",
            Self::Failed(_) => "STORE_FAILED",
        }
    }

    pub(super) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}

impl From<redb::Error> for StoreError {
    /// Tells damage from a failing disk: a table that is gone, a page whose checksum is wrong, a file that is too short
    /// or no redb file at all are what the disk holds, not what it does.
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::UpgradeRequired(version) => Self::Format { found: format!("redb {version}") },
            redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_) => Self::Damaged(error.to_string()),
            redb::Error::Io(ref io)
                if matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged(error.to_string())
            }
            other => Self::Backend(other),
        }
    }
}

macro_rules! through_redb_error {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })+
    };
}

through_redb_error!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// A replica's directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("data directory {}: {error}", directory.display())]
pub struct OpenError {
    /// The replica's directory.
    pub directory: PathBuf,
    /// What is wrong with it.
    #[source]
    pub error: StoreError,
}

impl OpenError {
    /// The stable code, as in `error[CODE]` on a terminal.
    pub fn code(&self) -> &'static str {
        self.error.code()
    }
}
