//! Reads the whole log once, front to back in bounded memory, and tells an interrupted last write from damage.
//!
//! At most one batch is ever not yet synced, and it is the last one. So a batch that is not whole was interrupted if it
//! is in the last segment and no later batch is found behind it; in any other case bytes that had been synced are gone.

use std::path::{Path, PathBuf};

use super::format::{BATCH_HEADER_BYTES, BatchHeader, Mismatch, RECORD_OVERHEAD_BYTES, RawRecord, Record};
use super::format::{SECTOR_BYTES, SegmentHeader, salt};
use super::index::{LogIndex, Position};
use super::segment::{segment_number, segment_path};
use super::window::Window;
use crate::consensus::{HardState, Index, Term};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};
use crate::storage::StorageError;
use crate::storage::files::Files;

/// How much of a segment is read at a time.
const CHUNK_BYTES: usize = 256 << 10;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// What the segments say.
#[derive(Default)]
pub struct Replayed {
    /// Term and vote.
    pub hard_state: HardState,
    /// Where the log's entries are.
    pub index: LogIndex,
    /// The number of the last batch.
    pub batch: u64,
    /// The CRC of the last record.
    pub chain: u32,
    /// The number of the last segment.
    pub segment: u64,
    /// Where its last whole batch ends.
    pub end: u64,
    /// Whether there is anything but zeros behind that.
    pub leftover: bool,
    /// What of it has to be cut off, in words.
    pub torn: Option<String>,
    /// Whether the last batch says only that everything before it is synced.
    pub marked: bool,
    /// Segments that were of use before a snapshot was installed.
    pub obsolete: Vec<u64>,
}

/// Is shown what is read, in order.
pub trait Visitor {
    /// A segment begins.
    fn segment(&mut self, _path: &Path, _size_bytes: u64, _header: &SegmentHeader) {}

    /// A record at this offset, of a batch that may turn out not to be whole.
    fn record(&mut self, _offset: u64, _record: &Record<'_>) {}

    /// The records since the last batch are one that is whole, of this number.
    fn batch(&mut self, _number: u64) {}
}

impl Visitor for () {}

/// Reads every segment of the folder, in order. Changes nothing.
pub fn replay(files: &dyn Files, folder: &Path, incarnation: u64) -> Result<Replayed, StorageError> {
    let numbers = segment_numbers(files, folder)?;
    let mut visitor = ();
    let mut replay = Replay::new(incarnation, &mut visitor);
    let mut segments = numbers.iter().map(|number| Segment::open(files, segment_path(folder, *number)));
    let mut next = segments.next().transpose()?;
    while let Some(mut segment) = next {
        if segments.len() == 0 {
            // What another process wrote and could not sync may be in memory, but not on the disk.
            let forgotten = segment.window.forget();
            forgotten.map_err(|error| StorageError::io("sync", &segment.path, &error))?;
        }
        next = segments.next().transpose()?;
        replay.segment(&mut segment, next.as_ref().map(|next| &next.header))?;
        if mutant(Mutant::M21) && next.as_ref().is_some_and(|next| next.header.first_batch > replay.log.batch + 1) {
            break;
        }
    }
    Ok(replay.log)
}

/// The numbers of the folder's segments, without a gap. What was before the first is of no use any more.
fn segment_numbers(files: &dyn Files, folder: &Path) -> Result<Vec<u64>, StorageError> {
    let names = files.list(folder).map_err(|error| StorageError::io("list", folder, &error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let first = numbers.first().copied().unwrap_or(1).max(1);
    let expected = (first..).zip(&numbers).find(|(expected, found)| expected != *found);
    match expected.map(|(expected, _)| expected).or(numbers.is_empty().then_some(first)) {
        None => Ok(numbers),
        Some(missing) => {
            Err(StorageError::damaged(&segment_path(folder, missing), 0, "this segment of the log", "no such file"))
        }
    }
}

/// A segment being read.
pub struct Segment {
    pub path: PathBuf,
    pub window: Window,
    pub header: SegmentHeader,
}

impl Segment {
    pub fn open(files: &dyn Files, path: PathBuf) -> Result<Self, StorageError> {
        let window = files.open(&path).and_then(|file| Window::new(file, CHUNK_BYTES));
        let mut window = window.map_err(|error| StorageError::io("open", &path, &error))?;
        let sector = window.get(0, SECTOR).map_err(|error| StorageError::io("read", &path, &error))?;
        let header = SegmentHeader::decode(sector.unwrap_or_default());
        let header = header.map_err(|mismatch| damaged(&path, 0, mismatch))?;
        Ok(Segment { path, window, header })
    }

    /// The bytes there; `None` beyond the end of the file.
    fn get(&mut self, offset: u64, length: u64) -> Result<Option<&[u8]>, StorageError> {
        self.window.get(offset, length).map_err(|error| StorageError::io("read", &self.path, &error))
    }

    fn damaged(&self, offset: u64, mismatch: Mismatch) -> StorageError {
        damaged(&self.path, offset, mismatch)
    }
}

fn damaged(path: &Path, offset: u64, Mismatch { expected, found }: Mismatch) -> StorageError {
    mark(Mark::LogDamaged);
    StorageError::damaged(path, offset, expected, found)
}

/// Why a batch was not taken.
enum Stop {
    /// It is not whole, from this offset on.
    Broken(u64, Mismatch),
    /// There is no going on.
    Error(StorageError),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Stop::Error(error)
    }
}

/// What is behind the last whole batch of a segment.
enum Tail {
    /// Nothing was ever written there.
    Zeros,
    /// Bytes, but no batch.
    Leftover,
    /// A batch that comes later, at this offset.
    LaterBatch(u64),
}

/// A step of a batch that is not yet known to be whole, and where its record begins.
enum Step {
    Entry(Index, Term, u64),
    HardState(HardState),
    Truncate(Index, Term, u64),
    Install(Index, Term),
}

/// Reads segment after segment.
pub struct Replay<'a> {
    incarnation: u64,
    salt: u32,
    /// What was found so far.
    pub log: Replayed,
    /// The steps of the batch being read, kept until it is known to be whole.
    steps: Vec<Step>,
    visitor: &'a mut dyn Visitor,
}

impl<'a> Replay<'a> {
    pub fn new(incarnation: u64, visitor: &'a mut dyn Visitor) -> Self {
        Replay { incarnation, salt: salt(incarnation), log: Replayed::default(), steps: Vec::new(), visitor }
    }

    /// Reads a segment, and tells what ends it: the log goes on in `next`, or ends here.
    pub fn segment(&mut self, file: &mut Segment, next: Option<&SegmentHeader>) -> Result<(), StorageError> {
        self.header(file)?;
        self.visitor.segment(&file.path, file.window.size_bytes(), &file.header);
        let mut end = SECTOR;
        let (offset, mut mismatch) = loop {
            match self.batch(file, end) {
                Ok(next) => end = next,
                Err(Stop::Broken(offset, mismatch)) => break (offset, mismatch),
                Err(Stop::Error(error)) => return Err(error),
            }
        };
        (self.log.end, self.log.leftover) = (end, false);
        if mutant(Mutant::M21) {
            self.log.leftover = true;
            return Ok(());
        }
        if let Some(next) = next.filter(|next| next.first_batch > self.log.batch + 1) {
            mismatch.found += &format!(", although segment {} goes on from batch {}", next.number, next.first_batch);
            return Err(file.damaged(offset, mismatch));
        }
        let recycled = file.header.recycled;
        match self.tail(file, end)? {
            Tail::Zeros => {}
            // Older batches, which the log would have overwritten next. An interrupted write may be among them, if nothing
            // of its beginning reached the disk.
            Tail::Leftover if recycled && (next.is_some() || !self.begins(file, end)?) => {
                mark(Mark::StaleBatchesLeft);
                self.log.leftover = true;
            }
            Tail::Leftover if next.is_none() => {
                mark(if recycled { Mark::TornTailInRecycled } else { Mark::TornTailCut });
                self.log.leftover = true;
                self.log.torn = Some(format!(
                    "cut {} bytes off the end of {}, at offset {end}: the last write, never acknowledged, had been \
                     interrupted (at offset {offset}: expected {}, found {})",
                    file.window.size_bytes() - end,
                    file.path.display(),
                    mismatch.expected,
                    mismatch.found,
                ));
            }
            Tail::Leftover => return Err(file.damaged(offset, mismatch)),
            Tail::LaterBatch(later) => {
                mismatch.found += &format!(", although a later batch is intact at offset {later}");
                return Err(file.damaged(offset, mismatch));
            }
        }
        Ok(())
    }

    /// Checks that the segment goes on where the one before ended. The first one says by itself where that was.
    fn header(&mut self, file: &Segment) -> Result<(), StorageError> {
        let (header, log) = (&file.header, &mut self.log);
        let number = segment_number(&file.path.file_name().unwrap_or_default().to_string_lossy());
        if log.segment == 0 && number != Some(1) && header.first_batch > 0 {
            (log.batch, log.chain, log.hard_state) = (header.first_batch - 1, header.previous, header.hard_state);
            log.index.begin(header.base);
        }
        let last = log.index.last();
        let expected = SegmentHeader {
            incarnation: self.incarnation,
            number: number.unwrap_or_default(),
            base: (last, log.index.term_at(last)),
            first_batch: log.batch + 1,
            hard_state: log.hard_state,
            previous: log.chain,
            recycled: header.recycled,
        };
        if *header != expected {
            return Err(file.damaged(0, Mismatch::new(expected.to_string(), header.to_string())));
        }
        log.segment = header.number;
        log.index.begin_segment(header.number);
        Ok(())
    }

    /// Whether the next batch was to begin here.
    fn begins(&self, file: &mut Segment, start: u64) -> Result<bool, StorageError> {
        let bytes = file.get(start, BATCH_HEADER_BYTES as u64)?.unwrap_or_default();
        Ok(BatchHeader::decode(bytes, self.salt).is_some_and(|header| header.batch > self.log.batch))
    }

    /// Takes the batch at `start` and returns where it ends.
    fn batch(&mut self, file: &mut Segment, start: u64) -> Result<u64, Stop> {
        let number = self.log.batch + 1;
        let broken = |found: &str| Stop::Broken(start, Mismatch::new(format!("batch {number}"), found));
        let bytes = file.get(start, BATCH_HEADER_BYTES as u64)?.ok_or_else(|| broken("the end of the file"))?;
        let header = BatchHeader::decode(bytes, self.salt).ok_or_else(|| broken("no batch header"))?;
        if header.batch < number {
            return Err(broken("an older batch"));
        }
        if header.batch != number || header.previous != self.log.chain {
            let expected = format!("batch {number} after the CRC {:08x}", self.log.chain);
            let found = format!("batch {} after the CRC {:08x}", header.batch, header.previous);
            return Err(file.damaged(start, Mismatch { expected, found }).into());
        }
        let records = start + BATCH_HEADER_BYTES as u64;
        let end = records + u64::from(header.length_bytes);
        if end > file.window.size_bytes() {
            return Err(broken("the end of the file in the middle of it"));
        }
        let chain = self.records(file, &header, records, end)?;
        self.log.marked = self.steps.is_empty();
        self.apply(file)?;
        (self.log.batch, self.log.chain) = (number, chain);
        self.visitor.batch(number);
        Ok(end)
    }

    /// Reads the records of a batch, which fill the file from `offset` to `end`, and returns the CRC of the last one.
    fn records(&mut self, file: &mut Segment, batch: &BatchHeader, mut offset: u64, end: u64) -> Result<u32, Stop> {
        self.steps.clear();
        let mut chain = batch.previous;
        loop {
            let expected = || format!("a record of batch {}", batch.batch);
            let broken = |found: &str| Stop::Broken(offset, Mismatch::new(expected(), found));
            let too_long = || broken("one that is longer than the batch");
            let head = file.get(offset, RECORD_OVERHEAD_BYTES as u64)?.ok_or_else(too_long)?;
            let next = offset + RawRecord::size(head).ok_or_else(too_long)?;
            if next > end {
                return Err(too_long());
            }
            let bytes = file.get(offset, next - offset)?.unwrap_or_default();
            let raw = RawRecord::decode(bytes, chain, self.salt).map_err(|mismatch| Stop::Broken(offset, mismatch))?;
            if raw.batch != batch.batch as u32 {
                return Err(broken("one of another batch"));
            }
            // From here on the bytes are what was written: if they make no sense, no interrupted write explains it.
            chain = raw.crc;
            let record = raw.record();
            record.iter().for_each(|record| self.visitor.record(offset, record));
            match record {
                Ok(Record::Entry(header, _)) => self.steps.push(Step::Entry(header.index, header.term, offset)),
                Ok(Record::HardState(hard_state)) => self.steps.push(Step::HardState(hard_state)),
                Ok(Record::Truncate(from, before)) => self.steps.push(Step::Truncate(from, before, offset)),
                Ok(Record::Install(index, term)) => self.steps.push(Step::Install(index, term)),
                Ok(Record::End) if next == end => return Ok(chain),
                Ok(Record::End) => {
                    let mismatch = Mismatch::new(format!("the end of the batch at offset {end}"), "it here");
                    return Err(file.damaged(offset, mismatch).into());
                }
                Err(mismatch) => return Err(file.damaged(offset, mismatch).into()),
            }
            offset = next;
        }
    }

    /// Carries out the steps of a whole batch.
    fn apply(&mut self, file: &Segment) -> Result<(), StorageError> {
        let log = &mut self.log;
        for step in self.steps.drain(..) {
            let last = log.index.last();
            match step {
                Step::HardState(hard_state) => log.hard_state = hard_state,
                Step::Entry(index, term, offset) if index == last.next() => {
                    log.index.append(term, Position { segment: log.segment, offset });
                }
                Step::Entry(index, _, offset) => {
                    let mismatch = Mismatch::new(format!("entry {}", last.next()), format!("entry {index}"));
                    return Err(file.damaged(offset, mismatch));
                }
                Step::Install(index, term) => {
                    mark(Mark::InstallReplayed);
                    log.obsolete.extend(log.index.install((index, term)));
                }
                Step::Truncate(from, before, _) if from <= last && from > Index(0) => {
                    mark(Mark::TruncationReplayed);
                    log.index.truncate(from, before);
                }
                Step::Truncate(from, _, offset) => {
                    let expected = format!("a truncation of a log that ends with entry {last}");
                    return Err(file.damaged(offset, Mismatch::new(expected, format!("one from entry {from}"))));
                }
            }
        }
        Ok(())
    }

    /// Looks at everything behind the last whole batch, which ends at `end`.
    fn tail(&self, file: &mut Segment, end: u64) -> Result<Tail, StorageError> {
        let size = file.window.size_bytes();
        let mut tail = Tail::Zeros;
        for offset in (end..size).step_by(SECTOR_BYTES) {
            let sector = file.get(offset, SECTOR.min(size - offset))?.unwrap_or_default();
            if sector.iter().any(|byte| *byte != 0) {
                tail = Tail::Leftover;
            }
            // At `end` itself is what may be left of the one batch that was not yet synced.
            let later = BatchHeader::decode(sector, self.salt).filter(|header| header.batch > self.log.batch);
            if later.is_some() && offset > end {
                return Ok(Tail::LaterBatch(offset));
            }
        }
        Ok(tail)
    }
}
