//! Writes snapshots of the own state machine, off everybody else's path, and removes those that are no longer needed.

use std::io::{self, Write};
use std::sync::{Arc, Weak};

use crossbeam_channel::TryRecvError;

use super::{Jobs, Stage, Step};
use crate::consensus::SnapshotMeta;
use crate::machine::MachineSnapshot;
use crate::marks::{Mark, mark};
use crate::runtime::{Input, NodeHandle};
use crate::storage::StorageError;
use crate::storage::snapshot::{SnapshotInfo, SnapshotStore, SnapshotWriter};

/// Something to do for a [`SnapshotStage`].
pub enum SnapshotJob {
    /// Write a snapshot.
    Take {
        /// What it covers.
        meta: SnapshotMeta,
        /// The state.
        state: Box<dyn MachineSnapshot>,
        /// Once this is gone, nobody wants the snapshot any more.
        wanted: Weak<()>,
    },
    /// Remove the snapshots that are older than this one.
    RemoveOlder {
        /// The one that takes their place, durably.
        than: SnapshotMeta,
    },
}

/// Owns nothing: a slow disk delays the next snapshot, and nobody else.
pub struct SnapshotStage {
    store: Arc<dyn SnapshotStore>,
    jobs: Jobs<SnapshotJob>,
    node: NodeHandle,
}

impl SnapshotStage {
    /// A stage that writes to this store and reports to this node.
    pub fn new(store: Arc<dyn SnapshotStore>, jobs: Jobs<SnapshotJob>, node: NodeHandle) -> Self {
        SnapshotStage { store, jobs, node }
    }

    fn work(&self, job: SnapshotJob) -> Result<(), StorageError> {
        match job {
            SnapshotJob::RemoveOlder { than } => match self.store.remove_older(&than) {
                // It was found damaged meanwhile: the older ones may be needed.
                Err(StorageError::Refused(reason)) => {
                    log::warn!("older snapshots are kept: {reason}");
                    Ok(())
                }
                removed => removed,
            },
            SnapshotJob::Take { meta, state, wanted } => {
                let input = match self.take(&meta, state, wanted) {
                    Ok(Some(info)) => Input::SnapshotTaken { info },
                    Ok(None) => Input::SnapshotPutOff { reason: "it is no longer wanted".into() },
                    Err(error) if error.is_full() => Input::SnapshotPutOff { reason: error.to_string() },
                    Err(error) => return Err(error),
                };
                self.node.deliver(input);
                Ok(())
            }
        }
    }

    /// `None`: it is no longer wanted, and there is nothing of it.
    fn take(
        &self,
        meta: &SnapshotMeta,
        state: Box<dyn MachineSnapshot>,
        wanted: Weak<()>,
    ) -> Result<Option<SnapshotInfo>, StorageError> {
        let mut writer = WhileWanted { writer: self.store.create(meta)?, wanted };
        let written = state.write(&mut writer);
        if !writer.is_wanted() {
            mark(Mark::SnapshotNoLongerWanted);
            return Ok(None);
        }
        // A snapshot that is not whole must never be finished.
        written.map_err(into_storage_error)?;
        writer.writer.finish().map(Some)
    }
}

/// The writer's own error is inside the one that the state machine has handed through.
fn into_storage_error(error: io::Error) -> StorageError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<StorageError>()) {
        Some(inner) => inner.clone(),
        None => StorageError::Io(format!("the state machine cannot write its snapshot: {error}")),
    }
}

/// Ends the writing as soon as nobody wants the snapshot any more.
struct WhileWanted {
    writer: Box<dyn SnapshotWriter>,
    wanted: Weak<()>,
}

impl WhileWanted {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

impl Write for WhileWanted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_wanted() { self.writer.write(bytes) } else { Err(io::Error::other("no longer wanted")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Stage for SnapshotStage {
    type Job = SnapshotJob;

    fn jobs(&self) -> &Jobs<SnapshotJob> {
        &self.jobs
    }

    fn step(&mut self) -> Step {
        let job = match self.jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) => return Step::Idle,
            Err(TryRecvError::Disconnected) => return Step::Ended,
        };
        match self.work(job) {
            Ok(()) => Step::Worked,
            Err(error) => {
                self.node.deliver(Input::Failed { reason: format!("snapshot: {error}") });
                Step::Ended
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JobSender, queue};
    use super::*;
    use crate::consensus::{Index, LogTime, Membership, NodeId, Term};
    use crate::runtime::Inboxes;
    use crate::storage::snapshot::FileSnapshots;

    /// Writes so many bytes, and then fails in this way, if any.
    struct State(usize, Option<StorageError>);

    impl MachineSnapshot for State {
        fn write(self: Box<Self>, to: &mut dyn Write) -> io::Result<()> {
            to.write_all(&vec![7; self.0])?;
            self.1.map_or(Ok(()), |error| Err(io::Error::other(error)))
        }
    }

    fn meta(index: u64) -> SnapshotMeta {
        let membership = Membership::of_voters([NodeId(1)]);
        SnapshotMeta { index: Index(index), term: Term(1), time: LogTime(index), membership }
    }

    struct Bench {
        stage: SnapshotStage,
        store: Arc<FileSnapshots>,
        jobs: JobSender<SnapshotJob>,
        inboxes: Inboxes,
        wanted: Arc<()>,
    }

    impl Bench {
        fn new() -> Self {
            let (jobs, receiver) = queue();
            let (node, inboxes) = NodeHandle::new();
            let store = Arc::new(FileSnapshots::in_memory());
            let stage = SnapshotStage::new(store.clone(), receiver, node);
            Bench { stage, store, jobs, inboxes, wanted: Arc::default() }
        }

        fn take(&mut self, index: u64, state: State) -> Step {
            let wanted = Arc::downgrade(&self.wanted);
            self.jobs.send(SnapshotJob::Take { meta: meta(index), state: Box::new(state), wanted });
            self.stage.step()
        }

        fn told(&self) -> String {
            match self.inboxes.internal.try_recv() {
                Ok(Input::SnapshotTaken { info }) => format!("taken {}", info.meta.index),
                Ok(Input::SnapshotPutOff { reason } | Input::Failed { reason }) => reason,
                _ => unreachable!("a snapshot stage always says how it went, and nothing else"),
            }
        }

        fn indexes(&self) -> Vec<u64> {
            self.store.list().iter().map(|info| info.meta.index.0).collect()
        }
    }

    #[test]
    fn the_older_snapshot_goes_only_when_it_is_told_to() {
        let mut bench = Bench::new();
        assert_eq!(bench.take(5, State(100_000, None)), Step::Worked);
        assert_eq!(bench.take(9, State(100, None)), Step::Worked);
        assert_eq!((bench.told(), bench.told()), ("taken 5".into(), "taken 9".into()));
        assert_eq!(bench.indexes(), [5, 9]);
        bench.jobs.send(SnapshotJob::RemoveOlder { than: meta(9) });
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.indexes(), [9]);
    }

    #[test]
    fn what_is_not_whole_is_never_finished() {
        let mut bench = Bench::new();
        let full = StorageError::Full("no space".into());
        assert_eq!(bench.take(5, State(100_000, Some(full))), Step::Worked);
        assert_eq!(bench.told(), "no space");
        bench.wanted = Arc::default();
        assert_eq!(bench.take(6, State(100, Some(StorageError::Io("on fire".into())))), Step::Ended);
        assert_eq!(bench.told(), "snapshot: on fire");
        assert_eq!(bench.indexes(), [0u64; 0]);
    }

    #[test]
    fn nobody_waits_for_a_snapshot_that_is_no_longer_wanted() {
        let mut bench = Bench::new();
        let wanted = std::mem::take(&mut bench.wanted);
        let job =
            SnapshotJob::Take { meta: meta(5), state: Box::new(State(100, None)), wanted: Arc::downgrade(&wanted) };
        bench.jobs.send(job);
        drop(wanted);
        assert_eq!(bench.stage.step(), Step::Worked);
        assert_eq!(bench.told(), "it is no longer wanted");
        assert_eq!(bench.indexes(), [0u64; 0]);
        drop(std::mem::replace(&mut bench.jobs, queue().0));
        assert_eq!(bench.stage.step(), Step::Ended);
    }
}
