//! What a storage must do when there is no space left, and when there is again.

use super::{Open, command, expect_found, read_all, recover, write_synced};
use crate::consensus::{Entry, HardState, Index};
use crate::storage::{Storage, StorageError, WriteBatch};

/// More than any storage sets aside.
const MAX_UNITS: u64 = 4000;
const PAYLOAD_BYTES: usize = 50_000;

/// Holds a storage to the contract of [`Full`](StorageError::Full). After `set_full(true)` no storage that `open` opened
/// or opens can take more space than it has; after `set_full(false)` all can.
///
/// # Panics
/// When the storage breaks the contract of [`Storage`].
pub fn check_full(mut open: impl FnMut(&str) -> Box<dyn Storage>, mut set_full: impl FnMut(bool)) {
    for goes_on in [true, false] {
        let place = if goes_on { "full" } else { "full, then a restart" };
        let mut storage = open(place);
        recover(&mut *storage);
        let mut full = Full { storage: &mut *storage, entries: Vec::new(), synced: 0 };
        full.write(&unit(1)).and_then(|()| full.sync()).expect("there is space");
        set_full(true);
        let refused = full.fill(place);
        full.nothing_is_lost(place);
        let (mut entries, synced) = (full.entries, full.synced);
        if goes_on {
            set_full(false);
            if let Some(unit) = refused {
                storage.write(&unit).expect("what was refused is written when there is space");
                entries.extend(unit.entries);
            }
            storage.sync().expect("everything is synced when there is space");
            let more = unit(entries.len() as u64 + 1);
            write_synced(&mut *storage, &more);
            entries.extend(more.entries);
            drop(storage);
        } else {
            drop(storage);
            set_full(false);
            let (recovered, _) = recover(&mut *open(place));
            let found = recovered.last.0 as usize;
            assert!((synced..=entries.len()).contains(&found), "{place}: what was synced is found: {found} entries");
            entries.truncate(found);
            // What was cut off is told once.
        }
        expect_found(&mut open as &mut Open<'_>, place, HardState::default(), &entries);
    }
}

fn unit(index: u64) -> WriteBatch {
    let mut entry = command(index, 1);
    entry.payload = vec![index as u8; PAYLOAD_BYTES].into();
    entry.header.size = PAYLOAD_BYTES as u32;
    WriteBatch { entries: vec![entry], ..WriteBatch::default() }
}

struct Full<'a> {
    storage: &'a mut dyn Storage,
    /// What was accepted.
    entries: Vec<Entry>,
    /// How many of them are durable.
    synced: usize,
}

impl Full<'_> {
    fn write(&mut self, unit: &WriteBatch) -> Result<(), StorageError> {
        self.storage.write(unit)?;
        self.entries.extend_from_slice(&unit.entries);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.storage.sync()?;
        self.synced = self.entries.len();
        Ok(())
    }

    /// Writes until there is no space. Returns the unit that was not taken, if it was not the sync that failed.
    fn fill(&mut self, place: &str) -> Option<WriteBatch> {
        for _ in 0..MAX_UNITS {
            let unit = unit(self.entries.len() as u64 + 1);
            let (refused, error) = match self.write(&unit) {
                Err(error) => (Some(unit), error),
                Ok(()) => match self.sync() {
                    Err(error) => (None, error),
                    Ok(()) => continue,
                },
            };
            assert!(matches!(error, StorageError::Full(_)), "{place}: says that it is full: {error}");
            return refused;
        }
        panic!("{place}: {MAX_UNITS} units of {PAYLOAD_BYTES} bytes fit into a storage that is full");
    }

    /// Trying again does no harm, chores neither, and everything accepted can be read.
    fn nothing_is_lost(&mut self, place: &str) {
        for _ in 0..3 {
            let again = self.sync();
            assert!(matches!(again, Ok(()) | Err(StorageError::Full(_))), "{place}: a sync once more: {again:?}");
            self.storage.idle().unwrap_or_else(|error| panic!("{place}: a chore fails: {error}"));
            self.storage.compact(Index(1)).unwrap_or_else(|error| panic!("{place}: compaction fails: {error}"));
        }
        assert!(read_all(self.storage) == self.entries, "{place}: everything accepted is read");
    }
}
