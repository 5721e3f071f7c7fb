//! File systems for tests: one in memory, and one that fails when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::files::{Files, Lock, OpenFile};

/// Files in memory, which know what would survive a power loss. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    now: Names,
    durable: Names,
    locked: BTreeMap<PathBuf, Arc<AtomicBool>>,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, MemoryFile>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
struct MemoryFile(Arc<Mutex<Content>>);

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// Unlocks when it is dropped.
struct MemoryLock(Arc<AtomicBool>);

impl MemoryFiles {
    /// Other files with the same content.
    pub fn copy(&self) -> Self {
        MemoryFiles::of(&self.tree().now, |content| content.now.clone())
    }

    /// Other files with what is left when the power fails now, and everything not synced is lost.
    pub fn after_power_loss(&self) -> Self {
        MemoryFiles::of(&self.tree().durable, |content| content.durable.clone())
    }

    /// Other files with what is left when the power fails now, all names survive, and what was not synced in them does not.
    pub fn after_power_loss_keeping_names(&self) -> Self {
        MemoryFiles::of(&self.tree().now, |content| content.durable.clone())
    }

    fn of(names: &Names, bytes: impl Fn(&Content) -> Vec<u8>) -> Self {
        let copy = |(path, file): (&PathBuf, &MemoryFile)| {
            let bytes = bytes(&file.content());
            (path.clone(), MemoryFile(Arc::new(Mutex::new(Content { now: bytes.clone(), durable: bytes }))))
        };
        let names = Names { files: names.files.iter().map(copy).collect(), folders: names.folders.clone() };
        MemoryFiles(Arc::new(Mutex::new(Tree { now: names.clone(), durable: names, ..Tree::default() })))
    }

    pub fn get(&self, path: impl AsRef<Path>) -> Vec<u8> {
        self.tree().now.files[path.as_ref()].content().now.clone()
    }

    pub fn set(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let file = self.tree().now.files.entry(path.as_ref().to_path_buf()).or_default().clone();
        file.content().now = bytes.to_vec();
    }

    /// Every file with its bytes.
    pub fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.tree().now.files.iter().map(|(path, file)| (path.clone(), file.content().now.clone())).collect()
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
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
        let names = &self.tree().now;
        Ok(names.files.contains_key(path) || names.folders.contains(path) || path == Path::new("/"))
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.tree().now.folders.insert(folder.to_path_buf());
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = &self.tree().now;
        let paths = names.files.keys().filter(|path| path.parent() == Some(folder));
        Ok(paths.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let file = self.tree().now.files.get(path).cloned();
        file.map(|file| Arc::new(file) as Arc<dyn OpenFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let file = MemoryFile::default();
        self.tree().now.files.insert(path.to_path_buf(), file.clone());
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let names = &mut self.tree().now;
        let file = names.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.tree().now.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let Names { mut files, mut folders } = tree.now.clone();
        files.retain(|path, _| path.parent() == Some(folder));
        folders.retain(|path| path.parent() == Some(folder));
        tree.durable.files.retain(|path, _| path.parent() != Some(folder));
        tree.durable.files.extend(files);
        tree.durable.folders.extend(folders);
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
    fn forget_cached(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let there = content.now.get(offset as usize..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&self, new: &[u8], offset: u64) -> io::Result<()> {
        let (mut content, start) = (self.content(), offset as usize);
        let size = content.now.len().max(start + new.len());
        content.now.resize(size, 0);
        content.now[start..start + new.len()].copy_from_slice(new);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content().now.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.content().now.resize(size as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let content = &mut *self.content();
        content.durable.clone_from(&content.now);
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
    fn forget_cached(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.file.forget_cached()
    }

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
