//! Goes through a snapshot's file from front to back and checks every byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SnapshotInfo;
use super::format::{
    BLOCK_BYTES, BLOCK_OVERHEAD_BYTES, CRC_BYTES, FOOTER_BYTES, HEADER_START_BYTES, check_crc, checksum, damaged,
    decode_footer, decode_header, footer_offset, header_length,
};
use crate::consensus::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::fields::Fields;
use crate::storage::files::{Files, OpenFile};

/// What the header of a snapshot's file says.
pub struct Header {
    /// Nodes of another cluster have nothing to do with it.
    pub cluster_id: u64,
    /// What the snapshot covers.
    pub meta: SnapshotMeta,
    /// The header's own length.
    pub bytes: u64,
    crc: u32,
}

impl Header {
    /// Reads and checks it.
    pub fn read(file: &dyn OpenFile, path: &Path) -> Result<Self, StorageError> {
        let start = read(file, path, 0, HEADER_START_BYTES)?;
        let length = header_length(&start, path)?;
        let bytes = read(file, path, 0, length)?;
        let (cluster_id, meta) = decode_header(&bytes, path)?;
        let crc = bytes.last_chunk().copied().unwrap_or_default();
        Ok(Header { cluster_id, meta, bytes: bytes.len() as u64, crc: u32::from_le_bytes(crc) })
    }
}

/// Checks the header and the footer, and that the file is as long as these say: a snapshot that was completed. What is in
/// between may still be damaged.
pub fn inspect(file: &dyn OpenFile, path: &Path) -> Result<(Header, SnapshotInfo), StorageError> {
    let header = Header::read(file, path)?;
    let bytes = file.size().map_err(|error| StorageError::io("read", path, &error))?;
    let end = CRC_BYTES + FOOTER_BYTES;
    let end_at = bytes.saturating_sub(end as u64);
    let end = read(file, path, end_at, end)?;
    let (crc, footer) = end.split_at_checked(CRC_BYTES).unwrap_or_default();
    let (previous, offset) = (Fields(crc).u32().unwrap_or_default(), end_at + CRC_BYTES as u64);
    let state_bytes = decode_footer(footer, previous, path, offset)?;
    if footer_offset(header.bytes, state_bytes) != Some(offset) {
        let expected = format!("the end of a snapshot of {state_bytes} bytes of state");
        return Err(damaged(path, offset, expected, format!("the end of a file of {bytes} bytes")));
    }
    let meta = header.meta.clone();
    Ok((header, SnapshotInfo { meta, bytes }))
}

/// Checks every byte of a snapshot's file, whosever it is. `progress` is told how many bytes were checked so far.
///
/// # Errors
/// [`Damaged`](StorageError::Damaged): it is; otherwise the disk failed.
pub fn verify_file(
    files: &dyn Files,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<SnapshotInfo, StorageError> {
    let file = files.open(path).map_err(|error| StorageError::io("open", path, &error))?;
    let (header, info) = inspect(&*file, path)?;
    let mut blocks = Blocks::new(file, path.to_path_buf(), &header);
    while blocks.advance()? {
        progress(blocks.offset());
    }
    Ok(info)
}

/// The blocks of a file, one after the other.
pub struct Blocks {
    file: Arc<dyn OpenFile>,
    path: PathBuf,
    /// Where the next block begins, or the footer.
    offset: u64,
    /// The CRC of everything before.
    crc: u32,
    state_bytes: u64,
    /// The block before was not full, so it must have been the last.
    short: bool,
    /// The latest block, as it is in the file.
    bytes: Vec<u8>,
}

impl Blocks {
    /// All blocks of a file with this header.
    pub fn new(file: Arc<dyn OpenFile>, path: PathBuf, header: &Header) -> Self {
        Blocks { file, path, offset: header.bytes, crc: header.crc, state_bytes: 0, short: false, bytes: Vec::new() }
    }

    /// Everything before this offset is intact.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The file.
    pub fn file(&self) -> &dyn OpenFile {
        &*self.file
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state's bytes in the latest block.
    pub fn state(&self) -> &[u8] {
        let end = self.bytes.len().saturating_sub(CRC_BYTES);
        self.bytes.get(4..end).unwrap_or_default()
    }

    /// Goes to the next block. `false`: there is none, the file is complete and every byte of it is right.
    pub fn advance(&mut self) -> Result<bool, StorageError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let Blocks { path, offset, .. } = &*self;
        bytes.resize(BLOCK_BYTES + BLOCK_OVERHEAD_BYTES, 0);
        let count = self.file.read_at(&mut bytes, *offset).map_err(|error| StorageError::io("read", path, &error))?;
        bytes.truncate(count);
        let length = Fields(&bytes).u32().unwrap_or_default() as usize;
        if length == 0 {
            return self.end(&bytes).map(|()| false);
        }
        if length > BLOCK_BYTES || self.short {
            let expected = if self.short { "the end of a snapshot" } else { "a block of at most 64 KiB" };
            return Err(damaged(path, *offset, expected, format!("a block of {length} bytes")));
        }
        let size = length + BLOCK_OVERHEAD_BYTES;
        let whole = bytes.get(..size).and_then(|block| block.split_last_chunk::<CRC_BYTES>());
        let short = || damaged(path, *offset, format!("a block of {length} bytes"), "the end of the file");
        let (covered, crc) = whole.ok_or_else(short)?;
        let computed = checksum(self.crc, covered);
        check_crc(path, *offset, "a block", computed, *crc)?;
        bytes.truncate(size);
        (self.bytes, self.crc, self.short) = (bytes, computed, length < BLOCK_BYTES);
        (self.offset, self.state_bytes) = (self.offset + size as u64, self.state_bytes + length as u64);
        Ok(true)
    }

    fn end(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let state_bytes = decode_footer(bytes, self.crc, &self.path, self.offset)?;
        if state_bytes != self.state_bytes {
            let expected = format!("the end of a snapshot of {} bytes of state", self.state_bytes);
            return Err(damaged(&self.path, self.offset, expected, format!("one of {state_bytes}")));
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

fn read(file: &dyn OpenFile, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; length];
    let count = file.read_at(&mut bytes, offset).map_err(|error| StorageError::io("read", path, &error))?;
    match count == length {
        true => Ok(bytes),
        false => Err(damaged(path, offset, format!("{length} bytes"), format!("{count} and the end of the file"))),
    }
}
