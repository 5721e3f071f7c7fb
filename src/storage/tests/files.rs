//! File systems for tests: one in memory, and one that fails when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::files::{Files, Lock, OpenFile};

/// Files in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, MemoryFile>,
    folders: BTreeSet<PathBuf>,
    locked: BTreeMap<PathBuf, Arc<AtomicBool>>,
}

#[derive(Clone, Default)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

/// Unlocks when it is dropped.
struct MemoryLock(Arc<AtomicBool>);

impl MemoryFiles {
    /// Other files with the same content.
    pub fn copy(&self) -> Self {
        let tree = self.tree();
        let copy = |(path, file): (&PathBuf, &MemoryFile)| {
            (path.clone(), MemoryFile(Arc::new(Mutex::new(file.bytes().clone()))))
        };
        let files = tree.files.iter().map(copy).collect();
        MemoryFiles(Arc::new(Mutex::new(Tree { files, folders: tree.folders.clone(), locked: BTreeMap::new() })))
    }

    pub fn get(&self, path: impl AsRef<Path>) -> Vec<u8> {
        self.tree().files[path.as_ref()].bytes().clone()
    }

    pub fn set(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let file = self.tree().files.entry(path.as_ref().to_path_buf()).or_default().clone();
        *file.bytes() = bytes.to_vec();
    }

    /// Every file with its bytes.
    pub fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.tree().files.iter().map(|(path, file)| (path.clone(), file.bytes().clone())).collect()
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Files for MemoryFiles {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        let tree = self.tree();
        Ok(tree.files.contains_key(path) || tree.folders.contains(path) || path == Path::new("/"))
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.tree().folders.insert(folder.to_path_buf());
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let tree = self.tree();
        let names = tree.files.keys().filter(|path| path.parent() == Some(folder)).filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let file = self.tree().files.get(path).cloned();
        file.map(|file| Arc::new(file) as Arc<dyn OpenFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let file = MemoryFile::default();
        self.tree().files.insert(path.to_path_buf(), file.clone());
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let file = tree.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.tree().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let locked = self.tree().locked.entry(path.to_path_buf()).or_default().clone();
        match locked.swap(true, Ordering::Relaxed) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(Box::new(MemoryLock(locked))),
        }
    }
}

impl OpenFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes();
        let there = bytes.get(offset as usize..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&self, new: &[u8], offset: u64) -> io::Result<()> {
        let (mut bytes, start) = (self.bytes(), offset as usize);
        let size = bytes.len().max(start + new.len());
        bytes.resize(size, 0);
        bytes[start..start + new.len()].copy_from_slice(new);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.bytes().resize(size as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

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
    operations: AtomicU64,
}

struct FaultyFile {
    file: Arc<dyn OpenFile>,
    faults: Arc<Faults>,
}

impl FaultyFiles {
    /// Fails `count` operations from this one on.
    pub fn new(files: impl Files + 'static, first: u64, count: u64) -> Self {
        let faults = Arc::new(Faults { first, count, operations: AtomicU64::new(0) });
        FaultyFiles { files: Arc::new(files), faults }
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.faults.operations.load(Ordering::Relaxed)
    }

    fn file(&self, file: Arc<dyn OpenFile>) -> Arc<dyn OpenFile> {
        Arc::new(FaultyFile { file, faults: self.faults.clone() })
    }
}

impl Faults {
    fn pass(&self) -> io::Result<()> {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed);
        match operation.checked_sub(self.first).is_some_and(|nth| nth < self.count) {
            true => Err(io::Error::other("an injected error")),
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
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.pass()?;
        self.file.read_at(buffer, offset)
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
