//! Why storage cannot go on, in words for people.

use std::fmt::Display;
use std::io;
use std::path::Path;

/// Why the storage cannot go on. The message says what happened, in which file and where, what was expected and found,
/// and what to do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StorageError {
    /// An input or output operation failed.
    #[error("{0}")]
    Io(String),
    /// The disk is full, or the quota used up. Nothing is lost, and the same operation may be tried again.
    #[error("{0}")]
    Full(String),
    /// Bytes on the disk are not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The folder belongs to another node, another process or another version; or the request makes no sense.
    #[error("{0}")]
    Refused(String),
}

impl StorageError {
    /// An operation on a file failed. `doing` completes the sentence "cannot ...".
    pub(super) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return StorageError::Full(format!(
                "cannot {doing} {}: {error}. Make room on the disk, or raise the quota",
                path.display()
            ));
        }
        StorageError::Io(format!(
            "cannot {doing} {}: {error}. Check the disk, the space left on it and the folder's permissions, then start \
             the node again: it goes on from what is really on the disk",
            path.display()
        ))
    }

    /// The error of an operation that must not be tried again, whatever the reason.
    pub(super) fn into_final(self) -> Self {
        match self {
            StorageError::Full(message) => StorageError::Io(message),
            other => other,
        }
    }

    /// Whether the same operation may be tried again.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::Full(_))
    }

    /// A file does not hold what it must.
    pub(super) fn damaged(path: &Path, offset_bytes: u64, expected: impl Display, found: impl Display) -> Self {
        StorageError::Damaged(format!(
            "{} is damaged at offset {offset_bytes}: expected {expected}, found {found}. The node does not go on, rather \
             than lose or invent data; the cluster does as long as a majority of its nodes runs. Check the disk, and put \
             back a copy of this folder made after the node last ran. Neither an older copy nor an empty folder will do: \
             the node would forget votes it cast and entries it acknowledged. If there is no such copy, move the folder \
             away and start the node once with --rejoin: it receives everything again, but neither votes nor counts",
            path.display()
        ))
    }
}
