//! The apply stage for two threads: its own, and the event handler's, which does a little of its work by itself. To wake
//! another thread takes longer than that.

use std::sync::{Arc, Mutex};

use super::apply::{ApplyJob, ApplyStage};
use super::{Stage, Step};
use crate::runtime::Bell;

/// An apply stage for several threads.
pub struct SharedApply {
    stage: Mutex<ApplyStage>,
    bell: Arc<Bell>,
}

impl SharedApply {
    /// Not running yet.
    pub fn new(stage: ApplyStage) -> Arc<Self> {
        let bell = Arc::clone(stage.jobs().bell());
        Arc::new(SharedApply { stage: Mutex::new(stage), bell })
    }

    /// On its own thread: does what is queued until the stage ends.
    pub fn run(&self) {
        // If it has panicked, the other thread tells.
        while let Ok(mut stage) = self.stage.lock() {
            let step = stage.step();
            drop(stage);
            match step {
                Step::Worked => {}
                Step::Ended => return,
                Step::Idle | Step::Rest(_) | Step::Blocked(_) => self.bell.wait(None),
            }
        }
    }

    /// On the event handler's thread: [does this job](ApplyStage::try_now), unless it is to be queued.
    pub fn try_now(&self, job: ApplyJob) -> Option<ApplyJob> {
        match self.stage.try_lock() {
            Ok(mut stage) => stage.try_now(job),
            Err(_) => Some(job),
        }
    }
}
