//! Which lives of its peers a node has seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::Fields;
use super::files::Files;
use super::identity::{Life, Start};
use super::{StorageError, whole};
use crate::consensus::NodeId;

/// The file's name.
pub(super) const FILE: &str = "peers";

const MAGIC: [u8; 8] = *b"RAFT PRS";
const VERSION: u32 = 1;

/// The latest start that was seen of each peer. In a data folder it survives the node's own end; the default one does not,
/// for nodes that have no folder.
#[derive(Default)]
pub struct PeerMemory {
    starts: BTreeMap<NodeId, Start>,
    file: Option<(Arc<dyn Files>, PathBuf)>,
}

impl PeerMemory {
    /// Every peer that was seen, in order of id.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, Start)> + '_ {
        self.starts.iter().map(|(&peer, &start)| (peer, start))
    }

    /// What the folder remembers. No file: no peer was seen yet.
    pub(crate) fn load(files: Arc<dyn Files>, folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join(FILE);
        let starts = match whole::load(&*files, &path, MAGIC, VERSION)? {
            Some((_, content)) => decode(&content).ok_or_else(|| {
                StorageError::damaged(&path, 0, "as many peers as it says", "another number of bytes")
            })?,
            None => BTreeMap::new(),
        };
        Ok(PeerMemory { starts, file: Some((files, path)) })
    }

    /// The latest start of this peer.
    pub fn latest(&self, peer: NodeId) -> Option<Start> {
        self.starts.get(&peer).copied()
    }

    /// Remembers this start as the peer's latest: durably, when this returns. Waits for the disk if it is another one.
    ///
    /// A node that remembers a start of its own was told that its folder is an older copy: see
    /// [`FileStorage::open`](super::FileStorage::open).
    ///
    /// # Errors
    /// The disk failed: the node must stop.
    pub fn remember(&mut self, peer: NodeId, start: Start) -> Result<(), StorageError> {
        if self.latest(peer) == Some(start) {
            return Ok(());
        }
        let mut starts = self.starts.clone();
        starts.insert(peer, start);
        if let Some((files, path)) = &self.file {
            whole::store(&**files, path, MAGIC, VERSION, encode(&starts))?;
        }
        self.starts = starts;
        Ok(())
    }
}

fn encode(starts: &BTreeMap<NodeId, Start>) -> Vec<u8> {
    let mut out = (starts.len() as u32).to_le_bytes().to_vec();
    for (peer, Start { life, nonce }) in starts {
        [peer.0, life.incarnation, life.boot, *nonce].iter().for_each(|number| out.extend(number.to_le_bytes()));
    }
    out
}

fn decode(content: &[u8]) -> Option<BTreeMap<NodeId, Start>> {
    let mut fields = Fields(content);
    let mut starts = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let (peer, incarnation) = (NodeId(fields.u64()?), fields.u64()?);
        let life = Life { incarnation, boot: fields.u64()? };
        starts.insert(peer, Start { life, nonce: fields.u64()? });
    }
    fields.0.is_empty().then_some(starts)
}
