//! One file of the log: its name, how it comes to be, and appending to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{SECTOR_BYTES, SegmentHeader};
use super::spares::Spares;
use crate::marks::{Mark, mark_if};
use crate::mutants::{Mutant, mutant};
use crate::storage::StorageError;
use crate::storage::files::{Files, OpenFile, TEMPORARY_SUFFIX};

const SUFFIX: &str = ".wal";
/// How far ahead of need zeros are written: overwriting a written block syncs in about half the time that growing the
/// file takes.
const ZEROS_AHEAD_BYTES: u64 = 1 << 20;
/// How many zeros are written at a time, so that nothing waits long for them.
const PIECE_BYTES: u64 = 128 << 10;
static ZEROS: [u8; PIECE_BYTES as usize] = [0; PIECE_BYTES as usize];

/// The path of a segment.
pub fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}{SUFFIX}"))
}

/// The number of the segment with this file name; `None` if it is the name of something else.
pub fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_path(Path::new(""), number) == Path::new(name)).then_some(number)
}

/// Whether this is the name of a segment.
pub fn is_segment(name: &str) -> bool {
    segment_number(name).is_some()
}

/// Where there are enough zeros behind `used_bytes` in a file that must not exceed `limit_bytes`.
pub fn zeros_until(used_bytes: u64, limit_bytes: u64) -> u64 {
    (used_bytes + ZEROS_AHEAD_BYTES).min(limit_bytes)
}

/// A file that zeros are written to ahead of need.
pub struct ZeroedFile {
    pub file: Arc<dyn OpenFile>,
    /// Up to here it has blocks on the disk.
    pub size_bytes: u64,
}

impl ZeroedFile {
    /// Writes and syncs the next piece, unless there are enough zeros behind `used_bytes`, or the file has reached
    /// `limit_bytes`. Returns whether it did.
    pub fn extend(&mut self, used_bytes: u64, limit_bytes: u64) -> std::io::Result<bool> {
        let until = zeros_until(used_bytes, limit_bytes);
        let missing = until.saturating_sub(self.size_bytes);
        if missing == 0 || (missing < PIECE_BYTES && until < limit_bytes) {
            return Ok(false);
        }
        self.write_zeros(missing)?;
        self.file.sync_data()?;
        Ok(true)
    }

    /// Writes at most so many zeros, up to the end of a piece.
    fn write_zeros(&mut self, bytes: u64) -> std::io::Result<()> {
        let piece = PIECE_BYTES - self.size_bytes % PIECE_BYTES;
        let zeros = ZEROS.get(..bytes.min(piece) as usize).unwrap_or_default();
        if !zeros.is_empty() {
            self.file.write_at(zeros, self.size_bytes)?;
            self.size_bytes += zeros.len() as u64;
        }
        Ok(())
    }
}

/// The segment that is written to.
pub struct Segment {
    path: PathBuf,
    zeroed: ZeroedFile,
    number: u64,
    end: u64,
}

impl Segment {
    /// Makes a segment, durably, of a spare file if there is one. It gets its name when it is complete: a segment without
    /// a valid header is damaged.
    pub fn create(
        files: &dyn Files,
        folder: &Path,
        header: &SegmentHeader,
        spares: &mut Spares,
    ) -> Result<Self, StorageError> {
        let path = segment_path(folder, header.number);
        let header = SegmentHeader { recycled: spares.next().is_some_and(|spare| spare.recycled), ..*header };
        let create = || {
            let (from, file, size_bytes) = match spares.next() {
                Some(spare) => (spare.path.clone(), files.open(&spare.path)?, spare.size_bytes),
                None => {
                    let temporary = path.with_extension(format!("wal{TEMPORARY_SUFFIX}"));
                    let file = files.create(&temporary)?;
                    (temporary, file, 0)
                }
            };
            file.write_at(&header.encode(), 0)?;
            file.sync_all()?;
            files.rename(&from, &path)?;
            let file = files.open_direct(&path)?;
            Ok(ZeroedFile { file, size_bytes: size_bytes.max(SECTOR_BYTES as u64) })
        };
        let zeroed = create().map_err(|error| StorageError::io("create", &path, &error))?;
        mark_if(header.recycled, Mark::SegmentRecycled);
        spares.take_next();
        // Nobody knows whether the name is there after a crash: there is no trying again under another one.
        let synced = if mutant(Mutant::M22a) { Ok(()) } else { files.sync_folder(folder) };
        synced.map_err(|error| StorageError::io("sync the folder of", &path, &error).into_final())?;
        Ok(Segment { path, zeroed, number: header.number, end: SECTOR_BYTES as u64 })
    }

    /// Opens a segment to write on at `end`. If there may be bytes behind it, `cut` overwrites them with zeros. All that
    /// was read, and the file's name, are made durable first: the process that wrote them may have died before it could.
    pub fn reopen(files: &dyn Files, folder: &Path, number: u64, end: u64, cut: bool) -> Result<Self, StorageError> {
        let path = segment_path(folder, number);
        let reopen = || {
            let file = files.open(&path)?;
            let size_bytes = file.size()?;
            if cut {
                for offset in (end..size_bytes).step_by(ZEROS.len()) {
                    file.write_at(ZEROS.get(..(size_bytes - offset) as usize).unwrap_or(&ZEROS), offset)?;
                }
            }
            file.sync_all()?;
            files.sync_folder(folder)?;
            Ok(ZeroedFile { file: files.open_direct(&path)?, size_bytes })
        };
        let zeroed = reopen().map_err(|error| StorageError::io("reopen", &path, &error))?;
        Ok(Segment { path, zeroed, number, end })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the next batch goes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether there is no batch in it yet.
    pub fn is_empty(&self) -> bool {
        self.end == SECTOR_BYTES as u64
    }

    /// Writes a piece of zeros behind the batches, if there are not enough. Returns whether it did.
    pub fn extend(&mut self, limit_bytes: u64) -> Result<bool, StorageError> {
        self.zeroed.extend(self.end, limit_bytes).map_err(|error| StorageError::io("extend", &self.path, &error))
    }

    /// Appends a batch, durably. If there are no zeros left to overwrite, the file grows by a piece more than it must: who
    /// never pauses cannot prepare.
    pub fn append(&mut self, batch: &[u8], limit_bytes: u64) -> Result<(), StorageError> {
        let end = self.end + batch.len() as u64;
        let failed = |error| StorageError::io("write to", &self.path, &error);
        self.zeroed.file.write_at(batch, self.end).map_err(failed)?;
        if end > self.zeroed.size_bytes {
            self.zeroed.size_bytes = end;
            let grown = self.zeroed.write_zeros(limit_bytes.saturating_sub(end));
            grown.map_err(failed).or_else(|error| if error.is_full() { Ok(()) } else { Err(error) })?;
        }
        let synced = match self.zeroed.file.sync_data() {
            Err(_) if mutant(Mutant::M23a) => Ok(()),
            Err(_) if mutant(Mutant::M23b) => self.zeroed.file.sync_data(),
            synced => synced,
        };
        synced.map_err(|error| StorageError::io("sync", &self.path, &error))?;
        self.end = end;
        Ok(())
    }
}
