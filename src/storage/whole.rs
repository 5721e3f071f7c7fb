//! Small files that are written as a whole: a magic, a format version, what it is about, and a CRC.

use std::path::Path;

use super::StorageError;
use super::files::{Files, create_whole};
use crate::marks::{Mark, mark};

/// Far more than any of these files needs.
const MAX_BYTES: u64 = 1 << 20;
/// Before the content: the magic and the version.
const HEADER_BYTES: usize = 12;

/// Reads the version and the content of a file; `None` if there is no such file.
///
/// # Errors
/// It has another magic, a version that is not from 1 to `newest`, or another CRC than its bytes; or the disk failed.
pub(super) fn load(
    files: &dyn Files,
    path: &Path,
    magic: [u8; 8],
    newest: u32,
) -> Result<Option<(u32, Vec<u8>)>, StorageError> {
    let read = || {
        if !files.exists(path)? {
            return Ok(None);
        }
        let file = files.open(path)?;
        let mut bytes = vec![0; file.size()?.min(MAX_BYTES) as usize];
        let count = file.read_at(&mut bytes, 0)?;
        bytes.truncate(count);
        Ok(Some(bytes))
    };
    let Some(bytes) = read().map_err(|error| StorageError::io("read", path, &error))? else { return Ok(None) };
    let damaged = |expected: String, found: &str| {
        mark(Mark::SmallFileDamaged);
        Err(StorageError::damaged(path, 0, expected, found))
    };
    let Some(rest) = bytes.strip_prefix(&magic) else {
        return damaged(format!("the magic \"{}\"", magic.escape_ascii()), "other bytes");
    };
    let version = rest.first_chunk().map_or(0, |version| u32::from_le_bytes(*version));
    if !(1..=newest).contains(&version) {
        let found = format!("version {version} (if a newer program wrote the folder, start that one)");
        return damaged(format!("format version {newest} or an earlier one"), &found);
    }
    let valid = bytes.split_last_chunk().filter(|(covered, crc)| crc32fast::hash(covered).to_le_bytes() == **crc);
    match valid.and_then(|(covered, _)| covered.get(HEADER_BYTES..)) {
        Some(content) => Ok(Some((version, content.to_vec()))),
        None => damaged("a file with the CRC of its bytes".into(), "another CRC"),
    }
}

/// Makes a file, or replaces it: durably, and as a whole or not at all.
pub(super) fn store(
    files: &dyn Files,
    path: &Path,
    magic: [u8; 8],
    version: u32,
    content: impl IntoIterator<Item = u8>,
) -> Result<(), StorageError> {
    let mut bytes = magic.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(content);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    create_whole(files, path, &bytes).map(drop).map_err(|error| StorageError::io("write", path, &error))
}
