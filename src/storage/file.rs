//! The durable storage: a data folder with the node's identity and its write-ahead log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::files::{DiskFiles, Files, Lock, TEMPORARY_SUFFIX};
use super::identity::{self, Identity, Life, Lineage};
use super::snapshot::{FileSnapshots, SnapshotStore};
use super::wal::{Wal, is_segment};
use super::{LogReader, PeerMemory, Recovered, Storage, StorageError, WriteBatch, peers};
use crate::consensus::{EntryHeader, Index, Membership, NodeId};
use crate::marks::{Mark, mark, mark_if};

/// Which folder to open, for whom.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The data folder; made if it is not there.
    pub folder: PathBuf,
    /// From [`cluster_id`](super::cluster_id).
    pub cluster_id: u64,
    /// The node whose folder it is.
    pub node: NodeId,
    /// The members that raft.ini names. Its voters are remembered, and others are refused later.
    pub membership: Membership,
    /// Size of a file of the log, up to 1 GiB. What has to be written as one unit and is larger gets a larger file.
    pub segment_bytes: u64,
    /// Come back under the same id, whatever the folder has lost: as another incarnation, which abstains for good.
    pub rejoin: bool,
}

/// Keeps everything in one data folder, which it locks as long as it lives.
///
/// What is written is gathered in memory until [`sync`](Storage::sync) puts it into the file with one write and one
/// fdatasync, so that any number of [`write`](Storage::write)s before a `sync` cost the disk the same.
pub struct FileStorage {
    wal: Wal,
    snapshots: Arc<FileSnapshots>,
    lineage: Lineage,
    abstains: bool,
    peers: PeerMemory,
    recovered: Option<Recovered>,
    _lock: Lock,
}

impl FileStorage {
    /// Opens a data folder: locks it, checks whose it is, reads the log, cuts off what an interrupted last write left
    /// behind, and durably counts the start.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): it is another node's or in use, or a peer said that it is an older copy; [`Damaged`](StorageError::Damaged): bytes that
    /// had been synced are not there any more; [`Io`](StorageError::Io): the disk failed.
    pub fn open(options: &OpenOptions) -> Result<Self, StorageError> {
        FileStorage::open_with(options, Arc::new(DiskFiles), [identity::random()?, identity::random()?])
    }

    /// Like [`open`](FileStorage::open), on another file system, and with these two random numbers: the incarnation, should
    /// another one of the node begin, and the nonce of this start.
    pub fn open_with(
        options: &OpenOptions,
        files: Arc<dyn Files>,
        [incarnation, nonce]: [u64; 2],
    ) -> Result<Self, StorageError> {
        let folder = &options.folder;
        make_folder(&*files, folder).map_err(|error| StorageError::io("make the folder", folder, &error))?;
        let lock = lock(&*files, folder)?;
        let mut identity = match Identity::load(&*files, folder)? {
            Some(identity) => {
                mark_if(identity.life.boot == 0, Mark::FolderBegunAgain);
                identity
            }
            None => new_identity(options, &*files, incarnation)?,
        };
        identity.check(folder, options.cluster_id, options.node, &options.membership.voters)?;
        let peers = PeerMemory::load(files.clone(), folder)?;
        if !options.rejoin
            && peers.latest(options.node).is_some_and(|own| own.life.incarnation == identity.life.incarnation)
        {
            return Err(refused_before(folder));
        }
        remove_temporary(&*files, folder).map_err(|error| StorageError::io("clean", folder, &error))?;
        if identity.life.boot == 0 {
            Wal::create(&*files, folder, identity.log_incarnation)?;
        }
        let (wal, recovered) = Wal::open(files.clone(), folder, identity.log_incarnation, options.segment_bytes)?;
        let snapshots = Arc::new(FileSnapshots::open(files.clone(), folder, options.cluster_id)?);
        mark_if(options.rejoin, Mark::FolderRejoined);
        let lineage = identity.begin_life(nonce, options.rejoin.then_some(incarnation));
        identity.store(&*files, folder)?;
        report(folder, &identity.life, &recovered);
        let abstains = identity.rejoined;
        Ok(FileStorage { wal, snapshots, lineage, abstains, peers, recovered: Some(recovered), _lock: lock })
    }

    /// The folder's incarnation, and the number of this start.
    pub fn life(&self) -> Life {
        self.lineage.start.life
    }

    /// This start, as the node tells its peers of it.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Whether the folder once [rejoined](OpenOptions::rejoin): what its node promised before is lost, so it must neither vote
    /// nor count.
    pub fn abstains(&self) -> bool {
        self.abstains
    }

    /// What the folder remembers of peers. Handed out once; a second one would forget everything with the process.
    pub fn take_peers(&mut self) -> PeerMemory {
        std::mem::take(&mut self.peers)
    }
}

impl Storage for FileStorage {
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
        let again = || StorageError::Refused("what was found at the start is handed out once".into());
        let recovered = self.recovered.take().ok_or_else(again)?;
        self.wal.headers(entry)?;
        Ok(recovered)
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        self.wal.write(batch)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.wal.sync()
    }

    fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
        self.wal.compact(keep_from)
    }

    fn idle(&mut self) -> Result<Option<Duration>, StorageError> {
        self.wal.idle()
    }

    fn close(&mut self) -> Result<(), StorageError> {
        self.wal.close()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.wal.reader()
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.snapshots.clone()
    }
}

/// Makes the folder and those above it, durably.
fn make_folder(files: &dyn Files, folder: &Path) -> io::Result<()> {
    if files.exists(folder)? {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(files, above)?;
    files.create_folder(folder)?;
    files.sync_folder(above)
}

fn lock(files: &dyn Files, folder: &Path) -> Result<Lock, StorageError> {
    let path = folder.join("lock");
    files.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StorageError::Refused(format!(
            "the data folder {} is in use by another process. Stop that one first, or give this node a folder of its own: \
             two nodes on one folder would destroy it",
            folder.display()
        )),
        _ => StorageError::io("lock", &path, &error),
    })
}

/// Every start counts, so an older copy that is started often enough would come to look like the newest folder.
fn refused_before(folder: &Path) -> StorageError {
    StorageError::Refused(format!(
        "the data folder {} is an older copy, as a peer found out at an earlier start. Put back the folder that this node ran \
         with last; if it is lost, start once with --rejoin: the node receives everything again, but neither votes nor \
         counts towards a majority any more",
        folder.display()
    ))
}

/// Begins a new folder. Until the first start is counted the log may be missing.
fn new_identity(options: &OpenOptions, files: &dyn Files, incarnation: u64) -> Result<Identity, StorageError> {
    let folder = &options.folder;
    let names = files.list(folder).map_err(|error| StorageError::io("list", folder, &error))?;
    if let Some(segment) = names.iter().find(|name| is_segment(name)) {
        let expected = format!("the identity of the node that wrote {segment}");
        return Err(StorageError::damaged(&folder.join(identity::FILE), 0, expected, "no such file"));
    }
    let identity = Identity::new(options.cluster_id, options.node, options.membership.voters.clone(), incarnation);
    identity.store(files, folder)?;
    Ok(identity)
}

/// Removes files that were not finished.
fn remove_temporary(files: &dyn Files, folder: &Path) -> io::Result<()> {
    for name in files.list(folder)? {
        let unfinished = name.strip_suffix(TEMPORARY_SUFFIX);
        if unfinished.is_some_and(|name| [identity::FILE, peers::FILE].contains(&name) || is_segment(name)) {
            mark(Mark::TemporaryRemoved);
            files.remove(&folder.join(name))?;
        }
    }
    Ok(())
}

fn report(folder: &Path, life: &Life, recovered: &Recovered) {
    let Life { incarnation, boot } = life;
    let last = recovered.last;
    log::info!("opened {}: start {boot}, last entry {last}", folder.display());
    log::debug!("incarnation {incarnation:016x}, boot {boot}");
    if let Some(repaired) = &recovered.repaired {
        log::warn!("{repaired}");
    }
}
