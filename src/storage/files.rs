//! The operations on files that storage needs, behind one trait: whatever touches the disk goes through it, so that every
//! single input and output can be made to fail.

#[cfg(target_os = "linux")]
mod direct;
pub mod memory;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A file system. All paths are given in full; none of the operations is retried by its callers.
pub trait Files: Send + Sync {
    /// Whether there is a file or folder of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes one folder. Its parent must be there.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names of the files in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;

    /// The same, for a file that is written sector by sector and not read here: where the system can, what is written goes
    /// past its cache.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        self.open(path)
    }

    /// Makes an empty file, in place of the one that may be there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;

    /// Gives a file another name, in place of the one that may have that name. Durable after
    /// [`sync_folder`](Files::sync_folder).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`sync_folder`](Files::sync_folder).
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: what was created, renamed or removed in it.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Locks a file, made if necessary, for this process alone, until the lock is dropped or the process ends. Held by
    /// someone else: [`io::ErrorKind::WouldBlock`].
    fn lock(&self, path: &Path) -> io::Result<Lock>;

    /// Leaves the disk to others for so long. Where time is not real there is nothing to wait for.
    fn rest(&self, _time: Duration) {}
}

/// A lock on a file, held until it is dropped.
pub type Lock = Box<dyn Send>;

/// An open file. Any thread may use it.
pub trait OpenFile: Send + Sync {
    /// Reads at this offset until the buffer is full or the file ends, and returns how many bytes that were.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all the bytes at this offset. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The file's size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file off, or extends it by zeros that need not occupy the disk.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file's bytes durable, and what is needed to read them back.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file's bytes and everything about the file durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Syncs, and drops what the system keeps of the file in memory, so that what is read next comes from the disk: after
    /// a failed sync the two may differ. As far as the system lets go of it: another process may be using the file.
    fn forget_cached(&self) -> io::Result<()>;
}

/// Ends the name of a file until it is whole. What is left of such files is removed when the folder is opened.
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Makes a file with these bytes, or replaces it by them: durably, and as a whole or not at all.
pub(super) fn create_whole(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn OpenFile>> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let temporary = Path::new(&temporary);
    let file = files.create(temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    files.rename(temporary, path)?;
    files.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(file)
}

/// The real file system.
pub struct DiskFiles;

impl Files for DiskFiles {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        match fs::create_dir(folder) {
            // Another node that starts at this moment may have made the folder above both.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            made => made,
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(fs::OpenOptions::new().read(true).write(true).open(path)?))
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        direct::open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let locked = file.try_lock();
        Ok(Box::new(FileLock::of(file, locked)?))
    }

    fn rest(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// A file that is locked, and unlocked when this is dropped. To close the file would not do: a process that another
/// thread is just starting has every open file of ours too until it runs its own program, and the lock lives as long.
pub(super) struct FileLock(fs::File);

impl FileLock {
    /// `locked` is how the file took the lock.
    pub(super) fn of(file: fs::File, locked: Result<(), fs::TryLockError>) -> io::Result<FileLock> {
        match locked {
            Ok(()) => Ok(FileLock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Should that fail, the lock goes with the last descriptor, as it does when a process is killed.
        let _ = self.0.unlock();
    }
}

impl OpenFile for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        fs::File::sync_all(self)
    }

    fn forget_cached(&self) -> io::Result<()> {
        fs::File::sync_all(self)?;
        // Only advice, and not known to every system: without it, no harm is done that was not done before.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_though_another_process_inherited_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = fs::File::create(&path).unwrap();
        // What a process has that was forked while the file was open.
        let _inherited = file.try_clone().unwrap();
        let locked = file.try_lock();
        let lock = FileLock::of(file, locked).unwrap();
        assert_eq!(DiskFiles.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert!(DiskFiles.lock(&path).is_ok());
    }
}
