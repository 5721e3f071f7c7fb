//! Writes whole sectors past the system's cache (`O_DIRECT`): nothing is copied into it, and nothing has to be found in it
//! and written back when the file is synced.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::OpenFile;

/// What memory, lengths and offsets must be multiples of. A disk that wants more refuses, and is written to as usual.
const ALIGNMENT: usize = 512;
/// What is put there at a time, at most: bounds the memory that it takes.
const PIECE_BYTES: usize = 1 << 20;

/// Opens an existing file so; as usual, if its file system cannot do that.
pub fn open(path: &Path) -> io::Result<Arc<dyn OpenFile>> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let flags = OFlags::DIRECT.bits().cast_signed();
    match fs::OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(direct) => {
            Ok(Arc::new(DirectFile { file, direct, refuses: AtomicBool::new(false), aligned: Mutex::default() }))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Arc::new(file)),
        Err(error) => Err(error),
    }
}

struct DirectFile {
    /// For everything else.
    file: fs::File,
    direct: fs::File,
    /// The disk's sectors are larger.
    refuses: AtomicBool,
    /// What is written is put here first, to begin where it must.
    aligned: Mutex<Vec<u8>>,
}

impl DirectFile {
    fn write_direct(&self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let mut buffer = self.aligned.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.chunks(PIECE_BYTES) {
            let needed = piece.len() + ALIGNMENT;
            if buffer.len() < needed {
                buffer.resize(needed, 0);
            }
            let start = buffer.as_ptr().align_offset(ALIGNMENT);
            let aligned = buffer.get_mut(start..).and_then(|rest| rest.get_mut(..piece.len()));
            let aligned = aligned.ok_or(io::ErrorKind::InvalidInput)?;
            aligned.copy_from_slice(piece);
            self.direct.write_all_at(aligned, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

impl OpenFile for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        OpenFile::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_whole = bytes.len().is_multiple_of(ALIGNMENT) && offset.is_multiple_of(ALIGNMENT as u64);
        if is_whole && !self.refuses.load(Ordering::Relaxed) {
            match self.write_direct(bytes, offset) {
                // Of the first piece: the others are no different.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refuses.store(true, Ordering::Relaxed)
                }
                written => return written,
            }
        }
        OpenFile::write_at(&self.file, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        OpenFile::size(&self.file)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_size(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        OpenFile::sync_data(&self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        OpenFile::sync_all(&self.file)
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.file.forget_cached()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_directly_or_not_is_read_as_usual() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![1; 3 * PIECE_BYTES]).unwrap();
        let mut expected = fs::read(&path).unwrap();
        let file = open(&path).unwrap();
        let writes =
            [(512, 512), (0, 512), (PIECE_BYTES as u64, PIECE_BYTES + 1024), (700, 100), (512, 700), (4096, 0)];
        for (number, (offset, length)) in writes.into_iter().enumerate() {
            let bytes = vec![number as u8 + 2; length];
            file.write_at(&bytes, offset).unwrap();
            expected[offset as usize..offset as usize + length].copy_from_slice(&bytes);
            assert_eq!(fs::read(&path).unwrap(), expected, "{length} bytes at {offset}");
        }
        file.sync_data().unwrap();
        let mut start = [0; 1300];
        assert_eq!(file.read_at(&mut start, 0).unwrap(), start.len());
        assert_eq!(start, expected[..1300]);
        assert_eq!(file.size().unwrap(), expected.len() as u64);
    }

    #[test]
    fn a_disk_that_refuses_is_written_to_as_usual() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [0; 1024]).unwrap();
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // What refuses sectors with the same error as a disk whose own are larger: it wants a number.
        let direct = fs::OpenOptions::new().write(true).open("/proc/self/oom_score_adj").unwrap();
        let file = DirectFile { file, direct, refuses: AtomicBool::new(false), aligned: Mutex::default() };
        file.write_at(&[7; 512], 512).unwrap();
        assert!(file.refuses.load(Ordering::Relaxed));
        assert_eq!(fs::read(&path).unwrap()[511..514], [0, 7, 7]);
    }
}
