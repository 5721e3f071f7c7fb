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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::consensus::Index;
    use crate::storage::{LogReader, Recovered};

    #[derive(Clone, Default)]
    struct Recorder {
        calls: Arc<Mutex<Vec<String>>>,
        fails: bool,
    }

    impl Storage for Recorder {
        fn recover(&mut self) -> Result<Recovered, StorageError> {
            Ok(Recovered::default())
        }

        fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
            self.calls.lock().unwrap().push(format!("write {}", batch.truncate_from.unwrap_or_default()));
            Ok(())
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.calls.lock().unwrap().push("sync".into());
            if self.fails { Err(StorageError::Io("no space left".into())) } else { Ok(()) }
        }

        fn reader(&self) -> Arc<dyn LogReader> {
            unreachable!("nothing is read here")
        }
    }

    fn job(token: u64) -> StorageJob {
        StorageJob { token, batch: WriteBatch { truncate_from: Some(Index(token)), ..WriteBatch::default() } }
    }

    #[test]
    fn what_is_queued_shares_one_sync() {
        let (jobs, receiver) = unbounded();
        let (node, inboxes) = NodeHandle::new();
        let recorder = Recorder::default();
        let mut stage = StorageStage::new(Box::new(recorder.clone()), receiver, node);
        assert_eq!(stage.step(), Step::Idle);
        (1..=3).for_each(|token| jobs.send(job(token)).unwrap());
        assert_eq!(stage.step(), Step::Worked);
        assert_eq!(*recorder.calls.lock().unwrap(), ["write 1", "write 2", "write 3", "sync"]);
        let told: Vec<Input> = inboxes.internal.try_iter().collect();
        assert!(matches!(told[..], [Input::Persisted { token: 3 }]));
        drop(jobs);
        assert_eq!(stage.step(), Step::Ended);
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        let (jobs, receiver) = unbounded();
        let (node, inboxes) = NodeHandle::new();
        let recorder = Recorder { fails: true, ..Recorder::default() };
        let mut stage = StorageStage::new(Box::new(recorder.clone()), receiver, node);
        jobs.send(job(1)).unwrap();
        assert_eq!(stage.step(), Step::Ended);
        assert_eq!(*recorder.calls.lock().unwrap(), ["write 1", "sync"]);
        let told: Vec<Input> = inboxes.internal.try_iter().collect();
        assert!(matches!(&told[..], [Input::Failed { reason }] if reason == "storage: no space left"));
    }
}
