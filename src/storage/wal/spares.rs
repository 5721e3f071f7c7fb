//! Files that wait to become segments: old segments of which nothing is needed any more, whose blocks are on the disk
//! already, or one that is being filled with zeros.

use std::path::{Path, PathBuf};

use super::segment::{ZeroedFile, segment_path};
use crate::storage::StorageError;
use crate::storage::files::Files;

const SUFFIX: &str = "spare";
/// In place of a number, for a file that was never a segment.
const NEVER_USED: u64 = 0;
/// Most old segments that are kept: what a log needs from one compaction to the next, unless it is large.
const MAX_SPARES: usize = 4;

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
    pub zeroed: ZeroedFile,
    /// Whether there are old batches in it.
    pub recycled: bool,
}

/// The spare files of a folder.
#[derive(Default)]
pub struct Spares(Vec<Spare>);

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
                let file = files.open(&path)?;
                let size_bytes = file.size()?;
                spares.push(Spare { path, zeroed: ZeroedFile { file, size_bytes }, recycled: true });
            }
            Ok(spares)
        };
        find().map(Spares).map_err(|error| StorageError::io("look for spare segments in", folder, &error))
    }

    /// The one to be used next.
    pub fn next(&self) -> Option<&Spare> {
        self.0.last()
    }

    /// It is in use now.
    pub fn take_next(&mut self) {
        self.0.pop();
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
            let file = files.open(&path)?;
            let size_bytes = file.size()?;
            let kept = self.0.len() < MAX_SPARES && size_bytes <= limit_bytes;
            if kept {
                files.rename(&path, &spare)?;
            } else {
                files.remove(&path)?;
            }
            files.sync_folder(folder)?;
            Ok(kept.then_some(Spare { path: spare, zeroed: ZeroedFile { file, size_bytes }, recycled: true }))
        };
        let spare = retire().map_err(|error| StorageError::io("retire", &path, &error).into_final())?;
        self.0.extend(spare);
        Ok(())
    }

    /// Writes a piece of zeros to the spare to be used next, which is made if there is none. Returns whether it did.
    pub fn prepare(&mut self, files: &dyn Files, folder: &Path, limit_bytes: u64) -> Result<bool, StorageError> {
        let path = spare_path(folder, NEVER_USED);
        let mut prepare = || {
            if self.0.is_empty() {
                let file = files.create(&path)?;
                let zeroed = ZeroedFile { file, size_bytes: 0 };
                self.0.push(Spare { path: path.clone(), zeroed, recycled: false });
            }
            match self.0.last_mut() {
                Some(spare) => spare.zeroed.extend(0, limit_bytes),
                None => Ok(false),
            }
        };
        prepare().map_err(|error| StorageError::io("prepare", &path, &error))
    }
}
