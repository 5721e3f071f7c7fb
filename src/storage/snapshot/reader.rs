//! Reads a snapshot back.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::{Blocks, inspect};
use super::{SnapshotInfo, SnapshotReader};
use crate::storage::StorageError;
use crate::storage::files::OpenFile;

/// Reads a file that it holds open, one block at a time.
pub struct FileReader {
    info: SnapshotInfo,
    blocks: Blocks,
    /// How much of the latest block was handed out.
    taken: usize,
    complete: bool,
    /// As long as this is there, the file is left as it is.
    _reading: Arc<()>,
}

impl FileReader {
    /// Reads this file, whose header and footer are checked first.
    pub fn new(file: Arc<dyn OpenFile>, path: PathBuf, reading: Arc<()>) -> Result<Self, StorageError> {
        let (header, info) = inspect(&*file, &path)?;
        Ok(FileReader { info, blocks: Blocks::new(file, path, &header), taken: 0, complete: false, _reading: reading })
    }
}

impl io::Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.blocks.state().len() && !self.complete {
            // First, so that after an error the next read tries again instead of finding an end.
            self.taken = 0;
            self.complete = !self.blocks.advance().map_err(io::Error::other)?;
        }
        let mut rest = self.blocks.state().get(self.taken..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

impl SnapshotReader for FileReader {
    fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let read = self.blocks.file().read_at(buffer, offset);
        read.map_err(|error| StorageError::io("read", self.blocks.path(), &error))
    }
}
