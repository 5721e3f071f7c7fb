//! Storage that forgets everything when the process ends: for scenarios and tests.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::collect::Collected;
use super::identity::Life;
use super::{LogReader, Recovered, Storage, StorageError, WriteBatch};
use crate::consensus::{Entry, HardState, Index};

/// Keeps everything in memory. Nothing survives the process, so a node on it must not count as one that remembers its
/// votes.
pub struct InMemoryStorage {
    memory: Arc<RwLock<Memory>>,
    life: Life,
    failed: Option<StorageError>,
}

#[derive(Default)]
struct Memory {
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Default for InMemoryStorage {
    fn default() -> Self {
        InMemoryStorage { memory: Arc::default(), life: Life::without_folder(), failed: None }
    }
}

impl InMemoryStorage {
    /// Empty storage in a new life.
    pub fn new() -> Self {
        InMemoryStorage::default()
    }

    /// The same memory, as a restart finds it: everything written is there, synced or not.
    pub fn reopen(&self) -> Self {
        let life = Life { boot: self.life.boot + 1, ..self.life };
        InMemoryStorage { memory: self.memory.clone(), life, failed: None }
    }

    /// This start; a later one has a higher boot number.
    pub fn life(&self) -> Life {
        self.life
    }
}

impl Storage for InMemoryStorage {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        let memory = read(&self.memory);
        let headers = memory.entries.iter().map(|entry| entry.header.clone()).collect();
        Ok(Recovered { hard_state: memory.hard_state, headers, ..Recovered::default() })
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = batch.last_after(Index(memory.entries.len() as u64)) {
            self.failed = Some(error.clone());
            return Err(error);
        }
        memory.hard_state = batch.hard_state.unwrap_or(memory.hard_state);
        if let Some(from) = batch.truncate_from {
            memory.entries.truncate(from.prev().0 as usize);
        }
        memory.entries.extend_from_slice(&batch.entries);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(MemoryReader(self.memory.clone()))
    }
}

struct MemoryReader(Arc<RwLock<Memory>>);

impl LogReader for MemoryReader {
    fn read(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let memory = read(&self.0);
        let from = first.0.checked_sub(1).and_then(|from| memory.entries.get(from as usize..));
        let mut collected = Collected::new(max_bytes);
        collected.extend(from.unwrap_or_default(), last);
        Ok(collected.into_entries())
    }
}

fn read(memory: &RwLock<Memory>) -> RwLockReadGuard<'_, Memory> {
    memory.read().unwrap_or_else(PoisonError::into_inner)
}
