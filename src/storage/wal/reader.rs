//! Reads entries back, by any thread, while the log grows and is truncated.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::format::{BATCH_HEADER_BYTES, Mismatch, RECORD_OVERHEAD_BYTES, RawRecord, Record};
use super::index::{Location, LogIndex, Position};
use super::segment::segment_path;
use super::window::Window;
use crate::consensus::{Entry, EntryHeader, Index, Payload};
use crate::storage::collect::Collected;
use crate::storage::files::Files;
use crate::storage::{LogReader, StorageError};

/// How much of a segment is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// The index, shared by the one thread that writes and those that read.
#[derive(Clone)]
pub struct SharedIndex(Arc<RwLock<LogIndex>>);

impl SharedIndex {
    pub fn new(index: LogIndex) -> Self {
        SharedIndex(Arc::new(RwLock::new(index)))
    }

    pub fn read(&self) -> RwLockReadGuard<'_, LogIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, LogIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the log of one folder.
pub struct WalReader {
    pub files: Arc<dyn Files>,
    pub folder: PathBuf,
    pub salt: u32,
    pub index: SharedIndex,
}

/// What to do for the next entries of a read.
enum Next {
    /// Read them from a segment.
    Stretch(Stretch),
    /// Nothing more: the log ends, or its end was in memory.
    Done,
    /// Begin again: entries were removed meanwhile, and what is read before and after that must not be mixed.
    Changed,
}

/// Entries that lie one after the other in a segment.
struct Stretch {
    position: Position,
    from: Index,
    until: Index,
    /// [`LogIndex::writes`] when this was true.
    writes: u64,
}

impl LogReader for WalReader {
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        loop {
            let mut collected = Collected::new(max_bytes);
            if self.collect(first, last, &mut collected)? {
                return Ok(collected.into_entries());
            }
        }
    }
}

impl WalReader {
    /// Hands over every entry of the log without its payload, in order. Nobody writes meanwhile, and all is in files.
    pub fn headers(&self, take: &mut dyn FnMut(EntryHeader)) -> Result<(), StorageError> {
        let index = self.index.read();
        let mut segment = None;
        let mut next = index.base().0.next();
        while let Location::File { position, from, until } = index.locate(next) {
            let stretch = Stretch { position, from, until, writes: index.writes() };
            self.walk(&mut segment, &stretch, |header, _| {
                take(header);
                true
            })?;
            next = until.next();
        }
        Ok(())
    }

    /// Whether all could be read from one and the same log. What the index said about a segment stays true after the
    /// lock is gone, as long as the segment holds a part of the log: until then it is only appended to. After that its
    /// file goes, or becomes another segment, and nothing that was read may be believed.
    fn collect(&self, first: Index, last: Index, collected: &mut Collected) -> Result<bool, StorageError> {
        let truncations = self.index.read().truncations();
        let mut segment = None;
        let mut next = first;
        while next <= last && !collected.is_full() {
            let stretch = match self.next(next, last, truncations, collected) {
                Next::Stretch(stretch) => stretch,
                Next::Done => break,
                Next::Changed => return Ok(false),
            };
            let until = stretch.until.min(last);
            let walked = self.walk(&mut segment, &stretch, |header, payload| {
                let index = header.index;
                if index >= next {
                    let payload = || Payload(Bytes::copy_from_slice(payload));
                    collected.add(header.size, || Entry { payload: payload(), header });
                }
                index < until && !collected.is_full()
            });
            if !self.index.read().is_live(stretch.position.segment) {
                return Ok(false);
            }
            walked?;
            next = stretch.until.next();
        }
        Ok(true)
    }

    /// Where entry `next` is. If that is in memory, adds it and those after it at once.
    fn next(&self, next: Index, last: Index, truncations: u64, collected: &mut Collected) -> Next {
        let index = self.index.read();
        if index.truncations() != truncations {
            return Next::Changed;
        }
        match index.locate(next) {
            Location::File { position, from, until } => {
                Next::Stretch(Stretch { position, from, until, writes: index.writes() })
            }
            Location::Memory(entries) => {
                collected.extend(entries, last);
                Next::Done
            }
            Location::Missing => Next::Done,
        }
    }

    /// Hands over the entries of a stretch until `take` has enough, or the stretch ends. `segment` is what was open
    /// before, and what is afterwards.
    fn walk(
        &self,
        segment: &mut Option<SegmentCursor>,
        stretch: &Stretch,
        mut take: impl FnMut(EntryHeader, &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let Stretch { position, from, until, writes } = *stretch;
        let still_good = |open: &SegmentCursor| open.number == position.segment && open.writes == writes;
        let open = match segment.take().filter(still_good) {
            Some(open) => open,
            None => SegmentCursor::open(self, position.segment, writes)?,
        };
        let open = segment.insert(open);
        open.seek(position.offset)?;
        let mut expected = from;
        let mut goes_on = true;
        while goes_on && expected <= until {
            open.entry(expected, |header, payload| goes_on = take(header, payload))?;
            expected = expected.next();
        }
        Ok(())
    }
}

/// A segment being read, record by record.
struct SegmentCursor {
    number: u64,
    /// [`LogIndex::writes`] before it was opened.
    writes: u64,
    path: PathBuf,
    window: Window,
    salt: u32,
    offset: u64,
    /// The CRC of the record before `offset`.
    chain: u32,
}

impl SegmentCursor {
    fn open(reader: &WalReader, number: u64, writes: u64) -> Result<Self, StorageError> {
        let path = segment_path(&reader.folder, number);
        let window = reader.files.open(&path).and_then(|file| Window::new(file, CHUNK_BYTES));
        let window = window.map_err(|error| StorageError::io("open", &path, &error))?;
        Ok(SegmentCursor { number, writes, path, window, salt: reader.salt, offset: 0, chain: 0 })
    }

    /// Goes to the record at this offset. The four bytes before it are the CRC of the record before.
    fn seek(&mut self, offset: u64) -> Result<(), StorageError> {
        if self.offset != offset {
            let before = bytes(&mut self.window, &self.path, offset.saturating_sub(4), 4)?;
            self.chain = before.try_into().map(u32::from_le_bytes).unwrap_or_default();
            self.offset = offset;
        }
        Ok(())
    }

    /// Hands over the next entry, which must have this index, with its payload, and goes on to the record after it.
    fn entry(&mut self, expected: Index, take: impl FnOnce(EntryHeader, &[u8])) -> Result<(), StorageError> {
        loop {
            let offset = self.offset;
            let head = bytes(&mut self.window, &self.path, offset, RECORD_OVERHEAD_BYTES as u64)?;
            let size = RawRecord::size(head).unwrap_or_default();
            let record = bytes(&mut self.window, &self.path, offset, size)?;
            let damaged =
                |mismatch: Mismatch| StorageError::damaged(&self.path, offset, mismatch.expected, mismatch.found);
            let raw = RawRecord::decode(record, self.chain, self.salt).map_err(damaged)?;
            (self.chain, self.offset) = (raw.crc, offset + size);
            match raw.record().map_err(damaged)? {
                Record::Entry(header, payload) if header.index == expected => {
                    take(header, payload);
                    return Ok(());
                }
                Record::Entry(header, _) => {
                    return Err(damaged(Mismatch::new(format!("entry {expected}"), format!("entry {}", header.index))));
                }
                Record::End => self.offset += BATCH_HEADER_BYTES as u64,
                Record::HardState(_) | Record::Truncate(..) | Record::Install(..) => {}
            }
        }
    }
}

/// The bytes there, which the index says are there.
fn bytes<'a>(window: &'a mut Window, path: &Path, offset: u64, length: u64) -> Result<&'a [u8], StorageError> {
    let bytes = window.get(offset, length).map_err(|error| StorageError::io("read", path, &error))?;
    bytes
        .ok_or_else(|| StorageError::damaged(path, offset, format!("{length} bytes of the log"), "the end of the file"))
}
