//! What the oracle hears of a node's storage and state machine: both do what they always do, and it is written down.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::{EntryHeader, HardState, Index, LogTime, Term};
use crate::machine::command::{Answer, Query};
use crate::machine::{Applied, Asked, Machine, MachineSnapshot};
use crate::storage::snapshot::SnapshotStore;
use crate::storage::{LogReader, Recovered, Storage, StorageError, WriteBatch};

/// Something that happened in a node.
#[derive(Clone, Debug)]
pub enum Observation {
    /// The storage was read: this is what it remembers.
    Recovered {
        /// Term and vote.
        hard_state: HardState,
        /// The entry before the first.
        base: (Index, Term),
        /// The entries' terms, in order.
        terms: Vec<Term>,
    },
    /// This was written.
    Wrote(WriteBatch),
    /// All that was written is durable.
    Synced,
    /// A command was applied.
    Applied {
        /// Where it is in the log.
        index: Index,
        /// The command.
        command: Bytes,
        /// The answer, if somebody waits for it.
        answer: Option<Bytes>,
        /// A hash of the state afterwards.
        digest: u64,
    },
    /// The machine has given out its state.
    Snapshot,
    /// The state was replaced by a snapshot's.
    Restored {
        /// The last command that it includes.
        index: Index,
        /// A hash of the state afterwards.
        digest: u64,
    },
}

/// Where observations are written down, in order. Clones share it.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<Observation>>>);

impl Notes {
    fn write(&self, observation: Observation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(observation);
    }

    /// Takes what was written down.
    pub fn take(&self) -> Vec<Observation> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A storage that is watched.
pub struct ObservedStorage {
    storage: Box<dyn Storage>,
    notes: Notes,
}

impl ObservedStorage {
    /// Watches this storage.
    pub fn new(storage: Box<dyn Storage>, notes: Notes) -> Self {
        ObservedStorage { storage, notes }
    }
}

impl Storage for ObservedStorage {
    fn recover(&mut self, entry: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
        let mut terms = Vec::new();
        let recovered = self.storage.recover(&mut |header| {
            terms.push(header.term);
            entry(header);
        })?;
        let Recovered { hard_state, base, .. } = recovered;
        self.notes.write(Observation::Recovered { hard_state, base, terms });
        Ok(recovered)
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        let written = self.storage.write(batch);
        // After any other error it may be there or not.
        if !written.as_ref().is_err_and(StorageError::is_full) {
            self.notes.write(Observation::Wrote(batch.clone()));
        }
        written
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.storage.sync()?;
        self.notes.write(Observation::Synced);
        Ok(())
    }

    fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
        self.storage.compact(keep_from)
    }

    fn idle(&mut self) -> Result<Option<Duration>, StorageError> {
        self.storage.idle()
    }

    fn close(&mut self) -> Result<(), StorageError> {
        self.storage.close()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.storage.reader()
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.storage.snapshots()
    }
}

/// A state machine that is watched.
pub struct ObservedMachine {
    machine: Box<dyn Machine>,
    notes: Notes,
}

impl ObservedMachine {
    /// Watches this machine.
    pub fn new(machine: Box<dyn Machine>, notes: Notes) -> Self {
        ObservedMachine { machine, notes }
    }
}

impl Machine for ObservedMachine {
    fn apply(&mut self, applied: Applied<'_>) -> Bytes {
        let answer = self.machine.apply(applied);
        self.notes.write(Observation::Applied {
            index: applied.index,
            command: applied.command.clone(),
            answer: applied.is_awaited.then(|| answer.clone()),
            digest: self.machine.digest(),
        });
        answer
    }

    fn look_ahead(&self, commands: &mut dyn Iterator<Item = &Bytes>) {
        self.machine.look_ahead(commands);
    }

    fn query(&self, asked: Asked<'_>) -> Bytes {
        self.machine.query(asked)
    }

    fn is_brief(&self, command: Applied<'_>) -> bool {
        self.machine.is_brief(command)
    }

    fn is_brief_query(&self, query: &[u8]) -> bool {
        self.machine.is_brief_query(query)
    }

    fn advance(&mut self, index: Index, time: LogTime) {
        self.machine.advance(index, time);
    }

    fn deadline(&self) -> Option<LogTime> {
        self.machine.deadline()
    }

    fn take_woken(&mut self) -> Vec<(Bytes, u64)> {
        self.machine.take_woken()
    }

    fn digest(&self) -> u64 {
        self.machine.digest()
    }

    fn snapshot(&self) -> Option<Box<dyn MachineSnapshot>> {
        let snapshot = self.machine.snapshot();
        if snapshot.is_some() {
            self.notes.write(Observation::Snapshot);
        }
        snapshot
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> Result<(), String> {
        self.machine.restore(from)?;
        let query = Query::State { limit: 0 }.encode();
        let state = self.machine.query(Asked { time: LogTime(0), query: &query });
        if let Ok(Answer::State { applied, digest, .. }) = Answer::decode(&state) {
            self.notes.write(Observation::Restored { index: Index(applied), digest });
        }
        Ok(())
    }

    fn describe(&self, command: &[u8]) -> String {
        self.machine.describe(command)
    }
}
