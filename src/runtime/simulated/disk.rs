//! A simulated node's disk: files in memory whose operations fail when it is their turn.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twox_hash::XxHash3_64;

use super::dice::Dice;
use super::report::mixed;
use super::scenario::Loses;
use crate::storage::files::memory::{Fate, MemoryFiles};
use crate::storage::files::{Files, Lock, OpenFile};

/// What befalls an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It fails, as do all later ones (EIO).
    Error,
    /// It fails, and later ones do not.
    OneError,
    /// The power fails: the node is gone before the operation returns.
    PowerCut,
}

/// A disk. Clones share it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    files: MemoryFiles,
    /// Operations so far.
    operations: u64,
    /// Of everything that was done.
    hash: u64,
    /// What befalls the operation of this number, and all later ones.
    trouble: Option<(u64, Trouble)>,
    /// Syncs do nothing.
    lies: bool,
    /// How many did.
    lied: u64,
    /// Operations for which there was no room.
    full: u64,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Self {
        SimulatedDisk::of(MemoryFiles::default())
    }

    fn of(files: MemoryFiles) -> Self {
        let state = State { files, operations: 0, hash: 0, trouble: None, lies: false, lied: 0, full: 0 };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files, past all trouble.
    pub fn files(&self) -> MemoryFiles {
        self.state().files.clone()
    }

    /// Lets so many more operations pass, and then this happens, unless there is trouble already.
    pub fn trouble_after(&self, operations: u64, trouble: Trouble) {
        let mut state = self.state();
        let has_begun = state.trouble.is_some_and(|(at, _)| at < state.operations);
        if !has_begun {
            state.trouble = Some((state.operations + operations, trouble));
        }
    }

    /// The trouble that has begun.
    pub fn trouble(&self) -> Option<Trouble> {
        let state = self.state();
        state.trouble.filter(|(at, _)| *at < state.operations).map(|(_, trouble)| trouble)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// A hash of the operations so far, with what was written.
    pub fn hash(&self) -> u64 {
        self.state().hash
    }

    /// From now on syncs do nothing and succeed.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// How many syncs did nothing.
    pub fn lied(&self) -> u64 {
        self.state().lied
    }

    /// For how many operations there was no room.
    pub fn full(&self) -> u64 {
        self.state().full
    }

    fn lies(&self) -> bool {
        let mut state = self.state();
        state.lied += u64::from(state.lies);
        state.lies
    }

    fn has_just_begun(&self) -> bool {
        let state = self.state();
        state.trouble.is_some_and(|(at, _)| at + 1 == state.operations)
    }

    /// The disk after its node was killed: all that was written is still there, and whoever held it holds it no more. It lies on.
    pub fn after_kill(&self) -> Self {
        let state = self.state();
        let after = SimulatedDisk::of(state.files.again());
        (after.state().lies, after.state().lied) = (state.lies, state.lied);
        after
    }

    /// A copy of the disk as it is, for later.
    pub fn copied(&self) -> Self {
        SimulatedDisk::of(self.state().files.copy())
    }

    /// From now on everything works, and there is room.
    pub fn mend(&self) {
        let mut state = self.state();
        state.lies = false;
        if state.trouble.is_some_and(|(at, _)| at >= state.operations) {
            state.trouble = None;
        }
        state.files.unlimit();
    }

    /// The disk after the power has failed: of what was not synced, every sector and every name meets a fate of its own.
    /// `garbles`: some of the sectors are neither old nor new.
    pub fn after_power_loss(&self, dice: &mut Dice, garbles: bool, loses: Loses) -> Self {
        let files = self.state().files.clone();
        if loses == Loses::All {
            return SimulatedDisk::of(files.after_power_loss());
        }
        let (names, _) = files.unsynced();
        // Names are lost from some point on, as on a file system with a journal, or here and there.
        let (kept, ordered) = (dice.below(names as u64 + 1) as usize, dice.once_in(2));
        let here_and_there: Vec<bool> = (0..names).map(|_| dice.once_in(2)).collect();
        let keep = |nth: usize| match loses {
            Loses::Sectors => true,
            _ if ordered => nth < kept,
            _ => here_and_there[nth],
        };
        let bias = dice.below(4);
        let fate = |versions: usize| match (bias, dice.below(8)) {
            _ if loses == Loses::Names => Fate::Written(versions - 1),
            (0, _) | (2.., 0..3) => Fate::Lost,
            (1, _) | (2.., 3..6) => Fate::Written(dice.below(versions as u64) as usize),
            (_, 6) if garbles => Fate::Garbled,
            _ if garbles => Fate::Zero,
            _ => Fate::Lost,
        };
        SimulatedDisk::of(files.after_power_loss_of(keep, fate))
    }

    /// Passes an operation, of which this is a hash, unless it is its turn to fail.
    fn pass(&self, what: u64) -> Result<MemoryFiles, io::Error> {
        let mut state = self.state();
        let operation = state.operations;
        state.hash = mixed(state.hash, what);
        state.operations += 1;
        match state.trouble {
            Some((at, Trouble::OneError)) if at < operation => Ok(state.files.clone()),
            Some((at, trouble)) if at <= operation => Err(trouble.error()),
            _ => Ok(state.files.clone()),
        }
    }
}

/// What is done: told apart by the hash.
#[derive(Clone, Copy)]
enum Doing {
    Exists = 1,
    CreateFolder,
    List,
    Open,
    Create,
    RenameFrom,
    RenameTo,
    Remove,
    SyncFolder,
    Lock,
    Read,
    Write,
    Size,
    SetSize,
    SyncData,
    SyncAll,
    Forget,
}

impl Doing {
    fn to(self, path: &Path) -> u64 {
        mixed(self as u64, XxHash3_64::oneshot(path.as_os_str().as_encoded_bytes()))
    }
}

impl Trouble {
    fn error(self) -> io::Error {
        io::Error::other(match self {
            Trouble::Error | Trouble::OneError => "a simulated input/output error",
            Trouble::PowerCut => "the power has failed",
        })
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    /// A hash of its path.
    name: u64,
    file: Arc<dyn OpenFile>,
}

impl SimulatedFile {
    fn pass(&self, doing: Doing, details: u64) -> io::Result<&dyn OpenFile> {
        self.disk.pass(mixed(mixed(self.name, doing as u64), details)).map(|_| &*self.file)
    }
}

impl SimulatedDisk {
    fn opened(&self, name: u64, file: io::Result<Arc<dyn OpenFile>>) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(SimulatedFile { disk: self.clone(), name, file: file? }))
    }
}

impl Files for SimulatedDisk {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.pass(Doing::Exists.to(path))?.exists(path)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass(Doing::CreateFolder.to(folder))?.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.pass(Doing::List.to(folder))?.list(folder)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let doing = Doing::Open.to(path);
        self.opened(doing, self.pass(doing)?.open(path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let doing = Doing::Create.to(path);
        self.opened(doing, self.pass(doing)?.create(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(mixed(Doing::RenameFrom.to(from), Doing::RenameTo.to(to)))?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass(Doing::Remove.to(path))?.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let files = self.pass(Doing::SyncFolder.to(folder))?;
        if self.lies() { Ok(()) } else { files.sync_folder(folder) }
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.pass(Doing::Lock.to(path))?.lock(path)
    }
}

impl OpenFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pass(Doing::Read, mixed(offset, buffer.len() as u64))?.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.pass(Doing::Write, mixed(offset, XxHash3_64::oneshot(bytes))) {
            // The write that was under way when the trouble began has written its first half.
            if self.disk.has_just_begun() {
                let _ = self.file.write_at(&bytes[..bytes.len() / 2], offset);
            }
            return Err(error);
        }
        let written = self.file.write_at(bytes, offset);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            self.disk.state().full += 1;
        }
        written
    }

    fn size(&self) -> io::Result<u64> {
        self.pass(Doing::Size, 0)?.size()
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.pass(Doing::SetSize, bytes)?.set_size(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.pass(Doing::SyncData, 0)?;
        if self.disk.lies() { Ok(()) } else { file.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        let file = self.pass(Doing::SyncAll, 0)?;
        if self.disk.lies() { Ok(()) } else { file.sync_all() }
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.pass(Doing::Forget, 0)?.forget_cached()
    }
}
