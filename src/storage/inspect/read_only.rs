//! The real file system without any way to change it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::OnRead;
use crate::storage::files::{DiskFiles, FileLock, Files, Lock, OpenFile};

/// Reads, and tells how much. Whatever would change something is an error.
#[derive(Clone)]
pub struct ReadOnlyFiles(pub OnRead);

struct ReadOnlyFile {
    file: File,
    on_read: OnRead,
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Files for ReadOnlyFiles {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        DiskFiles.exists(path)
    }

    fn create_folder(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        DiskFiles.list(folder)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(ReadOnlyFile { file: File::open(path)?, on_read: self.0.clone() }))
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn OpenFile>> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    /// Shared: others may read too, but no node starts meanwhile. Where there is no such file, no node runs.
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            opened => opened?,
        };
        let locked = file.try_lock_shared();
        Ok(Box::new(FileLock::of(file, locked)?))
    }
}

impl OpenFile for ReadOnlyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = OpenFile::read_at(&self.file, buffer, offset)?;
        (self.on_read)(count as u64);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }

    fn sync_all(&self) -> io::Result<()> {
        refused()
    }

    /// Without a sync, which is a matter of who writes.
    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}
