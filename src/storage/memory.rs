//! Storage that forgets everything when the process ends: for scenarios and tests.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::collect::Collected;
use super::identity::Life;
use super::snapshot::{FileSnapshots, SnapshotStore};
use super::{LogReader, Recovered, Storage, StorageError, WriteBatch};
use crate::consensus::{Entry, EntryHeader, HardState, Index, Term};

/// Keeps everything in memory. Nothing survives the process, so a node on it must not count as one that remembers its
/// votes.
pub struct InMemoryStorage {
    memory: Arc<RwLock<Memory>>,
    snapshots: Arc<FileSnapshots>,
    life: Life,
    failed: Option<StorageError>,
}

#[derive(Default)]
struct Memory {
    hard_state: HardState,
    /// Index and term of the entry before the first.
    base: (Index, Term),
    entries: Vec<Entry>,
}

impl Memory {
    fn last(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }

    /// How many of the entries are below `index`.
    fn below(&self, index: Index) -> usize {
        (index.prev().0.saturating_sub(self.base.0.0) as usize).min(self.entries.len())
    }
}

impl Default for InMemoryStorage {
    fn default() -> Self {
        let snapshots = Arc::new(FileSnapshots::in_memory());
        InMemoryStorage { memory: Arc::default(), snapshots, life: Life::without_folder(), failed: None }
    }
}

impl InMemoryStorage {
    /// Empty storage in a new life.
    pub fn new() -> Self {
        InMemoryStorage::default()
    }

    /// Storage in a new life that remembers this, as if it had been written before: for scenarios. The entries follow each
    /// other from index 1.
    pub fn starting_with(hard_state: HardState, entries: Vec<Entry>) -> Self {
        let memory = Memory { hard_state, entries, ..Memory::default() };
        InMemoryStorage { memory: Arc::new(RwLock::new(memory)), ..InMemoryStorage::default() }
    }

    /// The same memory, as a restart finds it: everything written is there, synced or not.
    pub fn reopen(&self) -> Self {
        let life = Life { boot: self.life.boot + 1, ..self.life };
        InMemoryStorage { memory: self.memory.clone(), snapshots: self.snapshots.clone(), life, failed: None }
    }

    /// This start; a later one has a higher boot number.
    pub fn life(&self) -> Life {
        self.life
    }
}

impl Storage for InMemoryStorage {
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
        let memory = read(&self.memory);
        memory.entries.iter().for_each(|found| entry(found.header.clone()));
        let Memory { hard_state, base, .. } = *memory;
        Ok(Recovered { hard_state, base, last: memory.last(), ..Recovered::default() })
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = batch.last_after(memory.base.0, memory.last()) {
            self.failed = Some(error.clone());
            return Err(error);
        }
        memory.hard_state = batch.hard_state.unwrap_or(memory.hard_state);
        if let Some(snapshot) = &batch.install {
            memory.entries.clear();
            memory.base = (snapshot.index, snapshot.term);
        }
        if let Some(from) = batch.truncate_from {
            let kept = memory.below(from);
            memory.entries.truncate(kept);
        }
        memory.entries.extend_from_slice(&batch.entries);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let forgotten = memory.below(keep_from);
        if let Some(last) = memory.entries.drain(..forgotten).last() {
            memory.base = (last.header.index, last.header.term);
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(MemoryReader(self.memory.clone()))
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.snapshots.clone()
    }
}

struct MemoryReader(Arc<RwLock<Memory>>);

impl LogReader for MemoryReader {
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let memory = read(&self.0);
        let mut collected = Collected::new(max_bytes);
        if first > memory.base.0 {
            collected.extend(memory.entries.get(memory.below(first)..).unwrap_or_default(), last);
        }
        Ok(collected.into_entries())
    }
}

fn read(memory: &RwLock<Memory>) -> RwLockReadGuard<'_, Memory> {
    memory.read().unwrap_or_else(PoisonError::into_inner)
}
