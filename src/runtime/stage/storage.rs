//! Makes the log durable: everything queued is one write after the other and one sync, which is the group commit.

use crossbeam_channel::{Receiver, TryRecvError};

use super::{Stage, Step};
use crate::runtime::{Input, NodeHandle};
use crate::storage::{Storage, StorageError, WriteBatch};

/// Write this, then tell that everything up to the token is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageJob {
    /// Of the last persist that the batch carries.
    pub token: u64,
    /// What to write.
    pub batch: WriteBatch,
}

/// Owns the storage.
pub struct StorageStage {
    storage: Box<dyn Storage>,
    jobs: Receiver<StorageJob>,
    node: NodeHandle,
}

impl StorageStage {
    /// A stage that writes to this storage and reports to this node.
    pub fn new(storage: Box<dyn Storage>, jobs: Receiver<StorageJob>, node: NodeHandle) -> Self {
        StorageStage { storage, jobs, node }
    }

    /// Writes what is queued, and syncs once. Returns the last token.
    fn write_queued(&mut self, first: StorageJob) -> Result<u64, StorageError> {
        let mut token = first.token;
        self.storage.write(&first.batch)?;
        while let Ok(job) = self.jobs.try_recv() {
            token = job.token;
            self.storage.write(&job.batch)?;
        }
        self.storage.sync()?;
        Ok(token)
    }
}

impl Stage for StorageStage {
    type Job = StorageJob;

    fn jobs(&self) -> &Receiver<StorageJob> {
        &self.jobs
    }

    fn step(&mut self) -> Step {
        let first = match self.jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) => return Step::Idle,
            Err(TryRecvError::Disconnected) => return Step::Ended,
        };
        match self.write_queued(first) {
            Ok(token) => {
                self.node.deliver(Input::Persisted { token });
                Step::Worked
            }
            // Never tried again: after a failed sync the disk's content is anyone's guess (B40).
            Err(error) => {
                self.node.deliver(Input::Failed { reason: format!("storage: {error}") });
                Step::Ended
            }
        }
    }
}
