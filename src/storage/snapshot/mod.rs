//! Snapshots of the state machine: one file each, complete and checked, or not there at all.
//!
//! A snapshot is written beside the older ones under another name and gets its own only when it is durable. One from
//! another node is received in the same way, and may be continued after an interruption. Nothing is taken from a file whose
//! checksums do not agree with its bytes.

mod blocks;
mod format;
mod memory;
mod paced;
mod reader;
mod receiver;
mod store;
mod writer;

use std::io;

pub use self::blocks::verify_file;
pub(super) use self::format::index_of;
pub use self::store::FileSnapshots;
pub(super) use self::store::verify_named;
use super::StorageError;
use crate::consensus::SnapshotMeta;

/// Where a node keeps its snapshots. Any thread may use it: one may write, another receive, others read.
pub trait SnapshotStore: Send + Sync {
    /// The snapshots that are complete, the newest last: their beginnings and ends were checked when the store was opened.
    /// One that [`verify`](SnapshotStore::verify) found damaged is not among them any more.
    fn list(&self) -> Vec<SnapshotInfo>;

    /// The newest of them.
    fn latest(&self) -> Option<SnapshotInfo> {
        self.list().pop()
    }

    /// Begins a snapshot of this node's own state.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): another one is being written. Otherwise the disk failed.
    fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError>;

    /// Opens a snapshot. It can be read to its end even if it is removed meanwhile.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): it is not there, or not any more; [`Damaged`](StorageError::Damaged): its
    /// beginning is; otherwise the disk failed.
    fn open(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotReader>, StorageError>;

    /// Reads a snapshot through and checks every byte. Do so before it is relied on, or sent: a damaged one is struck off,
    /// so that [`latest`](SnapshotStore::latest) is the one before it.
    ///
    /// # Errors
    /// As [`open`](SnapshotStore::open).
    fn verify(&self, meta: &SnapshotMeta) -> Result<(), StorageError>;

    /// Receives another node's snapshot, of a file of this size in bytes, or goes on where an earlier attempt ended, even
    /// one before a restart.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): another one is being received, or there is one that is as new already.
    /// Otherwise the disk failed.
    fn receive(&self, meta: &SnapshotMeta, bytes: u64) -> Result<Box<dyn SnapshotReceiver>, StorageError>;

    /// Removes all snapshots that are older than this one.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): this one is not there, and nothing is removed. Otherwise the disk failed.
    fn remove_older(&self, than: &SnapshotMeta) -> Result<(), StorageError>;
}

/// What there is to know of a complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// Size of its file in bytes.
    pub bytes: u64,
}

/// Takes the state machine's bytes. From time to time it waits for the disk, so that what is left for the end is little
/// and does not hold up the log. Dropped before it is finished, it leaves nothing.
pub trait SnapshotWriter: io::Write + Send {
    /// Completes the snapshot and makes it durable.
    ///
    /// # Errors
    /// The disk failed, now or earlier: there is no such snapshot.
    fn finish(self: Box<Self>) -> Result<SnapshotInfo, StorageError>;
}

/// Gives the state machine's bytes back, each only after it was checked. An error names the file and the place. Whoever
/// has read to the end knows that nothing was missing.
pub trait SnapshotReader: io::Read + Send {
    /// What it is.
    fn info(&self) -> &SnapshotInfo;

    /// Reads the file itself, for another node, from an offset on: as many bytes as there are, and fit. These are not
    /// checked; the receiver does that.
    ///
    /// # Errors
    /// The disk failed.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;
}

/// Takes the bytes of another node's snapshot file. Dropped before it is finished, it leaves what it has for the next
/// attempt; after an error it leaves nothing.
pub trait SnapshotReceiver: Send {
    /// How many bytes are there: the offset to go on from.
    fn received(&self) -> u64;

    /// Takes the bytes at this offset. What was received already is ignored.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): there is a gap before them, they do not fit into the file, or they are of
    /// another snapshot; what was received before stays. Otherwise the disk failed.
    fn write(&mut self, offset: u64, chunk: &[u8]) -> Result<(), StorageError>;

    /// Checks every byte, and makes the snapshot durable.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): bytes are missing, or a newer snapshot has come meanwhile;
    /// [`Damaged`](StorageError::Damaged): something changed on the way, and it has to be received anew. Otherwise the disk
    /// failed. There is no such snapshot.
    fn finish(self: Box<Self>) -> Result<SnapshotInfo, StorageError>;
}
