//! Durable memory of one node: its term and vote, its log.
//!
//! Writing belongs to one thread, the storage stage, through [`Storage`]. Reading belongs to anyone, through the
//! [`LogReader`] that [`Storage::reader`] hands out.

mod collect;
pub mod conformance;
mod error;
mod fields;
mod file;
pub mod files;
mod identity;
mod memory;
mod peers;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod wal;
mod whole;

use std::sync::Arc;

pub use self::error::StorageError;
pub use self::file::{FileStorage, OpenOptions};
pub use self::identity::{Life, cluster_id};
pub use self::memory::InMemoryStorage;
pub use self::peers::{PeerMemory, Start};
use crate::consensus::{Entry, EntryHeader, HardState, Index, SnapshotMeta};

/// Where a node keeps what must survive a crash.
///
/// The contract: after [`sync`](Storage::sync) returned `Ok`, everything written before it survives any crash. After
/// any error the storage accepts nothing more: the node stops, and a restart reads what is really on the disk.
pub trait Storage: Send {
    /// What was found when the storage was opened. Called once, before anything is written.
    ///
    /// # Errors
    /// A storage may refuse to be asked again.
    fn recover(&mut self) -> Result<Recovered, StorageError>;

    /// Writes one unit, without waiting for the disk. After a crash it is there as a whole or not at all, and only if all
    /// that was written before it is.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused) if the entries do not follow the log's last or each other, or have not the size
    /// they say: a defect of the caller.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError>;

    /// Makes everything written so far durable: one wait for the disk, however much that is.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// A reader of the log that any thread may use. It sees what was written, synced or not.
    fn reader(&self) -> Arc<dyn LogReader>;
}

/// Reads entries back: for followers that lag, and for the state machine after a restart.
pub trait LogReader: Send + Sync {
    /// The entries from `first` to at most `last`, in order: as many as have no more than `max_bytes` of payload together,
    /// but always the first. Empty if `first` is not in the log. All of them are from one and the same log, even if
    /// entries are removed meanwhile.
    ///
    /// # Errors
    /// The disk failed, or does not hold what was written.
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError>;
}

/// One unit to write: carries out hard state, truncation and append, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// New term and vote.
    pub hard_state: Option<HardState>,
    /// Remove the entries from here on. No effect beyond the log's last.
    pub truncate_from: Option<Index>,
    /// Append these, consecutive, the first right after the log's last.
    pub entries: Vec<Entry>,
}

impl WriteBatch {
    /// The last index of a log that ended with `last`, once this is written.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): the entries do not follow each other, or are not of the size they say.
    fn last_after(&self, last: Index) -> Result<Index, StorageError> {
        let mut last = self.truncate_from.map_or(last, |from| last.min(from.prev()));
        for Entry { header, payload } in &self.entries {
            let (expected, size) = (last.next(), payload.len());
            if header.index != expected || header.size as usize != size {
                let (index, stated) = (header.index, header.size);
                return Err(StorageError::Refused(format!(
                    "cannot append entry {index} of {stated} bytes: expected entry {expected}, and its payload has {size} \
                     bytes. This is a defect of the program: please report it"
                )));
            }
            last = expected;
        }
        Ok(last)
    }
}

/// What a node finds when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote; the default if none was ever written.
    pub hard_state: HardState,
    /// The latest snapshot, if there is one.
    pub snapshot: Option<SnapshotMeta>,
    /// Every entry of the log after the snapshot, without payloads, in order.
    pub headers: Vec<EntryHeader>,
    /// What was cut off the end, in words, when the last write had been interrupted.
    pub repaired: Option<String>,
}
