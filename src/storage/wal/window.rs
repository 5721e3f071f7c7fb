//! Reads a file front to back through a buffer of bounded size.

use std::io;
use std::sync::Arc;

use crate::storage::files::OpenFile;

/// A part of a file in memory, which moves along with what is asked for.
pub struct Window {
    file: Arc<dyn OpenFile>,
    size_bytes: u64,
    chunk_bytes: usize,
    start: u64,
    buffer: Vec<u8>,
}

impl Window {
    /// A window on a file, which reads `chunk_bytes` at a time, or as much as is asked for if that is more.
    pub fn new(file: Arc<dyn OpenFile>, chunk_bytes: usize) -> io::Result<Self> {
        let size_bytes = file.size()?;
        Ok(Window { file, size_bytes, chunk_bytes, start: 0, buffer: Vec::new() })
    }

    /// Makes sure that what is read from now on is what the disk holds.
    pub fn forget(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.file.forget_cached()
    }

    /// The file's size when the window was made.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes at `offset`, or `None` if they go beyond the end of the file: then nothing was allocated for them.
    pub fn get(&mut self, offset: u64, length: u64) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(length).is_none_or(|end| end > self.size_bytes) {
            return Ok(None);
        }
        if offset < self.start || offset + length > self.start + self.buffer.len() as u64 {
            let wanted = length.max(self.chunk_bytes as u64).min(self.size_bytes - offset);
            self.buffer.resize(wanted as usize, 0);
            let count = self.file.read_at(&mut self.buffer, offset)?;
            self.buffer.truncate(count);
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        Ok(self.buffer.get(at..at + length as usize))
    }
}
