//! A storage of one's own, made of nothing but what the library makes public, and held to the contract of all storages:
//! it keeps every unit that was written, as it came, and makes the log of them anew at each start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use raft::consensus::{Entry, EntryHeader, HardState, Index, Term};
use raft::storage::snapshot::{FileSnapshots, SnapshotStore};
use raft::storage::{LogReader, Recovered, Storage, StorageError, WriteBatch, conformance};

/// What outlasts a restart.
#[derive(Clone)]
struct Journal {
    units: Arc<Mutex<Vec<WriteBatch>>>,
    snapshots: Arc<FileSnapshots>,
}

#[derive(Default)]
struct Log {
    hard_state: HardState,
    base: (Index, Term),
    entries: Vec<Entry>,
}

impl Log {
    fn last(&self) -> Index {
        self.entries.last().map_or(self.base.0, |last| last.header.index)
    }

    fn carry_out(&mut self, unit: &WriteBatch) {
        self.hard_state = unit.hard_state.unwrap_or(self.hard_state);
        if let Some(snapshot) = &unit.install {
            self.base = (snapshot.index, snapshot.term);
            self.entries.clear();
        }
        self.entries.retain(|entry| unit.truncate_from.is_none_or(|from| entry.header.index < from));
        self.entries.extend_from_slice(&unit.entries);
    }
}

struct JournalStorage {
    journal: Journal,
    log: Arc<Mutex<Log>>,
    failed: Option<StorageError>,
}

impl JournalStorage {
    fn open(journal: &Journal) -> Self {
        let mut log = Log::default();
        journal.units.lock().unwrap().iter().for_each(|unit| log.carry_out(unit));
        JournalStorage { journal: journal.clone(), log: Arc::new(Mutex::new(log)), failed: None }
    }
}

impl Storage for JournalStorage {
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
        let log = self.log.lock().unwrap();
        log.entries.iter().for_each(|found| entry(found.header.clone()));
        Ok(Recovered { hard_state: log.hard_state, base: log.base, last: log.last(), ..Recovered::default() })
    }

    fn write(&mut self, unit: &WriteBatch) -> Result<(), StorageError> {
        self.sync()?;
        let mut log = self.log.lock().unwrap();
        if let Err(error) = unit.last_after(log.base.0, log.last()) {
            self.failed = Some(error.clone());
            return Err(error);
        }
        log.carry_out(unit);
        self.journal.units.lock().unwrap().push(unit.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn compact(&mut self, _keep_from: Index) -> Result<(), StorageError> {
        // As many entries as is convenient: none.
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(Reader(self.log.clone()))
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.journal.snapshots.clone()
    }
}

struct Reader(Arc<Mutex<Log>>);

impl LogReader for Reader {
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let log = self.0.lock().unwrap();
        let mut left = max_bytes;
        let skipped = log.entries.iter().skip_while(|entry| entry.header.index < first);
        let is_there = first > log.base.0;
        let wanted = skipped.take_while(|entry| is_there && entry.header.index <= last).enumerate();
        let fits = wanted.take_while(|(nth, entry)| {
            let size = u64::from(entry.header.size);
            let fits = *nth == 0 || size <= left;
            left = left.saturating_sub(size);
            fits
        });
        Ok(fits.map(|(_, entry)| entry.clone()).collect())
    }
}

#[test]
fn a_storage_of_ones_own_is_held_to_the_contract() {
    let mut places = BTreeMap::<String, Journal>::new();
    conformance::check(|place| {
        let journal = places
            .entry(place.into())
            .or_insert_with(|| Journal { units: Arc::default(), snapshots: Arc::new(FileSnapshots::in_memory()) });
        Box::new(JournalStorage::open(journal))
    });
}

/// The checks can fail: a storage that forgets a truncation is found out.
#[test]
#[should_panic(expected = "after truncations")]
fn a_storage_that_breaks_the_contract_is_found_out() {
    struct Forgetful(JournalStorage);

    impl Storage for Forgetful {
        fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
            self.0.recover(entry)
        }

        fn write(&mut self, unit: &WriteBatch) -> Result<(), StorageError> {
            let truncates_only = unit.entries.is_empty() && unit.truncate_from.is_some();
            if truncates_only { Ok(()) } else { self.0.write(unit) }
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.0.sync()
        }

        fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
            self.0.compact(keep_from)
        }

        fn reader(&self) -> Arc<dyn LogReader> {
            self.0.reader()
        }

        fn snapshots(&self) -> Arc<dyn SnapshotStore> {
            self.0.snapshots()
        }
    }

    let mut places = BTreeMap::<String, Journal>::new();
    conformance::check(|place| {
        let snapshots = || Arc::new(FileSnapshots::in_memory());
        let journal =
            places.entry(place.into()).or_insert_with(|| Journal { units: Arc::default(), snapshots: snapshots() });
        Box::new(Forgetful(JournalStorage::open(journal)))
    });
}
