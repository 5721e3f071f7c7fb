//! A file system for tests that fails when told to.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use crate::storage::files::memory::{Fate, MemoryFiles};
use crate::storage::files::{Files, Lock, OpenFile};

/// Passes everything on, but fails some operations: a write that fails has written its first half.
#[derive(Clone)]
pub struct FaultyFiles {
    files: Arc<dyn Files>,
    faults: Arc<Faults>,
}

/// Which operations fail, counted from 0, and how many there have been.
pub struct Faults {
    first: u64,
    count: u64,
    kind: io::ErrorKind,
    operations: AtomicU64,
    after_read: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

struct FaultyFile {
    file: Arc<dyn OpenFile>,
    faults: Arc<Faults>,
}

impl FaultyFiles {
    /// Fails `count` operations from this one on.
    pub fn new(files: impl Files + 'static, first: u64, count: u64) -> Self {
        FaultyFiles::with(files, first, count, io::ErrorKind::Other)
    }

    /// Fails them with this kind of error.
    pub fn with(files: impl Files + 'static, first: u64, count: u64, kind: io::ErrorKind) -> Self {
        let faults =
            Arc::new(Faults { first, count, kind, operations: AtomicU64::new(0), after_read: Mutex::default() });
        FaultyFiles { files: Arc::new(files), faults }
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.faults.operations.load(Ordering::Relaxed)
    }

    /// Does this as soon as something was read next, and before the reader gets to see it.
    pub fn after_next_read(&self, act: impl FnOnce() + Send + 'static) {
        *self.faults.after_read.lock().unwrap() = Some(Box::new(act));
    }

    fn file(&self, file: Arc<dyn OpenFile>) -> Arc<dyn OpenFile> {
        Arc::new(FaultyFile { file, faults: self.faults.clone() })
    }
}

impl Faults {
    fn pass(&self) -> io::Result<()> {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed);
        match operation.checked_sub(self.first).is_some_and(|nth| nth < self.count) {
            true => Err(io::Error::new(self.kind, "an injected error")),
            false => Ok(()),
        }
    }
}

impl Files for FaultyFiles {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.faults.pass()?;
        self.files.exists(path)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.faults.pass()?;
        self.files.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.faults.pass()?;
        self.files.list(folder)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        self.faults.pass()?;
        Ok(self.file(self.files.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        self.faults.pass()?;
        Ok(self.file(self.files.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.pass()?;
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.pass()?;
        self.files.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.faults.pass()?;
        self.files.sync_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.faults.pass()?;
        self.files.lock(path)
    }
}

impl OpenFile for FaultyFile {
    fn forget_cached(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.file.forget_cached()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.pass()?;
        let read = self.file.read_at(buffer, offset);
        let act = self.faults.after_read.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
        read
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.faults.pass() {
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.file.write_at(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.faults.pass()?;
        self.file.size()
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.faults.pass()?;
        self.file.set_size(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.file.sync_all()
    }
}
