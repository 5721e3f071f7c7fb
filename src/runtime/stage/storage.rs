//! Makes the log durable: everything queued is one write after the other and one sync, which is the group commit. While
//! nothing is queued, the storage gets its chores done.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;

use super::{Jobs, Stage, Step};
use crate::consensus::Index;
use crate::marks::{Mark, mark, mark_if};
use crate::runtime::{Input, NodeHandle};
use crate::storage::{Storage, StorageError, WriteBatch};

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(150);

/// Write this, then tell that everything up to the token is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageJob {
    /// Of the last persist that the batch carries; of the one before if it carries none.
    pub token: u64,
    /// What to write.
    pub batch: WriteBatch,
    /// When that is done: forget the log's entries below this one, which a durable snapshot covers.
    pub keep_from: Option<Index>,
}

/// Owns the storage.
pub struct StorageStage {
    storage: Box<dyn Storage>,
    jobs: Jobs<StorageJob>,
    node: NodeHandle,
    /// What is not written yet, in order.
    waiting: VecDeque<StorageJob>,
    /// What is written but not synced.
    unsynced: Option<Unsynced>,
    /// The node was told that the disk is full.
    is_full: bool,
}

#[derive(Clone, Copy, Default)]
struct Unsynced {
    token: u64,
    keep_from: Option<Index>,
}

impl StorageStage {
    /// A stage that writes to this storage and reports to this node.
    pub fn new(storage: Box<dyn Storage>, jobs: Jobs<StorageJob>, node: NodeHandle) -> Self {
        StorageStage { storage, jobs, node, waiting: VecDeque::new(), unsynced: None, is_full: false }
    }

    /// Takes what is queued. Returns whether there may ever be more.
    fn take_queued(&mut self) -> bool {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Writes what waits, syncs once, and reports it. What was done before an error is not done again.
    fn work(&mut self) -> Result<(), StorageError> {
        while let Some(job) = self.waiting.front() {
            self.storage.write(&job.batch)?;
            let bytes: usize = job.batch.entries.iter().map(|entry| entry.payload.len()).sum();
            self.node.metrics().log_bytes.add(bytes as u64);
            let unsynced = self.unsynced.get_or_insert_default();
            unsynced.token = job.token;
            unsynced.keep_from = unsynced.keep_from.max(job.keep_from);
            self.waiting.pop_front();
        }
        let Some(Unsynced { token, keep_from }) = self.unsynced else { return Ok(()) };
        let began = Instant::now();
        self.storage.sync()?;
        self.node.metrics().sync.observe(began.elapsed());
        self.unsynced = None;
        if std::mem::take(&mut self.is_full) {
            log::info!("storage: there is space on the disk again, and the node goes on");
            self.node.deliver(Input::DiskFreed);
        }
        self.node.enqueue_input(Input::Persisted { token });
        // If there is more to write already, this thread has no time for a turn.
        if self.jobs.is_empty() {
            self.node.turn_or_ring()
        } else {
            self.node.ring()
        }
        keep_from.map_or(Ok(()), |keep_from| self.storage.compact(keep_from))
    }

    fn idle(&mut self) -> Step {
        match self.storage.idle() {
            Ok(None) => Step::Idle,
            Ok(Some(Duration::ZERO)) => Step::Worked,
            Ok(Some(wait)) => Step::Rest(wait),
            Err(error) => self.fail(&error),
        }
    }

    /// Nothing is lost, and nobody was told that it is durable: tells the node once, and tries again until there is space.
    fn full(&mut self, error: &StorageError) -> Step {
        if !self.is_full {
            self.is_full = true;
            mark(Mark::DiskFullTold);
            log::error!("storage: {error}. Until then this node acknowledges nothing");
            self.node.deliver(Input::DiskFull);
        }
        Step::Blocked(FULL_RETRY)
    }

    /// Never tried again: after a failed sync the disk's content is anyone's guess (B40).
    fn fail(&mut self, error: &StorageError) -> Step {
        self.node.deliver(Input::Failed { reason: format!("storage: {error}") });
        Step::Ended
    }
}

impl Stage for StorageStage {
    type Job = StorageJob;

    fn jobs(&self) -> &Jobs<StorageJob> {
        &self.jobs
    }

    fn step(&mut self) -> Step {
        let goes_on = self.take_queued();
        let has_work = !self.waiting.is_empty() || self.unsynced.is_some();
        match self.work() {
            Ok(()) if has_work => Step::Worked,
            Ok(()) if goes_on => self.idle(),
            Err(error) if error.is_full() && goes_on => self.full(&error),
            Err(error) if !error.is_full() => self.fail(&error),
            Ok(()) | Err(_) => {
                mark_if(has_work, Mark::EndedWhileFull);
                if let Err(error) = self.storage.close() {
                    log::warn!("storage, at the end: {error}");
                }
                Step::Ended
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::{JobSender, queue};
    use super::*;
    use crate::consensus::EntryHeader;
    use crate::runtime::Inboxes;
    use crate::storage::snapshot::SnapshotStore;
    use crate::storage::{LogReader, Recovered};

    #[derive(Clone, Default)]
    struct Recorder {
        calls: Arc<Mutex<Vec<String>>>,
        /// What the next operations return.
        errors: Arc<Mutex<VecDeque<Option<StorageError>>>>,
        chores: Arc<Mutex<VecDeque<Duration>>>,
    }

    impl Recorder {
        fn called(&self, call: impl Into<String>) -> Result<(), StorageError> {
            self.calls.lock().unwrap().push(call.into());
            self.errors.lock().unwrap().pop_front().flatten().map_or(Ok(()), Err)
        }

        fn calls(&self) -> Vec<String> {
            std::mem::take(&mut self.calls.lock().unwrap())
        }
    }

    impl Storage for Recorder {
        fn recover(&mut self, _: &mut dyn FnMut(EntryHeader)) -> Result<Recovered, StorageError> {
            Ok(Recovered::default())
        }

        fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
            self.called(format!("write {}", batch.truncate_from.unwrap_or_default()))
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            self.called("sync")
        }

        fn compact(&mut self, keep_from: Index) -> Result<(), StorageError> {
            self.called(format!("compact {keep_from}"))
        }

        fn idle(&mut self) -> Result<Option<Duration>, StorageError> {
            self.called("idle").map(|()| self.chores.lock().unwrap().pop_front())
        }

        fn close(&mut self) -> Result<(), StorageError> {
            self.called("close")
        }

        fn reader(&self) -> Arc<dyn LogReader> {
            unreachable!("nothing is read here")
        }

        fn snapshots(&self) -> Arc<dyn SnapshotStore> {
            unreachable!("there are none here")
        }
    }

    fn job(token: u64) -> StorageJob {
        let batch = WriteBatch { truncate_from: Some(Index(token)), ..WriteBatch::default() };
        StorageJob { token, batch, keep_from: None }
    }

    struct Bench {
        recorder: Recorder,
        stage: StorageStage,
        jobs: Option<JobSender<StorageJob>>,
        inboxes: Inboxes,
    }

    impl Bench {
        fn new() -> Self {
            let (jobs, receiver) = queue();
            let (node, inboxes) = NodeHandle::new();
            let recorder = Recorder::default();
            let stage = StorageStage::new(Box::new(recorder.clone()), receiver, node);
            Bench { recorder, stage, jobs: Some(jobs), inboxes }
        }

        fn send(&self, job: StorageJob) {
            self.jobs.as_ref().unwrap().send(job);
        }

        fn will_return(&self, errors: impl IntoIterator<Item = Option<StorageError>>) {
            self.recorder.errors.lock().unwrap().extend(errors);
        }

        fn told(&self) -> Vec<String> {
            let words = |input| match input {
                Input::Persisted { token } => format!("persisted {token}"),
                Input::Failed { reason } => reason,
                Input::DiskFull => "full".into(),
                Input::DiskFreed => "freed".into(),
                _ => unreachable!("a storage stage does not say that"),
            };
            self.inboxes.internal.try_iter().map(words).collect()
        }
    }

    fn full() -> Option<StorageError> {
        Some(StorageError::Full("no space".into()))
    }

    #[test]
    fn what_is_queued_shares_one_sync() {
        let mut bench = Bench::new();
        assert_eq!(bench.stage.step(), Step::Idle);
        (1..=3).for_each(|token| bench.send(job(token)));
        bench.recorder.calls();
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.recorder.calls(), ["write 1", "write 2", "write 3", "sync"]);
        assert_eq!(bench.told(), ["persisted 3"]);
        bench.jobs = None;
        assert_eq!(bench.stage.step(), Step::Ended);
        assert_eq!(bench.recorder.calls(), ["close"]);
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        let mut bench = Bench::new();
        bench.will_return([None, Some(StorageError::Io("the disk is on fire".into()))]);
        bench.send(job(1));
        assert_eq!(bench.stage.step(), Step::Ended);
        assert_eq!(bench.recorder.calls(), ["write 1", "sync"]);
        assert_eq!(bench.told(), ["storage: the disk is on fire"]);
    }

    #[test]
    fn chores_are_done_while_nothing_is_queued() {
        let mut bench = Bench::new();
        bench.recorder.chores.lock().unwrap().extend([Duration::ZERO, Duration::from_secs(1)]);
        let steps = [(); 3].map(|()| bench.stage.step());
        assert_eq!(steps, [Step::Worked, Step::Rest(Duration::from_secs(1)), Step::Idle]);
        bench.recorder.calls();
        bench.send(job(1));
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.recorder.calls(), ["write 1", "sync"], "work comes first");
    }

    #[test]
    fn the_log_is_compacted_after_what_was_queued_is_durable() {
        let mut bench = Bench::new();
        bench.send(StorageJob { keep_from: Some(Index(5)), ..job(1) });
        bench.send(StorageJob { keep_from: Some(Index(4)), ..job(2) });
        bench.send(job(3));
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.recorder.calls(), ["write 1", "write 2", "write 3", "sync", "compact 5"]);
    }

    #[test]
    fn a_full_disk_is_tried_again_until_there_is_space() {
        let mut bench = Bench::new();
        (1..=3).for_each(|token| bench.send(job(token)));
        bench.will_return([None, full()]);
        assert_eq!(bench.stage.step(), Step::Blocked(FULL_RETRY));
        assert_eq!(bench.recorder.calls(), ["write 1", "write 2"]);
        assert_eq!(bench.told(), ["full"]);

        bench.will_return([None, None, full()]);
        assert_eq!(bench.stage.step(), Step::Blocked(FULL_RETRY));
        assert_eq!(bench.recorder.calls(), ["write 2", "write 3", "sync"], "what was written is not written again");
        bench.send(job(4));
        bench.will_return([full()]);
        assert_eq!(bench.stage.step(), Step::Blocked(FULL_RETRY));
        assert_eq!(bench.told(), [""; 0], "the node is told once");

        bench.recorder.calls();
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.recorder.calls(), ["write 4", "sync"]);
        assert_eq!(bench.told(), ["freed", "persisted 4"]);
        bench.send(job(5));
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.told(), ["persisted 5"]);
    }

    #[test]
    fn a_node_with_a_full_disk_can_stop() {
        let mut bench = Bench::new();
        bench.send(job(1));
        bench.jobs = None;
        bench.will_return([full()]);
        assert_eq!(bench.stage.step(), Step::Ended);
        assert_eq!(bench.told(), [""; 0], "nothing is durable");
    }
}
