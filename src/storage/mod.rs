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
pub mod inspect;
mod memory;
mod peers;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod wal;
mod whole;

use std::sync::Arc;
use std::time::Duration;

pub use self::error::StorageError;
pub use self::file::{FileStorage, OpenOptions};
pub(crate) use self::identity::random;
pub use self::identity::{Life, Lineage, REMEMBERED_BOOTS, Start, cluster_id};
pub use self::memory::InMemoryStorage;
pub use self::peers::PeerMemory;
use self::snapshot::SnapshotStore;
use crate::consensus::{Entry, EntryHeader, HardState, Index, SnapshotMeta, Term};

/// Where a node keeps what must survive a crash.
///
/// The contract: after [`sync`](Storage::sync) returned `Ok`, everything written before it survives any crash. After
/// any error but [`Full`](StorageError::Full) the storage accepts nothing more: the node stops, and a restart reads what
/// is really on the disk.
///
/// [`conformance`] holds any implementation to it.
pub trait Storage: Send {
    /// What was found when the storage was opened. Called once, before anything is written. Hands out the log's entries
    /// without payloads, one by one and in order, so that a log of any size is read in bounded memory.
    ///
    /// # Errors
    /// The disk failed, or does not hold what was written. A storage may refuse to be asked again.
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError>;

    /// Writes one unit, without waiting for the disk. After a crash it is there as a whole or not at all, and only if all
    /// that was written before it is.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused) if the entries do not follow the log's last or each other, or have not the size
    /// they say: a defect of the caller. [`Full`](StorageError::Full): this unit is not written, those before it are; it
    /// may be written again.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError>;

    /// Makes everything written so far durable: one wait for the disk, however much that is.
    ///
    /// # Errors
    /// [`Full`](StorageError::Full): nothing since the last sync counts as durable, none of it is lost, and the sync may
    /// be tried again.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Forgets the entries below `keep_from`, or as many of them as is convenient. A snapshot that covers them must be
    /// durable already.
    fn compact(&mut self, keep_from: Index) -> Result<(), StorageError>;

    /// A chance to do chores, a short one at a time, while nothing is queued and everything is synced. Returns after what
    /// time without a write to call again: zero for at once, `None` for not before the next write.
    fn idle(&mut self) -> Result<Option<Duration>, StorageError> {
        Ok(None)
    }

    /// The end of an orderly stop, when everything is synced.
    fn close(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// A reader of the log that any thread may use. It sees what was written, synced or not.
    fn reader(&self) -> Arc<dyn LogReader>;

    /// Where the node's snapshots are. Any thread may use it.
    fn snapshots(&self) -> Arc<dyn SnapshotStore>;
}

/// Reads entries back: for followers that lag, and for the state machine after a restart.
pub trait LogReader: Send + Sync {
    /// The entries from `first` to at most `last`, in order: as many as have no more than `max_bytes` of payload together,
    /// but always the first. Empty if `first` is not in the log, or not any more. All of them are from one and the same
    /// log, even if entries are removed meanwhile.
    ///
    /// # Errors
    /// The disk failed, or does not hold what was written.
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError>;
}

/// One unit to write: carries out hard state, snapshot, truncation and append, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// New term and vote.
    pub hard_state: Option<HardState>,
    /// Replace the whole log by this snapshot, which must be durable already: the log begins anew after it.
    pub install: Option<SnapshotMeta>,
    /// Remove the entries from here on. No effect beyond the log's last, nor on those forgotten already.
    pub truncate_from: Option<Index>,
    /// Append these, consecutive, the first right after the log's last.
    pub entries: Vec<Entry>,
}

impl WriteBatch {
    /// The last index of a log that began after `base` and ended with `last`, once this is written: what every storage
    /// checks before it writes.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): the entries do not follow each other, or are not of the size they say.
    pub fn last_after(&self, base: Index, last: Index) -> Result<Index, StorageError> {
        let (base, last) = self.install.as_ref().map_or((base, last), |snapshot| (snapshot.index, snapshot.index));
        let mut last = self.truncate_from.map_or(last, |from| last.min(from.prev().max(base)));
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
    /// Index and term of the entry before the log's first: (0, 0) until the log was compacted or replaced.
    pub base: (Index, Term),
    /// The log's last index; that of `base` if it has no entries.
    pub last: Index,
    /// What was cut off the end, in words, when the last write had been interrupted.
    pub repaired: Option<String>,
}

impl Recovered {
    /// Checks that there is a snapshot of whatever is not in the log any more.
    ///
    /// # Errors
    /// [`Damaged`](StorageError::Damaged): entries are missing.
    pub fn check(&self) -> Result<(), StorageError> {
        let covered = self.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        if self.base.0 <= covered {
            return Ok(());
        }
        let snapshot = match &self.snapshot {
            Some(snapshot) => format!("the latest snapshot ends with entry {}", snapshot.index),
            None => "there is no snapshot".into(),
        };
        Err(StorageError::Damaged(format!(
            "the log begins after entry {}, but {snapshot}: files of the data folder are missing. The node does not go on, \
             rather than lose data; the cluster does as long as a majority of its nodes runs. Put back what is missing, or \
             a copy of this folder made after the node last ran",
            self.base.0
        )))
    }
}
