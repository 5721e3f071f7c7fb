//! The node on tokio: its sockets, its dialers, its clocks and its event handler are tasks. What blocks (the log, the state machine,
//! snapshots) keeps the threads that it has in the threaded runtime.
//!
//! The event handler has a thread to itself, and all other tasks share one: however much clients say, it has its turn. On
//! one thread with the sockets it would wait until each of them has had its own, and a leader would be taken for dead.

mod handler;
mod sockets;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

pub(super) use self::handler::run as run_handler;
use self::sockets::TaskSockets;
use super::sockets::Sockets;
use super::{Inboxes, Input, NodeHandle, spawn_guarded};

/// The threads that run the tasks of one node. Dropping it drops them: it closes every connection.
pub struct AsyncRuntime {
    sockets: TaskSockets,
    _threads: [TaskThread; 2],
}

impl AsyncRuntime {
    /// Starts the threads `NAME-sockets` and `NAME-events`, and makes a way into the node whose event handler the latter will
    /// run ([`Node::assemble`](crate::Node::assemble)), with the inboxes it leads to. That node fails if one of the tasks
    /// panics.
    ///
    /// # Errors
    /// The system cannot start another thread, or watch sockets.
    pub fn start(name: &str) -> io::Result<(AsyncRuntime, NodeHandle, Inboxes)> {
        let events = Builder::new_current_thread().enable_time().build()?;
        let (handle, inboxes) = NodeHandle::for_task(events.handle().clone());
        let tasks = Builder::new_current_thread().enable_io().enable_time().build()?;
        let sockets = TaskSockets::new(tasks.handle().clone(), handle.clone());
        let _threads = [
            TaskThread::start(format!("{name}-sockets"), tasks, &handle)?,
            TaskThread::start(format!("{name}-events"), events, &handle)?,
        ];
        Ok((AsyncRuntime { sockets, _threads }, handle, inboxes))
    }

    /// The way in, for those who have sockets to serve.
    pub fn sockets(&self) -> Arc<dyn Sockets> {
        Arc::new(self.sockets.clone())
    }

    /// Where further tasks can run, beside those of the sockets. They must not block.
    pub fn tasks(&self) -> &Handle {
        self.sockets.tasks()
    }
}

/// A thread that runs tasks until it is dropped.
struct TaskThread {
    /// Dropped, it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TaskThread {
    fn start(name: String, runtime: Runtime, node: &NodeHandle) -> io::Result<TaskThread> {
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Nothing is sent.
            let _ = runtime.block_on(stopped);
            // A name look-up that hangs is not waited for.
            runtime.shutdown_background();
        };
        let node = node.clone();
        let thread = spawn_guarded(name, run, move |reason| node.deliver(Input::Failed { reason }))?;
        Ok(TaskThread { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for TaskThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Had it panicked, it would have said so.
            let _ = thread.join();
        }
    }
}

/// Starts a task. Should it panic, `panicked` is told so, in words.
pub(crate) fn spawn_guarded_task(
    tasks: &Handle,
    name: impl Into<String>,
    run: impl Future<Output = ()> + Send + 'static,
    panicked: impl FnOnce(String) + Send + 'static,
) {
    let guard = PanicGuard(Some((name.into(), panicked)));
    tasks.spawn(async move {
        let _guard = guard;
        run.await;
    });
}

/// Dropped by a panic, it says so.
struct PanicGuard<F: FnOnce(String)>(Option<(String, F)>);

impl<F: FnOnce(String)> Drop for PanicGuard<F> {
    fn drop(&mut self) {
        if let Some((name, panicked)) = self.0.take()
            && std::thread::panicking()
        {
            panicked(format!("the {name} task panicked"));
        }
    }
}
