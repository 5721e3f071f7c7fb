//! Receives a snapshot from another node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::{Blocks, Header, inspect};
use super::format::{PART_SUFFIX, SUFFIX, encode_header, file_name};
use super::paced::PacedFile;
use super::store::{Claim, Shared};
use super::{SnapshotInfo, SnapshotReceiver};
use crate::consensus::SnapshotMeta;
use crate::marks::{Mark, mark};
use crate::storage::StorageError;
use crate::storage::files::OpenFile;

/// Gathers a file under a name that says that it is not complete.
pub struct FileReceiver {
    shared: Arc<Shared>,
    info: SnapshotInfo,
    /// How the file must begin.
    header: Vec<u8>,
    file: PacedFile,
    /// Nothing of it may be kept.
    failed: bool,
    _claim: Claim,
}

impl FileReceiver {
    pub fn begin(shared: Arc<Shared>, info: SnapshotInfo, claim: Claim) -> Result<Self, StorageError> {
        let path = part_path(&shared, &info.meta);
        let header = encode_header(shared.cluster_id, &info.meta);
        let (file, received) = match resume(&shared, &path, &info)? {
            Some(resumed) => {
                let has_blocks = resumed.1 > header.len() as u64;
                mark(if has_blocks { Mark::SnapshotResumed } else { Mark::SnapshotBegunAgain });
                resumed
            }
            None => (shared.files.create(&path).map_err(|error| StorageError::io("make", &path, &error))?, 0),
        };
        let file = PacedFile::new(shared.files.clone(), file, path, received);
        Ok(FileReceiver { shared, info, header, file, failed: false, _claim: claim })
    }

    /// Whether the bytes are those of a file that begins with the header.
    fn agrees(&self, offset: u64, chunk: &[u8]) -> bool {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let expected = self.header.get(start..).unwrap_or_default();
        expected.iter().zip(chunk).all(|(expected, found)| expected == found)
    }

    fn complete(&mut self) -> Result<(), StorageError> {
        self.shared.refuse_stale(&self.info.meta)?;
        let (file, path) = (self.file.file(), self.file.path());
        let (header, _) = inspect(&**file, path)?;
        let mut blocks = Blocks::new(file.clone(), path.to_path_buf(), &header);
        while blocks.advance()? {}
        self.shared.publish(&**file, path, &self.info)
    }
}

impl SnapshotReceiver for FileReceiver {
    fn received(&self) -> u64 {
        self.file.bytes()
    }

    fn write(&mut self, offset: u64, chunk: &[u8]) -> Result<(), StorageError> {
        let (received, bytes) = (self.received(), self.info.bytes);
        let length = chunk.len() as u64;
        if offset > received || offset.checked_add(length).is_none_or(|end| end > bytes) {
            return Err(StorageError::Refused(format!(
                "cannot take {length} bytes at offset {offset} of a snapshot of {bytes} bytes: expected those at {received}. \
                 They are to be sent from there on"
            )));
        }
        if !self.agrees(offset, chunk) {
            let meta = &self.info.meta;
            return Err(StorageError::Refused(format!(
                "cannot take a snapshot that does not begin as the one announced, of entry {} and term {}, must",
                meta.index, meta.term
            )));
        }
        let known = usize::try_from(received - offset).unwrap_or(usize::MAX);
        let new = chunk.get(known..).unwrap_or_default();
        let written = if self.failed || new.is_empty() { Ok(()) } else { self.file.put(new) };
        self.failed |= written.is_err();
        written
    }

    fn finish(mut self: Box<Self>) -> Result<SnapshotInfo, StorageError> {
        if self.received() != self.info.bytes {
            return Err(StorageError::Refused(format!(
                "cannot complete a snapshot of {} bytes of which only {} were received",
                self.info.bytes,
                self.received()
            )));
        }
        let completed = self.complete();
        self.failed |= completed.is_err();
        completed.map(|()| self.info.clone())
    }
}

impl Drop for FileReceiver {
    fn drop(&mut self) {
        if self.failed {
            self.shared.discard(self.file.path());
        }
    }
}

/// A file that is being received, and how much of it is there.
type Partial = (Arc<dyn OpenFile>, u64);

/// What an earlier attempt has left that is intact.
fn resume(shared: &Shared, path: &Path, info: &SnapshotInfo) -> Result<Option<Partial>, StorageError> {
    let io = |error| StorageError::io("read", path, &error);
    if !shared.files.exists(path).map_err(io)? {
        return Ok(None);
    }
    let file = shared.files.open(path).map_err(io)?;
    let header = match Header::read(&*file, path) {
        Ok(header) if header.cluster_id == shared.cluster_id && header.meta == info.meta => header,
        Ok(_) | Err(StorageError::Damaged(_)) => {
            mark(Mark::SnapshotBegunAgain);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut blocks = Blocks::new(file.clone(), path.to_path_buf(), &header);
    let intact = loop {
        match blocks.advance() {
            Ok(true) => {}
            Ok(false) | Err(StorageError::Damaged(_)) => break blocks.offset(),
            Err(error) => return Err(error),
        }
    };
    if intact > info.bytes {
        return Ok(None);
    }
    file.set_size(intact).map_err(|error| StorageError::io("cut", path, &error))?;
    Ok(Some((file, intact)))
}

/// Where a snapshot is received.
pub fn part_path(shared: &Shared, meta: &SnapshotMeta) -> PathBuf {
    let name = file_name(meta);
    let stem = name.strip_suffix(SUFFIX).unwrap_or(&name);
    shared.folder.join(format!("{stem}{PART_SUFFIX}"))
}
