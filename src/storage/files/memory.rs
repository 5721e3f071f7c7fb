//! Files in memory which know what a power loss leaves of them: for tests, and for simulated nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Files, Lock, OpenFile};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Files in memory, which know what would survive a power loss. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    now: Names,
    durable: Names,
    /// What happened to names since their folders were synced, in order.
    pending: Vec<Change>,
    /// Bytes that the disk still has room for; no limit if `None`.
    room: Option<Arc<AtomicU64>>,
    locked: BTreeMap<PathBuf, Arc<AtomicBool>>,
}

#[derive(Clone)]
enum Change {
    Create(PathBuf, MemoryFile),
    Rename(PathBuf, PathBuf, MemoryFile),
    Remove(PathBuf),
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
    /// What sectors were since the last sync, one after the other.
    pending: BTreeMap<usize, Vec<Vec<u8>>>,
    fails_sync: bool,
    room: Option<Arc<AtomicU64>>,
}

/// What a power loss makes of a sector that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is what it was at the last sync.
    Lost,
    /// It is what this write since then, counted from 0, made of it.
    Written(usize),
    /// It is something else.
    Garbled,
    /// It is zeros.
    Zero,
}

/// Unlocks when it is dropped.
struct MemoryLock(Arc<AtomicBool>);

impl MemoryFiles {
    /// The same files for another process, once the one that had them was killed: what was written is there, synced or not,
    /// and nothing is locked.
    pub fn again(&self) -> Self {
        let tree = self.tree();
        let (now, durable, pending, room) =
            (tree.now.clone(), tree.durable.clone(), tree.pending.clone(), tree.room.clone());
        MemoryFiles(Arc::new(Mutex::new(Tree { now, durable, pending, room, locked: BTreeMap::new() })))
    }

    /// The disk has room for anything again.
    pub fn unlimit(&self) {
        let mut tree = self.tree();
        tree.room = None;
        tree.all_files().iter().for_each(|file| file.content().room = None);
    }

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

    /// How many changes of names a power loss may lose now, and how many sectors.
    pub fn unsynced(&self) -> (usize, usize) {
        let tree = self.tree();
        let sectors = |file: &MemoryFile| file.content().pending.len();
        (tree.pending.len(), tree.all_files().iter().map(sectors).sum())
    }

    /// Other files with what is left when the power fails now: each change of a name, and each sector, meets its fate. A
    /// sector was written as often as `fate` is told.
    pub fn after_power_loss_of(&self, keep: impl Fn(usize) -> bool, mut fate: impl FnMut(usize) -> Fate) -> Self {
        let tree = self.tree();
        let mut names = tree.durable.clone();
        for (_, change) in tree.pending.iter().enumerate().filter(|(nth, _)| keep(*nth)) {
            change.apply(&mut names.files);
        }
        drop(tree);
        let mut left = BTreeMap::new();
        for (path, file) in &names.files {
            left.insert(path.clone(), file.content().after_power_loss_of(&mut fate));
        }
        let copy = |(path, bytes): (PathBuf, Vec<u8>)| (path, MemoryFile::of(bytes));
        let names = Names { files: left.into_iter().map(copy).collect(), folders: names.folders };
        MemoryFiles(Arc::new(Mutex::new(Tree { now: names.clone(), durable: names, ..Tree::default() })))
    }

    /// From now on the disk has room for so many more bytes.
    pub fn set_room(&self, bytes: u64) {
        let mut tree = self.tree();
        let room = tree.room.get_or_insert_default().clone();
        room.store(bytes, Ordering::Relaxed);
        tree.all_files().iter().for_each(|file| file.content().room = Some(room.clone()));
    }

    /// Fails the next sync of a file as systems do: what was to be synced stays readable, no later sync tries it again, and
    /// the disk never gets it.
    ///
    /// # Panics
    /// There is no such file.
    pub fn fail_next_sync(&self, path: impl AsRef<Path>) {
        self.tree().now.files[path.as_ref()].content().fails_sync = true;
    }

    fn of(names: &Names, bytes: impl Fn(&Content) -> Vec<u8>) -> Self {
        let copy = |(path, file): (&PathBuf, &MemoryFile)| {
            let bytes = bytes(&file.content());
            (path.clone(), MemoryFile::of(bytes))
        };
        let names = Names { files: names.files.iter().map(copy).collect(), folders: names.folders.clone() };
        MemoryFiles(Arc::new(Mutex::new(Tree { now: names.clone(), durable: names, ..Tree::default() })))
    }

    /// What is in a file.
    ///
    /// # Panics
    /// There is no such file.
    pub fn get(&self, path: impl AsRef<Path>) -> Vec<u8> {
        self.tree().now.files[path.as_ref()].content().now.clone()
    }

    /// Puts these bytes, durably, in place of the file that may be there.
    pub fn set(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let mut tree = self.tree();
        let file = MemoryFile::of(bytes.to_vec());
        tree.now.files.insert(path.as_ref().to_path_buf(), file.clone());
        tree.durable.files.insert(path.as_ref().to_path_buf(), file);
    }

    /// Every file with its bytes.
    pub fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.tree().now.files.iter().map(|(path, file)| (path.clone(), file.content().now.clone())).collect()
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now.files);
        self.pending.push(change);
    }

    fn all_files(&self) -> Vec<MemoryFile> {
        let mut files: Vec<MemoryFile> = self.now.files.values().chain(self.durable.files.values()).cloned().collect();
        files.sort_by_key(|file| Arc::as_ptr(&file.0));
        files.dedup_by_key(|file| Arc::as_ptr(&file.0));
        files
    }
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        match self {
            Change::Create(path, _) | Change::Rename(path, ..) | Change::Remove(path) => path.parent(),
        }
    }

    fn apply(&self, files: &mut BTreeMap<PathBuf, MemoryFile>) {
        match self {
            Change::Create(path, file) => {
                files.insert(path.clone(), file.clone());
            }
            Change::Rename(from, to, file) => {
                files.remove(from);
                files.insert(to.clone(), file.clone());
            }
            Change::Remove(path) => {
                files.remove(path);
            }
        }
    }
}

impl Content {
    fn after_power_loss_of(&self, fate: &mut impl FnMut(usize) -> Fate) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (sector, versions) in &self.pending {
            let garbled = || versions.iter().flatten().map(|byte| byte.wrapping_mul(3) ^ 0x5a).collect();
            let version: Vec<u8> = match fate(versions.len()) {
                Fate::Lost => continue,
                Fate::Written(nth) => versions[nth].clone(),
                Fate::Garbled => garbled(),
                Fate::Zero => vec![0; SECTOR],
            };
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.now.len());
            if start >= end {
                // The file was cut off there since.
                continue;
            }
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(&version[..end - start]);
        }
        bytes
    }

    /// Remembers what these bytes are now, until the next sync.
    fn remember(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let mut version = Vec::with_capacity(SECTOR);
            version.extend_from_slice(&self.now[sector * SECTOR..self.now.len().min((sector + 1) * SECTOR)]);
            version.resize(SECTOR, 0);
            self.pending.entry(sector).or_default().push(version);
        }
    }
}

impl MemoryFile {
    fn of(bytes: Vec<u8>) -> Self {
        MemoryFile(Arc::new(Mutex::new(Content { now: bytes.clone(), durable: bytes, ..Content::default() })))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut tree = self.tree();
        file.content().room = tree.room.clone();
        tree.change(Change::Create(path.to_path_buf(), file.clone()));
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let file = tree.now.files.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        tree.change(Change::Rename(from.to_path_buf(), to.to_path_buf(), file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.now.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        tree.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let tree = &mut *self.tree();
        let (synced, pending) = tree.pending.drain(..).partition(|change| change.folder() == Some(folder));
        tree.pending = pending;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| change.apply(&mut tree.durable.files));
        let folders = tree.now.folders.iter().filter(|path| path.parent() == Some(folder));
        tree.durable.folders.extend(folders.cloned());
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
        self.sync_all()?;
        let content = &mut *self.content();
        content.now.clone_from(&content.durable);
        Ok(())
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
        let more = (start + new.len()).saturating_sub(content.now.len());
        let left = |room: &Arc<AtomicU64>| room.load(Ordering::Relaxed) as usize;
        let granted = content.room.as_ref().map_or(more, |room| more.min(left(room)));
        if let Some(room) = &content.room {
            room.fetch_sub(granted as u64, Ordering::Relaxed);
        }
        // What does not fit is not written; what does, is.
        let new = &new[..new.len() - (more - granted)];
        let size = content.now.len().max(start + new.len());
        content.now.resize(size, 0);
        content.now[start..start + new.len()].copy_from_slice(new);
        content.remember(start, start + new.len());
        if granted < more { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content().now.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut content = self.content();
        let (before, size) = (content.now.len(), size as usize);
        content.now.resize(size, 0);
        // What was cut off and comes back as zeros.
        let end = size.min(content.durable.len());
        if before < end {
            content.remember(before, end);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let content = &mut *self.content();
        let pending = std::mem::take(&mut content.pending);
        if std::mem::take(&mut content.fails_sync) {
            return Err(io::Error::other("the disk did not take it"));
        }
        content.durable.resize(content.now.len(), 0);
        for sector in pending.into_keys() {
            let range = sector * SECTOR..content.now.len().min((sector + 1) * SECTOR);
            // The file may have been cut off there since.
            if !range.is_empty() {
                content.durable[range.clone()].copy_from_slice(&content.now[range]);
            }
        }
        Ok(())
    }
}
