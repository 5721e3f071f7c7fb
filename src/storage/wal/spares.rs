//! Files that wait to become segments: old segments of which nothing is needed any more, whose blocks are on the disk
//! already, or one that is being filled with zeros.

use std::path::{Path, PathBuf};

use super::segment::{ZeroedFile, segment_path, zeros_until};
use crate::storage::StorageError;
use crate::storage::files::Files;

const SUFFIX: &str = "spare";
/// In place of a number, for a file that was never a segment.
const NEVER_USED: u64 = 0;
/// So many more are kept than the log needed from one compaction to the next.
const MORE_SPARES: usize = 4;
/// But no more than these.
const MAX_SPARES: usize = 256;

fn spare_path(folder: &Path, number: u64) -> PathBuf {
    segment_path(folder, number).with_extension(SUFFIX)
}

fn is_spare(name: &str) -> bool {
    let number = name.split('.').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| spare_path(Path::new(""), number) == Path::new(name))
}

/// A file that can become a segment.
pub struct Spare {
    pub path: PathBuf,
    /// Up to here it has blocks on the disk.
    pub size_bytes: u64,
    /// Whether there are old batches in it.
    pub recycled: bool,
}

/// The spare files of a folder.
#[derive(Default)]
pub struct Spares {
    waiting: Vec<Spare>,
    /// So many may wait.
    limit: usize,
}

impl Spares {
    /// Those that are there. What is in them does not matter: nothing in them passes for newer than it is.
    pub fn find(files: &dyn Files, folder: &Path) -> Result<Self, StorageError> {
        let find = || {
            let mut names = files.list(folder)?;
            names.retain(|name| is_spare(name));
            names.sort_unstable();
            let mut spares = Vec::new();
            for name in names {
                let path = folder.join(name);
                if spares.len() == MAX_SPARES {
                    files.remove(&path)?;
                    continue;
                }
                let size_bytes = files.open(&path)?.size()?;
                spares.push(Spare { path, size_bytes, recycled: true });
            }
            Ok(spares)
        };
        // What the log needs is not known yet.
        find()
            .map(|waiting| Spares { limit: waiting.len().max(MORE_SPARES), waiting })
            .map_err(|error| StorageError::io("look for spare segments in", folder, &error))
    }

    /// The one to be used next.
    pub fn next(&self) -> Option<&Spare> {
        self.waiting.last()
    }

    /// It is in use now.
    pub fn take_next(&mut self) {
        self.waiting.pop();
    }

    /// So many segments went into the log since there was last something to forget: it will need as many again.
    pub fn will_need(&mut self, segments: usize) {
        self.limit = (segments + MORE_SPARES).min(MAX_SPARES);
    }

    /// A segment holds nothing that is needed any more: its file becomes a spare, if it is of the usual size and there
    /// are not enough, or goes. Durable afterwards, so that segments vanish in the order given and in no other.
    pub fn retire(
        &mut self,
        files: &dyn Files,
        folder: &Path,
        number: u64,
        limit_bytes: u64,
    ) -> Result<(), StorageError> {
        let path = segment_path(folder, number);
        let retire = || {
            let spare = spare_path(folder, number);
            let size_bytes = files.open(&path)?.size()?;
            let kept = self.waiting.len() < self.limit && size_bytes <= limit_bytes;
            if kept {
                files.rename(&path, &spare)?;
            } else {
                files.remove(&path)?;
            }
            files.sync_folder(folder)?;
            Ok(kept.then_some(Spare { path: spare, size_bytes, recycled: true }))
        };
        let spare = retire().map_err(|error| StorageError::io("retire", &path, &error).into_final())?;
        self.waiting.extend(spare);
        Ok(())
    }

    /// Removes one, if there are more than the log will need. Returns whether it did.
    pub fn trim(&mut self, files: &dyn Files) -> Result<bool, StorageError> {
        if self.waiting.len() <= self.limit {
            return Ok(false);
        }
        let spare = self.waiting.swap_remove(0);
        files.remove(&spare.path).map_err(|error| StorageError::io("remove", &spare.path, &error))?;
        Ok(true)
    }

    /// Writes a piece of zeros to the spare to be used next, which is made if there is none. Returns whether it did.
    pub fn prepare(&mut self, files: &dyn Files, folder: &Path, limit_bytes: u64) -> Result<bool, StorageError> {
        let path = spare_path(folder, NEVER_USED);
        let mut prepare = || {
            if self.waiting.is_empty() {
                files.create(&path)?;
                self.waiting.push(Spare { path: path.clone(), size_bytes: 0, recycled: false });
            }
            let Some(spare) = self.waiting.last_mut() else { return Ok(false) };
            if spare.size_bytes >= zeros_until(0, limit_bytes) {
                return Ok(false);
            }
            // Not held open: there may be many.
            let mut zeroed = ZeroedFile { file: files.open(&spare.path)?, size_bytes: spare.size_bytes };
            let extended = zeroed.extend(0, limit_bytes)?;
            spare.size_bytes = zeroed.size_bytes;
            Ok(extended)
        };
        prepare().map_err(|error| StorageError::io("prepare", &path, &error))
    }
}
