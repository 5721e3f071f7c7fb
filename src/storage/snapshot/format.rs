//! A snapshot's bytes: header, blocks, footer. `docs/FORMATS.md` has them byte by byte.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use crate::consensus::{Index, LogTime, Membership, NodeId, SnapshotMeta, Term};
use crate::storage::StorageError;
use crate::storage::fields::Fields;

/// Most bytes of the machine's state in one block. All blocks but the last have so many.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Size of a block besides that: length, CRC.
pub const BLOCK_OVERHEAD_BYTES: usize = 4 + CRC_BYTES;
/// Size of the footer: a length of zero, where a block has its own, the length of the state, CRC.
pub const FOOTER_BYTES: usize = 4 + 8 + CRC_BYTES;
/// Size of a CRC.
pub const CRC_BYTES: usize = 4;
/// Size of the beginning of the header, which tells the length of the whole.
pub const HEADER_START_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"RAFT SNP";
const VERSION: u32 = 1;
/// Far more than the members of any cluster need.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Ends the name of a snapshot's file.
pub const SUFFIX: &str = ".snapshot";
/// Ends the name of a file that is being received.
pub const PART_SUFFIX: &str = ".snapshot.part";

/// The CRC of `bytes` as the continuation of what `previous` is the CRC of. One CRC runs through the whole file, over
/// everything but the places where it is itself written down.
pub fn checksum(previous: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(previous);
    hasher.update(bytes);
    hasher.finalize()
}

/// The name of a snapshot's file.
pub fn file_name(meta: &SnapshotMeta) -> String {
    format!("{:020}-{:020}{SUFFIX}", meta.index.0, meta.term.0)
}

/// The index of the snapshot that a file of this name holds.
pub fn index_of(name: &str) -> Option<Index> {
    let (index, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let is_number = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let index = index.parse().ok().filter(|_| is_number(index) && is_number(term))?;
    Some(Index(index))
}

/// The header of a snapshot, which ends with the CRC of all before.
pub fn encode_header(cluster_id: u64, meta: &SnapshotMeta) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend([0; 4]);
    for number in [cluster_id, meta.index.0, meta.term.0, meta.time.0] {
        out.extend(number.to_le_bytes());
    }
    for set in [&meta.membership.voters, &meta.membership.outgoing, &meta.membership.learners] {
        out.extend((set.len() as u32).to_le_bytes());
        set.iter().for_each(|id| out.extend(id.0.to_le_bytes()));
    }
    let length = (out.len() + CRC_BYTES) as u32;
    out[12..16].copy_from_slice(&length.to_le_bytes());
    out.extend(checksum(0, &out).to_le_bytes());
    out
}

/// The length of the header that begins with these bytes.
pub fn header_length(start: &[u8], path: &Path) -> Result<usize, StorageError> {
    let mut fields = Fields(start);
    if fields.array() != Some(MAGIC) {
        return Err(damaged(path, 0, "the magic \"RAFT SNP\" of a snapshot", "other bytes"));
    }
    let version = fields.u32().unwrap_or_default();
    if version != VERSION {
        let found = format!("version {version} (if a newer program wrote it, start that one)");
        return Err(damaged(path, 8, format!("format version {VERSION}"), found));
    }
    let length = fields.u32().unwrap_or_default();
    let range = HEADER_START_BYTES as u32 + CRC_BYTES as u32..=MAX_HEADER_BYTES;
    if !range.contains(&length) {
        return Err(damaged(path, 12, format!("a header of {} to {} bytes", range.start(), range.end()), length));
    }
    Ok(length as usize)
}

/// Takes a whole header: the cluster's id, and what the snapshot covers.
pub fn decode_header(bytes: &[u8], path: &Path) -> Result<(u64, SnapshotMeta), StorageError> {
    let nonsense = || damaged(path, 0, "the header of a snapshot", "a header that makes no sense");
    let (covered, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(nonsense)?;
    check_crc(path, 0, "a header", checksum(0, covered), *crc)?;
    let mut fields = Fields(covered.get(HEADER_START_BYTES..).unwrap_or_default());
    let (cluster_id, meta) = decode_meta(&mut fields).ok_or_else(nonsense)?;
    // There is one way only to write a header, so that nodes may compare bytes.
    if encode_header(cluster_id, &meta) != bytes {
        return Err(nonsense());
    }
    Ok((cluster_id, meta))
}

fn decode_meta(fields: &mut Fields<'_>) -> Option<(u64, SnapshotMeta)> {
    let cluster_id = fields.u64()?;
    let (index, term, time) = (Index(fields.u64()?), Term(fields.u64()?), LogTime(fields.u64()?));
    let mut set = || {
        let count = fields.u32()?;
        Some(fields.u64s(count)?.map(NodeId).collect::<BTreeSet<NodeId>>())
    };
    let membership = Membership { voters: set()?, outgoing: set()?, learners: set()? };
    Some((cluster_id, SnapshotMeta { index, term, time, membership }))
}

/// The footer of a snapshot with so many bytes of state, after what `previous` is the CRC of.
pub fn encode_footer(state_bytes: u64, previous: u32) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(state_bytes.to_le_bytes());
    out.extend(checksum(previous, &out).to_le_bytes());
    out
}

/// Takes the footer that is expected at an offset, and returns how many bytes of state it says there are.
pub fn decode_footer(bytes: &[u8], previous: u32, path: &Path, offset: u64) -> Result<u64, StorageError> {
    let short = || damaged(path, offset, "the end of a snapshot", "the end of the file");
    let (covered, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(short)?;
    check_crc(path, offset, "the end of a snapshot", checksum(previous, covered), *crc)?;
    let mut fields = Fields(covered);
    match (fields.u32(), fields.u64(), fields.0) {
        (Some(0), Some(state_bytes), []) => Ok(state_bytes),
        _ => Err(damaged(path, offset, "the end of a snapshot", "other bytes")),
    }
}

/// The offset of the footer, if the header and the state have so many bytes.
pub fn footer_offset(header_bytes: u64, state_bytes: u64) -> Option<u64> {
    let overhead = state_bytes.div_ceil(BLOCK_BYTES as u64).checked_mul(BLOCK_OVERHEAD_BYTES as u64)?;
    header_bytes.checked_add(state_bytes)?.checked_add(overhead)
}

/// Compares a CRC with the one that is stored.
pub fn check_crc(path: &Path, offset: u64, of: &str, computed: u32, stored: [u8; 4]) -> Result<(), StorageError> {
    let stored = u32::from_le_bytes(stored);
    if computed == stored {
        return Ok(());
    }
    let expected = format!("{of} with the CRC {computed:08x} of what is there up to it");
    Err(damaged(path, offset, expected, format!("the CRC {stored:08x}")))
}

/// A snapshot's file does not hold what it must.
pub fn damaged(path: &Path, offset: u64, expected: impl Display, found: impl Display) -> StorageError {
    StorageError::Damaged(format!(
        "the snapshot {} is damaged at offset {offset}: expected {expected}, found {found}. Nothing is taken from it, and it \
         is sent to nobody. If the node cannot go on without it, check the disk, and put back a copy of this folder made \
         after the node last ran",
        path.display()
    ))
}
