//! The queue of a stage's jobs: the stage takes what there is, and its thread sleeps while there is nothing.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryIter, TryRecvError};

use crate::runtime::Bell;

/// A queue for one stage.
pub fn queue<T>() -> (JobSender<T>, Jobs<T>) {
    let ((sender, jobs), bell) = (crossbeam_channel::unbounded(), Arc::<Bell>::default());
    (JobSender { sender, bell: Ringing(Arc::clone(&bell)) }, Jobs { jobs, bell })
}

/// Where jobs are put in. The stage ends once this is dropped and the queue is empty.
pub struct JobSender<T> {
    sender: Sender<T>,
    /// Dropped after the sender: the stage is woken to find that there will be no more.
    bell: Ringing,
}

struct Ringing(Arc<Bell>);

impl Drop for Ringing {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl<T> JobSender<T> {
    /// Puts a job in. A stage that has ended takes no more: it has said so, and the job is dropped.
    pub fn send(&self, job: T) {
        let _ = self.sender.send(job);
        self.bell.0.ring();
    }
}

/// The stage's side.
pub struct Jobs<T> {
    jobs: Receiver<T>,
    bell: Arc<Bell>,
}

impl<T> Jobs<T> {
    /// The next job, if there is one.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.jobs.try_recv()
    }

    /// Those that are there.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        self.jobs.try_iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Rings when there may be one that was not there at the last look, or there will be no more.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}
