//! The apply stage for two threads: its own, and the event handler's, which does a little of its work by itself. To wake
//! another thread costs more than that.

use std::sync::{Arc, Mutex};

use super::apply::{ApplyJob, ApplyStage};
use super::{Stage, Step};

/// An apply stage for several threads.
pub struct SharedApply(Mutex<ApplyStage>);

impl SharedApply {
    /// Nobody has it yet.
    pub fn new(stage: ApplyStage) -> Arc<Self> {
        Arc::new(SharedApply(Mutex::new(stage)))
    }

    /// On its own thread: the [stage's step](Stage::step).
    pub fn step(&self) -> Step {
        // If it has panicked, the other thread tells.
        self.0.lock().map_or(Step::Ended, |mut stage| stage.step())
    }

    /// Whether there is something for it to do.
    pub fn has_jobs(&self) -> bool {
        self.0.lock().is_ok_and(|stage| !stage.jobs().is_empty())
    }

    /// On the event handler's thread: [does this job](ApplyStage::try_now), unless it is to be queued.
    pub fn try_now(&self, job: ApplyJob) -> Option<ApplyJob> {
        match self.0.try_lock() {
            Ok(mut stage) => stage.try_now(job),
            Err(_) => Some(job),
        }
    }
}
