//! Writes a snapshot, past the system's cache where that can be done: it is large, and nobody reads it soon. To copy it there
//! took more time than everything else about it.

use std::io;
use std::sync::Arc;

use super::format::{BLOCK_BYTES, BLOCK_OVERHEAD_BYTES, CRC_BYTES, checksum, encode_footer, encode_header, file_name};
use super::paced::{PacedFile, SYNC_BYTES};
use super::store::{Claim, Shared};
use super::{SnapshotInfo, SnapshotWriter};
use crate::consensus::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::files::TEMPORARY_SUFFIX;

/// What a block has before the state's bytes: their number.
const LENGTH_BYTES: usize = 4;

/// Writes a temporary file, block by block.
pub struct FileWriter {
    shared: Arc<Shared>,
    meta: SnapshotMeta,
    file: PacedFile,
    /// The CRC of everything before.
    crc: u32,
    state_bytes: u64,
    /// The block that is being filled.
    block: Vec<u8>,
    /// What is in no block any more, but not in the file yet: less than is synced at once.
    unwritten: Vec<u8>,
    failed: Option<StorageError>,
    finished: bool,
    _claim: Claim,
}

impl FileWriter {
    pub fn create(shared: Arc<Shared>, meta: &SnapshotMeta, claim: Claim) -> Result<Self, StorageError> {
        let path = shared.folder.join(file_name(meta) + TEMPORARY_SUFFIX);
        let file = shared.files.create(&path).and_then(|_| shared.files.open_direct(&path));
        let file = file.map_err(|error| {
            shared.discard(&path);
            StorageError::io("make", &path, &error)
        })?;
        let file = PacedFile::new(shared.files.clone(), file, path, 0);
        let header = encode_header(shared.cluster_id, meta);
        let crc = header.last_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
        Ok(FileWriter {
            shared,
            meta: meta.clone(),
            file,
            crc,
            state_bytes: 0,
            block: new_block(),
            unwritten: header,
            failed: None,
            finished: false,
            _claim: claim,
        })
    }

    /// Writes the block as it is, if there is anything in it.
    fn put_block(&mut self) -> Result<(), StorageError> {
        let mut block = std::mem::take(&mut self.block);
        let length = block.len() - LENGTH_BYTES;
        if length > 0 {
            block[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
            self.crc = checksum(self.crc, &block);
            block.extend(self.crc.to_le_bytes());
            self.put(&block)?;
            self.state_bytes += length as u64;
        }
        block.truncate(LENGTH_BYTES);
        self.block = block;
        Ok(())
    }

    /// Whole sectors are written, but for the end of the file.
    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.unwritten.extend_from_slice(bytes);
        while let Some((whole, _)) = self.unwritten.split_at_checked(SYNC_BYTES) {
            self.file.put(whole)?;
            self.unwritten.drain(..SYNC_BYTES);
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<SnapshotInfo, StorageError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.put_block()?;
        self.put(&encode_footer(self.state_bytes, self.crc))?;
        self.file.put(&self.unwritten)?;
        let info = SnapshotInfo { meta: self.meta.clone(), bytes: self.file.bytes() };
        self.shared.publish(&**self.file.file(), self.file.path(), &info)?;
        self.finished = true;
        Ok(info)
    }
}

fn new_block() -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES + BLOCK_OVERHEAD_BYTES);
    block.resize(LENGTH_BYTES, 0);
    block
}

impl io::Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(io::Error::other(error.clone()));
        }
        let room = BLOCK_BYTES + LENGTH_BYTES - self.block.len();
        let (taken, _) = bytes.split_at(room.min(bytes.len()));
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK_BYTES + LENGTH_BYTES
            && let Err(error) = self.put_block()
        {
            self.block = new_block();
            self.failed = Some(error.clone());
            return Err(io::Error::other(error));
        }
        Ok(taken.len())
    }

    /// Does nothing: all blocks but the last are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SnapshotWriter for FileWriter {
    fn finish(mut self: Box<Self>) -> Result<SnapshotInfo, StorageError> {
        self.complete()
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.discard(self.file.path());
        }
    }
}

const _: () = assert!(LENGTH_BYTES + CRC_BYTES == BLOCK_OVERHEAD_BYTES);
