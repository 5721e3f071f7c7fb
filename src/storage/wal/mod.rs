//! The write-ahead log: term and vote, entries, truncations and installed snapshots, in the order in which they happened.
//!
//! What is written is gathered in memory, and [`sync`](Wal::sync) puts it into the file as one batch with one write and
//! one fdatasync. So however many units the caller gathers, a group costs the disk the same, and there is never more than
//! one batch that a crash may tear. Readers find what is not yet in the file in the index.
//!
//! The files are segments of a fixed size. Those that a snapshot makes superfluous become spares, and new segments are
//! made of spares: overwriting blocks is what a disk does fastest. What takes time but nobody has to wait for is done in
//! small pieces when nothing else is to do, in [`idle`](Wal::idle).

mod format;
mod index;
mod inspect;
mod reader;
mod recovery;
mod segment;
mod spares;
mod window;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::format::{BatchEncoder, SMALL_RECORD_BYTES, entry_record_bytes, salt};
pub use self::format::{Record, SegmentHeader};
use self::index::Position;
pub use self::inspect::inspect;
use self::reader::{SharedIndex, WalReader};
pub use self::recovery::Visitor;
use self::segment::Segment;
pub use self::segment::is_segment;
use self::spares::Spares;
use super::files::Files;
use super::{LogReader, Recovered, StorageError, WriteBatch};
use crate::consensus::{EntryHeader, HardState, Index, Term};
use crate::marks;

/// Largest segment, and largest unit: the length of a batch has 32 bits.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// How long nothing must have been written before the log says that all of it is synced.
const QUIET: Duration = Duration::from_millis(100);

/// The log of one data folder.
pub struct Wal {
    files: Arc<dyn Files>,
    folder: PathBuf,
    incarnation: u64,
    segment_bytes: u64,
    index: SharedIndex,
    /// Where the group under way will go.
    segment: Segment,
    spares: Spares,
    /// Segments before the log's first, in order, whose files are still there.
    obsolete: VecDeque<u64>,
    /// The group under way.
    encoder: BatchEncoder,
    hard_state: HardState,
    mark: Mark,
    /// The first error: nothing is written after it.
    failed: Option<StorageError>,
}

/// Whether the log says itself that all of it is synced. The mark is a batch of nothing: because it is intact and comes
/// later, whatever is wrong before it cannot be an interrupted write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Something was written since.
    Missing,
    /// Nothing was written since [`Wal::idle`] asked to be called after a while.
    Due,
    /// It does.
    Set,
}

impl Wal {
    /// Makes the empty log of a new folder, durably, in place of one that was never used.
    pub fn create(files: &dyn Files, folder: &Path, incarnation: u64) -> Result<(), StorageError> {
        let header = SegmentHeader {
            incarnation,
            number: 1,
            base: (Index(0), Term(0)),
            first_batch: 1,
            hard_state: HardState::default(),
            previous: 0,
            recycled: false,
        };
        Segment::create(files, folder, &header, &mut Spares::default()).map(drop)
    }

    /// Reads the log, cuts off what an interrupted last write left behind, and makes the rest durable.
    pub fn open(
        files: Arc<dyn Files>,
        folder: &Path,
        incarnation: u64,
        segment_bytes: u64,
    ) -> Result<(Wal, Recovered), StorageError> {
        let replayed = recovery::replay(&*files, folder, incarnation)?;
        let segment = Segment::reopen(&*files, folder, replayed.segment, replayed.end, replayed.leftover)?;
        let recovered = Recovered {
            hard_state: replayed.hard_state,
            snapshot: None,
            base: replayed.index.base(),
            last: replayed.index.last(),
            repaired: replayed.torn,
        };
        marks::mark_if(replayed.marked, marks::Mark::MarkReplayed);
        let wal = Wal {
            spares: Spares::find(&*files, folder)?,
            files,
            folder: folder.to_path_buf(),
            incarnation,
            segment_bytes: segment_bytes.min(MAX_SEGMENT_BYTES),
            index: SharedIndex::new(replayed.index),
            segment,
            obsolete: replayed.obsolete.into(),
            encoder: BatchEncoder::new(replayed.batch + 1, replayed.chain, salt(incarnation)),
            hard_state: replayed.hard_state,
            mark: if replayed.marked { Mark::Set } else { Mark::Missing },
            failed: None,
        };
        Ok((wal, recovered))
    }

    /// Hands over the log's entries, in order. To be called before anything is written.
    pub fn headers(&self, take: &mut dyn FnMut(EntryHeader)) -> Result<(), StorageError> {
        self.wal_reader().headers(take)
    }

    /// Adds a unit to the group under way.
    pub fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        self.unless_failed(|wal| wal.add(batch))
    }

    /// Writes the group under way and waits for the disk.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.unless_failed(Wal::flush)
    }

    /// Forgets the entries below `keep_from`, as far as whole segments go. Their files go one by one: see
    /// [`idle`](Wal::idle).
    pub fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
        self.unless_failed(|wal| {
            let obsolete = wal.index.write().compact(keep_from);
            wal.spares.will_need(obsolete.len());
            wal.obsolete.extend(obsolete);
            Ok(())
        })
    }

    /// Does a chore, if there is one: a piece of zeros where the log will go next, or in the file that it will go on in;
    /// a segment that is not needed any more; the mark. Returns after what time without a write to call again.
    pub fn idle(&mut self) -> Result<Option<Duration>, StorageError> {
        let done = self.unless_failed(Wal::chore);
        // There is no room for what may never be needed. If it is, that will be told.
        done.or_else(|error| match error.is_full() {
            true => {
                marks::mark(marks::Mark::ChoreUndone);
                Ok(None)
            }
            false => Err(error),
        })
    }

    /// Sets the mark, if everything is synced.
    pub fn close(&mut self) -> Result<(), StorageError> {
        self.unless_failed(Wal::set_mark)
    }

    /// A reader of this log.
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.wal_reader())
    }

    fn wal_reader(&self) -> WalReader {
        WalReader {
            files: self.files.clone(),
            folder: self.folder.clone(),
            salt: salt(self.incarnation),
            index: self.index.clone(),
        }
    }

    /// After an error nobody knows what is on the disk: only a restart, which reads it, may go on. But a disk that is full
    /// says so before it takes anything, or can be given the whole of it again.
    fn unless_failed<T>(&mut self, work: impl FnOnce(&mut Wal) -> Result<T, StorageError>) -> Result<T, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = work(self);
        self.failed = result.as_ref().err().filter(|error| !error.is_full()).cloned();
        result
    }

    fn add(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        let (base, last) = {
            let index = self.index.read();
            (index.base().0, index.last())
        };
        batch.last_after(base, last)?;
        let size = 3 * SMALL_RECORD_BYTES + batch.entries.iter().map(entry_record_bytes).sum::<u64>();
        if size > MAX_SEGMENT_BYTES {
            let limit = format!("cannot write {size} bytes as one unit: at most {MAX_SEGMENT_BYTES}");
            return Err(StorageError::Refused(limit));
        }
        self.make_room(size)?;
        self.mark = Mark::Missing;
        if let Some(hard_state) = batch.hard_state {
            self.encoder.hard_state(&hard_state);
            self.hard_state = hard_state;
        }
        let mut index = self.index.write();
        if let Some(snapshot) = &batch.install {
            self.encoder.install(snapshot.index, snapshot.term);
            self.obsolete.extend(index.install((snapshot.index, snapshot.term)));
        }
        if let Some(from) = batch.truncate_from.filter(|from| *from <= index.last()) {
            let from = from.max(index.base().0.next());
            let before = index.term_at(from.prev());
            self.encoder.truncate(from, before);
            index.truncate(from, before);
        }
        for entry in &batch.entries {
            let offset = self.segment.end() + self.encoder.size();
            self.encoder.entry(entry);
            index.append_unwritten(entry, Position { segment: self.segment.number(), offset });
        }
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
        let last = self.index.read().last();
        let header = SegmentHeader {
            incarnation: self.incarnation,
            number: self.segment.number() + 1,
            base: (last, self.index.read().term_at(last)),
            first_batch: self.encoder.batch(),
            hard_state: self.hard_state,
            previous: self.encoder.chain(),
            recycled: false,
        };
        self.segment = Segment::create(&*self.files, &self.folder, &header, &mut self.spares)?;
        marks::mark_if(self.segment.end() + size > self.segment_bytes, marks::Mark::SegmentTooSmall);
        self.index.write().begin_segment(header.number);
        log::debug!("the log goes on in {header}");
        // Who never pauses would never get to it.
        self.retire().map(drop)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        self.write_batch()?;
        self.index.write().written();
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), StorageError> {
        let written = self.segment.append(self.encoder.finish(), self.segment_bytes);
        match &written {
            Ok(()) => self.encoder.next_batch(),
            Err(error) => {
                marks::mark_if(error.is_full(), marks::Mark::BatchPutBack);
                self.encoder.unfinish();
            }
        }
        written
    }

    fn chore(&mut self) -> Result<Option<Duration>, StorageError> {
        if !self.encoder.is_empty() {
            return Ok(None);
        }
        if self.segment.extend(self.segment_bytes)? || self.retire()? || self.spares.trim(&*self.files)? {
            return Ok(Some(Duration::ZERO));
        }
        let is_half_full = self.segment.end() > self.segment_bytes / 2;
        if is_half_full && self.spares.prepare(&*self.files, &self.folder, self.segment_bytes)? {
            return Ok(Some(Duration::ZERO));
        }
        match self.mark {
            Mark::Missing => {
                self.mark = Mark::Due;
                return Ok(Some(QUIET));
            }
            Mark::Due => self.set_mark()?,
            Mark::Set => {}
        }
        Ok(None)
    }

    /// The file of the first obsolete segment goes. One at a time and durably, so that there is never a gap.
    fn retire(&mut self) -> Result<bool, StorageError> {
        let Some(number) = self.obsolete.pop_front() else { return Ok(false) };
        self.spares.retire(&*self.files, &self.folder, number, self.segment_bytes)?;
        Ok(true)
    }

    /// A new segment is as good as a mark: it is made when all before it is synced.
    fn set_mark(&mut self) -> Result<(), StorageError> {
        if self.mark == Mark::Set || !self.encoder.is_empty() {
            return Ok(());
        }
        self.make_room(0)?;
        if !self.segment.is_empty() {
            self.write_batch()?;
            marks::mark(marks::Mark::MarkWritten);
        }
        self.mark = Mark::Set;
        Ok(())
    }
}
