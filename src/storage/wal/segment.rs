//! One file of the log: its name, how it comes to be, and appending to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{SECTOR_BYTES, SegmentHeader};
use crate::storage::StorageError;
use crate::storage::files::{Files, OpenFile, create_whole};

const SUFFIX: &str = ".wal";
/// How far ahead of need zeros are written: overwriting a written block syncs in about half the time that growing the
/// file takes.
const ZEROS_AHEAD_BYTES: u64 = 1 << 20;

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

/// The segment that is written to.
pub struct Segment {
    path: PathBuf,
    file: Arc<dyn OpenFile>,
    number: u64,
    end: u64,
    size_bytes: u64,
}

impl Segment {
    /// Makes a segment, durably. It gets its name when it is complete: a segment without a valid header is damaged.
    pub fn create(files: &dyn Files, folder: &Path, header: &SegmentHeader) -> Result<Self, StorageError> {
        let path = segment_path(folder, header.number);
        let file = create_whole(files, &path, &header.encode());
        let file = file.map_err(|error| StorageError::io("create", &path, &error))?;
        let end = SECTOR_BYTES as u64;
        Ok(Segment { path, file, number: header.number, end, size_bytes: end })
    }

    /// Opens a segment to write on at `end`. What is behind it, if `cut`, goes. All that was read, and the file's name,
    /// are made durable first: the process that wrote them may have died before it could.
    pub fn reopen(files: &dyn Files, folder: &Path, number: u64, end: u64, cut: bool) -> Result<Self, StorageError> {
        let path = segment_path(folder, number);
        let reopen = || {
            let file = files.open(&path)?;
            if cut {
                file.set_size(end)?;
            }
            file.sync_all()?;
            files.sync_folder(folder)?;
            let size_bytes = file.size()?;
            Ok((file, size_bytes))
        };
        let (file, size_bytes) = reopen().map_err(|error| StorageError::io("reopen", &path, &error))?;
        Ok(Segment { path, file, number, end, size_bytes })
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

    /// Appends a batch, durably. The file grows in larger steps than batches, but not over `limit_bytes` for that.
    pub fn append(&mut self, batch: &[u8], limit_bytes: u64) -> Result<(), StorageError> {
        let end = self.end + batch.len() as u64;
        let write = || self.file.write_at(batch, self.end);
        write().map_err(|error| StorageError::io("write to", &self.path, &error))?;
        if end > self.size_bytes {
            self.size_bytes = (end + ZEROS_AHEAD_BYTES).min(limit_bytes).max(end);
            let zeros = vec![0; (self.size_bytes - end) as usize];
            self.file.write_at(&zeros, end).map_err(|error| StorageError::io("extend", &self.path, &error))?;
        }
        self.file.sync_data().map_err(|error| StorageError::io("sync", &self.path, &error))?;
        self.end = end;
        Ok(())
    }
}
