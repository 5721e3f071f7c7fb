//! The write-ahead log: term and vote, entries and truncations, in the order in which they happened.
//!
//! What is written is gathered in memory, and [`sync`](Wal::sync) puts it into the file as one batch with one write and
//! one fdatasync. So however many units the caller gathers, a group costs the disk the same, and there is never more than
//! one batch that a crash may tear. Readers find what is not yet in the file in the index.

mod format;
mod index;
mod reader;
mod recovery;
mod segment;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::format::{BatchEncoder, SMALL_RECORD_BYTES, SegmentHeader, entry_record_bytes, salt};
use self::index::Position;
use self::reader::{SharedIndex, WalReader};
use self::segment::Segment;
pub use self::segment::is_segment;
use super::files::Files;
use super::{LogReader, Recovered, StorageError, WriteBatch};
use crate::consensus::{HardState, Index};

/// Largest segment, and largest unit: the length of a batch has 32 bits.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The log of one data folder.
pub struct Wal {
    files: Arc<dyn Files>,
    folder: PathBuf,
    incarnation: u64,
    segment_bytes: u64,
    index: SharedIndex,
    /// Where the group under way will go.
    segment: Segment,
    /// The group under way.
    encoder: BatchEncoder,
    hard_state: HardState,
    last: Index,
    /// The first error: nothing is written after it.
    failed: Option<StorageError>,
}

impl Wal {
    /// Makes the empty log of a new folder, durably, in place of one that was never used.
    pub fn create(files: &dyn Files, folder: &Path, incarnation: u64) -> Result<(), StorageError> {
        let hard_state = HardState::default();
        let header =
            SegmentHeader { incarnation, number: 1, first_index: Index(1), first_batch: 1, hard_state, previous: 0 };
        Segment::create(files, folder, &header).map(drop)
    }

    /// Reads the log, cuts off what an interrupted last write left behind, and makes the rest durable.
    pub fn open(
        files: Arc<dyn Files>,
        folder: &Path,
        incarnation: u64,
        segment_bytes: u64,
    ) -> Result<(Wal, Recovered), StorageError> {
        let replayed = recovery::replay(&*files, folder, incarnation)?;
        let segment = Segment::reopen(&*files, folder, replayed.segment, replayed.end, replayed.torn.is_some())?;
        let wal = Wal {
            files,
            folder: folder.to_path_buf(),
            incarnation,
            segment_bytes: segment_bytes.min(MAX_SEGMENT_BYTES),
            last: replayed.index.last(),
            index: SharedIndex::new(replayed.index),
            segment,
            encoder: BatchEncoder::new(replayed.batch + 1, replayed.chain, salt(incarnation)),
            hard_state: replayed.hard_state,
            failed: None,
        };
        let recovered = Recovered {
            hard_state: replayed.hard_state,
            snapshot: None,
            headers: replayed.headers,
            repaired: replayed.torn,
        };
        Ok((wal, recovered))
    }

    /// Adds a unit to the group under way.
    pub fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        self.unless_failed(|wal| wal.add(batch))
    }

    /// Writes the group under way and waits for the disk.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.unless_failed(Wal::flush)
    }

    /// A reader of this log.
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(WalReader {
            files: self.files.clone(),
            folder: self.folder.clone(),
            salt: salt(self.incarnation),
            index: self.index.clone(),
        })
    }

    /// After an error nobody knows what is on the disk: only a restart, which reads it, may go on.
    fn unless_failed(&mut self, work: impl FnOnce(&mut Wal) -> Result<(), StorageError>) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = work(self);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn add(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        let last = batch.last_after(self.last)?;
        let size = 2 * SMALL_RECORD_BYTES + batch.entries.iter().map(entry_record_bytes).sum::<u64>();
        if size > MAX_SEGMENT_BYTES {
            let limit = format!("cannot write {size} bytes as one unit: at most {MAX_SEGMENT_BYTES}");
            return Err(StorageError::Refused(limit));
        }
        self.make_room(size)?;
        if let Some(hard_state) = batch.hard_state {
            self.encoder.hard_state(&hard_state);
            self.hard_state = hard_state;
        }
        let mut index = self.index.write();
        if let Some(from) = batch.truncate_from.filter(|from| *from <= self.last) {
            let from = from.max(Index(1));
            self.encoder.truncate(from);
            index.truncate(from);
        }
        for entry in &batch.entries {
            let offset = self.segment.end() + self.encoder.size();
            self.encoder.entry(entry);
            index.append_unwritten(entry, Position { segment: self.segment.number(), offset });
        }
        self.last = last;
        Ok(())
    }

    /// Goes on in a new segment if so much more does not fit in this one. A batch that fits in none gets a larger one.
    fn make_room(&mut self, more_bytes: u64) -> Result<(), StorageError> {
        let size = self.encoder.finished_size(more_bytes);
        let unused = self.segment.is_empty() && self.encoder.is_empty();
        if unused || self.segment.end() + size <= self.segment_bytes {
            return Ok(());
        }
        self.flush()?;
        let header = SegmentHeader {
            incarnation: self.incarnation,
            number: self.segment.number() + 1,
            first_index: self.last.next(),
            first_batch: self.encoder.batch(),
            hard_state: self.hard_state,
            previous: self.encoder.chain(),
        };
        self.segment = Segment::create(&*self.files, &self.folder, &header)?;
        log::debug!("the log goes on in {header}");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        self.segment.append(self.encoder.finish(), self.segment_bytes)?;
        self.encoder.next_batch();
        self.index.write().written();
        Ok(())
    }
}
