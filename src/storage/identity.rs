//! Whose data folder it is, and how often it has been started.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::files::Files;
use super::{StorageError, whole};
use crate::consensus::{Membership, NodeId};

/// The file's name.
pub(super) const FILE: &str = "identity";

const MAGIC: [u8; 8] = *b"RAFT IDN";
const VERSION: u32 = 3;
/// Of so many boots a folder keeps the nonces.
pub const REMEMBERED_BOOTS: usize = 64;

/// One life of a node: which data folder it has, and how often that has been started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Drawn at random when the data folder was made, and anew when its node came back with `--rejoin`.
    pub incarnation: u64,
    /// Grows with every start on that folder.
    pub boot: u64,
}

impl Life {
    /// A new life of a node that has no data folder to count its lives in. The clock takes the folder's place: should it
    /// have been set back since the node's last life, peers refuse this one, and nothing worse happens.
    pub fn without_folder() -> Self {
        let since_1970 = UNIX_EPOCH.elapsed().unwrap_or_default();
        Life { incarnation: 0, boot: since_1970.as_millis() as u64 }
    }

    /// Whether the life is of a node that has no data folder.
    pub fn keeps_nothing(&self) -> bool {
        self.incarnation == 0
    }

    /// An incarnation that has not been started yet.
    pub(super) fn unborn(incarnation: u64) -> Self {
        Life { incarnation, boot: 0 }
    }
}

/// One start of a node, as its peers see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Its life.
    pub life: Life,
    /// Drawn at random by the process: it tells the starts of a folder and of its copy apart, which have the same life.
    pub nonce: u64,
}

/// A start, and what proves that it follows the ones before: a copy of the folder that is started often enough has the same
/// boot numbers, but not the same nonces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The present start.
    pub start: Start,
    /// The nonces of the boots before it, the latest first; at most [`REMEMBERED_BOOTS`].
    pub earlier: Vec<u64>,
}

impl Lineage {
    /// The nonce of one of this incarnation's boots, up to the present one; `None` if that is not known.
    pub fn nonce_of(&self, boot: u64) -> Option<u64> {
        match self.start.life.boot.checked_sub(boot)? {
            0 => Some(self.start.nonce),
            back => self.earlier.get(usize::try_from(back - 1).ok()?).copied(),
        }
    }
}

impl From<Start> for Lineage {
    /// A start that proves nothing of what was before.
    fn from(start: Start) -> Self {
        Lineage { start, earlier: Vec::new() }
    }
}

/// A cluster's number: nodes with different ones refuse each other. The 64-bit FNV-1a hash of the length of the name in
/// bytes, the name, and the voters' ids in ascending order, numbers as eight bytes, little-endian.
pub fn cluster_id(name: &str, voters: &Membership) -> u64 {
    let length = (name.len() as u64).to_le_bytes();
    let ids = voters.voters.iter().flat_map(|id| id.0.to_le_bytes());
    let bytes = length.into_iter().chain(name.bytes()).chain(ids);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What the file `identity` of a data folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub cluster_id: u64,
    pub node: NodeId,
    /// A folder that is still being made has boot 0.
    pub life: Life,
    /// The nonces of its boots, the latest first; at most [`REMEMBERED_BOOTS`], and none from before they were kept.
    pub nonces: Vec<u64>,
    /// The incarnation that the segments of the log carry: the folder's first.
    pub log_incarnation: u64,
    /// The node came back with `--rejoin`: it may have forgotten what it promised, and neither votes nor counts.
    pub rejoined: bool,
    /// The voters that the cluster started with.
    pub voters: BTreeSet<NodeId>,
}

impl Identity {
    /// The identity of a new folder that has not been started yet.
    pub fn new(cluster_id: u64, node: NodeId, voters: BTreeSet<NodeId>, incarnation: u64) -> Self {
        let life = Life::unborn(incarnation);
        Identity { cluster_id, node, life, nonces: Vec::new(), log_incarnation: incarnation, rejoined: false, voters }
    }

    /// Counts a start: of this incarnation, or of the one with which the node rejoins, which never votes nor counts.
    /// The nonce is the start's.
    pub fn begin_life(&mut self, nonce: u64, rejoined_as: Option<u64>) -> Lineage {
        if let Some(incarnation) = rejoined_as {
            (self.life, self.nonces, self.rejoined) = (Life::unborn(incarnation), Vec::new(), true);
        }
        self.life.boot += 1;
        let earlier = self.nonces.clone();
        self.nonces.insert(0, nonce);
        self.nonces.truncate(REMEMBERED_BOOTS);
        Lineage { start: Start { life: self.life, nonce }, earlier }
    }

    /// Reads the folder's identity; `None` if there is none.
    pub fn load(files: &dyn Files, folder: &Path) -> Result<Option<Self>, StorageError> {
        let path = path(folder);
        let Some((version, content)) = whole::load(files, &path, MAGIC, VERSION)? else { return Ok(None) };
        let damaged =
            || StorageError::damaged(&path, 0, "as many voters and nonces as it says", "another number of bytes");
        Identity::decode(version, &content).ok_or_else(damaged).map(Some)
    }

    /// Replaces the folder's identity, durably.
    pub fn store(&self, files: &dyn Files, folder: &Path) -> Result<(), StorageError> {
        whole::store(files, &path(folder), MAGIC, VERSION, self.encode())
    }

    /// Refuses a folder that is not this node's.
    pub fn check(
        &self,
        folder: &Path,
        cluster_id: u64,
        node: NodeId,
        voters: &BTreeSet<NodeId>,
    ) -> Result<(), StorageError> {
        let refuse = |what: &str, stored: &dyn Display, given: &dyn Display| {
            Err(StorageError::Refused(format!(
                "the data folder {} belongs to {what} {stored}, but this node was told {given}. Correct what it is told \
                 (raft.ini, or --data and the node_ids of `init`), or start with another, empty folder; never give a node \
                 the folder of another one",
                folder.display()
            )))
        };
        if self.node != node {
            return refuse("node", &self.node, &node);
        }
        if self.voters != *voters {
            return refuse("a cluster of the nodes", &ids(&self.voters), &ids(voters));
        }
        if self.cluster_id != cluster_id {
            let (stored, given) = (format!("{:016x}", self.cluster_id), format!("{cluster_id:016x}: another name"));
            return refuse("the cluster with id", &stored, &given);
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let Life { incarnation, boot } = self.life;
        let mut out = (self.voters.len() as u32).to_le_bytes().to_vec();
        let rejoined = u64::from(self.rejoined);
        for number in [self.cluster_id, self.node.0, incarnation, boot, self.log_incarnation, rejoined] {
            out.extend(number.to_le_bytes());
        }
        self.voters.iter().for_each(|id| out.extend(id.0.to_le_bytes()));
        out.extend((self.nonces.len() as u32).to_le_bytes());
        self.nonces.iter().for_each(|nonce| out.extend(nonce.to_le_bytes()));
        out
    }

    fn decode(version: u32, content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        let voters = fields.u32()?;
        let (cluster_id, node) = (fields.u64()?, NodeId(fields.u64()?));
        let life = Life { incarnation: fields.u64()?, boot: fields.u64()? };
        let (log_incarnation, rejoined) = match version {
            // Before nodes could come back.
            1 => (life.incarnation, false),
            _ => (fields.u64()?, fields.u64()? != 0),
        };
        let voters = fields.u64s(voters)?.map(NodeId).collect();
        let nonces = match version {
            // Before a start had to prove the ones before it.
            1 | 2 => Vec::new(),
            _ => {
                let count = fields.u32()?;
                fields.u64s(count)?.collect()
            }
        };
        let identity = Identity { cluster_id, node, life, nonces, log_incarnation, rejoined, voters };
        fields.0.is_empty().then_some(identity)
    }
}

/// A random number, for an incarnation or a nonce.
pub(crate) fn random() -> Result<u64, StorageError> {
    getrandom::u64().map_err(|error| StorageError::Io(format!("cannot get a random number from the system: {error}")))
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn ids(voters: &BTreeSet<NodeId>) -> String {
    let ids: Vec<String> = voters.iter().map(NodeId::to_string).collect();
    ids.join(", ")
}
