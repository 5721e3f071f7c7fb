//! The node on tokio: its sockets, its dialers, its clocks and its event handler are tasks on one thread. What blocks (the
//! log, the state machine, snapshots) keeps the threads that it has in the threaded runtime.

mod handler;
mod sockets;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub(super) use self::handler::run as run_handler;
use self::sockets::TaskSockets;
use super::sockets::Sockets;
use super::{Inboxes, Input, NodeHandle, spawn_guarded};

/// The thread that runs the tasks of one node. Dropping it drops them: it closes every connection.
pub struct AsyncRuntime {
    sockets: TaskSockets,
    /// Dropped, it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AsyncRuntime {
    /// Starts the thread `NAME-async`, and makes a way into the node whose event handler it will run
    /// ([`Node::assemble`](crate::Node::assemble)), with the inboxes it leads to. That node fails if one of the tasks panics.
    ///
    /// # Errors
    /// The system cannot start another thread, or watch sockets.
    pub fn start(name: &str) -> io::Result<(AsyncRuntime, NodeHandle, Inboxes)> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (handle, inboxes) = NodeHandle::for_task(runtime.handle().clone());
        let sockets = TaskSockets::new(runtime.handle().clone(), handle.clone());
        let node = handle.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Nothing is sent.
            let _ = runtime.block_on(stopped);
            // A name look-up that hangs is not waited for.
            runtime.shutdown_background();
        };
        let failed = move |reason| node.deliver(Input::Failed { reason });
        let thread = spawn_guarded(format!("{name}-async"), run, failed)?;
        Ok((AsyncRuntime { sockets, stop: Some(stop), thread: Some(thread) }, handle, inboxes))
    }

    /// The way in, for those who have sockets to serve.
    pub fn sockets(&self) -> Arc<dyn Sockets> {
        Arc::new(self.sockets.clone())
    }

    /// Where further tasks can run. They must not block.
    pub fn tasks(&self) -> &Handle {
        self.sockets.tasks()
    }
}

impl Drop for AsyncRuntime {
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
