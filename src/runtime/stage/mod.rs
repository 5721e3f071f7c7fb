//! The stages behind the event handler. Each takes its jobs from a queue in a step that never waits for more of them;
//! threads and waiting are the runtime's business.

mod answer;
pub mod apply;
pub mod loader;
mod queue;
mod shared;
pub mod snapshot;
pub mod storage;

use std::time::Duration;

pub use answer::{Asker, Load, Permit, Sinks};
pub use queue::{JobSender, Jobs, queue};
pub use shared::SharedApply;

/// A worker that is fed through a queue.
pub trait Stage: Send {
    /// What it is told to do.
    type Job: Send;

    /// Where the jobs come from. A runtime waits here while the stage is idle.
    fn jobs(&self) -> &Jobs<Self::Job>;

    /// Does what is queued, reports it to the node, and returns without waiting for more.
    fn step(&mut self) -> Step;
}

/// How a [`Stage::step`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Worked,
    /// Nothing is queued.
    Idle,
    /// Nothing is queued. If it stays so for this long, there is something else to do.
    Rest(Duration),
    /// It cannot go on now, whatever is queued: step again after this time.
    Blocked(Duration),
    /// Nothing will ever be queued again, or the stage has failed and said so.
    Ended,
}
