//! A file that is written from front to back and leaves the disk to others in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::storage::StorageError;
use crate::storage::files::{Files, OpenFile};

/// After so many bytes the disk is waited for: what else is written meanwhile has to wait for no more than these.
pub const SYNC_BYTES: usize = 256 << 10;
/// A rest is never longer.
const LONGEST_REST: Duration = Duration::from_millis(100);

pub struct PacedFile {
    files: Arc<dyn Files>,
    file: Arc<dyn OpenFile>,
    path: PathBuf,
    bytes: u64,
    unsynced_bytes: usize,
}

impl PacedFile {
    /// Goes on with a file among these that has so many bytes.
    pub fn new(files: Arc<dyn Files>, file: Arc<dyn OpenFile>, path: PathBuf, bytes: u64) -> Self {
        PacedFile { files, file, path, bytes, unsynced_bytes: 0 }
    }

    /// Writes this at the end.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let start = Instant::now();
        let written = self.file.write_at(bytes, self.bytes);
        written.map_err(|error| StorageError::io("write", &self.path, &error))?;
        self.bytes += bytes.len() as u64;
        self.unsynced_bytes += bytes.len();
        if self.unsynced_bytes >= SYNC_BYTES {
            self.file.sync_data().map_err(|error| StorageError::io("sync", &self.path, &error))?;
            self.unsynced_bytes = 0;
            rest(&*self.files, start);
        }
        Ok(())
    }

    /// Size of the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn file(&self) -> &Arc<dyn OpenFile> {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Leaves the disk to others for as long as it was used since `start`: at least half of its time is for the log.
pub fn rest(files: &dyn Files, start: Instant) {
    files.rest(start.elapsed().min(LONGEST_REST));
}
