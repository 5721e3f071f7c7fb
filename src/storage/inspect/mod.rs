//! Looks into the data folder of a node that does not run: shows what is there, and finds all that is wrong. Changes
//! nothing.
//!
//! The files are read by the same code that a start reads them with, so both come to the same conclusions.

mod read_only;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::read_only::ReadOnlyFiles;
use super::files::{Files, Lock, TEMPORARY_SUFFIX};
use super::identity::{self, Identity};
use super::snapshot::{self, SnapshotInfo};
use super::wal::{self, SegmentHeader, Visitor};
use super::{Life, PeerMemory, Recovered, StorageError, peers};
use crate::consensus::{Entry, HardState, Index, NodeId, SnapshotMeta, Term};

/// Is told after each read how many bytes it read.
pub type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

const LOCK: &str = "lock";
/// How the names end of files that a node may leave behind, and removes or uses again.
const LEFTOVERS: [&str; 3] = [TEMPORARY_SUFFIX, ".spare", ".part"];
/// Where a snapshot's file has its term.
const SNAPSHOT_TERM_OFFSET: u64 = 32;

/// Something that a data folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Whose folder it is.
    Identity {
        /// From [`cluster_id`](super::cluster_id).
        cluster_id: u64,
        /// The node.
        node: NodeId,
        /// How often it was started.
        life: Life,
        /// The voters that the cluster started with.
        voters: BTreeSet<NodeId>,
        /// It came back with `--rejoin`: it neither votes nor counts.
        abstains: bool,
    },
    /// The latest start of a peer that the node has seen.
    Peer {
        /// The peer.
        node: NodeId,
        /// How often it was started, at least.
        life: Life,
    },
    /// A segment of the log. Its records follow.
    Segment {
        /// The file's name.
        file: String,
        /// The file's size.
        size_bytes: u64,
        /// Index and term of the log's last entry where the segment begins.
        base: (Index, Term),
        /// The number of the segment's first batch.
        first_batch: u64,
        /// Term and vote where the segment begins.
        hard_state: HardState,
        /// Whether older batches may be behind the last.
        recycled: bool,
    },
    /// A record of a batch that is whole.
    Record {
        /// The segment's name.
        file: String,
        /// Where in the segment.
        offset: u64,
        /// The number of the batch.
        batch: u64,
        /// What it says.
        record: Record,
    },
    /// What all records together come to, if the log is whole.
    Log(Recovered),
    /// A snapshot that is whole.
    Snapshot {
        /// The file's name.
        file: String,
        /// What it covers, and its size.
        info: SnapshotInfo,
    },
    /// A file with nothing in it that counts: one that a node may leave behind, or an unknown one.
    Other {
        /// Its name.
        file: String,
        /// Whether it is a node's.
        known: bool,
    },
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// This entry was appended.
    Entry(Entry),
    /// Term and vote from here on.
    HardState(HardState),
    /// The entries from this one on were removed; the one before has this term.
    Truncate(Index, Term),
    /// The log was replaced by a snapshot that ends with this entry, of this term.
    Install(Index, Term),
    /// The batch is complete.
    End,
}

/// What an inspection came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many segments were read.
    pub segments: u64,
    /// How many whole batches.
    pub batches: u64,
    /// How many records in these.
    pub records: u64,
    /// How many of them are entries.
    pub entries: u64,
    /// How many snapshots are whole.
    pub snapshots: u64,
    /// What the next start will do about what is as it may be after a crash.
    pub notices: Vec<String>,
    /// What does no harm, but does not belong there.
    pub warnings: Vec<String>,
    /// What is wrong, each with file, place and reason.
    pub problems: Vec<StorageError>,
}

/// A data folder. No node starts on it as long as this lives.
pub struct DataFolder {
    folder: PathBuf,
    names: Vec<String>,
    size_bytes: u64,
    _lock: Lock,
}

impl DataFolder {
    /// Finds out whether it is one, and locks it.
    ///
    /// # Errors
    /// [`Refused`](StorageError::Refused): it is none, or a node runs on it; otherwise the disk failed.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        if !folder.is_dir() {
            return Err(StorageError::Refused(format!("there is no folder {}", folder.display())));
        }
        let files = ReadOnlyFiles(Arc::new(|_| ()));
        let path = folder.join(LOCK);
        let lock = files.lock(&path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StorageError::Refused(format!(
                "a node runs on the data folder {}, and what it writes meanwhile would look like damage. Stop it first",
                folder.display()
            )),
            _ => StorageError::io("lock", &path, &error),
        })?;
        let list = |folder: &Path| files.list(folder).map_err(|error| StorageError::io("list", folder, &error));
        let mut names = list(folder)?;
        names.sort_unstable();
        let has_data = |name: &String| name == identity::FILE || wal::is_segment(name) || is_snapshot(name);
        if !names.iter().any(has_data) {
            return Err(no_data(folder, &names));
        }
        let size = |name: &String| folder.join(name).metadata().map_or(0, |metadata| metadata.len());
        let size_bytes = names.iter().filter(|name| has_data(name)).map(size).sum();
        Ok(DataFolder { folder: folder.to_path_buf(), names, size_bytes, _lock: lock })
    }

    /// About how many bytes an inspection reads.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Reads everything, shows what is whole, and finds what is not.
    pub fn inspect(&self, on_read: OnRead, show: &mut dyn FnMut(Item)) -> Findings {
        let mut inspection =
            Inspection { folder: self, files: ReadOnlyFiles(on_read), findings: Findings::default(), show };
        let identity = inspection.identity();
        inspection.peers();
        let log = inspection.log(identity.as_ref());
        let latest = inspection.snapshots(identity.map(|identity| identity.cluster_id), log.as_ref());
        inspection.continuity(log, latest);
        inspection.others();
        inspection.findings
    }
}

fn is_snapshot(name: &str) -> bool {
    snapshot::index_of(name).is_some()
}

/// Why this is no data folder.
fn no_data(folder: &Path, names: &[String]) -> StorageError {
    let paths = names.iter().map(|name| folder.join(name));
    let nodes = paths.filter(|path| path.join(identity::FILE).exists());
    let nodes: Vec<String> = nodes.map(|path| path.display().to_string()).collect();
    let folder = folder.display();
    StorageError::Refused(match nodes.as_slice() {
        [] => format!("{folder} is not the data folder of a node: there is no file `{}` in it", identity::FILE),
        nodes => {
            format!("{folder} is not the data folder of a node, but holds some. Name one of them: {}", nodes.join(", "))
        }
    })
}

/// An inspection under way.
struct Inspection<'a> {
    folder: &'a DataFolder,
    files: ReadOnlyFiles,
    findings: Findings,
    show: &'a mut dyn FnMut(Item),
}

impl Inspection<'_> {
    fn identity(&mut self) -> Option<Identity> {
        let folder = &self.folder.folder;
        match Identity::load(&self.files, folder) {
            Ok(Some(identity)) => {
                let Identity { cluster_id, node, life, voters, rejoined: abstains, .. } = identity.clone();
                (self.show)(Item::Identity { cluster_id, node, life, voters, abstains });
                return Some(identity);
            }
            Ok(None) => {
                let path = folder.join(identity::FILE);
                let expected = "the identity of the node whose folder it is";
                self.findings.problems.push(StorageError::damaged(&path, 0, expected, "no such file"));
            }
            Err(error) => self.findings.problems.push(error),
        }
        None
    }

    fn peers(&mut self) {
        match PeerMemory::load(Arc::new(self.files.clone()), &self.folder.folder) {
            Ok(peers) => peers.all().for_each(|(node, start)| (self.show)(Item::Peer { node, life: start.life })),
            Err(error) => self.findings.problems.push(error),
        }
    }

    /// Returns what a start would find, if the log is whole.
    fn log(&mut self, identity: Option<&Identity>) -> Option<Recovered> {
        if identity.is_some_and(|identity| identity.life.boot == 0) {
            let notice = "the folder was never started on: the next start makes an empty log";
            self.findings.notices.push(notice.into());
            return None;
        }
        let DataFolder { folder, names, .. } = self.folder;
        let incarnation = identity.map(|identity| identity.log_incarnation);
        let mut visitor =
            LogVisitor { file: String::new(), batch: Vec::new(), findings: &mut self.findings, show: self.show };
        let inspected = wal::inspect(&self.files, folder, names, incarnation, &mut visitor);
        self.findings.problems.extend(inspected.problems);
        let recovered = inspected.recovered?;
        if let Some(torn) = &recovered.repaired {
            self.findings.notices.push(format!("the next start will {torn}"));
        }
        (self.show)(Item::Log(recovered.clone()));
        Some(recovered)
    }

    /// Returns the latest one that is whole.
    fn snapshots(&mut self, cluster_id: Option<u64>, log: Option<&Recovered>) -> Option<SnapshotMeta> {
        let mut latest = None;
        for name in self.folder.names.iter().filter(|name| is_snapshot(name)) {
            let path = self.folder.folder.join(name);
            let verified = snapshot::verify_named(&self.files, &path, cluster_id);
            match verified.and_then(|info| agree(&path, info, log)) {
                Ok(info) => {
                    self.findings.snapshots += 1;
                    // Their names are in order of index.
                    latest = Some(info.meta.clone());
                    (self.show)(Item::Snapshot { file: name.clone(), info });
                }
                Err(error) => self.findings.problems.push(error),
            }
        }
        latest
    }

    /// What is not in the log must be in a snapshot.
    fn continuity(&mut self, log: Option<Recovered>, snapshot: Option<SnapshotMeta>) {
        let Some(log) = log else { return };
        if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| snapshot.index > log.last) {
            self.findings.notices.push(format!(
                "the log ends with entry {}, and the next start begins it anew after the snapshot of entry {}",
                log.last, snapshot.index
            ));
        }
        self.findings.problems.extend(Recovered { snapshot, ..log }.check().err());
    }

    fn others(&mut self) {
        let is_data = |name: &str| {
            [identity::FILE, peers::FILE, LOCK].contains(&name) || wal::is_segment(name) || is_snapshot(name)
        };
        for name in self.folder.names.iter().filter(|name| !is_data(name)) {
            let known = LEFTOVERS.iter().any(|suffix| name.ends_with(suffix));
            if !known {
                let path = self.folder.folder.join(name);
                self.findings.warnings.push(format!("{} is not a node's, and not looked into", path.display()));
            }
            (self.show)(Item::Other { file: name.clone(), known });
        }
    }
}

/// Checks that a snapshot ends with the entry that the log begins after, if it has the same index.
fn agree(path: &Path, info: SnapshotInfo, log: Option<&Recovered>) -> Result<SnapshotInfo, StorageError> {
    let (index, term) = (info.meta.index, info.meta.term);
    match log.map(|log| log.base) {
        Some((base, expected)) if base == index && expected != term => {
            let expected = format!("term {expected}, as the log that begins after entry {base} says");
            Err(StorageError::damaged(path, SNAPSHOT_TERM_OFFSET, expected, format!("term {term}")))
        }
        _ => Ok(info),
    }
}

/// Counts and shows what is read of the log.
struct LogVisitor<'a> {
    file: String,
    /// The records of a batch that is not yet known to be whole, and where they are.
    batch: Vec<(u64, Record)>,
    findings: &'a mut Findings,
    show: &'a mut dyn FnMut(Item),
}

impl Visitor for LogVisitor<'_> {
    fn segment(&mut self, path: &Path, size_bytes: u64, header: &SegmentHeader) {
        self.batch.clear();
        self.findings.segments += 1;
        self.file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let SegmentHeader { base, first_batch, hard_state, recycled, .. } = *header;
        let file = self.file.clone();
        (self.show)(Item::Segment { file, size_bytes, base, first_batch, hard_state, recycled });
    }

    fn record(&mut self, offset: u64, record: &wal::Record<'_>) {
        let record = match record {
            wal::Record::Entry(header, payload) => {
                Record::Entry(Entry { header: header.clone(), payload: payload.to_vec().into() })
            }
            wal::Record::HardState(hard_state) => Record::HardState(*hard_state),
            wal::Record::Truncate(from, before) => Record::Truncate(*from, *before),
            wal::Record::Install(index, term) => Record::Install(*index, *term),
            wal::Record::End => Record::End,
        };
        self.batch.push((offset, record));
    }

    fn batch(&mut self, batch: u64) {
        self.findings.batches += 1;
        for (offset, record) in self.batch.drain(..) {
            self.findings.records += 1;
            self.findings.entries += u64::from(matches!(record, Record::Entry(_)));
            (self.show)(Item::Record { file: self.file.clone(), offset, batch, record });
        }
    }
}
