//! Reads entries back from the log for followers that lag further behind than memory reaches.

use std::sync::Arc;

use crossbeam_channel::TryRecvError;

use super::{Jobs, Stage, Step};
use crate::consensus::{Index, NodeId, Term};
use crate::runtime::{Input, Loaded, NodeHandle};
use crate::storage::LogReader;

/// Read these entries for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// The peer.
    pub peer: NodeId,
    /// The leader's term.
    pub term: Term,
    /// First entry.
    pub first: Index,
    /// Last entry. The range was chosen by its size, so it needs no other limit.
    pub last: Index,
}

/// Owns nothing but a reader: a slow disk delays the lagging follower, and nobody else.
pub struct Loader {
    reader: Arc<dyn LogReader>,
    jobs: Jobs<LoadRequest>,
    node: NodeHandle,
}

impl Loader {
    /// A loader that reads with this reader and reports to this node.
    pub fn new(reader: Arc<dyn LogReader>, jobs: Jobs<LoadRequest>, node: NodeHandle) -> Self {
        Loader { reader, jobs, node }
    }
}

impl Stage for Loader {
    type Job = LoadRequest;

    fn jobs(&self) -> &Jobs<LoadRequest> {
        &self.jobs
    }

    fn step(&mut self) -> Step {
        let LoadRequest { peer, term, first, last } = match self.jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) => return Step::Idle,
            Err(TryRecvError::Disconnected) => return Step::Ended,
        };
        match self.reader.read(first, last, u64::MAX) {
            Ok(entries) => {
                self.node.deliver(Input::Loaded(Loaded { peer, term, first, entries }));
                Step::Worked
            }
            Err(error) => {
                self.node.deliver(Input::Failed { reason: format!("reading the log for node {peer}: {error}") });
                Step::Ended
            }
        }
    }
}
