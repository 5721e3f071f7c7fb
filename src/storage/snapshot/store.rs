//! The snapshots of one folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::blocks::{Header, inspect, verify_file};
use super::format::{PART_SUFFIX, SUFFIX, damaged, file_name, index_of};
use super::memory::MemoryFolder;
use super::paced::rest;
use super::reader::FileReader;
use super::receiver::{FileReceiver, part_path};
use super::writer::FileWriter;
use super::{SnapshotInfo, SnapshotReader, SnapshotReceiver, SnapshotStore, SnapshotWriter};
use crate::consensus::{Index, SnapshotMeta};
use crate::marks::{Mark, mark};
use crate::mutants::{Mutant, mutant};
use crate::storage::StorageError;
use crate::storage::files::{Files, OpenFile, TEMPORARY_SUFFIX};

/// So much of a file that goes is given back at a time.
const RELEASED_BYTES: u64 = 4 << 20;
/// In no more pieces than these: whoever stops the node waits for it.
const MAX_PIECES: u64 = 256;

/// Keeps snapshots as files of a folder, which nobody else may write to.
pub struct FileSnapshots(Arc<Shared>);

/// What the store shares with its writer and its receiver.
pub struct Shared {
    pub files: Arc<dyn Files>,
    pub folder: PathBuf,
    pub cluster_id: u64,
    known: Mutex<Known>,
    writing: Arc<AtomicBool>,
    receiving: Arc<AtomicBool>,
    /// Whoever reads a snapshot has one of these from before looking for it until its end.
    reading: Arc<()>,
}

#[derive(Default)]
struct Known {
    /// The complete snapshots, in order of index.
    snapshots: Vec<SnapshotInfo>,
    /// What is wrong with others.
    problems: Vec<String>,
}

/// The right to do what only one at a time may do, until it is dropped.
pub struct Claim(Arc<AtomicBool>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl FileSnapshots {
    /// Takes stock of a folder, which must be there: which snapshots are complete, judging by their beginning and end, and
    /// what is left of one that was being received. Removes what was being written.
    ///
    /// # Errors
    /// [`Io`](StorageError::Io): the disk failed. A damaged snapshot is no error, but a [problem](FileSnapshots::problems).
    pub fn open(files: Arc<dyn Files>, folder: &Path, cluster_id: u64) -> Result<Self, StorageError> {
        let mut names = files.list(folder).map_err(|error| StorageError::io("list", folder, &error))?;
        names.sort();
        let shared = Shared {
            files,
            folder: folder.to_path_buf(),
            cluster_id,
            known: Mutex::default(),
            writing: Arc::default(),
            receiving: Arc::default(),
            reading: Arc::default(),
        };
        names.iter().filter(|name| index_of(name).is_some()).try_for_each(|name| shared.take_stock(name))?;
        for name in &names {
            let unfinished = name.strip_suffix(TEMPORARY_SUFFIX).is_some_and(|name| index_of(name).is_some());
            if unfinished || (name.ends_with(PART_SUFFIX) && !shared.may_resume(name)?) {
                mark(Mark::SnapshotUnfinishedRemoved);
                shared.remove(name)?;
            }
        }
        Ok(FileSnapshots(Arc::new(shared)))
    }

    /// An empty store in memory.
    pub fn in_memory() -> Self {
        FileSnapshots(Arc::new(Shared {
            files: Arc::new(MemoryFolder::default()),
            folder: PathBuf::from("memory"),
            cluster_id: 0,
            known: Mutex::default(),
            writing: Arc::default(),
            receiving: Arc::default(),
            reading: Arc::default(),
        }))
    }

    /// What was found wrong with snapshots, each with file, place and reason.
    pub fn problems(&self) -> Vec<String> {
        self.0.known().problems.clone()
    }

    /// The path of a snapshot that is there.
    fn find(&self, meta: &SnapshotMeta) -> Result<PathBuf, StorageError> {
        let there = self.0.known().snapshots.iter().any(|known| known.meta == *meta);
        let name = file_name(meta);
        let missing = || {
            let folder = self.0.folder.display();
            StorageError::Refused(format!(
                "there is no snapshot {name} in {folder}, or not any more: ask for the latest"
            ))
        };
        there.then(|| self.0.folder.join(&name)).ok_or_else(missing)
    }
}

impl SnapshotStore for FileSnapshots {
    fn list(&self) -> Vec<SnapshotInfo> {
        self.0.known().snapshots.clone()
    }

    fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let claim = claim(&self.0.writing, "written")?;
        Ok(Box::new(FileWriter::create(self.0.clone(), meta, claim)?))
    }

    fn open(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotReader>, StorageError> {
        let reading = self.0.reading.clone();
        let path = self.find(meta)?;
        let file = self.0.files.open(&path).map_err(|error| StorageError::io("open", &path, &error))?;
        let reader = FileReader::new(file, path, reading)?;
        Ok(Box::new(reader))
    }

    fn verify(&self, meta: &SnapshotMeta) -> Result<(), StorageError> {
        let _reading = self.0.reading.clone();
        let path = self.find(meta)?;
        let verified = verify_file(&*self.0.files, &path, &mut |_| ());
        if let Err(error @ StorageError::Damaged(_)) = &verified {
            mark(Mark::SnapshotDamagedWhenRead);
            let mut known = self.0.known();
            known.snapshots.retain(|known| known.meta != *meta);
            known.report(error);
        }
        verified.map(drop)
    }

    fn receive(&self, meta: &SnapshotMeta, bytes: u64) -> Result<Box<dyn SnapshotReceiver>, StorageError> {
        let claim = claim(&self.0.receiving, "received")?;
        self.0.refuse_stale(meta)?;
        let path = part_path(&self.0, meta);
        let names = self.0.list()?;
        let others = names.iter().filter(|name| name.ends_with(PART_SUFFIX) && !path.ends_with(name));
        others.into_iter().try_for_each(|name| self.0.remove(name))?;
        let info = SnapshotInfo { meta: meta.clone(), bytes };
        Ok(Box::new(FileReceiver::begin(self.0.clone(), info, claim)?))
    }

    fn remove_older(&self, than: &SnapshotMeta) -> Result<(), StorageError> {
        self.find(than)?;
        let is_older = |name: &&String| index_of(name).is_some_and(|index| index < than.index);
        self.0.known().snapshots.retain(|known| known.meta.index >= than.index);
        self.0.list()?.iter().filter(is_older).try_for_each(|name| self.0.release(name))
    }
}

impl Shared {
    /// Makes a file that is complete durable under its own name, and known.
    pub fn publish(&self, file: &dyn OpenFile, path: &Path, info: &SnapshotInfo) -> Result<(), StorageError> {
        let name = file_name(&info.meta);
        let folder = &self.folder;
        if !mutant(Mutant::M25) {
            file.sync_all().map_err(|error| StorageError::io("sync", path, &error))?;
        }
        self.files.rename(path, &folder.join(&name)).map_err(|error| StorageError::io("rename", path, &error))?;
        if !mutant(Mutant::M22b) {
            self.files.sync_folder(folder).map_err(|error| StorageError::io("sync the folder", folder, &error))?;
        }
        log::info!("snapshot {name} of {} bytes is complete", info.bytes);
        self.known().insert(info.clone());
        Ok(())
    }

    /// Removes a file that is not needed, if it is there.
    pub fn discard(&self, path: &Path) {
        if let Err(error) = self.files.remove(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}. The next start tries again", path.display());
        }
    }

    /// Refuses a snapshot that would lead back.
    pub fn refuse_stale(&self, meta: &SnapshotMeta) -> Result<(), StorageError> {
        let latest = self.known().snapshots.last().map_or(Index(0), |latest| latest.meta.index);
        if meta.index > latest {
            return Ok(());
        }
        mark(Mark::SnapshotNotNeeded);
        Err(StorageError::Refused(format!(
            "a snapshot of entry {} is not needed: the one of entry {latest} is here already",
            meta.index
        )))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        self.files.list(&self.folder).map_err(|error| StorageError::io("list", &self.folder, &error))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        self.files.remove(&path).map_err(|error| StorageError::io("remove", &path, &error))
    }

    /// Removes a snapshot that is not known any more. A file system may be busy for long when it gets much space back at
    /// once, so a large file is made shorter bit by bit first, unless somebody still reads it.
    fn release(&self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        let file = self.files.open(&path).map_err(|error| StorageError::io("open", &path, &error))?;
        let bytes = file.size().map_err(|error| StorageError::io("read", &path, &error))?;
        if bytes <= RELEASED_BYTES || Arc::strong_count(&self.reading) > 1 {
            return self.remove(name);
        }
        // What is cut must not be found under the name of a snapshot, not even after a crash.
        let unfinished = name.to_owned() + TEMPORARY_SUFFIX;
        let path = self.folder.join(&unfinished);
        let renamed = self.files.rename(&self.folder.join(name), &path);
        renamed.map_err(|error| StorageError::io("rename", &path, &error))?;
        let synced = self.files.sync_folder(&self.folder);
        synced.map_err(|error| StorageError::io("sync the folder", &self.folder, &error))?;
        let piece = RELEASED_BYTES.max(bytes / MAX_PIECES);
        for kept in (1..bytes.div_ceil(piece)).rev().map(|pieces| pieces * piece) {
            let start = Instant::now();
            let cut = file.set_size(kept).and_then(|()| file.sync_all());
            cut.map_err(|error| StorageError::io("cut", &path, &error))?;
            rest(&*self.files, start);
        }
        self.remove(&unfinished)
    }

    /// Takes a snapshot in, or notes what is wrong with it.
    fn take_stock(&self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        let file = self.files.open(&path).map_err(|error| StorageError::io("open", &path, &error))?;
        let inspected = inspect(&*file, &path).and_then(|(header, info)| {
            check_owner(&header, self.cluster_id, name, &path)?;
            Ok(info)
        });
        match inspected {
            Ok(info) => self.known().insert(info),
            Err(error @ StorageError::Damaged(_)) => {
                mark(Mark::SnapshotDamagedAtStart);
                self.known().report(&error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether what was received under this name can be of use: its header is right, and it is newer than what is there.
    fn may_resume(&self, name: &str) -> Result<bool, StorageError> {
        let path = self.folder.join(name);
        let file = self.files.open(&path).map_err(|error| StorageError::io("open", &path, &error))?;
        let name = name.strip_suffix(PART_SUFFIX).unwrap_or(name).to_owned() + SUFFIX;
        let checked = Header::read(&*file, &path).and_then(|header| {
            check_owner(&header, self.cluster_id, &name, &path)?;
            self.refuse_stale(&header.meta)
        });
        match checked {
            Ok(()) => Ok(true),
            Err(StorageError::Damaged(_) | StorageError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Known {
    fn insert(&mut self, info: SnapshotInfo) {
        self.snapshots.retain(|known| known.meta != info.meta);
        self.snapshots.push(info);
        self.snapshots.sort_by_key(|known| (known.meta.index, known.meta.term));
    }

    fn report(&mut self, error: &StorageError) {
        log::error!("{error}");
        self.problems.push(error.to_string());
    }
}

/// Checks that a snapshot is of this cluster, and the one that its file's name says.
fn check_owner(header: &Header, cluster_id: u64, name: &str, path: &Path) -> Result<(), StorageError> {
    if header.cluster_id != cluster_id {
        let id = |id: u64| format!("a snapshot of the cluster {id:016x}");
        return Err(damaged(path, 16, id(cluster_id), id(header.cluster_id)));
    }
    let (expected, found) = (format!("the snapshot {name}"), file_name(&header.meta));
    if found == name { Ok(()) } else { Err(damaged(path, 24, expected, found)) }
}

/// Checks every byte of a snapshot's file, and that it is the one that its name says; of this cluster, if that is known.
///
/// # Errors
/// [`Damaged`](StorageError::Damaged): it is not; otherwise the disk failed.
pub fn verify_named(files: &dyn Files, path: &Path, cluster_id: Option<u64>) -> Result<SnapshotInfo, StorageError> {
    let file = files.open(path).map_err(|error| StorageError::io("open", path, &error))?;
    let header = Header::read(&*file, path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    check_owner(&header, cluster_id.unwrap_or(header.cluster_id), &name, path)?;
    verify_file(files, path, &mut |_| ())
}

fn claim(taken: &Arc<AtomicBool>, doing: &str) -> Result<Claim, StorageError> {
    match taken.swap(true, Ordering::Acquire) {
        false => Ok(Claim(taken.clone())),
        true => Err(StorageError::Refused(format!("another snapshot is being {doing}: wait until that is done"))),
    }
}
